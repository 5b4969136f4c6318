/* SPDX-License-Identifier: Apache-2.0 */
/* The address map of a machine, and what lies in its RAM when the first instruction runs. */
#include "tests/unit/kernel_image.h"
#include "tests/unit/runner.h"
#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/arch/x86_64/memory_map.h"
#include "vmm/base/util.h"

#include <check.h>
#include <string.h>

static struct guest_memory memory;
static struct test_elf elf;
static struct test_bzimage bzimage;
static struct test_file kernel, initrd;
static struct error err;
static const char initrd_bytes[] = "an initial ramdisk";

static void setup(void)
{
	const struct guest_memory_config config = {
		.region_count = 1, .regions = {{.gpa = 0, .size = RAM_SIZE}}};

	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), 0);
	test_elf_build(&elf);
	test_bzimage_build(&bzimage);
	test_file_create(&kernel, &elf, sizeof(elf));
	test_file_create(&initrd, initrd_bytes, sizeof(initrd_bytes));
}

static void teardown(void)
{
	test_file_close(&kernel);
	test_file_close(&initrd);
	guest_memory_destroy(&memory);
}

static int boot(const char *cmdline, bool fresh, struct arch_boot_entry *entry)
{
	const struct arch_boot_config config = {
		.kernel = kernel.path,
		.initrd = initrd.path,
		.cmdline = cmdline,
		.cpus = 2,
		.cpus_max = 4,
		.fresh = fresh,
	};

	return arch_boot_load(&config, &memory, entry, &err);
}

static const void *at(uint64_t gpa, uint64_t len)
{
	const void *view = guest_memory_view(&memory, gpa, len);

	ck_assert_ptr_nonnull(view);
	return view;
}

START_TEST(ram_is_split_around_the_hole_below_4_gib)
{
	struct guest_memory_config layout;

	ck_assert_int_eq(arch_memory_layout(MIB(16), MIB(16), &layout, &err), 0);
	ck_assert_uint_eq(layout.region_count, 1);
	ck_assert_uint_eq(layout.regions[0].size, MIB(16));
	ck_assert_int_eq(arch_memory_layout(GIB(3), GIB(3), &layout, &err), 0);
	ck_assert_uint_eq(layout.region_count, 1);
	ck_assert_int_eq(arch_memory_layout(GIB(3) + KIB(4), GIB(3) + KIB(4), &layout, &err), 0);
	ck_assert_uint_eq(layout.region_count, 2);
	ck_assert_uint_eq(layout.regions[0].size, GIB(3));
	ck_assert_uint_eq(layout.regions[1].gpa, GIB(4));
	ck_assert_uint_eq(layout.regions[1].size, KIB(4));
}
END_TEST

START_TEST(ram_that_no_machine_can_have_is_refused_in_words)
{
	struct guest_memory_config layout;

	ck_assert_int_lt(arch_memory_layout(MIB(16) - KIB(4), MIB(16) - KIB(4), &layout, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "must be 16M to 32T"));
	ck_assert_int_lt(arch_memory_layout(UINT64_MAX, UINT64_MAX, &layout, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "must be 16M to 32T"));
	ck_assert_int_lt(arch_memory_layout(MIB(16) + 1, MIB(16) + 1, &layout, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "must be a multiple of 4K"));
}
END_TEST

START_TEST(memory_grows_above_all_ram_in_steps_that_linux_takes)
{
	static const struct {
		uint64_t size, max, gpa, unit;
	} cases[] = {
		{MIB(512), MIB(640), GIB(4), MIB(128)},
		{GIB(3), GIB(11), GIB(4), MIB(128)},
		{GIB(3), GIB(11) + MIB(128), GIB(4), MIB(256)},
		{GIB(3) + KIB(4), GIB(4) + KIB(4), GIB(6), MIB(128)},
		{GIB(5), GIB(7), GIB(8), MIB(128)}, /* RAM ends at 6 GiB: not right behind it */
		{GIB(62), GIB(64), GIB(64), GIB(2)},
		{GIB(64), GIB(64 + 130), GIB(66), GIB(4)},
		{GIB(2), GIB(16384), GIB(4), GIB(256)},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct guest_memory_config layout = {0};

		ck_assert_int_eq(arch_memory_layout(cases[i].size, cases[i].max, &layout, &err), 0);
		ck_assert_uint_eq(layout.area_gpa, cases[i].gpa);
		ck_assert_uint_eq(layout.area_size, cases[i].max - cases[i].size);
		ck_assert_uint_eq(layout.area_unit, cases[i].unit);
		ck_assert_uint_le((layout.area_size - 1) / layout.area_unit, 63);
	}
}
END_TEST

