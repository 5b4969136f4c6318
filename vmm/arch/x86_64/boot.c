/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts all that a guest needs to start into its RAM, in the order: kernel, initrd, command line,
 * ACPI tables, boot information. Called again on a machine reset, when RAM holds what the last
 * guest left: every byte that the new one relies on is written, zeros too.
 */
#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/acpi.h"
#include "vmm/arch/x86_64/boot_info.h"
#include "vmm/arch/x86_64/entry.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/elf.h"

#include <elf.h>
#include <inttypes.h>
#include <string.h>

_Static_assert(LAYOUT_ACPI_END - LAYOUT_ACPI >= ACPI_SIZE_MAX, "room for the ACPI tables");

/* What load_kernel() finds out. */
struct loaded {
	struct kernel_image image;
	struct setup_header header; /* of a bzImage */
	bool has_header;
	uint64_t initrd_limit;
};

static int load_kernel(const struct boot_file *file, const struct kernel_ram *ram,
	struct loaded *loaded, struct error *err)
{
	enum kernel_kind kind;
	int ret = kernel_detect(file, &kind, err);

	if (ret < 0)
		return ret;
	loaded->initrd_limit = ram->end;
	switch (kind) {
	case KERNEL_ELF:
		return elf_load(file, EM_X86_64, ram, &loaded->image, err);
	case KERNEL_BZIMAGE:
		ret = bzimage_load(file, ram, &loaded->image, &loaded->header, err);
		if (ret == 0) {
			loaded->has_header = true;
			loaded->initrd_limit = (uint64_t)loaded->header.initrd_addr_max + 1;
		}
		return ret;
	case KERNEL_ARM64_IMAGE:
		break;
	}
	return boot_file_error(file, err, "is for arm64; this host runs x86_64");
}

static int load_initrd(const char *path, const struct kernel_ram *ram, const struct loaded *loaded,
	struct boot_info *info, struct error *err)
{
	_cleanup_(boot_file_close) struct boot_file file = {.fd = -1};
	int ret = boot_file_open(&file, "initrd", path, err);

	if (ret == 0)
		ret = initrd_load(
			&file, ram, &loaded->image, loaded->initrd_limit, &info->initrd, err);
	info->initrd_size = file.size;
	return ret;
}

static int load_files(const struct arch_boot_config *config, const struct kernel_ram *ram,
	struct loaded *loaded, struct boot_info *info, struct error *err)
{
	_cleanup_(boot_file_close) struct boot_file file = {.fd = -1};
	int ret = boot_file_open(&file, "kernel", config->kernel, err);

	if (ret == 0)
		ret = load_kernel(&file, ram, loaded, err);
	if (ret == 0 && config->initrd)
		ret = load_initrd(config->initrd, ram, loaded, info, err);
	return ret;
}

static int place_cmdline(const struct guest_memory *memory, const char *cmdline, struct error *err)
{
	size_t size = strlen(cmdline) + 1;

	if (size > LAYOUT_CMDLINE_SIZE)
		return error_set(err, ERROR_BAD_REQUEST,
			"the kernel command line is too long: %zu bytes, and Linux takes %u",
			size - 1, LAYOUT_CMDLINE_SIZE - 1);
	BUG_ON(!guest_memory_write(memory, LAYOUT_CMDLINE, cmdline, size));
	return 0;
}

/* Where Linux looks for the tables of old firmware there must be none, and no stale ones of ours. */
static void clear_low_memory(const struct kernel_ram *ram)
{
	kernel_ram_clear(ram, 0, LAYOUT_BOOT_STACK);
	kernel_ram_clear(ram, LAYOUT_USABLE_LOW_END, LAYOUT_KERNEL_MIN - LAYOUT_USABLE_LOW_END);
}

static void place_tables(const struct arch_boot_config *config, const struct guest_memory *memory,
	struct boot_info *info)
{
	const struct acpi_config acpi = {.cpus = config->cpus,
		.cpus_max = config->cpus_max,
		.plugs_cpus = config->plugs_cpus,
		.memory = memory};
	uint8_t *area = guest_memory_view(memory, LAYOUT_ACPI, ACPI_SIZE_MAX);

	BUG_ON(!area);
	acpi_write(&acpi, area, LAYOUT_ACPI);
	entry_write_tables(memory);
	info->rsdp = LAYOUT_ACPI;
	info->cmdline = LAYOUT_CMDLINE;
	memory_map_build(memory, &info->map);
}

static void place_info(const struct boot_info *info, const struct loaded *loaded,
	const struct guest_memory *memory, struct arch_boot_entry *entry)
{
	struct boot_params params;
	uint8_t pvh[PVH_INFO_SIZE] = {0};

	entry->entry = loaded->image.entry;
	if (loaded->image.pvh) {
		boot_info_pvh(info, pvh, LAYOUT_PVH_INFO);
		BUG_ON(!guest_memory_write(memory, LAYOUT_PVH_INFO, pvh, sizeof(pvh)));
		entry->info = LAYOUT_PVH_INFO;
		entry->protocol = ARCH_BOOT_PVH;
		return;
	}
	boot_info_zero_page(info, loaded->has_header ? &loaded->header : NULL, &params);
	BUG_ON(!guest_memory_write(memory, LAYOUT_ZERO_PAGE, &params, sizeof(params)));
	entry->info = LAYOUT_ZERO_PAGE;
	entry->protocol = ARCH_BOOT_LINUX64;
}

int arch_boot_load(const struct arch_boot_config *config, const struct guest_memory *memory,
	struct arch_boot_entry *entry, struct error *err)
{
	const struct kernel_ram ram = {
		.memory = memory,
		.start = LAYOUT_KERNEL_MIN,
		.end = memory->regions[0].size,
		.limit = LAYOUT_LOW_RAM_END,
		.fresh = config->fresh,
	};
	struct boot_info info = {0};
	struct loaded loaded = {0};
	int ret = load_files(config, &ram, &loaded, &info, err);

	if (ret < 0)
		return ret;
	clear_low_memory(&ram);
	ret = place_cmdline(memory, config->cmdline, err);
	if (ret < 0)
		return ret;
	place_tables(config, memory, &info);
	place_info(&info, &loaded, memory, entry);
	log_debug("kernel at 0x%" PRIx64 "-0x%" PRIx64 ", entry 0x%" PRIx64
		  " (%s), initrd at 0x%" PRIx64,
		loaded.image.start, loaded.image.end, entry->entry,
		loaded.image.pvh ? "PVH" : "Linux 64-bit", info.initrd);
	return 0;
}
