/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums of pages in any order: see page_sums.h. */
#include "vmm/transfer/page_sums.h"

#include "vmm/base/util.h"
#include "vmm/transfer/memory_layout.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

struct sums_header {
	char magic[8];
	uint64_t pages, chunks;
};

static const char magic[8] = "BHSUMS1";

int page_sums_create(struct page_sums *sums, uint64_t pages, struct error *err)
{
	sums->pages = pages;
	sums->chunks = (pages + PAGE_SUMS_CHUNK - 1) / PAGE_SUMS_CHUNK;
	sums->sums = calloc(sums->chunks + 1, sizeof(*sums->sums));
	return sums->sums ? 0 : error_errno(err, ENOMEM, "cannot keep the memory's checksums");
}

void page_sums_destroy(struct page_sums *sums)
{
	free(sums->sums);
	*sums = (struct page_sums){0};
}

/* The first line decides for most pages that hold something; the loop is for the compiler to make wide. */
bool page_is_zero(const uint8_t *page)
{
	const uint64_t *words = (const uint64_t *)(const void *)page;
	uint64_t any = 0;

	for (unsigned i = 0; i < 8; i++)
		any |= words[i];
	for (unsigned i = 8; !any && i < GUEST_PAGE_SIZE / 8; i += 56)
		for (unsigned j = i; j < i + 56 && j < GUEST_PAGE_SIZE / 8; j++)
			any |= words[j];
	return !any;
}

struct checksum page_sum(uint64_t page, const uint8_t *bytes)
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(bytes, GUEST_PAGE_SIZE, page + 1);

	return (struct checksum){hash.low64, hash.high64};
}

void page_sums_toggle(struct page_sums *sums, uint64_t page, struct checksum of)
{
	struct checksum *sum = &sums->sums[page / PAGE_SUMS_CHUNK];

	__atomic_fetch_xor(&sum->low, of.low, __ATOMIC_RELAXED);
	__atomic_fetch_xor(&sum->high, of.high, __ATOMIC_RELAXED);
}

void page_sums_add(struct page_sums *sums, uint64_t page, const uint8_t *bytes)
{
	page_sums_toggle(sums, page, page_sum(page, bytes));
}

int page_sums_encode(const struct page_sums *sums, uint8_t **bytes, size_t *size, struct error *err)
{
	struct sums_header *header;
	uint64_t *words;

	*size = sizeof(*header) + sums->chunks * 16;
	*bytes = malloc(*size);
	if (!*bytes)
		return error_errno(err, ENOMEM, "cannot write the memory's checksums");
	header = (void *)*bytes;
	memcpy(header->magic, magic, sizeof(magic));
	header->pages = htole64(sums->pages);
	header->chunks = htole64(sums->chunks);
	words = (void *)(header + 1);
	for (uint64_t i = 0; i < sums->chunks; i++) {
		words[2 * i] = htole64(sums->sums[i].low);
		words[2 * i + 1] = htole64(sums->sums[i].high);
	}
	return 0;
}

int page_sums_decode(struct page_sums *sums, const uint8_t *bytes, size_t size, uint64_t pages,
	struct error *err)
{
	uint64_t chunks = (pages + PAGE_SUMS_CHUNK - 1) / PAGE_SUMS_CHUNK;
	struct sums_header header;
	uint64_t words[2];
	int ret;

	if (size < sizeof(header) || size - sizeof(header) != chunks * sizeof(words))
		return error_set(err, ERROR_CORRUPT,
			"'%s' has %zu bytes, not the %" PRIu64 " for %" PRIu64 " pages of memory",
			PAGE_SUMS_FILE, size, sizeof(header) + chunks * sizeof(words), pages);
	memcpy(&header, bytes, sizeof(header));
	if (memcmp(header.magic, magic, sizeof(magic)) != 0 || le64toh(header.pages) != pages ||
		le64toh(header.chunks) != chunks)
		return error_set(err, ERROR_CORRUPT, "'%s' is not of this memory", PAGE_SUMS_FILE);
	ret = page_sums_create(sums, pages, err);
	for (uint64_t i = 0; ret == 0 && i < chunks; i++) {
		memcpy(words, bytes + sizeof(header) + i * sizeof(words), sizeof(words));
		sums->sums[i] = (struct checksum){le64toh(words[0]), le64toh(words[1])};
	}
	return ret;
}
