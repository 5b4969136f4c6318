/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains: memory is what it was at each snapshot, in whatever form it was written; whatever is changed, missing or does not
 * belong there is refused, and never makes another guest.
 */
#include "tests/unit/runner.h"
#include "tests/unit/snapshot_files.h"
#include "vmm/base/util.h"
#include "vmm/transfer/chain.h"
#include "vmm/transfer/snapshot_dir.h"
#include "vmm/transfer/stamp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define LOW   700  /* pages below 4 GiB */
#define HIGH  300  /* and from there on */
#define SLOT  1024 /* of the area, of which the second of three is plugged */
#define AREA  (2 * SLOT + 512)
#define PAGES (1024 + 512 + AREA)
#define STEPS 20

static char folder[64];
static struct guest_memory guest; /* what is restored */
static struct memory_layout layout;
static uint8_t *memory; /* what the guest has now, by number */
static struct error err;
static struct chain *chain;

static void make_guest(enum memory_pages pages)
{
	const struct guest_memory_config config = {.region_count = 2,
		.regions = {{.gpa = 0, .size = LOW * 4096}, {.gpa = GIB(4), .size = HIGH * 4096}},
		.area_gpa = GIB(6),
		.area_size = AREA * 4096ull,
		.area_unit = SLOT * 4096ull,
		.pages = pages};

	MUST(guest_memory_create(&config, &guest, &err));
	MUST(guest_memory_plug(&guest, 1, &err));
}

static void setup(void)
{
	scratch_make(folder, false);
	make_guest(MEMORY_PAGES_THP);
	memory_layout_of(&guest, &layout);
	ck_assert_uint_eq(memory_layout_pages(&layout), PAGES);
	memory = pages_map(PAGES);
	chain = NULL;
}

static void teardown(void)
{
	chain_close(chain);
	guest_memory_destroy(&guest);
	munmap(memory, PAGES * 4096ull);
	scratch_remove(folder);
}

static const char *path_of(unsigned number)
{
	static char path[4][96];
	static unsigned next;
	char *to = path[next++ % 4];

	snprintf(to, 96, "%s/s%u", folder, number);
	return to;
}

static bool is_memory(uint64_t page)
{
	return page < LOW || (page >= 1024 && page < 1024 + HIGH) ||
	       (page >= 1536 + SLOT && page < 1536 + 2 * SLOT);
}

/* Runs of pages get new content, some of it zero; which, is added to `which`. */
static void scribble(unsigned *seed, unsigned runs, unsigned longest, uint64_t *which)
{
	while (runs--) {
		uint64_t first = (uint64_t)rand_r(seed) % PAGES;
		uint64_t count = (uint64_t)rand_r(seed) % longest + 1;
		uint64_t content = rand_r(seed) % 4 ? (uint64_t)rand_r(seed) + 1 : 0;

		for (uint64_t i = first; i < min_u64(first + count, PAGES); i++) {
			if (!is_memory(i))
				continue;
			page_fill(memory + i * 4096, content ? content + i : 0);
			if (which)
				which[i / 64] |= 1ull << (i % 64);
		}
	}
}

static void check_guest(const uint8_t *wanted)
{
	for (unsigned i = 0; i < guest_memory_piece_count(&guest); i++) {
		struct page_range piece = guest_memory_piece(&guest, i);

		if (guest_memory_piece_present(&guest, i))
			ck_assert_mem_eq(
				piece.host, wanted + piece.first * 4096, piece.count * 4096);
	}
}

/* In memory as fresh as a new process's. */
static void restore_by(
	int (*make)(const struct chain *chain, struct guest_memory *memory, struct error *err),
	const char *path, const uint8_t *wanted)
{
	enum memory_pages pages = guest.pages;

	guest_memory_destroy(&guest);
	make_guest(pages);
	MUST(chain_open(&chain, path, &err));
	MUST(chain_verify(chain, CHAIN_VERIFY_STAMPED, NULL, &err));
	MUST(make(chain, &guest, &err));
	chain_close(chain);
	chain = NULL;
	check_guest(wanted);
}

static void restore(const char *path, const uint8_t *wanted)
{
	restore_by(chain_map, path, wanted);
}

