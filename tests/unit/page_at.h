/* SPDX-License-Identifier: Apache-2.0 */
/* Which page of the row a guest address is, for tests, which think in those: of RAM that may be plugged or not. */
#pragma once

#include "vmm/memory/pages.h"

static inline uint64_t page_at(const struct guest_memory *memory, uint64_t gpa)
{
	const struct memory_area *area = &memory->area;

	for (unsigned i = 0; i < memory->region_count; i++)
		if (gpa - memory->regions[i].gpa < memory->regions[i].size)
			return guest_memory_page_of(
				memory, memory->regions[i].host + (gpa - memory->regions[i].gpa));
	return gpa - area->gpa < area->size
		       ? guest_memory_page_of(memory, area->host + (gpa - area->gpa))
		       : GUEST_PAGE_NONE;
}
