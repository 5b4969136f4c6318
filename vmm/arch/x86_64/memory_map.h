/* SPDX-License-Identifier: Apache-2.0 */
/* The memory map the guest is told: what is RAM and what must be left alone (layout.h in words). */
#pragma once

#include "vmm/memory/guest_memory.h"

#include <stdint.h>

/* The same numbers in E820 and in PVH's memory map. */
enum memory_type { MEMORY_RAM = 1, MEMORY_RESERVED = 2 };

struct memory_map_entry {
	uint64_t start, size;
	enum memory_type type;
};

#define MEMORY_MAP_MAX (6 + MEMORY_SLOTS_MAX / 2) /* at the worst every other slot is plugged */

struct memory_map {
	unsigned count;
	struct memory_map_entry entries[MEMORY_MAP_MAX]; /* ascending */
};

void memory_map_build(const struct guest_memory *memory, struct memory_map *map);