START_TEST(growth_that_linux_cannot_take_is_refused_in_words)
{
	struct guest_memory_config layout = {0};

	ck_assert_int_lt(arch_memory_layout(MIB(512), MIB(600), &layout, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "memory.max: memory grows in steps of 128 MiB"));
	ck_assert_int_lt(arch_memory_layout(GIB(1), GIB(64), &layout, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "steps of 2048 MiB"));
}
END_TEST

START_TEST(the_memory_map_covers_ram_exactly_and_no_device)
{
	const struct guest_memory ram = {
		.region_count = 2,
		.regions = {{.gpa = 0, .size = GIB(3)}, {.gpa = GIB(4), .size = GIB(7)}},
		.area = {.gpa = GIB(12),
			.size = GIB(8),
			.unit = MIB(128),
			.present = 0x5555555555555555},
	};
	struct arch_address_map map;
	struct memory_map told;
	uint64_t end = 0, usable = 0;

	arch_address_map(&map);
	memory_map_build(&ram, &told);
	for (unsigned i = 0; i < told.count; i++) {
		const struct memory_map_entry *e = &told.entries[i];

		ck_assert_uint_ge(e->start, end);
		end = e->start + e->size;
		if (e->type != MEMORY_RAM)
			continue;
		usable += e->size;
		ck_assert(end <= map.pci_window_base || e->start >= GIB(4));
		ck_assert(map.vmgenid_gpa + 16 <= e->start || map.vmgenid_gpa >= end);
		ck_assert(LAYOUT_ACPI_END <= e->start || LAYOUT_ACPI >= end);
	}
	ck_assert_uint_eq(usable, GIB(14) - (LAYOUT_KERNEL_MIN - LAYOUT_USABLE_LOW_END));
	ck_assert_uint_le(map.pci_window_base + map.pci_window_size, map.ecam_base);
	ck_assert_uint_lt(map.ecam_base + MIB(1), LAYOUT_IOAPIC);
}
END_TEST

START_TEST(linux_finds_everything_through_the_zero_page)
{
	struct arch_boot_entry entry;
	const struct boot_params *params;

	ck_assert_msg(boot("console=ttyS0", true, &entry) == 0, "%s", err.text);
	ck_assert_int_eq(entry.protocol, ARCH_BOOT_LINUX64);
	ck_assert_uint_eq(entry.entry, ELF_ENTRY);
	params = at(entry.info, sizeof(*params));
	ck_assert_str_eq(at(params->hdr.cmd_line_ptr, 14), "console=ttyS0");
	ck_assert_uint_eq(params->hdr.ramdisk_size, sizeof(initrd_bytes));
	ck_assert_str_eq(at(params->hdr.ramdisk_image, sizeof(initrd_bytes)), initrd_bytes);
	ck_assert(!memcmp(at(params->acpi_rsdp_addr, 8), "RSD PTR ", 8));
	ck_assert_uint_eq(params->e820_entries, 4);
	ck_assert_uint_eq(params->e820_table[2].addr + params->e820_table[2].size, RAM_SIZE);
	ck_assert_uint_eq(params->hdr.type_of_loader, 0xff);
	ck_assert_uint_eq(params->sentinel, 0);
}
END_TEST

START_TEST(a_bzimage_gets_its_own_setup_header_back)
{
	struct arch_boot_entry entry;
	const struct boot_params *params;

	test_bzimage_header(&bzimage)->initrd_addr_max = 0x1ffffff - 0x8000;
	test_file_write(&kernel, &bzimage, sizeof(bzimage));
	ck_assert_msg(boot("quiet", true, &entry) == 0, "%s", err.text);
	ck_assert_int_eq(entry.protocol, ARCH_BOOT_LINUX64);
	ck_assert_uint_eq(entry.entry, 0x1000200);
	params = at(entry.info, sizeof(*params));
	ck_assert_uint_eq(params->hdr.init_size, BZIMAGE_INIT_SIZE);
	ck_assert_uint_le(params->hdr.ramdisk_image + params->hdr.ramdisk_size, 0x2000000 - 0x8000);
}
END_TEST

