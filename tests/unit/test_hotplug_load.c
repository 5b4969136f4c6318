/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine makes of the slots of a restored guest: which are here, which are asked for, and what it refuses. */
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/machine/machine_private.h"

#include <check.h>
#include <string.h>

static struct machine *machine;
static struct power power;
static struct hotplug_slots slots;
static struct hotplug_slots_state state;
static struct error err;
static uint64_t filled_slots, cleared;
static unsigned counts;

static void clear(struct machine *m, unsigned slot)
{
	(void)m;
	cleared |= 1ull << slot;
}

static void count(struct machine *m)
{
	(void)m;
	counts++;
}

static uint64_t filled(const struct machine *m)
{
	(void)m;
	return filled_slots;
}

static const struct hotplug_kind kind = {.clear = clear, .count = count, .filled = filled};
static const struct hotplug_slots_ops slots_ops = {0};

static void setup(void)
{
	const struct irq_line none = {.fd = -1};

	machine = calloc(1, sizeof(*machine));
	ck_assert_int_eq(loop_create(&machine->loop, 8, &err), 0);
	power_init(&power, none, NULL, NULL);
	hotplug_slots_init(&slots, &power, POWER_EVENT_CPUS, &slots_ops, NULL);
	hotplug_init(&machine->cpus, machine, &kind, &slots, 0xff);
	memset(&state, 0, sizeof(state));
	filled_slots = 0x0f;
	cleared = counts = 0;
}

static void teardown(void)
{
	loop_destroy(machine->loop);
	free(machine);
}

static int load(struct hotplug *h)
{
	ck_assert_int_eq(hotplug_slots_load(&slots, &state, &err), 0);
	return hotplug_load(h, &slots, &err);
}

START_TEST(what_was_asked_stays_asked_and_what_was_taken_is_here)
{
	state.present = 0x7; /* 2: told, and has not answered */
	state.told = 0x4;
	state.told_off = 0x2;
	state.wanted = 0x8;
	ck_assert_int_eq(load(&machine->cpus), 0);
	ck_assert_uint_eq(machine->cpus.here, 0x3);
	ck_assert_uint_eq(machine->cpus.coming, 0xc);
	ck_assert_uint_eq(machine->cpus.going, 0x2);
	ck_assert(!machine->cpus.busy);
	ck_assert_uint_eq(counts, 1);
	ck_assert_uint_eq(cleared, 0);
}
END_TEST

START_TEST(what_this_machine_has_no_place_for_is_refused)
{
	static const uint64_t beyond[] = {0x10, 0x100, 1ull << 63};

	for (unsigned i = 0; i < ARRAY_SIZE(beyond); i++) {
		uint64_t *const members[] = {&state.present, &state.wanted, &state.unwanted,
			&state.taken, &state.declined, &state.ejected, &state.kept};

		for (unsigned j = 0; j < ARRAY_SIZE(members); j++) {
			memset(&state, 0, sizeof(state));
			state.present = 1;
			*members[j] |= beyond[i];
			ck_assert_int_lt(load(&machine->cpus), 0);
			ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
		}
	}
	ck_assert_uint_eq(counts, 0);
	ck_assert_uint_eq(cleared, 0);
}
END_TEST

START_TEST(a_machine_of_fixed_size_takes_only_a_guest_of_fixed_size)
{
	machine->plugged.machine = machine;
	ck_assert_int_eq(load(&machine->plugged), 0);
	state.present = 1;
	ck_assert_int_lt(load(&machine->plugged), 0);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	ck_assert_ptr_nonnull(strstr(err.text, "no place"));
}
END_TEST

START_TEST(a_guest_without_cpus_or_asked_for_what_it_has_not_is_corrupt)
{
	ck_assert_int_lt(load(&machine->cpus), 0);
	ck_assert_int_eq(err.kind, ERROR_CORRUPT);
	state.present = 1;
	state.unwanted = 2;
	ck_assert_int_lt(load(&machine->cpus), 0);
	ck_assert_int_eq(err.kind, ERROR_CORRUPT);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("hotplug_load");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, what_was_asked_stays_asked_and_what_was_taken_is_here);
	tcase_add_test(tc, what_this_machine_has_no_place_for_is_refused);
	tcase_add_test(tc, a_machine_of_fixed_size_takes_only_a_guest_of_fixed_size);
	tcase_add_test(tc, a_guest_without_cpus_or_asked_for_what_it_has_not_is_corrupt);
	return run_tests("hotplug_load", tc, NULL);
}
