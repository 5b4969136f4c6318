/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pieces of guest memory that were there at one time: what a background copy or an on-demand restore works on, also when
 * a slot goes meanwhile. (guest_memory_hold() sees to it that its pages stay.)
 */
#pragma once

#include "vmm/memory/pages.h"

struct pieces {
	unsigned count;
	struct page_range at[MEMORY_REGIONS_MAX + MEMORY_SLOTS_MAX];
	uint64_t slots; /* those among them: what memory.area.present was */
};

void pieces_note(struct pieces *pieces, const struct guest_memory *memory);

/* The piece with this page; NULL: there is none. */
const struct page_range *pieces_find(const struct pieces *pieces, uint64_t page);

/* The pages from `first` on, `max` at most, that are in one piece. False: `first` is in none. */
bool pieces_range(
	const struct pieces *pieces, uint64_t first, uint64_t max, struct page_range *range);
