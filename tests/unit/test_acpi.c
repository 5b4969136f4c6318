/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables: well-formed, all reachable from the RSDP, and iasl can read each of them back. */
#include "tests/unit/runner.h"
#include "vmm/arch/x86_64/acpi.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/util.h"
#include "vmm/kvm/vcpu.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static uint8_t area[ACPI_SIZE_MAX];
static const struct guest_memory memory = {
	.region_count = 2,
	.regions = {{.gpa = 0, .size = GIB(3)}, {.gpa = GIB(4), .size = GIB(2)}},
};

static size_t make(unsigned cpus, unsigned cpus_max)
{
	const struct acpi_config config = {.cpus = cpus,
		.cpus_max = cpus_max,
		.plugs_cpus = cpus_max > cpus,
		.memory = &memory};

	memset(area, 0xee, sizeof(area));
	return acpi_write(&config, area, LAYOUT_ACPI);
}

static uint64_t get(uint64_t gpa, unsigned size)
{
	uint64_t value = 0;

	ck_assert(gpa >= LAYOUT_ACPI && gpa + size <= LAYOUT_ACPI + sizeof(area));
	memcpy(&value, area + (gpa - LAYOUT_ACPI), size);
	return value;
}

static unsigned sum(uint64_t gpa, uint64_t len)
{
	uint8_t total = 0;

	for (uint64_t i = 0; i < len; i++)
		total = (uint8_t)(total + get(gpa + i, 1));
	return total;
}

/* The table of that name, through RSDP and XSDT; the DSDT through the FADT. */
static uint64_t find(const char *name)
{
	uint64_t xsdt = get(LAYOUT_ACPI + 24, 8);

	if (!strcmp(name, "DSDT"))
		return get(find("FACP") + 140, 8);
	for (uint64_t at = xsdt + 36; at < xsdt + get(xsdt + 4, 4); at += 8)
		if (!memcmp(area + (get(at, 8) - LAYOUT_ACPI), name, 4))
			return get(at, 8);
	ck_abort_msg("no %s", name);
}

static const char *const names[] = {"FACP", "DSDT", "APIC", "SRAT", "MCFG"};

START_TEST(every_table_is_reachable_with_a_right_checksum_and_within_the_area)
{
	for (unsigned cpus = 1; cpus <= VCPUS_MAX; cpus += 21) {
		size_t size = make(cpus, VCPUS_MAX);

		ck_assert_uint_le(size, ACPI_SIZE_MAX);
		ck_assert(!memcmp(area, "RSD PTR ", 8));
		ck_assert_uint_eq(sum(LAYOUT_ACPI, 20), 0);
		ck_assert_uint_eq(sum(LAYOUT_ACPI, 36), 0);
		for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
			uint64_t table = find(names[i]), len = get(table + 4, 4);

			ck_assert_uint_le(table + len, LAYOUT_ACPI + size);
			ck_assert_uint_eq(sum(table, len), 0);
		}
	}
}
END_TEST

static void count_lapics(unsigned *enabled, unsigned *online_capable)
{
	uint64_t madt = find("APIC"), id = 0;

	*enabled = *online_capable = 0;
	for (uint64_t at = madt + 44; at < madt + get(madt + 4, 4); at += get(at + 1, 1)) {
		ck_assert_uint_ge(get(at + 1, 1), 2);
		if (get(at, 1) != 0)
			continue;
		ck_assert_uint_eq(get(at + 3, 1), id++);
		*enabled += get(at + 4, 4) == 1;
		*online_capable += get(at + 4, 4) == 2;
	}
}

START_TEST(processors_that_are_there_are_enabled_and_the_others_can_come)
{
	unsigned enabled, online_capable;

	make(1, 1);
	count_lapics(&enabled, &online_capable);
	ck_assert_uint_eq(enabled, 1);
	ck_assert_uint_eq(online_capable, 0);
	make(3, 64);
	count_lapics(&enabled, &online_capable);
	ck_assert_uint_eq(enabled, 3);
	ck_assert_uint_eq(online_capable, 61);
}
END_TEST

