/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader told us: memory map and command line (the PVH start info), copied before memory is used. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define BOOT_REGIONS_MAX 32
#define BOOT_RAM	 1

struct boot_region {
	uint64_t base, size;
	uint32_t type, reserved;
};

struct boot {
	unsigned region_count;
	struct boot_region regions[BOOT_REGIONS_MAX];
	char cmdline[1024];
};

extern struct boot boot;

void boot_read(const void *start_info);

/* Whether the first word of the command line is this one. */
bool boot_test_is(const char *name);

/* The number after "name=" on the command line, or `otherwise`. */
uint64_t boot_number(const char *name, uint64_t otherwise);

/* Whether "name=value" is there. */
bool boot_option_is(const char *name, const char *value);

/* The first byte behind all RAM. */
uint64_t boot_ram_end(void);

/* Whether all of the range is RAM. */
bool boot_is_ram(uint64_t base, uint64_t size);
