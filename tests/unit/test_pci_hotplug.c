/* SPDX-License-Identifier: Apache-2.0 */
/* The registers of PCI hot-plug, as the methods in the DSDT use them, and as no method would. */
#include "devices/pci_hotplug.h"
#include "tests/unit/runner.h"

#include <check.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct power power;
static struct pci_hotplug hotplug;
static struct bus ports;
static uint32_t ejected;
static unsigned outcomes, last_slot, last_event, last_status;

static void take_ejected(void *owner, uint32_t slots)
{
	ck_assert_ptr_eq(owner, &ports);
	ejected |= slots;
}

static void take_outcome(void *owner, unsigned slot, unsigned event, unsigned status)
{
	ck_assert_ptr_eq(owner, &ports);
	ck_assert_uint_lt(slot, PCI_SLOTS);
	outcomes++;
	last_slot = slot;
	last_event = event;
	last_status = status;
}

static const struct pci_hotplug_ops ops = {.ejected = take_ejected, .outcome = take_outcome};

static void setup(void)
{
	struct irq_line irq = {.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};

	power_init(&power, irq, NULL, NULL);
	pci_hotplug_init(&hotplug, &power, &ops, &ports);
	memset(&ports, 0, sizeof(ports));
	bus_add(&ports, POWER_BASE, POWER_PORTS, &power_bus_ops, &power);
	bus_add(&ports, PCI_HOTPLUG_BASE, PCI_HOTPLUG_PORTS, &pci_hotplug_bus_ops, &hotplug);
	ejected = 0;
	outcomes = 0;
}

static void teardown(void)
{
	close(power.irq.fd);
}

static uint32_t in(uint16_t port)
{
	uint32_t value = 0;

	bus_read(&ports, port, (uint8_t *)&value, 4);
	return value;
}

static void out(uint16_t port, uint32_t value)
{
	bus_write(&ports, port, (uint8_t *)&value, 4);
}

static bool interrupted(void)
{
	uint64_t count;

	return read(power.irq.fd, &count, sizeof(count)) == sizeof(count);
}

START_TEST(what_is_asked_interrupts_and_is_read_once)
{
	pci_hotplug_ask(&hotplug, 3, true);
	pci_hotplug_ask(&hotplug, 31, true);
	pci_hotplug_ask(&hotplug, 7, false);
	ck_assert(interrupted());
	ck_assert_uint_eq(in(POWER_EVENTS), POWER_EVENT_PCI);
	ck_assert_uint_eq(in(PCI_HOTPLUG_BASE), 1u << 3 | 1u << 31);
	ck_assert_uint_eq(in(PCI_HOTPLUG_BASE + 4), 1u << 7);
	ck_assert_uint_eq(in(PCI_HOTPLUG_BASE), 0);
	ck_assert_uint_eq(in(PCI_HOTPLUG_BASE + 4), 0);
}
END_TEST

START_TEST(the_last_word_on_a_slot_counts)
{
	pci_hotplug_ask(&hotplug, 5, true);
	pci_hotplug_ask(&hotplug, 5, false);
	ck_assert_uint_eq(in(PCI_HOTPLUG_BASE), 0);
	ck_assert_uint_eq(in(PCI_HOTPLUG_BASE + 4), 1u << 5);
}
END_TEST

START_TEST(what_was_not_read_can_be_taken_back_or_said_again)
{
	pci_hotplug_ask(&hotplug, 4, true);
	ck_assert(interrupted());
	ck_assert(pci_hotplug_remind(&hotplug, 4));
	ck_assert(interrupted());
	ck_assert(!pci_hotplug_remind(&hotplug, 5));
	ck_assert(!interrupted());
	ck_assert(pci_hotplug_withdraw(&hotplug, 4));
	ck_assert(!pci_hotplug_withdraw(&hotplug, 4));
	ck_assert_uint_eq(in(PCI_HOTPLUG_BASE), 0);
	pci_hotplug_ask(&hotplug, 4, false);
	in(PCI_HOTPLUG_BASE + 4);
	ck_assert(!pci_hotplug_withdraw(&hotplug, 4));
}
END_TEST

START_TEST(answers_reach_the_owner)
{
	out(PCI_HOTPLUG_BASE + 8, 1u << 9);
	ck_assert_uint_eq(ejected, 1u << 9);
	out(PCI_HOTPLUG_BASE + 12, 9 | PCI_HOTPLUG_EJECT << 8 | 0x81u << 16);
	ck_assert_uint_eq(outcomes, 1);
	ck_assert_uint_eq(last_slot, 9);
	ck_assert_uint_eq(last_event, PCI_HOTPLUG_EJECT);
	ck_assert_uint_eq(last_status, 0x81);
}
END_TEST

START_TEST(accesses_that_no_method_makes_change_nothing)
{
	uint8_t bytes[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	pci_hotplug_ask(&hotplug, 3, true);
	for (unsigned offset = 0; offset < PCI_HOTPLUG_PORTS; offset++)
		for (unsigned size = 1; size <= 2; size++) {
			bus_write(&ports, PCI_HOTPLUG_BASE + offset, bytes, size);
			bus_read(&ports, PCI_HOTPLUG_BASE + offset, bytes, size);
		}
	out(PCI_HOTPLUG_BASE, UINT32_MAX);
	out(PCI_HOTPLUG_BASE + 4, UINT32_MAX);
	out(PCI_HOTPLUG_BASE + 12, 32); /* no slot */
	out(PCI_HOTPLUG_BASE + 12, 0xff);
	ck_assert_uint_eq(ejected, 0);
	ck_assert_uint_eq(outcomes, 0);
	ck_assert_uint_eq(in(PCI_HOTPLUG_BASE), 1u << 3);
	ck_assert_uint_eq(in(PCI_HOTPLUG_BASE + 8), 0);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("registers");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, what_is_asked_interrupts_and_is_read_once);
	tcase_add_test(tc, the_last_word_on_a_slot_counts);
	tcase_add_test(tc, what_was_not_read_can_be_taken_back_or_said_again);
	tcase_add_test(tc, answers_reach_the_owner);
	tcase_add_test(tc, accesses_that_no_method_makes_change_nothing);
	return run_tests("pci_hotplug", tc, NULL);
}