START_TEST(all_ram_and_all_processors_are_one_node)
{
	uint64_t srat, lapics = 0, ram = 0;

	make(2, 5);
	srat = find("SRAT");
	for (uint64_t at = srat + 48; at < srat + get(srat + 4, 4); at += get(at + 1, 1)) {
		if (get(at, 1) == 0) {
			lapics++;
		} else {
			ck_assert_uint_eq(get(at, 1), 1);
			ck_assert_uint_eq(get(at + 2, 4), 0);
			ram += get(at + 16, 8);
		}
	}
	ck_assert_uint_eq(lapics, 5);
	ck_assert_uint_eq(ram, GIB(5));
}
END_TEST

START_TEST(the_fadt_says_hardware_reduced_and_names_the_reset_and_sleep_registers)
{
	uint64_t fadt;

	make(1, 1);
	fadt = find("FACP");
	ck_assert_uint_eq(get(fadt + 8, 1), 6);
	ck_assert(get(fadt + 112, 4) & 1u << 20); /* HW_REDUCED_ACPI */
	ck_assert(get(fadt + 112, 4) & 1u << 10); /* RESET_REG_SUP */
	ck_assert_uint_eq(get(fadt + 116, 1), 1); /* an I/O port */
	ck_assert_uint_eq(get(fadt + 120, 8), LAYOUT_PORT_RESET);
	ck_assert_uint_eq(get(fadt + 128, 1), LAYOUT_RESET_VALUE);
	ck_assert_uint_eq(get(fadt + 248, 8), LAYOUT_PORT_SLEEP_CONTROL);
	ck_assert_uint_eq(get(fadt + 260, 8), LAYOUT_PORT_SLEEP_STATUS);
	ck_assert_uint_eq(get(fadt + 108, 1), LAYOUT_RTC_CENTURY);
	ck_assert(!(get(fadt + 109, 2) & 1u << 5)); /* there is an RTC */
	ck_assert(!(get(fadt + 109, 2) & 1u << 1)); /* there is no 8042 */
}
END_TEST

/* Runs iasl -d on one table, and gives what it made of it. */
static void disassemble(const char *dir, const char *name, char *text, size_t size)
{
	char path[128], command[512];
	uint64_t table = find(name);
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.aml", dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(area + (table - LAYOUT_ACPI), get(table + 4, 4), 1, f), 1);
	fclose(f);
	snprintf(command, sizeof(command),
		"cd %s && iasl -d %s.aml >%s.log 2>&1 && ! grep -iE 'error|warning|invalid' %s.log",
		dir, name, name, name);
	ck_assert_msg(system(command) == 0, "iasl cannot read %s", name);
	snprintf(path, sizeof(path), "%s/%s.dsl", dir, name);
	f = fopen(path, "r");
	ck_assert_ptr_nonnull(f);
	text[fread(text, 1, size - 1, f)] = '\0';
	fclose(f);
}

START_TEST(iasl_reads_every_table_without_complaint)
{
	char dir[] = "/tmp/test_acpi.XXXXXX", command[64];
	static char text[1 << 20];

	make(2, 4);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		disassemble(dir, names[i], text, sizeof(text));
		ck_assert_msg(!strcasestr(text, "invalid") && !strcasestr(text, "unknown subtable"),
			"iasl finds fault with %s", names[i]);
	}
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}
END_TEST

static unsigned occurrences(const char *text, const char *part)
{
	unsigned n = 0;

	while ((text = strstr(text, part))) {
		n++;
		text += strlen(part);
	}
	return n;
}

