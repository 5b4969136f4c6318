/* SPDX-License-Identifier: Apache-2.0 */
/* The ranges of pages of an incremental snapshot: see page_ranges.h. */
#include "vmm/transfer/page_ranges.h"

#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct ranges_header {
	char magic[8];
	uint64_t pages, count;
};

static const char magic[8] = {'B', 'H', 'P', 'A', 'G', 'E', 'S', '1'};

#define ZERO (1ull << 63)

int page_ranges_append(struct page_ranges *ranges, struct page_run range, struct error *err)
{
	struct page_run *last = ranges->count ? &ranges->ranges[ranges->count - 1] : NULL;

	if (last && last->zero == range.zero && last->first + last->count == range.first) {
		last->count += range.count;
		return 0;
	}
	if (!ranges->ranges || ranges->count == ranges->room) {
		uint64_t room = ranges->room ? ranges->room * 2 : 64;
		void *more = reallocarray(ranges->ranges, room, sizeof(*ranges->ranges));

		if (!more)
			return error_errno(err, ENOMEM, "cannot keep the ranges of pages");
		ranges->ranges = more;
		ranges->room = room;
	}
	ranges->ranges[ranges->count++] = range;
	return 0;
}

void page_ranges_destroy(struct page_ranges *ranges)
{
	free(ranges->ranges);
	*ranges = (struct page_ranges){0};
}

int page_ranges_encode(
	const struct page_ranges *ranges, uint8_t **bytes, size_t *size, struct error *err)
{
	struct ranges_header *header;
	uint64_t *words;

	*size = sizeof(*header) + ranges->count * 16;
	*bytes = malloc(*size);
	if (!*bytes)
		return error_errno(err, ENOMEM, "cannot write the ranges of pages");
	header = (void *)*bytes;
	memcpy(header->magic, magic, sizeof(magic));
	header->pages = htole64(ranges->pages);
	header->count = htole64(ranges->count);
	words = (void *)(header + 1);
	for (uint64_t i = 0; i < ranges->count; i++) {
		const struct page_run *r = &ranges->ranges[i];

		words[2 * i] = htole64(r->first);
		words[2 * i + 1] = htole64(r->count | (r->zero ? ZERO : 0));
	}
	return 0;
}

static int bad_range(uint64_t number, struct error *err)
{
	return error_set(
		err, ERROR_CORRUPT, "'%s': range %" PRIu64 " cannot be", PAGE_RANGES_FILE, number);
}

int page_ranges_decode(struct page_ranges *ranges, const uint8_t *bytes, size_t size,
	uint64_t pages, struct error *err)
{
	struct ranges_header header;
	uint64_t count, after = 0;
	int ret = 0;

	*ranges = (struct page_ranges){.pages = pages};
	if (size < sizeof(header))
		return error_set(err, ERROR_CORRUPT, "'%s' is too short", PAGE_RANGES_FILE);
	memcpy(&header, bytes, sizeof(header));
	count = le64toh(header.count);
	if (memcmp(header.magic, magic, sizeof(magic)) != 0 || le64toh(header.pages) != pages ||
		count != (size - sizeof(header)) / 16 || (size - sizeof(header)) % 16)
		return error_set(
			err, ERROR_CORRUPT, "'%s' is not of this memory, or cut", PAGE_RANGES_FILE);
	for (uint64_t i = 0; ret == 0 && i < count; i++) {
		struct page_run range;
		uint64_t words[2];

		memcpy(words, bytes + sizeof(header) + 16 * i, sizeof(words));
		range.first = le64toh(words[0]);
		range.count = le64toh(words[1]) & ~ZERO;
		range.zero = le64toh(words[1]) & ZERO;
		if (range.first < after || range.first >= pages || !range.count ||
			range.count > pages - range.first)
			ret = bad_range(i, err);
		else
			ret = page_ranges_append(ranges, range, err);
		after = range.first + range.count;
		if (ret == 0 && ranges->count != i + 1)
			ret = bad_range(
				i, err); /* joined with the one before: not as it is written */
	}
	if (ret < 0)
		page_ranges_destroy(ranges);
	return ret;
}
