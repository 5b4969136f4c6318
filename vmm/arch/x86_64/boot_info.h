/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel is handed at its first instruction: the zero page (Linux) or hvm_start_info (PVH). */
#pragma once

#include "vmm/arch/x86_64/memory_map.h"

#include <asm/bootparam.h>
#include <stdint.h>

/* Addresses are guest physical; initrd_size 0: none. */
struct boot_info {
	struct memory_map map;
	uint64_t rsdp, cmdline;
	uint64_t initrd, initrd_size;
};

/* `header` is a bzImage's, or NULL. */
void boot_info_zero_page(const struct boot_info *info, const struct setup_header *header,
	struct boot_params *params);

/* The three parts of PVH's start info, one behind the other as in memory. */
struct pvh_info;
#define PVH_INFO_SIZE 0x800
void boot_info_pvh(const struct boot_info *info, uint8_t page[static PVH_INFO_SIZE], uint64_t gpa);