START_TEST(there_is_an_acpi_device_for_each_processor_that_a_machine_can_have_where_any_can_come)
{
	static const unsigned most[] = {2, 3, 9, 10, 63, 64};
	char dir[] = "/tmp/test_acpi.XXXXXX", command[64], part[32];
	static char text[1 << 18];

	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (unsigned i = 0; i < ARRAY_SIZE(most); i++) {
		make(1, most[i]);
		ck_assert_uint_eq(sum(find("SSDT"), get(find("SSDT") + 4, 4)), 0);
		disassemble(dir, "SSDT", text, sizeof(text));
		ck_assert_uint_eq(occurrences(text, "\"ACPI0007\""), most[i]);
		snprintf(part, sizeof(part), ".S0%02X)", most[i] - 1);
		ck_assert_msg(occurrences(text, part), "no device for the last of %u", most[i]);
	}
	make(4, 4);
	for (uint64_t xsdt = get(LAYOUT_ACPI + 24, 8), at = xsdt + 36; at < xsdt + get(xsdt + 4, 4);
		at += 8)
		ck_assert(memcmp(area + (get(at, 8) - LAYOUT_ACPI), "SSDT", 4) != 0);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(memory_that_can_come_has_acpi_devices_and_what_came_is_in_the_srat)
{
	static const uint64_t sizes[] = {MIB(128), GIB(1), GIB(8)};
	char dir[] = "/tmp/test_acpi.XXXXXX", command[64];
	static char text[1 << 18];
	struct guest_memory grown = memory;
	const struct acpi_config config = {.cpus = 1, .cpus_max = 1, .memory = &grown};

	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t ram = 0, srat;

		grown.area.gpa = GIB(8);
		grown.area.size = sizes[i];
		grown.area.unit = MIB(128);
		atomic_store(&grown.area.present, 1);
		memset(area, 0xee, sizeof(area));
		acpi_write(&config, area, LAYOUT_ACPI);
		disassemble(dir, "SSDT", text, sizeof(text));
		ck_assert_uint_eq(occurrences(text, "\"PNP0C80\""), sizes[i] / MIB(128));
		srat = find("SRAT");
		for (uint64_t at = srat + 48; at < srat + get(srat + 4, 4); at += get(at + 1, 1))
			ram += get(at, 1) == 1 ? get(at + 16, 8) : 0;
		ck_assert_uint_eq(ram, GIB(5) + MIB(128));
	}
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(the_dsdt_puts_every_device_where_the_address_map_has_it)
{
	char dir[] = "/tmp/test_acpi.XXXXXX", command[64];
	static char text[1 << 20];
	static const char *const parts[] = {"PNP0A08", "PNP0C02", "PNP0501", "PNP0B00", "PNP0C0C",
		"ACPI0013", "VM_Gen_Counter", "0xC0000000,", "0xDFFFFFFF,", "0xE0000000,",
		"0x03F8,", "0x0604", "0x0610,", "S31", "_EJ0", "_OST", "0x000DF000", "_EVT", "_S5"};

	make(1, 1);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	disassemble(dir, "DSDT", text, sizeof(text));
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		ck_assert_msg(strstr(text, parts[i]), "no %s in the DSDT", parts[i]);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("tables");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, every_table_is_reachable_with_a_right_checksum_and_within_the_area);
	tcase_add_test(tc, processors_that_are_there_are_enabled_and_the_others_can_come);
	tcase_add_test(tc, all_ram_and_all_processors_are_one_node);
	tcase_add_test(tc, the_fadt_says_hardware_reduced_and_names_the_reset_and_sleep_registers);
	tcase_add_test(tc, iasl_reads_every_table_without_complaint);
	tcase_add_test(tc,
		there_is_an_acpi_device_for_each_processor_that_a_machine_can_have_where_any_can_come);
	tcase_add_test(tc, memory_that_can_come_has_acpi_devices_and_what_came_is_in_the_srat);
	tcase_add_test(tc, the_dsdt_puts_every_device_where_the_address_map_has_it);
	return run_tests("acpi", tc, NULL);
}
