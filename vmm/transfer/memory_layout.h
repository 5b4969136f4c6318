/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as a row of pages: where each lies in a snapshot's `memory` file.
 *
 * Page N is at byte N * 4096 of the file, and N is what vmm/memory/pages.h says: so a page keeps its place as long as the guest
 * lives, and a chain's files can be laid over each other. What is not plugged, and what no page has as its number, is zero.
 *
 * Plain functions over plain structures; thread-safe.
 */
#pragma once

#include "vmm/memory/pages.h"

struct memory_layout {
	unsigned region_count;
	struct {
		uint64_t gpa, size;
	} regions[MEMORY_REGIONS_MAX];
	uint64_t area_gpa, area_size, area_unit; /* size 0: there is none */
	uint64_t area_present;			 /* bit n: slot n was plugged */
};

void memory_layout_of(const struct guest_memory *memory, struct memory_layout *layout);

/* Of a file, thus hostile: what does not keep guest_memory's own rules is refused. */
int memory_layout_check(const struct memory_layout *layout, struct error *err);

/* The same regions and area; what is plugged may differ. */
bool memory_layout_same_places(const struct memory_layout *a, const struct memory_layout *b);

/* Pages of the file: guest_memory_pages() of the memory that it is of. */
uint64_t memory_layout_pages(const struct memory_layout *layout);