START_TEST(a_pvh_kernel_finds_everything_through_its_start_info)
{
	struct arch_boot_entry entry;
	const uint32_t *words;
	const uint64_t *quads, *module, *map;

	memcpy(elf.os.text, "other", 6);
	test_file_write(&kernel, &elf, sizeof(elf));
	ck_assert_msg(boot("a b c", true, &entry) == 0, "%s", err.text);
	ck_assert_int_eq(entry.protocol, ARCH_BOOT_PVH);
	ck_assert_uint_eq(entry.entry, ELF_PVH_ENTRY);
	words = at(entry.info, 56);
	quads = at(entry.info, 56);
	ck_assert_uint_eq(words[0], 0x336ec578);
	ck_assert_uint_eq(words[1], 1); /* version */
	ck_assert_uint_eq(words[3], 1); /* modules */
	module = at(quads[2], 32);
	ck_assert_str_eq(at(module[0], module[1]), initrd_bytes);
	ck_assert_str_eq(at(quads[3], 6), "a b c");
	ck_assert(!memcmp(at(quads[4], 8), "RSD PTR ", 8));
	ck_assert_uint_eq(words[12], 4); /* entries of the memory map */
	map = at(quads[5], 4 * 24);
	ck_assert_uint_eq(map[6] + map[7], RAM_SIZE);
}
END_TEST

START_TEST(a_command_line_of_2047_bytes_is_taken_and_a_longer_one_refused)
{
	struct arch_boot_entry entry;
	char line[2049];

	memset(line, 'x', sizeof(line));
	line[2047] = '\0';
	ck_assert_int_eq(boot(line, true, &entry), 0);
	ck_assert_str_eq(at(LAYOUT_CMDLINE, 2048), line);
	line[2047] = 'x';
	line[2048] = '\0';
	ck_assert_int_lt(boot(line, true, &entry), 0);
	ck_assert_str_eq(
		err.text, "the kernel command line is too long: 2048 bytes, and Linux takes 2047");
}
END_TEST

START_TEST(a_kernel_of_another_architecture_is_refused_whatever_its_kind)
{
	struct arch_boot_entry entry;
	uint8_t image[0x210] = {0};

	memcpy(image + 0x38, "ARM\x64", 4);
	test_file_write(&kernel, image, sizeof(image));
	ck_assert_int_lt(boot("", true, &entry), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "is for arm64; this host runs x86_64"));
}
END_TEST

START_TEST(a_boot_into_dirty_ram_leaves_the_same_bytes_as_one_into_fresh_ram)
{
	static uint8_t low[LAYOUT_KERNEL_MIN];
	struct arch_boot_entry entry;
	const uint8_t *now;

	ck_assert_int_eq(boot("console=ttyS0", true, &entry), 0);
	memcpy(low, at(0, sizeof(low)), sizeof(low));
	test_ram_soil(&memory);
	ck_assert_int_eq(boot("console=ttyS0", false, &entry), 0);
	now = at(0, sizeof(low));
	for (size_t i = 0; i < sizeof(low); i++) {
		/* What nobody reads may stay: RAM behind the command line, and page tables' neighbours. */
		bool free_ram =
			i >= 0xf000 && i < LAYOUT_USABLE_LOW_END &&
			!(i >= LAYOUT_CMDLINE && i < LAYOUT_CMDLINE + sizeof("console=ttyS0"));

		ck_assert_msg(free_ram || low[i] == now[i], "byte 0x%zx differs", i);
	}
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("address map and boot structures");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, ram_is_split_around_the_hole_below_4_gib);
	tcase_add_test(tc, ram_that_no_machine_can_have_is_refused_in_words);
	tcase_add_test(tc, memory_grows_above_all_ram_in_steps_that_linux_takes);
	tcase_add_test(tc, growth_that_linux_cannot_take_is_refused_in_words);
	tcase_add_test(tc, the_memory_map_covers_ram_exactly_and_no_device);
	tcase_add_test(tc, linux_finds_everything_through_the_zero_page);
	tcase_add_test(tc, a_bzimage_gets_its_own_setup_header_back);
	tcase_add_test(tc, a_pvh_kernel_finds_everything_through_its_start_info);
	tcase_add_test(tc, a_command_line_of_2047_bytes_is_taken_and_a_longer_one_refused);
	tcase_add_test(tc, a_kernel_of_another_architecture_is_refused_whatever_its_kind);
	tcase_add_test(tc, a_boot_into_dirty_ram_leaves_the_same_bytes_as_one_into_fresh_ram);
	return run_tests("layout", tc, NULL);
}
