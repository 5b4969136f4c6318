/* SPDX-License-Identifier: Apache-2.0 */
/* Writing memory: every page at its place, zeros as holes, sums in any order, and an end that is told of. */
#include "tests/unit/runner.h"
#include "tests/unit/snapshot_files.h"
#include "vmm/base/util.h"
#include "vmm/transfer/memory_file.h"
#include "vmm/transfer/page_ranges.h"
#include "vmm/transfer/page_sums.h"
#include "vmm/transfer/zstd_frames.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define PAGES 1524 /* some blocks, and a last one that is not whole */

static char folder[64];
static int dir;
static uint8_t *memory;
static struct error err;
static struct snapshot_manifest manifest;
static struct memory_file_config config;

static void setup(void)
{
	struct memory_layout layout = layout_of_two(1000, 500) /* 1024 + 500 */;
	unsigned seed = 3;

	scratch_make(folder, false);
	dir = open(folder, O_RDONLY | O_DIRECTORY);
	manifest_begin(&manifest, &layout);
	config = (struct memory_file_config){.dir = dir, .pages = PAGES};
	memory = pages_map(PAGES);
	/* Long runs, short ones, single zeros and zeros at both ends of blocks. */
	for (uint64_t i = 0; i < PAGES; i++)
		page_fill(memory + i * GUEST_PAGE_SIZE,
			i / 300 % 2 ? i + 1 : (uint64_t)rand_r(&seed) % 3);
}

static void teardown(void)
{
	snapshot_manifest_destroy(&manifest);
	munmap(memory, PAGES * GUEST_PAGE_SIZE);
	close(dir);
	scratch_remove(folder);
}

static uint8_t *load(const char *name, size_t *size)
{
	uint8_t *bytes;

	MUST(file_load(dir, name, MIB(64), &bytes, size, &err));
	return bytes;
}

static void write_all(void)
{
	const struct memory_piece pieces[] = {
		{memory, 0, 700}, {memory + 700 * GUEST_PAGE_SIZE, 700, PAGES - 700}};
	struct memory_file *file;

	MUST(memory_file_open(&file, &config, &err));
	MUST(memory_file_write(file, pieces, 2, &err));
	MUST(memory_file_finish(file, &manifest, &err));
	memory_file_close(file);
}

START_TEST(each_page_is_at_its_place_and_zeros_are_holes)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct stat st;
	size_t size;

	memset(memory + 512 * GUEST_PAGE_SIZE, 0, 512 * GUEST_PAGE_SIZE);
	write_all();
	bytes = load("memory", &size);
	ck_assert_uint_eq(size, PAGES * GUEST_PAGE_SIZE);
	ck_assert_mem_eq(bytes, memory, size);
	fstatat(dir, "memory", &st, 0);
	ck_assert_int_le(st.st_blocks * 512, (PAGES - 480) * GUEST_PAGE_SIZE);
	ck_assert_uint_eq(manifest.data_pages + manifest.zero_pages, PAGES);
}
END_TEST

