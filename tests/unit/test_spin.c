/* SPDX-License-Identifier: Apache-2.0 */
/* Looking before sleeping: done while waits are short, given up soon when they are not, found again. */
#include "tests/unit/runner.h"
#include "vmm/base/spin.h"

#include <stdlib.h>

#define SHORT 5000u
#define LONG  (100 * SPIN_MAX_NS)

/* One wait for an event that comes `ns` from now; a sleeper sees it `wake` later. Whether it was looked for. */
static bool wait_once(struct spin *spin, uint64_t ns, uint64_t wake)
{
	bool looks = spin_worthwhile(spin), seen = looks && ns < SPIN_MAX_NS;

	spin_learn(spin, seen ? ns : ns + wake, seen);
	return looks;
}

START_TEST(short_waits_are_looked_through_from_the_first_on)
{
	struct spin spin = {0};

	for (unsigned i = 0; i < 1000; i++)
		ck_assert(wait_once(&spin, (uint64_t)rand() % SPIN_MAX_NS, LONG));
}
END_TEST

START_TEST(long_waits_end_the_looking_after_three)
{
	struct spin spin = {0};
	unsigned looks = 0;

	for (unsigned i = 0; i < 1000; i++)
		wait_once(&spin, SHORT, 0);
	for (unsigned i = 0; i < 3; i++)
		wait_once(&spin, LONG, 0);
	for (unsigned i = 0; i < 10 * SPIN_PROBE; i++)
		looks += wait_once(&spin, LONG, 0);
	ck_assert_uint_eq(looks, 10); /* the probes */
}
END_TEST

START_TEST(one_long_wait_among_short_ones_changes_nothing)
{
	struct spin spin = {0};

	for (unsigned i = 0; i < 1000; i++)
		ck_assert(wait_once(&spin, i % 50 == 49 ? LONG : SHORT, 0));
}
END_TEST

/* The trap: a sleep's time includes the waking, so that waits look long as long as they are slept. */
START_TEST(short_waits_are_found_again_though_every_sleep_is_long)
{
	struct spin spin = {0};
	unsigned slept = 0;

	for (unsigned i = 0; i < 100; i++)
		wait_once(&spin, LONG, 0);
	while (!wait_once(&spin, SHORT, 2 * SPIN_MAX_NS))
		ck_assert_uint_lt(++slept, SPIN_PROBE);
	for (unsigned i = 0; i < 1000; i++)
		ck_assert(wait_once(&spin, SHORT, 2 * SPIN_MAX_NS));
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("spin");

	tcase_add_test(tc, short_waits_are_looked_through_from_the_first_on);
	tcase_add_test(tc, long_waits_end_the_looking_after_three);
	tcase_add_test(tc, one_long_wait_among_short_ones_changes_nothing);
	tcase_add_test(tc, short_waits_are_found_again_though_every_sleep_is_long);
	return run_tests("spin", tc, NULL);
}
