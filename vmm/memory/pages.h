/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a guest's pages are numbered: the index space of every struct page_set over its memory, and of every file that keeps
 * memory page by page.
 *
 * First the regions in the order of their addresses, then all of the area in which memory comes and goes, whether a slot is
 * plugged or not. Each begins at a number that is a multiple of 512, that is of 2 MiB: so no word of a bitmap belongs to
 * two of them, and page n of a file at n * 4 KiB lies as a huge page needs it. What a region leaves unused of its last 512
 * numbers belongs to no page. A number says nothing of an address: RAM on both sides of the 4 GiB hole
 * has numbers without a hole between them.
 *
 * Every piece (a region, or one slot of the area) is contiguous in numbers, in guest addresses, and in host addresses.
 */
#pragma once

#include "vmm/memory/guest_memory.h"
#include "vmm/memory/page_set.h"

#define GUEST_PAGE_SIZE 4096u
#define GUEST_PAGE_NONE UINT64_MAX

/* Some pages of one piece, one after the other. */
struct page_range {
	uint64_t first, count; /* numbers */
	uint64_t gpa;
	uint8_t *host;
};

/* The size that a page_set over this memory has. It does not change while the memory lives. */
uint64_t guest_memory_pages(const struct guest_memory *memory);

/* Pieces are numbered from 0: the regions, then the slots of the area. */
unsigned guest_memory_piece_count(const struct guest_memory *memory);
struct page_range guest_memory_piece(const struct guest_memory *memory, unsigned piece);
/* Regions always are; of the slots, those that are plugged. */
bool guest_memory_piece_present(const struct guest_memory *memory, unsigned piece);

/* The number of the page with this host address, or GUEST_PAGE_NONE where it is not the guest's. */
uint64_t guest_memory_page_of(const struct guest_memory *memory, const void *host);

/* Add all pages that there are now. */
void guest_memory_add_present(const struct guest_memory *memory, struct page_set *set);

/*
 * The next pages, none before `from`, that are in the set and in memory that is present, as many as lie one after the
 * other in one piece, `max` at most. False: there is none. The way to walk over memory:
 *   for (from = 0; guest_memory_next_range(memory, set, from, max, &r); from = r.first + r.count)
 */
bool guest_memory_next_range(const struct guest_memory *memory, const struct page_set *set,
	uint64_t from, uint64_t max, struct page_range *range);
