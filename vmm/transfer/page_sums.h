/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums of a long row of pages that are written in any order: the file `memory.sums`.
 *
 * The row is cut into chunks of 2 MiB. A chunk's checksum is the exclusive or of its pages' checksums, each XXH3-128 of the page's
 * bytes with its number plus one as the seed; a page of zeros counts nothing. So pages may come in any order and from
 * several threads, a hole in a file and zeros written there are the same, and a page in another's place is noticed.
 *
 * File, little-endian: magic "BHSUMS1\0", uint64 pages of the row, uint64 chunks, then two uint64 (low, high) for each chunk.
 *
 * page_sums_add() and _toggle() may be called by several threads at once, for different pages; the rest belongs to one thread.
 */
#pragma once

#include "vmm/transfer/file.h"

#include <stdbool.h>

#define PAGE_SUMS_FILE	"memory.sums"
#define PAGE_SUMS_CHUNK 512u /* pages */

struct page_sums {
	uint64_t pages;	 /* of the row */
	uint64_t chunks; /* of PAGE_SUMS_CHUNK pages, the last perhaps of less */
	struct checksum *sums;
};

int page_sums_create(struct page_sums *sums, uint64_t pages, struct error *err);
void page_sums_destroy(struct page_sums *sums);

bool page_is_zero(const uint8_t *page);

/* Of a page that is not zero, once. */
void page_sums_add(struct page_sums *sums, uint64_t page, const uint8_t *bytes);
/* What that adds; and a page's checksum added, or, a second time, taken away. */
struct checksum page_sum(uint64_t page, const uint8_t *bytes);
void page_sums_toggle(struct page_sums *sums, uint64_t page, struct checksum of);

/* The file's bytes, the caller's to free(). */
int page_sums_encode(
	const struct page_sums *sums, uint8_t **bytes, size_t *size, struct error *err);
/* `bytes` is hostile; `pages` is what the row must have. */
int page_sums_decode(struct page_sums *sums, const uint8_t *bytes, size_t size, uint64_t pages,
	struct error *err);
