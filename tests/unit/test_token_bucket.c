/* SPDX-License-Identifier: Apache-2.0 */
/* The rate limit: exact in the long run, bounded at every moment, live when changed, shared by threads. */
#include "tests/unit/runner.h"
#include "virtio/token_bucket.h"

#include "vmm/base/util.h"

#include <check.h>
#include <pthread.h>

#define SECOND 1000000000ull
#define START  (1000 * SECOND)

/* Ask as a device does: when refused, again at exactly the time that was given. Units granted by `end`. */
static uint64_t grant_until(
	struct token_bucket *tb, uint64_t units, uint64_t now, uint64_t end, unsigned *asked)
{
	uint64_t granted = 0;

	while (now <= end) {
		uint64_t again = token_bucket_take(tb, units, now);

		(*asked)++;
		if (!again) {
			granted += units;
			continue;
		}
		ck_assert_uint_gt(again, now);
		now = again;
	}
	return granted;
}

START_TEST(no_rate_is_no_limit)
{
	struct token_bucket tb = {0};

	for (unsigned i = 0; i < 100000; i++)
		ck_assert_uint_eq(token_bucket_take(&tb, UINT64_MAX, START), 0);
}
END_TEST

START_TEST(the_long_run_rate_is_exact)
{
	static const struct {
		uint64_t rate, units;
	} cases[] = {{1, 1}, {3, 1}, {1000, 1}, {99991, 1}, {104857600, 65536},
		{104857600, 1 << 20}, {1000, 4096}};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct token_bucket tb = {0};
		unsigned asked = 0;
		uint64_t granted, due = 20 * cases[i].rate;

		token_bucket_set(&tb, cases[i].rate);
		granted = grant_until(&tb, cases[i].units, START, START + 20 * SECOND, &asked);
		/* 20 seconds' worth, the burst, and one request that may overshoot; cost rounds down below 1 ns a unit */
		ck_assert_uint_ge(granted + cases[i].units, due);
		ck_assert_uint_le(
			granted, due + due / 1000 + cases[i].rate / 10 + 2 * cases[i].units);
	}
}
END_TEST

START_TEST(a_refused_request_is_granted_at_the_very_time_it_was_told)
{
	struct token_bucket tb = {0};
	unsigned asked = 0;
	uint64_t granted;

	token_bucket_set(&tb, 1000);
	granted = grant_until(&tb, 1, START, START + 2 * SECOND, &asked);
	/* at most one refusal for each grant: no tick, no polling */
	ck_assert_uint_le(asked, 2 * granted + 2);
}
END_TEST

START_TEST(the_burst_is_a_tenth_of_a_second)
{
	struct token_bucket tb = {0};
	unsigned granted = 0;

	token_bucket_set(&tb, 1000);
	while (!token_bucket_take(&tb, 1, START))
		granted++;
	ck_assert_uint_eq(granted, 100);
	/* idle time fills the bucket, but never beyond the burst */
	granted = 0;
	while (!token_bucket_take(&tb, 1, START + 3600 * SECOND))
		granted++;
	ck_assert_uint_eq(granted, 100);
}
END_TEST

START_TEST(a_large_request_is_granted_and_paid_off)
{
	struct token_bucket tb = {0};
	uint64_t again;

	token_bucket_set(&tb, 1000);
	ck_assert_uint_eq(token_bucket_take(&tb, 5000, START), 0);
	again = token_bucket_take(&tb, 1, START);
	ck_assert_uint_gt(again, START + 4 * SECOND);
	ck_assert_uint_lt(again, START + 5 * SECOND);
	ck_assert_uint_eq(token_bucket_take(&tb, 1, again), 0);
}
END_TEST

START_TEST(large_requests_are_not_starved_by_small_ones)
{
	struct token_bucket tb = {0};
	uint64_t now = START, again;
	unsigned large = 0;

	token_bucket_set(&tb, 1000);
	/* A small asker comes first at every moment; the large one asks at the same moments. */
	for (unsigned i = 0; i < 1000; i++) {
		again = token_bucket_take(&tb, 1, now);
		if (!token_bucket_take(&tb, 500, now))
			large++;
		now = again ? again : now + SECOND / 100;
	}
	ck_assert_uint_gt(large, 10);
}
END_TEST

