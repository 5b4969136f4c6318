/* SPDX-License-Identifier: Apache-2.0 */
/* Slots that come and go: what the guest is told, what it may say, and who wins when both sides act at once. */
#include "devices/hotplug_slots.h"
#include "tests/unit/runner.h"

#include <check.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BASE	0x620
#define EVENT	POWER_EVENT_CPUS
#define NOTHING 0xffffffffu

enum { CHECK = 1, LET_GO = 3 };

static struct power power;
static struct hotplug_slots slots;
static struct bus ports;
static _Atomic unsigned changes;

static void never(void *owner)
{
	(void)owner;
	ck_abort();
}

static void count_change(void *owner)
{
	ck_assert_ptr_eq(owner, &ports);
	changes++;
}

static const struct power_ops power_ops = {.off = never, .reset = never};
static const struct hotplug_slots_ops ops = {.changed = count_change};

static void setup(void)
{
	struct irq_line irq = {.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};

	power_init(&power, irq, &power_ops, NULL);
	hotplug_slots_init(&slots, &power, EVENT, &ops, &ports);
	hotplug_slots_reset(&slots, 1);
	memset(&ports, 0, sizeof(ports));
	bus_add(&ports, BASE, HOTPLUG_SLOTS_PORTS, &hotplug_slots_bus_ops, &slots);
	changes = 0;
}

static void teardown(void)
{
	close(power.irq.fd);
}

static uint64_t in(unsigned offset, unsigned size)
{
	uint8_t data[8] = {0};
	uint64_t value;

	bus_read(&ports, BASE + offset, data, size);
	memcpy(&value, data, sizeof(value));
	return value;
}

static void out(unsigned offset, uint32_t value)
{
	uint8_t data[4];

	memcpy(data, &value, sizeof(data));
	bus_write(&ports, BASE + offset, data, sizeof(data));
}

static uint64_t present(void)
{
	return in(0, 4) | in(4, 4) << 32;
}

static void say(unsigned slot, unsigned event, unsigned status)
{
	out(8, slot | event << 8 | status << 16);
}

static bool is_outcome(uint64_t taken, uint64_t declined, uint64_t ejected, uint64_t kept)
{
	struct hotplug_outcome o = hotplug_slots_take(&slots);

	return o.taken == taken && o.declined == declined && o.ejected == ejected && o.kept == kept;
}

START_TEST(a_slot_is_there_from_when_the_guest_learns_of_it_and_its_answer_is_told_once)
{
	hotplug_slots_insert(&slots, 1ull << 63 | 1ull << 5);
	ck_assert_uint_eq(present(), 1);
	ck_assert_uint_eq(atomic_exchange(&power.pending, 0), EVENT);
	ck_assert_uint_eq(in(8, 4), 5 | CHECK << 8);
	ck_assert_uint_eq(present(), 1 | 1 << 5);
	ck_assert_uint_eq(in(8, 4), 63 | CHECK << 8);
	ck_assert_uint_eq(in(8, 4), NOTHING);
	say(5, CHECK, 0x80); /* it is at it */
	ck_assert_uint_eq(changes, 0);
	say(5, CHECK, 0);
	say(63, CHECK, 1);
	ck_assert_uint_eq(changes, 2);
	ck_assert(is_outcome(1 << 5, 1ull << 63, 0, 0));
	ck_assert(is_outcome(0, 0, 0, 0));
	ck_assert_uint_eq(present(), 1 | 1 << 5);
}
END_TEST

START_TEST(a_slot_goes_when_the_guest_ejects_it_and_stays_when_it_refuses)
{
	hotplug_slots_reset(&slots, 7);
	hotplug_slots_remove(&slots, 6);
	ck_assert_uint_eq(in(8, 4), 1 | LET_GO << 8);
	ck_assert_uint_eq(in(8, 4), 2 | LET_GO << 8);
	say(1, LET_GO, 0x84);
	out(12, 1);
	say(1, LET_GO, 0);
	say(2, LET_GO, 0x82);
	out(12, 2); /* too late */
	ck_assert(is_outcome(0, 0, 2, 4));
	ck_assert_uint_eq(present(), 5);
}
END_TEST

