/* SPDX-License-Identifier: Apache-2.0 */
/* Reading compressed frames: see zstd_frames.h. Nothing of the file is believed: places, sizes and what a frame unpacks to. */
#include "vmm/transfer/zstd_frames.h"

#include "vmm/base/util.h"
#include "vmm/transfer/memory_layout.h"
#include "vmm/transfer/zstd_private.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <zstd.h>

unsigned zstd_entry_pages(const struct zstd_entry *entry)
{
	unsigned count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(entry->pages); i++)
		count += (unsigned)__builtin_popcountll(entry->pages[i]);
	return count;
}

static bool last_page_fits(const struct zstd_entry *entry, uint64_t pages)
{
	uint64_t room = pages - entry->first;

	for (unsigned i = 0; i < ZSTD_BLOCK_PAGES; i++)
		if (entry->pages[i / 64] >> (i % 64) & 1 && i >= room)
			return false;
	return true;
}

/* `frames_end`: where the index begins. `before` is the entry in front of it, or NULL. */
static bool entry_is_good(const struct zstd_entry *entry, const struct zstd_entry *before,
	uint64_t pages, uint64_t frames_end)
{
	if (entry->first % ZSTD_BLOCK_PAGES || entry->first >= pages ||
		entry->offset > frames_end || entry->size > frames_end - entry->offset ||
		!entry->size || !zstd_entry_pages(entry) || !last_page_fits(entry, pages))
		return false;
	if (!before || before->first < entry->first)
		return true;
	return before->first == entry->first && before->offset < entry->offset;
}

/* No page may come twice: which of both would hold? */
static bool shares_a_page(const struct zstd_entry *entries, uint64_t at)
{
	uint64_t seen[ZSTD_BLOCK_PAGES / 64] = {0};
	uint64_t from = at;

	while (from > 0 && entries[from - 1].first == entries[at].first &&
		at - from <= ZSTD_BLOCK_PAGES)
		from--;
	for (; from < at; from++)
		for (unsigned i = 0; i < ARRAY_SIZE(seen); i++)
			seen[i] |= entries[from].pages[i];
	for (unsigned i = 0; i < ARRAY_SIZE(seen); i++)
		if (seen[i] & entries[at].pages[i])
			return true;
	return false;
}

static int take_entries(struct zstd_frames *frames, const struct zstd_disk_entry *from,
	uint64_t frames_end, struct error *err)
{
	for (uint64_t i = 0; i < frames->count; i++) {
		struct zstd_entry *entry = &frames->entries[i];

		entry->first = le64toh(from[i].first);
		entry->offset = le64toh(from[i].offset);
		entry->size = le32toh(from[i].size);
		for (unsigned j = 0; j < ARRAY_SIZE(entry->pages); j++)
			entry->pages[j] = le64toh(from[i].pages[j]);
		if (!entry_is_good(entry, i ? entry - 1 : NULL, frames->pages, frames_end) ||
			shares_a_page(frames->entries, i))
			return error_set(err, ERROR_CORRUPT, "'%s': entry %" PRIu64 " cannot be",
				ZSTD_FILE, i);
	}
	return 0;
}

static int check_end(const struct zstd_disk_end *end, uint64_t size, uint64_t pages,
	uint64_t *count, struct error *err)
{
	*count = le64toh(end->count);
	if (memcmp(end->magic, ZSTD_MAGIC, sizeof(end->magic)) != 0 ||
		le64toh(end->pages) != pages || *count > pages ||
		*count > (size - sizeof(*end)) / sizeof(struct zstd_disk_entry))
		return error_set(err, ERROR_CORRUPT, "'%s' has no right end", ZSTD_FILE);
	return 0;
}

int zstd_frames_open(struct zstd_frames *frames, int fd, uint64_t size, uint64_t pages,
	const struct checksum *sum, struct error *err)
{
	_cleanup_free_ uint8_t *index = NULL;
	struct zstd_disk_end end;
	uint64_t count = 0, bytes;
	int ret;

	*frames = (struct zstd_frames){.pages = pages};
	if (size < sizeof(end))
		return error_set(err, ERROR_CORRUPT, "'%s' is too short", ZSTD_FILE);
	ret = file_read(fd, &end, sizeof(end), size - sizeof(end), ZSTD_FILE, err);
	if (ret == 0)
		ret = check_end(&end, size, pages, &count, err);
	if (ret < 0)
		return ret;
	bytes = count * sizeof(struct zstd_disk_entry) + sizeof(end);
	index = malloc(bytes);
	frames->entries = calloc(count + 1, sizeof(*frames->entries));
	frames->count = count;
	if (!index || !frames->entries)
		ret = error_errno(err, ENOMEM, "cannot read the index of '%s'", ZSTD_FILE);
	if (ret == 0)
		ret = file_read(fd, index, bytes, size - bytes, ZSTD_FILE, err);
	if (ret == 0 && !checksum_equal(checksum_of(index, bytes), *sum))
		ret = error_set(err, ERROR_CORRUPT,
			"the checksum of the index of '%s' is not right", ZSTD_FILE);
	if (ret == 0)
		ret = take_entries(frames, (void *)index, size - bytes, err);
	if (ret < 0)
		zstd_frames_close(frames);
	return ret;
}

void zstd_frames_close(struct zstd_frames *frames)
{
	free(frames->entries);
	*frames = (struct zstd_frames){0};
}

uint64_t zstd_frames_find(const struct zstd_frames *frames, uint64_t page)
{
	uint64_t low = 0, high = frames->count;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (frames->entries[middle].first < page)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int zstd_frames_read(const struct zstd_frames *frames, int fd, const struct zstd_entry *entry,
	uint8_t *to, struct error *err)
{
	size_t wanted = (size_t)zstd_entry_pages(entry) * GUEST_PAGE_SIZE, got;
	_cleanup_free_ uint8_t *bytes = malloc(entry->size);
	int ret;

	(void)frames;
	if (!bytes)
		return error_errno(err, ENOMEM, "cannot read '%s'", ZSTD_FILE);
	ret = file_read(fd, bytes, entry->size, entry->offset, ZSTD_FILE, err);
	if (ret < 0)
		return ret;
	got = ZSTD_decompress(to, wanted, bytes, entry->size);
	if (got == wanted)
		return 0;
	return error_set(err, ERROR_CORRUPT, "'%s': the frame at byte %" PRIu64 " is damaged: %s",
		ZSTD_FILE, entry->offset, ZSTD_isError(got) ? ZSTD_getErrorName(got) : "too short");
}