START_TEST(a_new_rate_counts_at_once)
{
	struct token_bucket tb = {0};

	token_bucket_set(&tb, 1);
	ck_assert_uint_eq(token_bucket_take(&tb, 1000000, START), 0); /* eleven days of debt */
	ck_assert_uint_ne(token_bucket_take(&tb, 1, START), 0);
	token_bucket_set(&tb, 1000000);
	ck_assert_uint_eq(token_bucket_take(&tb, 1, START), 0);
	token_bucket_set(&tb, 0);
	ck_assert_uint_eq(token_bucket_take(&tb, UINT64_MAX, START), 0);
}
END_TEST

START_TEST(absurd_sizes_do_not_wrap_around)
{
	struct token_bucket tb = {0};

	token_bucket_set(&tb, 1);
	ck_assert_uint_eq(token_bucket_take(&tb, UINT64_MAX, START), 0);
	ck_assert_uint_gt(token_bucket_take(&tb, 1, START), START + 3600 * SECOND);
}
END_TEST

struct taker {
	struct token_bucket *tb;
	uint64_t granted;
};

static void *take_all(void *arg)
{
	struct taker *taker = arg;

	for (uint64_t now = START; now < START + SECOND; now += SECOND / 100000)
		if (!token_bucket_take(taker->tb, 1, now))
			taker->granted++;
	return NULL;
}

START_TEST(threads_share_one_limit)
{
	struct token_bucket tb = {0};
	struct taker takers[4];
	pthread_t threads[4];
	uint64_t granted = 0;

	token_bucket_set(&tb, 10000);
	for (unsigned i = 0; i < 4; i++) {
		takers[i] = (struct taker){.tb = &tb};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, take_all, &takers[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		granted += takers[i].granted;
	}
	/* a second's worth and the burst, however the threads interleave */
	ck_assert_uint_ge(granted, 10000);
	ck_assert_uint_le(granted, 11000 + 1);
}
END_TEST

struct changing {
	struct token_bucket tb;
	_Atomic bool end;
};

static void *take_much(void *arg)
{
	struct changing *changing = arg;

	while (!atomic_load(&changing->end))
		token_bucket_take(&changing->tb, 1000, START);
	return NULL;
}

START_TEST(whoever_takes_while_the_rate_is_raised_leaves_no_debt_of_the_old_one)
{
	struct changing changing = {0};
	pthread_t threads[2];
	unsigned owing = 0;

	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, take_much, &changing), 0);
	for (unsigned i = 0; i < 50000; i++) {
		token_bucket_set(&changing.tb, 1); /* each take owes 1000 s */
		/* Long enough for them to see it, and not for them to be done, whatever this host's pace. */
		for (volatile unsigned wait = 0; wait < i % 256; wait++)
			;
		token_bucket_set(&changing.tb, 1000000000000);
		/* Each take owes 1 ns: the two threads cannot make a second of it meanwhile. */
		for (unsigned look = 0; look < 100; look++)
			owing += atomic_load(&changing.tb.paid_until_ns) > START + SECOND;
	}
	atomic_store(&changing.end, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(owing, 0);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("token_bucket");

	tcase_add_test(tc, no_rate_is_no_limit);
	tcase_add_test(tc, the_long_run_rate_is_exact);
	tcase_add_test(tc, a_refused_request_is_granted_at_the_very_time_it_was_told);
	tcase_add_test(tc, the_burst_is_a_tenth_of_a_second);
	tcase_add_test(tc, a_large_request_is_granted_and_paid_off);
	tcase_add_test(tc, large_requests_are_not_starved_by_small_ones);
	tcase_add_test(tc, a_new_rate_counts_at_once);
	tcase_add_test(tc, absurd_sizes_do_not_wrap_around);
	tcase_add_test(tc, threads_share_one_limit);
	tcase_add_test(tc, whoever_takes_while_the_rate_is_raised_leaves_no_debt_of_the_old_one);
	return run_tests("token_bucket", tc, NULL);
}