static void property(enum snapshot_compression base, bool mixed, unsigned seed)
{
	uint8_t *then[STEPS + 1];

	if (seed % 2) {
		scratch_remove(folder);
		scratch_make(folder, true);
	}
	scribble(&seed, 40, 200, NULL);
	for (unsigned step = 0; step <= STEPS; step++) {
		uint64_t which[PAGES / 64 + 1] = {0};

		if (step)
			scribble(&seed, 8, step % 3 ? 5 : 150, which);
		snapshot_write(path_of(step), &layout, memory,
			mixed && step % 2 ? SNAPSHOT_ZSTD : base, step ? path_of(step - 1) : NULL,
			step ? which : NULL);
		then[step] = pages_map(PAGES);
		memcpy(then[step], memory, PAGES * 4096ull);
	}
	for (unsigned step = 0; step <= STEPS; step += 4) {
		restore(path_of(step), then[step]);
		/* A guest that writes changes nobody else's memory. */
		memset(guest.regions[0].host, 0xff, LOW * 4096);
	}
	restore(path_of(STEPS), then[STEPS]);
	MUST(chain_open(&chain, path_of(STEPS), &err));
	for (unsigned n = 0; n < 200; n++) {
		static uint8_t room[600 * 4096];
		uint64_t first = (uint64_t)rand_r(&seed) % PAGES;
		uint64_t count = min_u64((uint64_t)rand_r(&seed) % 600 + 1, PAGES - first);

		MUST(chain_read_pages(chain, first, count, room, &err));
		ck_assert_mem_eq(room, memory + first * 4096, count * 4096);
	}
	ck_assert_int_lt(chain_read_pages(chain, PAGES - 1, 2, memory, &err), 0);
	MUST(chain_verify(chain, CHAIN_VERIFY_ALL, NULL, &err));
	for (unsigned step = 0; step <= STEPS; step++)
		munmap(then[step], PAGES * 4096ull);
}

START_TEST(a_chain_of_twenty_gives_each_time_its_memory)
{
	property(SNAPSHOT_PLAIN, false, (unsigned)_i);
}
END_TEST

START_TEST(a_chain_of_mixed_forms_gives_each_time_its_memory)
{
	property(_i ? SNAPSHOT_PLAIN : SNAPSHOT_ZSTD, true, (unsigned)_i + 7);
}
END_TEST

