/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms: each duration is in the bucket that its end names, and nothing is counted twice or lost. */
#include "tests/unit/runner.h"

#include "vmm/base/histogram.h"

#include <check.h>
#include <pthread.h>

#define LAST (HISTOGRAM_BUCKETS - 1)

START_TEST(an_end_belongs_to_the_bucket_that_it_ends)
{
	ck_assert_uint_eq(histogram_bucket(0), 0);
	ck_assert_uint_eq(histogram_end_ns(0), 16000);
	ck_assert_uint_eq(histogram_end_ns(LAST - 1), 1048576000);
	for (unsigned i = 0; i < LAST; i++) {
		ck_assert_uint_eq(histogram_bucket(histogram_end_ns(i)), i);
		ck_assert_uint_eq(histogram_bucket(histogram_end_ns(i) + 1), i + 1);
	}
	ck_assert_uint_eq(histogram_bucket(UINT64_MAX), LAST);
}
END_TEST

/* What <= says of each end, beside what the bits say. */
START_TEST(any_duration_is_in_the_first_bucket_that_reaches_it)
{
	uint64_t state = 88172645463325252ull;

	for (unsigned n = 0; n < 200000; n++) {
		uint64_t ns;
		unsigned bucket = 0;

		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		ns = state >> (n % 64);
		while (bucket < LAST && ns > histogram_end_ns(bucket))
			bucket++;
		ck_assert_uint_eq(histogram_bucket(ns), bucket);
	}
}
END_TEST

#define COUNTED 300000u

static void *count_all(void *arg)
{
	for (unsigned i = 0; i < COUNTED; i++)
		histogram_count(arg, 20000);
	return NULL;
}

START_TEST(who_reads_while_it_is_counted_never_reads_less_than_before)
{
	struct histogram histogram = {0};
	uint64_t last = 0, last_ns = 0;
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, count_all, &histogram), 0);
	while (last < COUNTED) {
		struct histogram_sums sums = {0};

		histogram_add_to(&sums, &histogram);
		ck_assert_uint_ge(sums.counts[1], last);
		ck_assert_uint_ge(sums.sum_ns, last_ns);
		last = sums.counts[1];
		last_ns = sums.sum_ns;
	}
	pthread_join(thread, NULL);
	ck_assert_uint_eq(atomic_load(&histogram.sum_ns), 20000ull * COUNTED);
}
END_TEST

START_TEST(several_add_up)
{
	struct histogram one = {0}, other = {0};
	struct histogram_sums sums = {0};

	histogram_count(&one, 5);
	histogram_count(&other, 7);
	histogram_count(&other, UINT64_C(2000000000));
	histogram_add_to(&sums, &one);
	histogram_add_to(&sums, &other);
	ck_assert_uint_eq(sums.counts[0], 2);
	ck_assert_uint_eq(sums.counts[LAST], 1);
	ck_assert_uint_eq(sums.sum_ns, 2000000012);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("histogram");

	tcase_add_test(tc, an_end_belongs_to_the_bucket_that_it_ends);
	tcase_add_test(tc, any_duration_is_in_the_first_bucket_that_reaches_it);
	tcase_add_test(tc, who_reads_while_it_is_counted_never_reads_less_than_before);
	tcase_add_test(tc, several_add_up);
	return run_tests("histogram", tc, NULL);
}
