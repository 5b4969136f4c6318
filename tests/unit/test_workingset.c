/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest touched is noted, kept, and mapped ahead of it the next time; what is kept badly is refused. */
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/memory/pages.h"
#include "vmm/transfer/workingset.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE GUEST_PAGE_SIZE

static struct error err;
static char folder[] = "/tmp/workingset-XXXXXX";
static int dir;
static struct guest_memory memory;
static struct page_set set;

/* Memory that is a file, as after a restore: with a second region on the other side of the hole. */
static void map_memory(void)
{
	const struct guest_memory_config config = {
		.region_count = 2,
		.regions = {{.gpa = 0, .size = MIB(4)}, {.gpa = GIB(4), .size = MIB(4)}},
		.pages = MEMORY_PAGES_OFF,
	};
	int fd = openat(dir, "memory", O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct page_range piece = guest_memory_piece(&memory, i);
		void *at = mmap(piece.host, MIB(4), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
			fd, (off_t)(piece.first * PAGE));

		ck_assert_ptr_eq(at, piece.host);
		/* Faults bring in no neighbours: what is touched is what is mapped. */
		ck_assert_int_eq(madvise(at, MIB(4), MADV_RANDOM), 0);
	}
	close(fd);
}

static void setup(void)
{
	static uint8_t bytes[PAGE];
	int fd;

	strcpy(folder + strlen(folder) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat(dir, "memory", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	for (uint64_t page = 0; page < 2048; page++) {
		memset(bytes, (int)page + 1, PAGE);
		ck_assert_int_eq(pwrite(fd, bytes, PAGE, (off_t)(page * PAGE)), PAGE);
	}
	close(fd);
	map_memory();
	ck_assert_int_eq(page_set_create(&set, guest_memory_pages(&memory), &err), 0);
}

static void teardown(void)
{
	page_set_destroy(&set);
	guest_memory_destroy(&memory);
	unlinkat(dir, "memory", 0);
	unlinkat(dir, WORKINGSET_FILE, 0);
	close(dir);
	rmdir(folder);
}

static const uint64_t touched[] = {0, 5, 900, 1023, 1024, 1500, 2047};

static uint8_t *host_of(uint64_t page)
{
	struct page_range piece = guest_memory_piece(&memory, page >= 1024);

	return piece.host + (page - piece.first) * PAGE;
}

static void touch(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(touched); i++)
		ck_assert_uint_eq(
			*(volatile uint8_t *)host_of(touched[i]), (uint8_t)(touched[i] + 1));
	*(volatile uint8_t *)host_of(300) = 1; /* a page of its own now */
}

static void check_touched(const struct page_set *pages)
{
	ck_assert(page_set_has(pages, 300));
	for (unsigned i = 0; i < ARRAY_SIZE(touched); i++)
		ck_assert_msg(page_set_has(pages, touched[i]), "page %lu", touched[i]);
	ck_assert(!page_set_has(pages, 600) && !page_set_has(pages, 1800));
}

START_TEST(what_was_touched_is_noted_kept_and_mapped_ahead_the_next_time)
{
	struct page_set again;

	touch();
	ck_assert_int_eq(workingset_note(&memory, &set, &err), 0);
	check_touched(&set);
	ck_assert_int_eq(workingset_save(dir, &set, &err), 0);
	ck_assert_int_eq(workingset_save(dir, &set, &err), 0);
	guest_memory_destroy(&memory);

	map_memory();
	ck_assert_int_eq(page_set_create(&again, set.count, &err), 0);
	ck_assert_int_eq(workingset_load(dir, &again, &err), 0);
	ck_assert_mem_eq(again.words, set.words, page_set_words(&set) * 8);
	ck_assert_uint_eq(workingset_ahead(&memory, &again, NULL), page_set_size(&set));
	page_set_clear(&again);
	ck_assert_int_eq(workingset_note(&memory, &again, &err), 0);
	check_touched(&again);
	page_set_destroy(&again);
}
END_TEST

START_TEST(a_cancelled_reading_ahead_reads_nothing)
{
	static const atomic_bool cancel = true;

	page_set_add(&set, 0, set.count);
	ck_assert_uint_eq(workingset_ahead(&memory, &set, &cancel), 0);
}
END_TEST

START_TEST(what_is_kept_badly_is_refused)
{
	int fd;

	ck_assert_int_lt(workingset_load(dir, &set, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_NOT_FOUND);
	page_set_add(&set, 7, 3);
	ck_assert_int_eq(workingset_save(dir, &set, &err), 0);
	page_set_clear(&set);
	fd = openat(dir, WORKINGSET_FILE, O_RDWR | O_CLOEXEC);
	for (off_t at = 0; at < 24; at++) {
		uint8_t byte, other;

		ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
		other = byte ^ 0x40;
		ck_assert_int_eq(pwrite(fd, &other, 1, at), 1);
		ck_assert_msg(workingset_load(dir, &set, &err) < 0, "byte %ld", at);
		ck_assert(page_set_is_empty(&set));
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	}
	ck_assert_int_eq(workingset_load(dir, &set, &err), 0);
	ck_assert_uint_eq(page_set_size(&set), 3);
	close(fd);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("working set");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, what_was_touched_is_noted_kept_and_mapped_ahead_the_next_time);
	tcase_add_test(tc, a_cancelled_reading_ahead_reads_nothing);
	tcase_add_test(tc, what_is_kept_badly_is_refused);
	return run_tests("workingset", tc, NULL);
}
