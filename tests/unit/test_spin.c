/* SPDX-License-Identifier: Apache-2.0 */
/* Looking before sleeping: done while waits are short, given up soon when they are not, found again. */
#include "tests/unit/runner.h"
#include "vmm/base/spin.h"

#include <stdlib.h>

#define SHORT 5000u
#define LIMIT SPIN_MIN_NS
#define LONG  (100 * LIMIT)

/* One wait for an event that comes `ns` from now; a sleeper sees it `wake` later. Whether it was looked for. */
static bool wait_once(struct spin *spin, uint64_t ns, uint64_t wake)
{
	bool looks = spin_worthwhile(spin, LIMIT), seen = looks && ns < LIMIT;

	spin_learn(spin, seen ? ns : ns + wake, seen, LIMIT);
	return looks;
}

START_TEST(short_waits_are_looked_through_from_the_first_on)
{
	struct spin spin = {0};

	for (unsigned i = 0; i < 1000; i++)
		ck_assert(wait_once(&spin, (uint64_t)rand() % LIMIT, LONG));
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
	while (!wait_once(&spin, SHORT, 2 * LIMIT))
		ck_assert_uint_lt(++slept, SPIN_PROBE);
	for (unsigned i = 0; i < 1000; i++)
		ck_assert(wait_once(&spin, SHORT, 2 * LIMIT));
}
END_TEST

/* Some samples hold the work that a sleep was waiting for: they must not make looking look cheap. */
START_TEST(the_limit_follows_the_cheapest_sleeps_within_its_bounds)
{
	struct spin_cost cost = {0};

	ck_assert_uint_eq(spin_limit(&cost), SPIN_MIN_NS);
	spin_cost_learn(&cost, 20000);
	ck_assert_uint_eq(spin_limit(&cost), 20000 * SPIN_WORTH);
	spin_cost_learn(&cost, 36000);
	ck_assert_uint_eq(spin_limit(&cost), 21000 * SPIN_WORTH);
	spin_cost_learn(&cost, 1000);
	ck_assert_uint_eq(spin_limit(&cost), SPIN_MIN_NS);
	for (unsigned i = 0; i < 1000; i++)
		spin_cost_learn(&cost, UINT64_MAX);
	ck_assert_uint_eq(spin_limit(&cost), SPIN_MAX_NS);
}
END_TEST

START_TEST(few_sleeps_are_measured_and_the_first_is)
{
	struct spin_cost cost = {0};
	unsigned due = 0;

	ck_assert(spin_cost_due(&cost));
	for (unsigned i = 0; i < 10 * SPIN_PROBE; i++)
		due += spin_cost_due(&cost);
	ck_assert_uint_eq(due, 10);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("spin");

	tcase_add_test(tc, short_waits_are_looked_through_from_the_first_on);
	tcase_add_test(tc, long_waits_end_the_looking_after_three);
	tcase_add_test(tc, one_long_wait_among_short_ones_changes_nothing);
	tcase_add_test(tc, short_waits_are_found_again_though_every_sleep_is_long);
	tcase_add_test(tc, the_limit_follows_the_cheapest_sleeps_within_its_bounds);
	tcase_add_test(tc, few_sleeps_are_measured_and_the_first_is);
	return run_tests("spin", tc, NULL);
}
