/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI host: both ways into configuration space agree, BARs size and move, and nothing else answers. */
#include "devices/pci_ports.h"
#include "tests/unit/runner.h"
#include "vmm/base/util.h"

#include <check.h>
#include <linux/pci_regs.h>
#include <string.h>

#define WINDOW	     0xc0000000u
#define SLOT	     3u
#define ECAM(reg)    ((uint64_t)SLOT << 15 | (reg))
#define ADDRESS(reg) (0x80000000u | SLOT << 11 | (reg))

static struct pci_host host;
static struct pci_ports ports;
static struct pci_function fn;
static uint64_t moved_to, last_offset;

static uint64_t bar_read(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size)
{
	(void)f, (void)bar, (void)size;
	return offset + 7;
}

static void bar_write(
	struct pci_function *f, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
	(void)f, (void)bar, (void)size, (void)value;
	last_offset = offset;
}

static void bar_moved(struct pci_function *f, unsigned bar, uint64_t gpa)
{
	(void)f, (void)bar;
	moved_to = gpa;
}

static const struct pci_function_ops ops = {
	.bar_read = bar_read, .bar_write = bar_write, .bar_moved = bar_moved};
static const struct pci_ids ids = {.vendor = 0x1af4, .device = 0x1042, .class_code = 0x010000};

static void setup(void)
{
	struct error err;

	pci_host_init(&host, WINDOW, MIB(512));
	pci_function_init(&fn, &ops, &ids);
	pci_add_bar(&fn, 0, 0x4000);
	ck_assert_int_eq(pci_host_plug(&host, &fn, SLOT, &err), 0);
	ports = (struct pci_ports){.host = &host};
	moved_to = PCI_BAR_NONE;
}

static void teardown(void)
{
	pci_host_unplug(&host, &fn);
	pci_host_destroy(&host);
}

static uint32_t by_ports(uint32_t reg, unsigned size)
{
	pci_ports_ops.write(&ports, 0, 4, ADDRESS(reg & ~3u));
	return (uint32_t)pci_ports_ops.read(&ports, 4 + (reg & 3), size);
}

START_TEST(both_ways_into_configuration_space_read_the_same)
{
	for (uint32_t reg = 0; reg < 256; reg++)
		for (unsigned size = 1; size <= 4; size *= 2)
			if (reg % size == 0)
				ck_assert_uint_eq(by_ports(reg, size),
					(uint32_t)pci_ecam_ops.read(&host, ECAM(reg), size));
	ck_assert_uint_eq(by_ports(PCI_VENDOR_ID, 4), 0x10421af4);
}
END_TEST

START_TEST(nothing_answers_where_no_function_is)
{
	pci_ports_ops.write(&ports, 0, 4, 0x80000000u | 4u << 11);
	ck_assert_uint_eq((uint32_t)pci_ports_ops.read(&ports, 4, 4), UINT32_MAX);
	pci_ports_ops.write(&ports, 0, 4, ADDRESS(0) | 1u << 16); /* bus 1 */
	ck_assert_uint_eq((uint32_t)pci_ports_ops.read(&ports, 4, 4), UINT32_MAX);
	pci_ports_ops.write(&ports, 0, 4, ADDRESS(0) & ~0x80000000u); /* not enabled */
	ck_assert_uint_eq((uint32_t)pci_ports_ops.read(&ports, 4, 4), UINT32_MAX);
	ck_assert_uint_eq((uint32_t)pci_ecam_ops.read(&host, ECAM(0) | 1u << 12, 4),
		UINT32_MAX); /* function 1 */
	ck_assert_uint_eq((uint32_t)pci_ecam_ops.read(&host, 1u << 15, 4), UINT32_MAX);
}
END_TEST

START_TEST(a_bar_is_sized_moved_and_answers_only_while_memory_decoding_is_on)
{
	uint32_t bar = (uint32_t)pci_ecam_ops.read(&host, ECAM(PCI_BASE_ADDRESS_0), 4);

	ck_assert_uint_ge(bar, WINDOW);
	ck_assert_uint_eq(
		pci_window_ops.read(&host, bar - WINDOW, 4), UINT64_MAX); /* not decoding yet */
	pci_ecam_ops.write(&host, ECAM(PCI_BASE_ADDRESS_0), 4, UINT32_MAX);
	ck_assert_uint_eq(
		(uint32_t)pci_ecam_ops.read(&host, ECAM(PCI_BASE_ADDRESS_0), 4), 0xffffc000);
	pci_ecam_ops.write(&host, ECAM(PCI_BASE_ADDRESS_0), 4, WINDOW + 0x10000);
	ck_assert_uint_eq(moved_to, PCI_BAR_NONE);
	pci_ecam_ops.write(&host, ECAM(PCI_COMMAND), 2, PCI_COMMAND_MEMORY);
	ck_assert_uint_eq(moved_to, WINDOW + 0x10000);
	ck_assert_uint_eq(pci_window_ops.read(&host, 0x10008, 4), 8 + 7);
	pci_window_ops.write(&host, 0x13ffc, 4, 1);
	ck_assert_uint_eq(last_offset, 0x3ffc);
	last_offset = 0;
	pci_window_ops.write(&host, 0x13ffe, 4, 1); /* across the end */
	ck_assert_uint_eq(last_offset, 0);
	pci_ecam_ops.write(
		&host, ECAM(PCI_BASE_ADDRESS_0), 4, 0x1000); /* over RAM: never decoded */
	ck_assert_uint_eq(moved_to, PCI_BAR_NONE);
}
END_TEST

START_TEST(read_only_fields_stay)
{
	pci_ecam_ops.write(&host, ECAM(PCI_VENDOR_ID), 4, 0);
	pci_ecam_ops.write(&host, ECAM(PCI_CLASS_REVISION), 4, 0);
	ck_assert_uint_eq((uint32_t)pci_ecam_ops.read(&host, ECAM(PCI_VENDOR_ID), 4), 0x10421af4);
	ck_assert_uint_eq(
		(uint32_t)pci_ecam_ops.read(&host, ECAM(PCI_CLASS_REVISION), 4), 0x01000000);
}
END_TEST

START_TEST(a_full_bus_refuses_one_more_in_words)
{
	static struct pci_function more[PCI_SLOTS];
	struct error err;
	int ret = 0;
	unsigned n = 0;

	while (n < PCI_SLOTS && ret == 0) {
		pci_function_init(&more[n], &ops, &ids);
		ret = pci_host_plug(&host, &more[n], -1, &err);
		n += ret == 0;
	}
	ck_assert_uint_eq(n, PCI_SLOTS - 1);
	ck_assert_ptr_nonnull(strstr(err.text, "no free PCI slot"));
	while (n--)
		pci_host_unplug(&host, &more[n]);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("host");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, both_ways_into_configuration_space_read_the_same);
	tcase_add_test(tc, nothing_answers_where_no_function_is);
	tcase_add_test(tc, a_bar_is_sized_moved_and_answers_only_while_memory_decoding_is_on);
	tcase_add_test(tc, read_only_fields_stay);
	tcase_add_test(tc, a_full_bus_refuses_one_more_in_words);
	return run_tests("pci", tc, NULL);
}
