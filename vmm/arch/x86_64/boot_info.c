/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boot information for Linux and for PVH kernels.
 *
 * Zero page: Linux Documentation/arch/x86/zero-page.rst and boot.rst ("64-bit boot protocol").
 * PVH: Xen docs/misc/pvh.pandoc, xen/include/public/arch-x86/hvm/start_info.h, version 1.
 */
#include "vmm/arch/x86_64/boot_info.h"

#include "vmm/arch/x86_64/layout.h"

#include <string.h>

#define LOADER_UNDEFINED 0xff
#define BOOT_FLAG	 0xaa55
#define HEADER_MAGIC	 0x53726448
#define PROTOCOL	 0x020f
#define KERNEL_ALIGNMENT 0x200000
#define PVH_MAGIC	 0x336ec578

struct pvh_start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp;
	uint64_t map; /* version 1 from here */
	uint32_t map_count, reserved;
};

struct pvh_module {
	uint64_t start, size, cmdline, reserved;
};

struct pvh_map_entry {
	uint64_t start, size;
	uint32_t type, reserved;
};

struct pvh_info {
	struct pvh_start_info start;
	struct pvh_module module;
	struct pvh_map_entry map[MEMORY_MAP_MAX];
};
_Static_assert(sizeof(struct pvh_info) <= PVH_INFO_SIZE, "PVH information");
_Static_assert(
	LAYOUT_PVH_INFO + PVH_INFO_SIZE <= LAYOUT_ZERO_PAGE, "PVH information and zero page");
_Static_assert(sizeof(struct boot_params) == 4096, "zero page");

static void fill_e820(const struct memory_map *map, struct boot_params *params)
{
	params->e820_entries = (uint8_t)map->count;
	for (unsigned i = 0; i < map->count; i++)
		params->e820_table[i] = (struct boot_e820_entry){
			.addr = map->entries[i].start,
			.size = map->entries[i].size,
			.type = map->entries[i].type,
		};
}

void boot_info_zero_page(
	const struct boot_info *info, const struct setup_header *header, struct boot_params *params)
{
	/* Everything else must be zero; `sentinel` above all. */
	memset(params, 0, sizeof(*params));
	if (header)
		params->hdr = *header;
	else
		params->hdr = (struct setup_header){
			.boot_flag = BOOT_FLAG,
			.header = HEADER_MAGIC,
			.version = PROTOCOL,
			.loadflags = LOADED_HIGH,
			.kernel_alignment = KERNEL_ALIGNMENT,
		};
	params->hdr.type_of_loader = LOADER_UNDEFINED;
	params->hdr.cmd_line_ptr = (uint32_t)info->cmdline;
	params->ext_cmd_line_ptr = (uint32_t)(info->cmdline >> 32);
	params->hdr.ramdisk_image = (uint32_t)info->initrd;
	params->ext_ramdisk_image = (uint32_t)(info->initrd >> 32);
	params->hdr.ramdisk_size = (uint32_t)info->initrd_size;
	params->ext_ramdisk_size = (uint32_t)(info->initrd_size >> 32);
	params->acpi_rsdp_addr = info->rsdp;
	fill_e820(&info->map, params);
}

void boot_info_pvh(const struct boot_info *info, uint8_t page[static PVH_INFO_SIZE], uint64_t gpa)
{
	struct pvh_info pvh = {
		.start =
			{
				.magic = PVH_MAGIC,
				.version = 1,
				.cmdline = info->cmdline,
				.rsdp = info->rsdp,
				.map = gpa + offsetof(struct pvh_info, map),
				.map_count = info->map.count,
			},
	};

	if (info->initrd_size) {
		pvh.start.module_count = 1;
		pvh.start.modules = gpa + offsetof(struct pvh_info, module);
		pvh.module.start = info->initrd;
		pvh.module.size = info->initrd_size;
	}
	for (unsigned i = 0; i < info->map.count; i++)
		pvh.map[i] = (struct pvh_map_entry){
			.start = info->map.entries[i].start,
			.size = info->map.entries[i].size,
			.type = info->map.entries[i].type,
		};
	memcpy(page, &pvh, sizeof(pvh));
}