START_TEST(what_the_guest_was_not_asked_for_it_cannot_say)
{
	for (unsigned slot = 0; slot < 256; slot++)
		for (unsigned event = 0; event < 256; event += event < 5 ? 1 : 50) {
			say(slot, event, 0);
			say(slot, event, 1);
		}
	for (unsigned slot = 0; slot < 300; slot++)
		out(12, slot);
	out(12, NOTHING);
	for (unsigned offset = 0; offset < HOTPLUG_SLOTS_PORTS; offset++) {
		uint8_t ones = 0xff;

		bus_write(&ports, BASE + offset, &ones, 1);
		in(offset, 1);
		in(offset, 2);
	}
	ck_assert_uint_eq(changes, 0);
	ck_assert(is_outcome(0, 0, 0, 0));
	ck_assert_uint_eq(present(), 1);
}
END_TEST

START_TEST(what_the_guest_has_not_read_can_be_taken_back_and_what_it_has_read_cannot)
{
	hotplug_slots_reset(&slots, 3);
	hotplug_slots_insert(&slots, 0xf0);
	hotplug_slots_remove(&slots, 2);
	ck_assert_uint_eq(in(8, 4), 4 | CHECK << 8);
	ck_assert(hotplug_slots_remind(&slots));
	ck_assert_uint_eq(hotplug_slots_withdraw(&slots, 0xf2), 0xe2);
	ck_assert(!hotplug_slots_remind(&slots));
	ck_assert_uint_eq(in(8, 4), NOTHING);
	say(4, CHECK, 0);
	ck_assert(is_outcome(1 << 4, 0, 0, 0));
	ck_assert_uint_eq(present(), 0x13);
	hotplug_slots_reset(&slots, 1);
	ck_assert(is_outcome(0, 0, 0, 0));
	ck_assert_uint_eq(present(), 1);
}
END_TEST

/* A guest of two vCPUs that takes what it reads, while the other side takes things back. */
#define ROUNDS 20000
static _Atomic bool over;
static _Atomic uint64_t told_total;

static void *guest(void *arg)
{
	(void)arg;
	while (!over) {
		uint32_t event = (uint32_t)in(8, 4);

		if (event == NOTHING)
			continue;
		ck_assert_uint_eq(event >> 8, CHECK);
		ck_assert(present() >> (event & 0xff) & 1);
		told_total++;
		say(event & 0xff, CHECK, 1);
	}
	return NULL;
}

START_TEST(each_insertion_is_either_read_by_the_guest_once_or_taken_back)
{
	pthread_t threads[2];
	uint64_t withdrawn = 0, declined = 0;

	over = false;
	told_total = 0;
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, guest, NULL), 0);
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint64_t bit = 1ull << (1 + n % 63), back;

		hotplug_slots_insert(&slots, bit);
		back = hotplug_slots_withdraw(&slots, bit);
		withdrawn += back != 0;
		while (!back) {
			struct hotplug_outcome o = hotplug_slots_take(&slots);

			if (o.declined) {
				ck_assert_uint_eq(o.declined, bit);
				declined++;
				break;
			}
		}
	}
	over = true;
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(withdrawn + declined, ROUNDS);
	ck_assert_uint_eq(told_total, declined);
	ck_assert_uint_eq(present(), 1);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("slots");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(
		tc, a_slot_is_there_from_when_the_guest_learns_of_it_and_its_answer_is_told_once);
	tcase_add_test(tc, a_slot_goes_when_the_guest_ejects_it_and_stays_when_it_refuses);
	tcase_add_test(tc, what_the_guest_was_not_asked_for_it_cannot_say);
	tcase_add_test(
		tc, what_the_guest_has_not_read_can_be_taken_back_and_what_it_has_read_cannot);
	tcase_add_test(tc, each_insertion_is_either_read_by_the_guest_once_or_taken_back);
	return run_tests("hotplug_slots", tc, NULL);
}