/* Byte for byte and hole for hole what a full snapshot is that is taken now. */
static void merge_is_direct(enum snapshot_compression compression)
{
	static const char *const files[] = {"memory", "memory.sums"};
	struct stat merged, direct;
	unsigned seed = 21;
	char names[2][128];

	scribble(&seed, 40, 200, NULL);
	for (unsigned step = 0; step <= STEPS; step++) {
		uint64_t which[PAGES / 64 + 1] = {0};

		if (step)
			scribble(&seed, 8, 30, which);
		snapshot_write(path_of(step), &layout, memory,
			step % 2 ? SNAPSHOT_ZSTD : SNAPSHOT_PLAIN, step ? path_of(step - 1) : NULL,
			step ? which : NULL);
	}
	snapshot_write(path_of(100), &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
	MUST(chain_open(&chain, path_of(STEPS), &err));
	MUST(chain_merge(chain, path_of(101), compression, NULL, &err));
	ck_assert_int_eq(chain_merge(chain, path_of(101), compression, NULL, &err), -EEXIST);
	chain_close(chain);
	chain = NULL;
	for (unsigned i = compression == SNAPSHOT_ZSTD; i < ARRAY_SIZE(files); i++) {
		char command[300];

		snprintf(names[0], sizeof(names[0]), "%s/%s", path_of(100), files[i]);
		snprintf(names[1], sizeof(names[1]), "%s/%s", path_of(101), files[i]);
		snprintf(command, sizeof(command), "cmp %s %s", names[0], names[1]);
		ck_assert_int_eq(system(command), 0);
		ck_assert_int_eq(stat(names[0], &direct), 0);
		ck_assert_int_eq(stat(names[1], &merged), 0);
		ck_assert_int_eq(direct.st_blocks, merged.st_blocks);
	}
	restore(path_of(101), memory);
	MUST(chain_open(&chain, path_of(101), &err));
	ck_assert_uint_eq(chain->count, 1);
	MUST(chain_verify(chain, CHAIN_VERIFY_ALL, NULL, &err));
}

START_TEST(a_chain_of_twenty_merged_is_the_direct_snapshot)
{
	merge_is_direct(_i ? SNAPSHOT_ZSTD : SNAPSHOT_PLAIN);
}
END_TEST

START_TEST(a_removed_snapshot_is_gone_and_only_a_snapshot_is_removed)
{
	char other[96];

	snapshot_write(path_of(0), &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
	MUST(snapshot_dir_remove(path_of(0), &err));
	ck_assert_int_lt(access(path_of(0), F_OK), 0);
	ck_assert_int_lt(snapshot_dir_remove(path_of(0), &err), 0);
	ck_assert_int_eq(err.kind, ERROR_NOT_FOUND);
	snprintf(other, sizeof(other), "%s/other", folder);
	mkdir(other, 0700);
	ck_assert_int_lt(snapshot_dir_remove(other, &err), 0);
	ck_assert_int_eq(access(other, F_OK), 0);
	ck_assert_int_eq(rmdir(other), 0);
	ck_assert_int_eq(rmdir(folder), 0); /* nothing else is left */
}
END_TEST

static unsigned mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned lines = 0;
	int c;

	while ((c = getc(maps)) != EOF)
		lines += c == '\n';
	fclose(maps);
	return lines;
}

START_TEST(memory_is_mapped_and_not_read)
{
	unsigned char resident[LOW];
	unsigned seed = 1, found = 0;
	char name[128];
	int fd;

	scribble(&seed, 80, 300, NULL);
	snapshot_write(path_of(0), &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
	snprintf(name, sizeof(name), "%s/memory", path_of(0));
	restore(path_of(0), memory);
	guest_memory_destroy(&guest);
	make_guest(MEMORY_PAGES_OFF);
	MUST(chain_open(&chain, path_of(0), &err));
	MUST(chain_map(chain, &guest, &err));
	/* Of a mapped file mincore() tells what is in the page cache: let that go first. */
	fd = open(name, O_RDONLY);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	ck_assert_int_eq(mincore(guest.regions[0].host, LOW * 4096, resident), 0);
	for (unsigned i = 0; i < LOW; i++)
		found += resident[i] & 1;
	ck_assert_uint_lt(found, LOW / 2);
	check_guest(memory);
}
END_TEST

/* Whoever read all needs the files no more, and memory that is no file's can be copied as any. */
START_TEST(memory_that_is_read_is_that_of_the_chain_and_no_files)
{
	uint64_t which[PAGES / 64 + 1] = {0};
	unsigned seed = 5;

	scribble(&seed, 80, 300, NULL);
	snapshot_write(path_of(0), &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
	scribble(&seed, 20, 100, which);
	snapshot_write(path_of(1), &layout, memory, SNAPSHOT_ZSTD, path_of(0), which);
	restore_by(chain_fill, path_of(1), memory);
	ck_assert(!guest.of_files);
	MUST(chain_open(&chain, path_of(1), &err));
	ck_assert(chain_is_compressed(chain));
	chain_close(chain);
	MUST(chain_open(&chain, path_of(0), &err));
	ck_assert(!chain_is_compressed(chain));
}
END_TEST

START_TEST(many_short_runs_take_no_mapping_each)
{
	uint64_t which[PAGES / 64 + 1] = {0};
	unsigned before;

	for (uint64_t i = 0; i < PAGES; i++)
		page_fill(memory + i * 4096, is_memory(i) ? i + 1 : 0);
	snapshot_write(path_of(0), &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
	for (uint64_t i = 0; i < PAGES; i += 2)
		if (is_memory(i)) {
			page_fill(memory + i * 4096, i % 4 ? i + 1000000 : 0);
			which[i / 64] |= 1ull << (i % 64);
		}
	snapshot_write(path_of(1), &layout, memory, SNAPSHOT_PLAIN, path_of(0), which);
	before = mappings();
	restore(path_of(1), memory);
	ck_assert_uint_lt(mappings(), before + 200); /* of a thousand runs */
}
END_TEST

START_TEST(other_memory_than_the_snapshots_is_refused)
{
	struct guest_memory_config config = {.region_count = 1,
		.regions = {{.gpa = 0, .size = LOW * 4096}},
		.pages = MEMORY_PAGES_OFF};
	struct guest_memory other;

	snapshot_write(path_of(0), &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
	MUST(chain_open(&chain, path_of(0), &err));
	MUST(guest_memory_create(&config, &other, &err));
	ck_assert_int_lt(chain_map(chain, &other, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	guest_memory_destroy(&other);
	MUST(guest_memory_plug(&guest, 0, &err));
	ck_assert_int_lt(chain_map(chain, &guest, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "plugged"));
}
END_TEST

/* ---- damage ---- */

/* A full one and two children, in plain and in compressed form. */
static void make_three(void)
{
	unsigned seed = 11;
	uint64_t which[PAGES / 64 + 1];

	scribble(&seed, 40, 60, NULL);
	snapshot_write(path_of(0), &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
	for (unsigned i = 1; i < 3; i++) {
		memset(which, 0, sizeof(which));
		scribble(&seed, 10, 40, which);
		snapshot_write(path_of(i), &layout, memory, i == 1 ? SNAPSHOT_ZSTD : SNAPSHOT_PLAIN,
			path_of(i - 1), which);
	}
}

/* Opens, verifies, reads everything: refused as corrupt, or the same as ever. True: refused. */
static bool is_refused(enum chain_verify_mode mode)
{
	uint8_t *now = pages_map(PAGES);
	int ret = chain_open(&chain, path_of(2), &err);

	if (ret == 0) {
		ret = chain_verify(chain, mode, NULL, &err);
		if (ret == 0) {
			MUST(chain_read_pages(chain, 0, PAGES, now, &err));
			ck_assert_mem_eq(now, memory, PAGES * 4096ull);
		}
		chain_close(chain);
		chain = NULL;
	}
	munmap(now, PAGES * 4096ull);
	if (ret < 0) {
		ck_assert_msg(err.kind == ERROR_CORRUPT || err.kind == ERROR_INCOMPATIBLE ||
				      err.kind == ERROR_NOT_FOUND,
			"%s", err.text);
		ck_assert_msg(strstr(err.text, "snapshot '"), "%s", err.text);
	}
	return ret < 0;
}

static void flip(const char *name, off_t at, uint8_t bits)
{
	int fd = open(name, O_RDWR);
	uint8_t byte;

	ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
	byte ^= bits;
	ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

/* Every file of all three: fn(its name, its size). */
static void each_file(void (*fn)(const char *name, off_t size))
{
	for (unsigned i = 0; i < 3; i++) {
		DIR *stream = opendir(path_of(i));
		struct dirent *entry;

		while ((entry = readdir(stream))) {
			char name[400];
			struct stat st;

			snprintf(name, sizeof(name), "%s/%s", path_of(i), entry->d_name);
			if (stat(name, &st) == 0 && S_ISREG(st.st_mode) &&
				strcmp(entry->d_name, SNAPSHOT_STAMP_FILE) != 0)
				fn(name, st.st_size);
		}
		closedir(stream);
	}
}

static unsigned refusals;

/* Its first and last bytes, and some between. */
static void flip_some(const char *name, off_t size)
{
	for (unsigned n = 0; n < 14; n++) {
		off_t at = n < 4 ? n * 7 : n < 8 ? size - 1 - (n - 4) * 9 : size * (n - 7) / 8;

		if (at < 0 || at >= size)
			continue;
		flip(name, at, (uint8_t)(1 << n % 8));
		refusals += is_refused(n % 2 ? CHAIN_VERIFY_ALL : CHAIN_VERIFY_STAMPED);
		flip(name, at, (uint8_t)(1 << n % 8));
	}
}

START_TEST(no_flipped_bit_makes_another_guest)
{
	make_three();
	each_file(flip_some);
	ck_assert_uint_gt(refusals, 100);
	ck_assert(!is_refused(CHAIN_VERIFY_ALL));
}
END_TEST

START_TEST(a_flip_in_memory_is_told_with_its_bytes)
{
	char name[128];

	make_three();
	snprintf(name, sizeof(name), "%s/memory", path_of(0));
	flip(name, MIB(2) + 5, 1);
	ck_assert(is_refused(CHAIN_VERIFY_STAMPED));
	ck_assert_msg(strstr(err.text, path_of(0)) && strstr(err.text, "'memory'") &&
			      strstr(err.text, "2097152"),
		"%s", err.text);
}
END_TEST

/* Shorter, longer, gone, a folder, a pipe: each in turn. */
static void mutilate(const char *name, off_t size)
{
	char aside[420];
	int fd;

	snprintf(aside, sizeof(aside), "%s.aside", name);
	for (unsigned n = 0; n < 6; n++) {
		ck_assert_int_eq(rename(name, aside), 0);
		if (n < 3) {
			char copy[900];

			snprintf(copy, sizeof(copy), "cp %s %s", aside, name);
			ck_assert_int_eq(system(copy), 0);
			fd = open(name, O_RDWR);
			ck_assert_int_eq(ftruncate(fd, n == 0	? size - 1
						       : n == 1 ? size / 2
								: size + 1),
				0);
			close(fd);
		} else if (n == 3) {
			mkdir(name, 0700);
		} else if (n == 4) {
			mkfifo(name, 0600);
		}
		/* What was added behind JSON may be a blank; all else is refused. A parent's state is its own. */
		ck_assert_msg(is_refused(CHAIN_VERIFY_STAMPED), "%s %u", name, n);
		ck_assert_int_eq(n == 5 ? 0 : remove(name), 0);
		ck_assert_int_eq(rename(aside, name), 0);
	}
}

START_TEST(a_file_that_is_shorter_longer_gone_or_no_file_is_refused)
{
	make_three();
	each_file(mutilate);
	ck_assert(!is_refused(CHAIN_VERIFY_ALL));
}
END_TEST

START_TEST(a_parent_that_is_gone_or_another_is_refused)
{
	char away[96];

	make_three();
	snprintf(away, sizeof(away), "%s/away", folder);
	ck_assert_int_eq(rename(path_of(1), away), 0);
	ck_assert(is_refused(CHAIN_VERIFY_STAMPED));
	ck_assert_int_eq(err.kind, ERROR_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(err.text, "parent"));
	ck_assert_ptr_nonnull(strstr(err.hint, "parent"));
	snapshot_write(path_of(1), &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
	ck_assert(is_refused(CHAIN_VERIFY_STAMPED));
	ck_assert_int_eq(err.kind, ERROR_CORRUPT);
	ck_assert_ptr_nonnull(strstr(err.text, "parent"));
}
END_TEST

/* As one who can write would make it: the manifest with other members, and its checksum right. */
static void rewrite(const char *path, void (*change)(struct snapshot_manifest *manifest))
{
	int dir = open(path, O_RDONLY | O_DIRECTORY);
	struct snapshot_manifest manifest;
	char *text;

	MUST(snapshot_manifest_read(&manifest, dir, &err));
	change(&manifest);
	MUST(snapshot_manifest_format(&manifest, &text, &err));
	unlinkat(dir, SNAPSHOT_MANIFEST_FILE, 0);
	MUST(file_make(dir, SNAPSHOT_MANIFEST_FILE, text, strlen(text), &err));
	free(text);
	snapshot_manifest_destroy(&manifest);
	close(dir);
}

static char ring_id[SNAPSHOT_ID_SIZE];

static void note_id(struct snapshot_manifest *manifest)
{
	strcpy(ring_id, manifest->id);
}

static void close_ring(struct snapshot_manifest *manifest)
{
	strcpy(manifest->parent, ring_id);
	free(manifest->parent_folder);
	manifest->parent_folder = strdup("../s2");
}

START_TEST(a_snapshot_that_is_its_own_ancestor_is_refused)
{
	make_three();
	rewrite(path_of(2), note_id);
	rewrite(path_of(1), close_ring);
	ck_assert(is_refused(CHAIN_VERIFY_STAMPED));
	ck_assert_msg(strstr(err.text, "ancestor"), "%s", err.text);
}
END_TEST

static void move_memory(struct snapshot_manifest *manifest)
{
	manifest->memory.regions[1].gpa += 4096;
}

START_TEST(a_parent_of_another_machine_is_refused)
{
	make_three();
	rewrite(path_of(1), move_memory);
	ck_assert(is_refused(CHAIN_VERIFY_STAMPED));
	ck_assert_ptr_nonnull(strstr(err.text, "another machine"));
}
END_TEST

/* ---- trust ---- */

static uint64_t told_total;

static void tell(void *owner, uint64_t done, uint64_t total)
{
	(void)owner;
	ck_assert_uint_le(done, total);
	told_total = total;
}

START_TEST(what_is_stamped_is_not_read_and_what_is_not_is_read_once)
{
	struct chain_verify_watch watch = {.progress = tell};
	char command[300];

	make_three();
	MUST(chain_open(&chain, path_of(2), &err));
	MUST(chain_verify(chain, CHAIN_VERIFY_STAMPED, &watch, &err));
	ck_assert_uint_eq(told_total, 0);
	MUST(chain_verify(chain, CHAIN_VERIFY_ALL, &watch, &err));
	ck_assert_uint_ge(told_total, PAGES * 4096ull * 3);
	chain_close(chain);
	/* Copied elsewhere, all of them: the copies are read, once. */
	snprintf(command, sizeof(command), "mkdir %s/copy && cp -a %s/s* %s/copy", folder, folder,
		folder);
	ck_assert_int_eq(system(command), 0);
	strcat(folder, "/copy");
	for (unsigned n = 0; n < 2; n++) {
		told_total = 0;
		MUST(chain_open(&chain, path_of(2), &err));
		MUST(chain_verify(chain, CHAIN_VERIFY_STAMPED, &watch, &err));
		ck_assert_uint_eq(told_total != 0, n == 0);
		chain_close(chain);
		chain = NULL;
	}
	*strrchr(folder, '/') = '\0';
}
END_TEST

START_TEST(verifying_can_be_cancelled)
{
	atomic_bool cancel = true;
	struct chain_verify_watch watch = {.cancel = &cancel};

	make_three();
	MUST(chain_open(&chain, path_of(2), &err));
	ck_assert_int_lt(chain_verify(chain, CHAIN_VERIFY_ALL, &watch, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_CANCELLED);
}
END_TEST

START_TEST(the_way_to_the_parent_is_relative_where_both_lie_together)
{
	static const struct {
		const char *child, *parent, *folder;
	} cases[] = {
		{"/a/b", "/a/c", "../c"},
		{"/a/b/", "/a/c/", "../c"},
		{"/a/x/b", "/a/c", "../../c"},
		{"/a/b", "/a/x/c", "../x/c"},
		{"/a/x/b", "/a/x", "../../x"},
		{"/a/b", "/a/../a/c", "../c"},
	};
	char command[300], child[200], parent[200];

	snprintf(command, sizeof(command), "mkdir -p %s/a/x/c %s/a/c %s/d", folder, folder, folder);
	ck_assert_int_eq(system(command), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *found = NULL;

		snprintf(child, sizeof(child), "%s%s", folder, cases[i].child);
		snprintf(parent, sizeof(parent), "%s%s", folder, cases[i].parent);
		MUST(chain_parent_folder(child, parent, &found, &err));
		ck_assert_str_eq(found, cases[i].folder);
	}
	{
		_cleanup_free_ char *found = NULL;

		MUST(chain_parent_folder("/bulkhead-child", folder, &found, &err));
		ck_assert_str_eq(found, folder);
	}
	ck_assert_int_lt(chain_parent_folder(child, "/not/there", &(char *){NULL}, &err), 0);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("chain");

	tcase_set_timeout(tc, 50);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, a_chain_of_twenty_gives_each_time_its_memory, 0, 3);
	tcase_add_loop_test(tc, a_chain_of_mixed_forms_gives_each_time_its_memory, 0, 2);
	tcase_add_loop_test(tc, a_chain_of_twenty_merged_is_the_direct_snapshot, 0, 2);
	tcase_add_test(tc, a_removed_snapshot_is_gone_and_only_a_snapshot_is_removed);
	tcase_add_test(tc, memory_is_mapped_and_not_read);
	tcase_add_test(tc, memory_that_is_read_is_that_of_the_chain_and_no_files);
	tcase_add_test(tc, many_short_runs_take_no_mapping_each);
	tcase_add_test(tc, other_memory_than_the_snapshots_is_refused);
	tcase_add_test(tc, no_flipped_bit_makes_another_guest);
	tcase_add_test(tc, a_flip_in_memory_is_told_with_its_bytes);
	tcase_add_test(tc, a_file_that_is_shorter_longer_gone_or_no_file_is_refused);
	tcase_add_test(tc, a_parent_that_is_gone_or_another_is_refused);
	tcase_add_test(tc, a_snapshot_that_is_its_own_ancestor_is_refused);
	tcase_add_test(tc, a_parent_of_another_machine_is_refused);
	tcase_add_test(tc, what_is_stamped_is_not_read_and_what_is_not_is_read_once);
	tcase_add_test(tc, verifying_can_be_cancelled);
	tcase_add_test(tc, the_way_to_the_parent_is_relative_where_both_lie_together);
	return run_tests("snapshot_chain", tc, NULL);
}
