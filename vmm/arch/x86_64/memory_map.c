/* SPDX-License-Identifier: Apache-2.0 */
/* The address map of an x86_64 machine: layout.h for the rest of the program. */
#include "vmm/arch/x86_64/memory_map.h"

#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <inttypes.h>

void arch_address_map(struct arch_address_map *map)
{
	*map = (struct arch_address_map){
		.pci_window_base = LAYOUT_PCI_WINDOW,
		.pci_window_size = LAYOUT_PCI_WINDOW_SIZE,
		.ecam_base = LAYOUT_ECAM,
		.vmgenid_gpa = LAYOUT_VMGENID,
		.serial_gsi = LAYOUT_GSI_COM1,
		.event_gsi = LAYOUT_GSI_EVENT,
	};
}

/* Linux takes memory in blocks of 128 MiB; where there is much, in blocks of up to 2 GiB (arch/x86/mm/init_64.c). */
static uint64_t growth_step(uint64_t max)
{
	return max >= GIB(64) ? GIB(2) : MIB(128);
}

/*
 * Memory comes above all RAM that there is at the start, with a gap, so that no buffer of the guest's lies on both sides of
 * the border. Slots are as small as their number allows.
 */
static int place_area(
	uint64_t size, uint64_t max, struct guest_memory_config *layout, struct error *err)
{
	uint64_t step = growth_step(max);
	const struct memory_region *last = &layout->regions[layout->region_count - 1];
	uint64_t end = last->gpa ? last->gpa + last->size + 1 : LAYOUT_HIGH_RAM_START;

	if ((max - size) % step)
		return error_set(err, ERROR_BAD_REQUEST,
			"memory.max: memory grows in steps of %" PRIu64 " MiB, and from %" PRIu64
			" MiB to %" PRIu64 " is no whole number of them",
			step >> 20, size >> 20, max >> 20);
	layout->area_gpa = align_up(end, GIB(2));
	layout->area_size = max - size;
	for (layout->area_unit = layout->pages == MEMORY_PAGES_1G ? max_u64(step, GIB(1)) : step;
		(layout->area_size - 1) / layout->area_unit >= MEMORY_SLOTS_MAX;)
		layout->area_unit *= 2;
	return 0;
}

int arch_memory_layout(
	uint64_t size, uint64_t max, struct guest_memory_config *layout, struct error *err)
{
	uint64_t low = min_u64(size, LAYOUT_LOW_RAM_END);

	if (size < LAYOUT_RAM_MIN || size > LAYOUT_RAM_MAX || max > LAYOUT_RAM_MAX)
		return error_set(err, ERROR_BAD_REQUEST,
			"cannot make a machine with %" PRIu64
			" bytes of memory: must be 16M to 32T",
			size);
	if (size % KIB(4))
		return error_set(err, ERROR_BAD_REQUEST,
			"cannot make a machine with %" PRIu64
			" bytes of memory: must be a multiple of 4K",
			size);
	layout->region_count = 1;
	layout->regions[0] = (struct memory_region){.gpa = 0, .size = low};
	if (size > low)
		layout->regions[layout->region_count++] =
			(struct memory_region){.gpa = LAYOUT_HIGH_RAM_START, .size = size - low};
	return max > size ? place_area(size, max, layout, err) : 0;
}

static void add(struct memory_map *map, uint64_t start, uint64_t end, enum memory_type type)
{
	BUG_ON(map->count == MEMORY_MAP_MAX);
	map->entries[map->count++] = (struct memory_map_entry){start, end - start, type};
}

static void add_plugged(void *owner, uint64_t gpa, uint64_t size)
{
	add(owner, gpa, gpa + size, MEMORY_RAM);
}

void memory_map_build(const struct guest_memory *memory, struct memory_map *map)
{
	map->count = 0;
	add(map, 0, LAYOUT_USABLE_LOW_END, MEMORY_RAM);
	add(map, LAYOUT_USABLE_LOW_END, LAYOUT_KERNEL_MIN, MEMORY_RESERVED);
	add(map, LAYOUT_KERNEL_MIN, memory->regions[0].size, MEMORY_RAM);
	/* Linux believes MCFG only where the memory map agrees. */
	add(map, LAYOUT_ECAM, LAYOUT_ECAM + LAYOUT_ECAM_SIZE, MEMORY_RESERVED);
	if (memory->region_count > 1)
		add(map, memory->regions[1].gpa, memory->regions[1].gpa + memory->regions[1].size,
			MEMORY_RAM);
	guest_memory_each_plugged(memory, add_plugged, map);
}