START_TEST(sums_are_the_same_in_whatever_order_pages_come)
{
	_cleanup_free_ uint8_t *first = NULL, *second = NULL;
	struct memory_file *file;
	unsigned seed = 5;
	uint64_t order[PAGES];
	size_t size;

	write_all();
	first = load(PAGE_SUMS_FILE, &size);
	unlinkat(dir, "memory", 0);
	unlinkat(dir, PAGE_SUMS_FILE, 0);
	for (unsigned i = 0; i < PAGES; i++) {
		unsigned j = (unsigned)rand_r(&seed) % (i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	MUST(memory_file_open(&file, &config, &err));
	for (unsigned i = 0; i < PAGES; i++)
		MUST(memory_file_put(file, order[i], memory + order[i] * GUEST_PAGE_SIZE, 1, &err));
	manifest.part_count = 0;
	MUST(memory_file_finish(file, &manifest, &err));
	memory_file_close(file);
	second = load(PAGE_SUMS_FILE, &size);
	ck_assert_mem_eq(first, second, size);
}
END_TEST

START_TEST(a_sum_tells_a_changed_a_moved_and_a_lost_page)
{
	struct page_sums a, b;

	MUST(page_sums_create(&a, 4, &err));
	for (unsigned change = 0; change < 4; change++) {
		uint8_t page[2][GUEST_PAGE_SIZE] __attribute__((aligned(8)));

		page_fill(page[0], 1);
		page_fill(page[1], 2);
		memset(a.sums, 0, sizeof(*a.sums));
		MUST(page_sums_create(&b, 4, &err));
		page_sums_add(&a, 0, page[0]);
		page_sums_add(&a, 1, page[1]);
		page[0][77] ^= (uint8_t)(change == 0);
		page_sums_add(&b, change == 1 ? 2 : 0, page[change == 2]);
		if (change != 3)
			page_sums_add(&b, 1, page[change != 2]);
		ck_assert(!checksum_equal(a.sums[0], b.sums[0]));
		page_sums_destroy(&b);
	}
	page_sums_destroy(&a);
}
END_TEST

START_TEST(an_incremental_notes_what_came_and_what_became_zero)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct page_ranges ranges;
	struct memory_file *file;
	size_t size;

	config.kind = SNAPSHOT_INCREMENTAL;
	for (unsigned i = 0; i < PAGES; i++)
		page_fill(memory + (size_t)i * GUEST_PAGE_SIZE, i % 100 < 10 ? 0 : i);
	MUST(memory_file_open(&file, &config, &err));
	MUST(memory_file_put(file, 1200, memory + 1200 * GUEST_PAGE_SIZE, 30, &err));
	MUST(memory_file_put(file, 105, memory + 105 * GUEST_PAGE_SIZE, 10, &err));
	MUST(memory_file_finish(file, &manifest, &err));
	memory_file_close(file);
	bytes = load(PAGE_RANGES_FILE, &size);
	MUST(page_ranges_decode(&ranges, bytes, size, PAGES, &err));
	ck_assert_uint_eq(ranges.count, 4);
	ck_assert(ranges.ranges[0].first == 105 && ranges.ranges[0].count == 5 &&
		  ranges.ranges[0].zero);
	ck_assert(ranges.ranges[1].first == 110 && ranges.ranges[1].count == 5 &&
		  !ranges.ranges[1].zero);
	ck_assert(ranges.ranges[3].first == 1210 && ranges.ranges[3].count == 20);
	page_ranges_destroy(&ranges);
}
END_TEST

/* That they are the memory, each page in one of them. */
static void check_frames(void)
{
	_cleanup_free_ uint8_t *all = calloc(PAGES + ZSTD_BLOCK_PAGES, GUEST_PAGE_SIZE);
	_cleanup_free_ uint8_t *block = malloc(ZSTD_BLOCK_PAGES * GUEST_PAGE_SIZE);
	const struct snapshot_part *part = snapshot_manifest_part(&manifest, "memory.zst");
	int fd = openat(dir, "memory.zst", O_RDONLY);
	struct zstd_frames frames;

	MUST(zstd_frames_open(&frames, fd, part->size, PAGES, &part->sum, &err));
	for (uint64_t i = 0; i < frames.count; i++) {
		const struct zstd_entry *entry = &frames.entries[i];
		unsigned at = 0;

		MUST(zstd_frames_read(&frames, fd, entry, block, &err));
		for (unsigned n = 0; n < ZSTD_BLOCK_PAGES; n++)
			if (entry->pages[n / 64] >> (n % 64) & 1)
				memcpy(all + (entry->first + n) * GUEST_PAGE_SIZE,
					block + (size_t)at++ * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE);
	}
	ck_assert_mem_eq(all, memory, PAGES * GUEST_PAGE_SIZE);
	zstd_frames_close(&frames);
	close(fd);
}

START_TEST(compressed_frames_hold_every_page_once)
{
	config.compression = SNAPSHOT_ZSTD;
	write_all();
	check_frames();
}
END_TEST

static void *put_third(void *arg)
{
	uint64_t third = *(unsigned *)arg;
	struct error why;

	for (uint64_t i = third; i < PAGES; i += 3)
		if (memory_file_put(*(struct memory_file **)config.owner, i,
			    memory + i * GUEST_PAGE_SIZE, 1, &why) < 0)
			return arg;
	return NULL;
}

START_TEST(several_threads_may_put_pages_at_once)
{
	enum snapshot_compression how[] = {SNAPSHOT_PLAIN, SNAPSHOT_ZSTD};
	_cleanup_free_ uint8_t *first = NULL, *second = NULL;
	size_t size;

	for (unsigned n = 0; n < 2; n++) {
		unsigned thirds[3] = {0, 1, 2};
		struct memory_file *file;
		pthread_t threads[3];
		void *failed;

		config.compression = how[n];
		config.owner = &file;
		MUST(memory_file_open(&file, &config, &err));
		for (unsigned i = 0; i < 3; i++)
			pthread_create(&threads[i], NULL, put_third, &thirds[i]);
		for (unsigned i = 0; i < 3; i++) {
			pthread_join(threads[i], &failed);
			ck_assert_ptr_null(failed);
		}
		MUST(memory_file_finish(file, &manifest, &err));
		memory_file_close(file);
		*(n ? &second : &first) = load(PAGE_SUMS_FILE, &size);
		unlinkat(dir, PAGE_SUMS_FILE, 0);
	}
	ck_assert_mem_eq(first, second, size);
}
END_TEST

START_TEST(a_page_that_comes_twice_is_an_error)
{
	struct memory_file *file;

	MUST(memory_file_open(&file, &config, &err));
	MUST(memory_file_put(file, 60, memory, 10, &err));
	ck_assert_int_lt(memory_file_put(file, 69, memory, 1, &err), 0);
	ck_assert_int_lt(memory_file_put(file, PAGES, memory, 1, &err), 0);
	ck_assert_int_lt(memory_file_put(file, 0, memory, UINT64_MAX, &err), 0);
	memory_file_close(file);
}
END_TEST

/* As a guest writes between two passes: pages come, change, become zero and are something again. */
static void put_again_and_again(struct memory_file *file)
{
	_cleanup_free_ uint8_t *last = malloc(PAGES * GUEST_PAGE_SIZE);
	unsigned seed = 11;

	memcpy(last, memory, PAGES * GUEST_PAGE_SIZE);
	for (unsigned pass = 0; pass < 6; pass++) {
		for (unsigned i = 0; i < PAGES; i++)
			if (pass && rand_r(&seed) % 3 == 0)
				page_fill(memory + (size_t)i * GUEST_PAGE_SIZE,
					rand_r(&seed) % 2 ? (uint64_t)rand_r(&seed) + 1 : 0);
		if (pass == 5)
			memcpy(memory, last, PAGES * GUEST_PAGE_SIZE);
		MUST(memory_file_put(file, 0, memory, 700, &err));
		MUST(memory_file_put(file, 700, memory + 700 * GUEST_PAGE_SIZE, PAGES - 700, &err));
	}
}

START_TEST(where_pages_may_come_again_the_last_of_each_counts)
{
	_cleanup_free_ uint8_t *sums = NULL, *sums_once = NULL, *bytes = NULL;
	struct memory_file *file;
	uint64_t data;
	size_t size;

	write_all();
	sums_once = load(PAGE_SUMS_FILE, &size);
	data = manifest.data_pages;
	unlinkat(dir, "memory", 0);
	unlinkat(dir, PAGE_SUMS_FILE, 0);

	config.compression = _i ? SNAPSHOT_ZSTD : SNAPSHOT_PLAIN;
	config.again = true;
	MUST(memory_file_open(&file, &config, &err));
	put_again_and_again(file);
	manifest.part_count = 0;
	MUST(memory_file_finish(file, &manifest, &err));
	memory_file_close(file);
	sums = load(PAGE_SUMS_FILE, &size);
	ck_assert_mem_eq(sums, sums_once, size);
	ck_assert_uint_eq(manifest.data_pages, data);
	ck_assert_uint_eq(manifest.data_pages + manifest.zero_pages, PAGES);
	ck_assert_int_lt(faccessat(dir, "memory.waiting", F_OK, 0), 0);
	if (_i) {
		check_frames();
	} else {
		bytes = load("memory", &size);
		ck_assert_mem_eq(bytes, memory, size);
	}
}
END_TEST

static uint64_t told_pages, told_bytes;
static atomic_bool cancel;

static void tell(void *owner, uint64_t pages, uint64_t bytes)
{
	(void)owner;
	told_pages = pages;
	told_bytes = bytes;
	if (pages >= 600)
		atomic_store(&cancel, true);
}

START_TEST(progress_is_told_and_cancel_is_heard)
{
	const struct memory_piece piece = {memory, 0, PAGES};
	struct memory_file *file;

	config.threads = 1;
	config.progress = tell;
	config.cancel = &cancel;
	MUST(memory_file_open(&file, &config, &err));
	ck_assert_int_lt(memory_file_write(file, &piece, 1, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_CANCELLED);
	ck_assert_uint_ge(told_pages, 600);
	ck_assert_uint_lt(told_pages, PAGES);
	ck_assert_uint_gt(told_bytes, 0);
	memory_file_close(file);
}
END_TEST

START_TEST(a_full_disk_is_told_with_its_mend)
{
	enum snapshot_compression how[] = {SNAPSHOT_PLAIN, SNAPSHOT_ZSTD};
	const struct memory_piece piece = {memory, 0, PAGES};
	unsigned seed = 9;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("small", folder, "tmpfs", 0, "size=2m") < 0)
		return; /* not root: nothing to fill */
	close(dir);
	dir = config.dir = open(folder, O_RDONLY | O_DIRECTORY);
	for (size_t i = 0; i < PAGES * GUEST_PAGE_SIZE / sizeof(int); i++)
		((int *)(void *)memory)[i] = rand_r(&seed) | 1;
	for (unsigned n = 0; n < 2; n++) {
		struct memory_file *file;

		config.compression = how[n];
		MUST(memory_file_open(&file, &config, &err));
		ck_assert_int_lt(memory_file_write(file, &piece, 1, &err), 0);
		ck_assert_int_eq(err.code, ENOSPC);
		ck_assert_int_eq(err.kind, ERROR_NO_RESOURCE);
		ck_assert_ptr_nonnull(strstr(err.hint, "room"));
		memory_file_close(file);
	}
	umount2(folder, MNT_DETACH); /* its descriptor is still open */
}
END_TEST

/* ---- hostile index files ---- */

START_TEST(ranges_that_cannot_be_are_refused)
{
	static const uint64_t cases[][4] = {
		{5, 0, 50, 1},		    /* empty */
		{5, 3, 7, 1},		    /* overlapping */
		{50, 3, 7, 1},		    /* falling */
		{99, 2, 0, 0},		    /* behind the end */
		{100, 1, 0, 0},		    /* the same */
		{5, 3, 8, 1},		    /* two that are one */
		{5, INT64_MAX, 50, 1},	    /* longer than all */
		{UINT64_MAX - 2, 5, 50, 1}, /* around the corner */
	};
	uint64_t words[3 + 4];
	struct page_ranges ranges;

	memcpy(words, "BHPAGES1", 8);
	words[1] = 100;
	words[2] = 2;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		memcpy(words + 3, cases[i], sizeof(cases[i]));
		ck_assert_int_lt(
			page_ranges_decode(&ranges, (void *)words, sizeof(words), 100, &err), 0);
		ck_assert_int_eq(err.kind, ERROR_CORRUPT);
	}
	memcpy(words + 3, (uint64_t[]){5, 3, 9, 1}, 32);
	ck_assert_int_lt(page_ranges_decode(&ranges, (void *)words, 55, 100, &err), 0);
	ck_assert_int_lt(page_ranges_decode(&ranges, (void *)words, 40, 100, &err), 0);
	ck_assert_int_lt(page_ranges_decode(&ranges, (void *)words, 56, 99, &err), 0);
	MUST(page_ranges_decode(&ranges, (void *)words, 56, 100, &err));
	page_ranges_destroy(&ranges);
}
END_TEST

