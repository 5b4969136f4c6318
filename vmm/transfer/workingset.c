/* SPDX-License-Identifier: Apache-2.0 */
/* The pages that a guest touches first: see workingset.h. */
#include "vmm/transfer/workingset.h"

#include "vmm/base/util.h"
#include "vmm/memory/pages.h"
#include "vmm/transfer/file.h"
#include "vmm/transfer/page_ranges.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

#define NEW_FILE	WORKINGSET_FILE ".new"
#define LEFTOVER_S	60
#define FILE_MAX	MIB(64)
#define AHEAD_PAGES	512u	     /* at a time: a cancel is seen between */
#define PAGEMAP_MAPPED	(1ull << 63) /* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_ENTRIES 4096u

static int note_piece(
	int pagemap, const struct page_range *piece, struct page_set *set, struct error *err)
{
	_cleanup_free_ uint64_t *entries = calloc(PAGEMAP_ENTRIES, sizeof(*entries));
	uint64_t frame = (uintptr_t)piece->host / GUEST_PAGE_SIZE;

	if (!entries)
		return error_errno(err, ENOMEM, "cannot look at page tables");
	for (uint64_t at = 0; at < piece->count; at += PAGEMAP_ENTRIES) {
		uint64_t count = min_u64(PAGEMAP_ENTRIES, piece->count - at);
		int ret = file_read(pagemap, entries, count * sizeof(*entries),
			(frame + at) * sizeof(*entries), "pagemap", err);

		if (ret < 0)
			return ret;
		for (uint64_t i = 0; i < count; i++)
			if (entries[i] & PAGEMAP_MAPPED)
				page_set_add(set, piece->first + at + i, 1);
	}
	return 0;
}

int workingset_note(const struct guest_memory *memory, struct page_set *set, struct error *err)
{
	_cleanup_close_ int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int ret = 0;

	if (pagemap < 0)
		return error_errno(err, errno, "cannot open /proc/self/pagemap");
	for (unsigned i = 0; ret == 0 && i < guest_memory_piece_count(memory); i++) {
		struct page_range piece = guest_memory_piece(memory, i);

		if (guest_memory_piece_present(memory, i))
			ret = note_piece(pagemap, &piece, set, err);
	}
	return ret;
}

/* Of one who was killed here; but a sibling may be writing just now, and then this one's is not wanted. */
static void remove_leftover(int dir)
{
	struct stat st;

	if (fstatat(dir, NEW_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		time(NULL) - st.st_mtime > LEFTOVER_S)
		unlinkat(dir, NEW_FILE, 0);
}

int workingset_save(int dir, const struct page_set *set, struct error *err)
{
	struct page_ranges ranges = {.pages = set->count};
	_cleanup_free_ uint8_t *bytes = NULL;
	uint64_t first, count;
	size_t size = 0;
	int ret = 0;

	for (uint64_t from = 0; ret == 0 && page_set_next_range(set, from, &first, &count);
		from = first + count)
		ret = page_ranges_append(
			&ranges, (struct page_run){.first = first, .count = count}, err);
	if (ret == 0)
		ret = page_ranges_encode(&ranges, &bytes, &size, err);
	page_ranges_destroy(&ranges);
	if (ret < 0)
		return ret;
	remove_leftover(dir);
	ret = file_make(dir, NEW_FILE, bytes, size, err);
	if (ret == 0 && renameat(dir, NEW_FILE, dir, WORKINGSET_FILE) < 0)
		ret = error_errno(err, errno, "cannot make '%s'", WORKINGSET_FILE);
	return ret;
}

int workingset_load(int dir, struct page_set *set, struct error *err)
{
	struct page_ranges ranges = {0};
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t size;
	int ret = file_load(dir, WORKINGSET_FILE, FILE_MAX, &bytes, &size, err);

	if (ret == 0)
		ret = page_ranges_decode(&ranges, bytes, size, set->count, err);
	for (uint64_t i = 0; ret == 0 && i < ranges.count; i++)
		page_set_add(set, ranges.ranges[i].first, ranges.ranges[i].count);
	page_ranges_destroy(&ranges);
	return ret;
}

/* An older kernel is at least told to read; it maps when the guest comes. */
static bool read_ahead(void *host, uint64_t size)
{
	if (madvise(host, size, MADV_POPULATE_READ) == 0)
		return true;
	return errno == EINVAL && madvise(host, size, MADV_WILLNEED) == 0;
}

uint64_t workingset_ahead(
	const struct guest_memory *memory, const struct page_set *set, const atomic_bool *cancel)
{
	struct page_range r;
	uint64_t done = 0;

	for (uint64_t from = 0; guest_memory_next_range(memory, set, from, AHEAD_PAGES, &r);
		from = r.first + r.count) {
		if (cancel && atomic_load(cancel))
			break;
		if (read_ahead(r.host, r.count * GUEST_PAGE_SIZE))
			done += r.count;
	}
	return done;
}
