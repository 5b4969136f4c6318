/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as a row of pages: where each lies in a snapshot's `memory` file.
 *
 * Page N is at byte N * SNAPSHOT_PAGE: the regions come one behind the other, ascending by guest address, then the whole area
 * in which memory comes and goes, whether its slots are plugged or not. So a page keeps its place as long as the guest lives,
 * and a chain's files can be laid over each other. What is not plugged is zero.
 *
 * Plain functions over plain structures; thread-safe.
 */
#pragma once

#include "vmm/memory/guest_memory.h"

#define SNAPSHOT_PAGE 4096u

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

/* Pages of the file. */
uint64_t memory_layout_pages(const struct memory_layout *layout);

/* The number of the page that `gpa` is in; false where no memory can be. */
bool memory_layout_page_of(const struct memory_layout *layout, uint64_t gpa, uint64_t *page);

/*
 * Where page `page` is in this process, and in *count how many follow in one piece (of the same region or slot). NULL: it is
 * in a slot that is not plugged, and *count tells how many pages that is; or behind the end, and *count is 0.
 */
uint8_t *memory_layout_view(const struct guest_memory *memory, uint64_t page, uint64_t *count);
