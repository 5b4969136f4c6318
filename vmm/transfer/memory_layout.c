/* SPDX-License-Identifier: Apache-2.0 */
/* The row of pages: see memory_layout.h. */
#include "vmm/transfer/memory_layout.h"

#include "vmm/base/util.h"

#include <inttypes.h>
#include <stdatomic.h>

/* Physical addresses have at most 52 bits (SDM volume 3, 4.1.4; Arm ARM D8.1.6). */
#define GPA_END (1ull << 52)

void memory_layout_of(const struct guest_memory *memory, struct memory_layout *layout)
{
	*layout = (struct memory_layout){.region_count = memory->region_count};
	for (unsigned i = 0; i < memory->region_count; i++) {
		layout->regions[i].gpa = memory->regions[i].gpa;
		layout->regions[i].size = memory->regions[i].size;
	}
	if (!memory->area.size)
		return;
	layout->area_gpa = memory->area.gpa;
	layout->area_size = memory->area.size;
	layout->area_unit = memory->area.unit;
	layout->area_present = atomic_load(&memory->area.present);
}

static int bad(struct error *err, const char *what, uint64_t gpa)
{
	return error_set(err, ERROR_CORRUPT, "memory: %s at guest address 0x%" PRIx64, what, gpa);
}

static bool fits(uint64_t gpa, uint64_t size, uint64_t after)
{
	return size && gpa % GUEST_PAGE_SIZE == 0 && size % GUEST_PAGE_SIZE == 0 && gpa >= after &&
	       gpa < GPA_END && size <= GPA_END - gpa;
}

static int check_area(const struct memory_layout *layout, uint64_t after, struct error *err)
{
	uint64_t unit = layout->area_unit, slots;

	if (!fits(layout->area_gpa, layout->area_size, after) || unit < MIB(2) || unit & (unit - 1))
		return bad(err, "an area that cannot be", layout->area_gpa);
	slots = (layout->area_size - 1) / unit + 1;
	if (slots > MEMORY_SLOTS_MAX)
		return bad(err, "an area of too many slots", layout->area_gpa);
	if (slots < 64 && layout->area_present >> slots)
		return bad(err, "a plugged slot outside its area", layout->area_gpa);
	return 0;
}

int memory_layout_check(const struct memory_layout *layout, struct error *err)
{
	uint64_t after = 0;

	if (layout->region_count == 0 || layout->region_count > MEMORY_REGIONS_MAX)
		return error_set(err, ERROR_CORRUPT, "memory: %u regions, not 1 to %u",
			layout->region_count, MEMORY_REGIONS_MAX);
	for (unsigned i = 0; i < layout->region_count; i++) {
		if (!fits(layout->regions[i].gpa, layout->regions[i].size, after))
			return bad(err, "a region that cannot be", layout->regions[i].gpa);
		after = layout->regions[i].gpa + layout->regions[i].size;
	}
	if (layout->area_size)
		return check_area(layout, after, err);
	if (layout->area_present)
		return bad(err, "plugged slots without an area", layout->area_gpa);
	return 0;
}

bool memory_layout_same_places(const struct memory_layout *a, const struct memory_layout *b)
{
	if (a->region_count != b->region_count || a->area_size != b->area_size)
		return false;
	for (unsigned i = 0; i < a->region_count; i++)
		if (a->regions[i].gpa != b->regions[i].gpa ||
			a->regions[i].size != b->regions[i].size)
			return false;
	return !a->area_size || (a->area_gpa == b->area_gpa && a->area_unit == b->area_unit);
}

uint64_t memory_layout_pages(const struct memory_layout *layout)
{
	uint64_t pages = 0;

	/* Each begins where a huge page may: see pages.h. */
	for (unsigned i = 0; i < layout->region_count; i++)
		pages = align_up(pages, MIB(2) / GUEST_PAGE_SIZE) +
			layout->regions[i].size / GUEST_PAGE_SIZE;
	if (layout->area_size)
		pages = align_up(pages, MIB(2) / GUEST_PAGE_SIZE) +
			layout->area_size / GUEST_PAGE_SIZE;
	return pages;
}
