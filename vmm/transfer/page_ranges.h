/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages an incremental snapshot has of its own: the file `pages`.
 *
 * File, little-endian: magic "BHPAGES1", uint64 pages of the row, uint64 number of ranges, then for each range uint64 first
 * page and uint64 number of pages, with the top bit set where these pages became zero and are not in `memory`. Ranges ascend,
 * do not overlap, are not empty, and none goes on with the kind that the one before it ends with.
 *
 * One thread at a time.
 */
#pragma once

#include "vmm/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_RANGES_FILE "pages"

struct page_run {
	uint64_t first, count;
	bool zero;
};

struct page_ranges {
	uint64_t pages; /* of the row */
	struct page_run *ranges;
	uint64_t count, room;
};

/* Behind all others; what touches the last one and is of its kind is joined. */
int page_ranges_append(struct page_ranges *ranges, struct page_run range, struct error *err);
void page_ranges_destroy(struct page_ranges *ranges);

/* The file's bytes, the caller's to free(). */
int page_ranges_encode(
	const struct page_ranges *ranges, uint8_t **bytes, size_t *size, struct error *err);
/* `bytes` is hostile; `pages` is what the row must have. */
int page_ranges_decode(struct page_ranges *ranges, const uint8_t *bytes, size_t size,
	uint64_t pages, struct error *err);
