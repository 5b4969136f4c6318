/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a chain's pages from whatever form they are in: see chain.h. */
#include "vmm/base/util.h"
#include "vmm/transfer/chain.h"

#include <errno.h>
#include <string.h>

/* The pages of `entry` that lie in [first, first + count), each to its place. */
static void spread(const struct zstd_entry *entry, const uint8_t *unpacked, uint64_t first,
	uint64_t count, uint8_t *to)
{
	for (unsigned n = 0; n < ZSTD_BLOCK_PAGES; n++) {
		uint64_t page = entry->first + n;

		if (!(entry->pages[n / 64] >> (n % 64) & 1))
			continue;
		if (page >= first && page - first < count)
			memcpy(to + (page - first) * GUEST_PAGE_SIZE, unpacked, GUEST_PAGE_SIZE);
		unpacked += GUEST_PAGE_SIZE;
	}
}

static bool touches(const struct zstd_entry *entry, uint64_t first, uint64_t count)
{
	for (unsigned n = 0; n < ZSTD_BLOCK_PAGES; n++)
		if (entry->pages[n / 64] >> (n % 64) & 1 && entry->first + n >= first &&
			entry->first + n - first < count)
			return true;
	return false;
}

int chain_unpack(const struct chain_link *link, uint64_t first, uint64_t count, uint8_t *to,
	struct error *err)
{
	const struct zstd_frames *frames = &link->frames;
	_cleanup_free_ uint8_t *room = malloc((size_t)ZSTD_BLOCK_PAGES * GUEST_PAGE_SIZE);
	uint64_t i = zstd_frames_find(frames, align_down(first, ZSTD_BLOCK_PAGES));

	if (!room)
		return error_errno(err, ENOMEM, "cannot unpack memory");
	for (; i < frames->count && frames->entries[i].first < first + count; i++) {
		const struct zstd_entry *entry = &frames->entries[i];
		int ret;

		if (!touches(entry, first, count))
			continue;
		ret = zstd_frames_read(frames, link->memory, entry, room, err);
		if (ret < 0)
			return ret;
		spread(entry, room, first, count, to);
	}
	return 0;
}

/* Pages that are all of one extent. */
static int read_extent(const struct chain *chain, uint32_t number, uint64_t first, uint64_t count,
	uint8_t *to, struct error *err)
{
	const struct chain_link *link;
	int ret;

	if (number == CHAIN_ZERO) {
		memset(to, 0, count * GUEST_PAGE_SIZE);
		return 0;
	}
	link = &chain->links[number];
	if (link->manifest.compression == SNAPSHOT_ZSTD) {
		memset(to, 0, count * GUEST_PAGE_SIZE);
		ret = chain_unpack(link, first, count, to, err);
	} else {
		ret = file_read(link->memory, to, count * GUEST_PAGE_SIZE, first * GUEST_PAGE_SIZE,
			SNAPSHOT_MEMORY_FILE, err);
	}
	return ret < 0 ? error_prefix(err, "snapshot '%s'", link->path) : 0;
}

int chain_read_pages(
	const struct chain *chain, uint64_t first, uint64_t count, uint8_t *to, struct error *err)
{
	const struct chain_extent *extent = chain_find(chain, first);
	int ret = 0;

	if (!extent || count > chain->pages - first)
		return error_set(
			err, ERROR_INTERNAL, "pages behind the end of a snapshot's memory");
	for (; ret == 0 && count; extent++) {
		uint64_t now = min_u64(count, extent->first + extent->count - first);

		ret = read_extent(chain, extent->link, first, now, to, err);
		first += now;
		to += now * GUEST_PAGE_SIZE;
		count -= now;
	}
	return ret;
}
