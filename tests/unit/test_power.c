/* SPDX-License-Identifier: Apache-2.0 */
/* Power, reset and event registers, the legacy ports that reset, and the generation id. */
#include "devices/legacy.h"
#include "devices/power.h"
#include "devices/vmgenid.h"
#include "tests/unit/runner.h"
#include "vmm/base/util.h"

#include <check.h>
#include <string.h>
#include <sys/eventfd.h>

static struct power power;
static struct legacy legacy;
static struct bus ports;
static unsigned offs, resets;

static void count_off(void *owner)
{
	ck_assert_ptr_eq(owner, &ports);
	offs++;
}

static void count_reset(void *owner)
{
	ck_assert_ptr_eq(owner, &ports);
	resets++;
}

static const struct power_ops ops = {.off = count_off, .reset = count_reset};

static void setup(void)
{
	struct irq_line irq = {.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};

	power_init(&power, irq, &ops, &ports);
	legacy_init(&legacy, count_reset, &ports);
	memset(&ports, 0, sizeof(ports));
	bus_add(&ports, POWER_BASE, POWER_PORTS, &power_bus_ops, &power);
	legacy_add(&legacy, &ports);
	bus_add(&ports, 0xcf9, 1, &legacy_cf9_ops, &legacy);
	offs = resets = 0;
}

static void teardown(void)
{
	close(power.irq.fd);
}

static uint32_t in(uint16_t port, unsigned size)
{
	uint8_t data[8] = {0};

	bus_read(&ports, port, data, size);
	return (uint32_t)(data[0] | data[1] << 8 | data[2] << 16) | (uint32_t)data[3] << 24;
}

static void out(uint16_t port, uint8_t value)
{
	bus_write(&ports, port, &value, 1);
}

static uint64_t edges(void)
{
	uint64_t count = 0;

	return read(power.irq.fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

START_TEST(only_s5_with_the_enable_bit_turns_the_machine_off)
{
	out(POWER_SLEEP_CONTROL, POWER_S5_TYPE << 2);
	for (uint8_t type = 0; type < 8; type++)
		if (type != POWER_S5_TYPE)
			out(POWER_SLEEP_CONTROL, (uint8_t)(type << 2 | 0x20));
	ck_assert_uint_eq(offs, 0);
	out(POWER_SLEEP_CONTROL, POWER_S5_TYPE << 2 | 0x20);
	ck_assert_uint_eq(offs, 1);
	ck_assert_uint_eq(in(POWER_SLEEP_CONTROL, 1), 0);
	ck_assert_uint_eq(resets, 0);
}
END_TEST

START_TEST(only_the_reset_value_resets)
{
	out(POWER_RESET, 0);
	out(POWER_RESET, 2);
	ck_assert_uint_eq(resets, 0);
	out(POWER_RESET, POWER_RESET_VALUE);
	ck_assert_uint_eq(resets, 1);
	ck_assert_uint_eq(offs, 0);
}
END_TEST

START_TEST(each_event_brings_an_edge_and_is_reported_once)
{
	ck_assert_uint_eq(in(POWER_EVENTS, 4), 0);
	power_press_button(&power);
	power_raise(&power, POWER_EVENT_VMGENID);
	ck_assert_uint_eq(edges(), 2);
	ck_assert_uint_eq(in(POWER_EVENTS, 1), 0); /* a narrow read loses nothing */
	ck_assert_uint_eq(in(POWER_EVENTS, 4), POWER_EVENT_BUTTON | POWER_EVENT_VMGENID);
	ck_assert_uint_eq(in(POWER_EVENTS, 4), 0);
	power_press_button(&power);
	power_reset(&power);
	ck_assert_uint_eq(in(POWER_EVENTS, 4), 0);
}
END_TEST

START_TEST(each_legacy_way_to_reset_asks_once)
{
	out(0x64, 0xd1);
	out(0x60, 0xfe);
	ck_assert_uint_eq(resets, 0);
	out(0x64, 0xfe); /* reboot=k */
	ck_assert_uint_eq(resets, 1);
	out(0xcf9, 0x02); /* reboot=p announces the kind, then does it */
	ck_assert_uint_eq(resets, 1);
	out(0xcf9, 0x0e);
	ck_assert_uint_eq(resets, 2);
	out(0x92, 0x02);
	ck_assert_uint_eq(resets, 2);
	out(0x92, 0x03);
	ck_assert_uint_eq(resets, 3);
}
END_TEST

START_TEST(legacy_answers_let_linux_go_on_at_once)
{
	uint32_t first = in(0x61, 1), second = in(0x61, 1);

	ck_assert_uint_eq(in(0x64, 1) & 0x03, 0x01); /* no i8042, and no wait before a reset */
	ck_assert_uint_eq((first ^ second) & 0x10, 0x10);
	ck_assert_uint_eq(first & 0xe0, 0x20); /* no NMI reason, timer 2 has run out */
	out(0x61, 0xff);
	ck_assert_uint_eq(in(0x61, 1) & 0xef, 0x2f);
	ck_assert_uint_eq(in(0xcf8, 4), 0xffffffff); /* no configuration mechanism 1 */
	ck_assert_uint_eq(in(0x80, 1), 0xff);
}
END_TEST

START_TEST(a_changed_generation_id_is_in_memory_before_the_event)
{
	struct guest_memory_config config = {
		.region_count = 1, .regions[0] = {.size = MIB(2)}, .pages = MEMORY_PAGES_OFF};
	struct guest_memory memory;
	struct vmgenid vmgenid;
	struct error err;
	uint8_t seen[16], before[16];

	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), 0);
	ck_assert_int_eq(vmgenid_init(&vmgenid, &memory, 0x1000, &power, &err), 0);
	ck_assert_int_eq(vmgenid_place(&vmgenid, &err), 0);
	ck_assert(guest_memory_read(&memory, 0x1000, before, 16));
	ck_assert_mem_eq(before, vmgenid.id, 16);
	ck_assert_uint_eq(edges(), 0);
	ck_assert_int_eq(vmgenid_change(&vmgenid, &err), 0);
	ck_assert_uint_eq(edges(), 1);
	ck_assert_uint_eq(in(POWER_EVENTS, 4), POWER_EVENT_VMGENID);
	ck_assert(guest_memory_read(&memory, 0x1000, seen, 16));
	ck_assert_mem_eq(seen, vmgenid.id, 16);
	ck_assert_mem_ne(seen, before, 16);
	vmgenid.gpa = MIB(2);
	ck_assert_int_lt(vmgenid_place(&vmgenid, &err), 0);
	guest_memory_destroy(&memory);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("power");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, only_s5_with_the_enable_bit_turns_the_machine_off);
	tcase_add_test(tc, only_the_reset_value_resets);
	tcase_add_test(tc, each_event_brings_an_edge_and_is_reported_once);
	tcase_add_test(tc, each_legacy_way_to_reset_asks_once);
	tcase_add_test(tc, legacy_answers_let_linux_go_on_at_once);
	tcase_add_test(tc, a_changed_generation_id_is_in_memory_before_the_event);
	return run_tests("power", tc, NULL);
}