START_TEST(a_page_has_the_number_that_memory_gives_it)
{
	const struct guest_memory_config wanted = {.region_count = 2,
		.regions = {{.gpa = 0, .size = MIB(3)}, {.gpa = GIB(4), .size = MIB(1)}},
		.area_gpa = GIB(6),
		.area_size = MIB(10),
		.area_unit = MIB(4),
		.pages = MEMORY_PAGES_OFF};
	struct memory_layout layout;
	struct guest_memory guest;

	MUST(guest_memory_create(&wanted, &guest, &err));
	MUST(guest_memory_plug(&guest, 1, &err));
	memory_layout_of(&guest, &layout);
	MUST(memory_layout_check(&layout, &err));
	ck_assert_uint_eq(layout.area_present, 2);
	ck_assert_uint_eq(memory_layout_pages(&layout), guest_memory_pages(&guest));
	ck_assert_uint_eq(memory_layout_pages(&layout), 1024 + 512 + 2560);
	guest_memory_destroy(&guest);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("memory");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_page_has_the_number_that_memory_gives_it);
	tcase_add_test(tc, each_page_is_at_its_place_and_zeros_are_holes);
	tcase_add_test(tc, sums_are_the_same_in_whatever_order_pages_come);
	tcase_add_test(tc, a_sum_tells_a_changed_a_moved_and_a_lost_page);
	tcase_add_test(tc, an_incremental_notes_what_came_and_what_became_zero);
	tcase_add_test(tc, compressed_frames_hold_every_page_once);
	tcase_add_test(tc, several_threads_may_put_pages_at_once);
	tcase_add_test(tc, a_page_that_comes_twice_is_an_error);
	tcase_add_loop_test(tc, where_pages_may_come_again_the_last_of_each_counts, 0, 2);
	tcase_add_test(tc, progress_is_told_and_cancel_is_heard);
	tcase_add_test(tc, a_full_disk_is_told_with_its_mend);
	tcase_add_test(tc, ranges_that_cannot_be_are_refused);
	return run_tests("snapshot_memory", tc, NULL);
}
