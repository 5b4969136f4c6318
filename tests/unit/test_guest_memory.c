/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: views never leave a region, huge-page congruence holds, and what the host cannot give is refused. */
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/memory/guest_memory.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define HOLE_START GIB(3)
#define HOLE_END   GIB(4)

static struct guest_memory memory;
static struct error err;

static void setup(void)
{
	const struct guest_memory_config config = {
		.region_count = 2,
		.regions = {{.gpa = 0, .size = HOLE_START},
			{.gpa = HOLE_END, .size = GIB(2) + KIB(4)}},
		.pages = MEMORY_PAGES_THP,
	};

	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), 0);
}

static void teardown(void)
{
	guest_memory_destroy(&memory);
}

START_TEST(host_and_guest_addresses_are_congruent_modulo_2_mib_on_both_sides_of_the_hole)
{
	for (unsigned i = 0; i < memory.region_count; i++)
		ck_assert_uint_eq(
			(uintptr_t)memory.regions[i].host % MIB(2), memory.regions[i].gpa % MIB(2));
}
END_TEST

START_TEST(a_view_is_given_only_for_a_range_wholly_inside_one_region)
{
	static const struct {
		uint64_t gpa, len;
		bool given;
	} cases[] = {
		{0, 1, true},
		{0, 0, false},
		{0, HOLE_START, true},
		{0, HOLE_START + 1, false},
		{HOLE_START - 1, 1, true},
		{HOLE_START - 1, 2, false},
		{HOLE_START, 1, false},
		{HOLE_END - 1, 1, false},
		{HOLE_END - 1, 2, false},
		{HOLE_END, 1, true},
		{HOLE_END, GIB(2) + KIB(4), true},
		{HOLE_END, GIB(2) + KIB(4) + 1, false},
		{HOLE_END + GIB(2) + KIB(4), 1, false},
		{UINT64_MAX, 1, false},
		{UINT64_MAX, UINT64_MAX, false},
		{HOLE_END, UINT64_MAX, false},
		{1, UINT64_MAX, false},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		ck_assert_msg(
			!!guest_memory_view(&memory, cases[i].gpa, cases[i].len) == cases[i].given,
			"case %u", i);
}
END_TEST

START_TEST(views_agree_with_a_naive_oracle)
{
	unsigned seed = 7;

	for (unsigned n = 0; n < 200000; n++) {
		uint64_t gpa = (((uint64_t)rand_r(&seed) << 31) ^ (uint64_t)rand_r(&seed)) % GIB(7);
		uint64_t len = (uint64_t)rand_r(&seed) % KIB(64) + 1;
		bool below = gpa + len <= HOLE_START;
		bool above = gpa >= HOLE_END && gpa + len <= HOLE_END + GIB(2) + KIB(4);

		ck_assert_int_eq(!!guest_memory_view(&memory, gpa, len), below || above);
	}
}
END_TEST

START_TEST(what_is_written_on_one_side_of_the_hole_does_not_show_on_the_other)
{
	char low[] = "low", high[] = "high", back[8] = "";

	ck_assert(guest_memory_write(&memory, HOLE_START - 8, low, sizeof(low)));
	ck_assert(guest_memory_write(&memory, HOLE_END, high, sizeof(high)));
	ck_assert(guest_memory_read(&memory, HOLE_START - 8, back, sizeof(low)));
	ck_assert_str_eq(back, "low");
	ck_assert(!guest_memory_write(&memory, HOLE_START - 2, high, sizeof(high)));
	ck_assert(guest_memory_zero(&memory, HOLE_END, sizeof(high)));
	ck_assert(guest_memory_read(&memory, HOLE_END, back, 1));
	ck_assert_int_eq(back[0], 0);
}
END_TEST

START_TEST(memory_that_the_host_cannot_give_is_refused_in_words)
{
	struct guest_memory_config config = {.region_count = 1,
		.regions = {{.gpa = 0, .size = 1ull << 46}},
		.pages = MEMORY_PAGES_OFF};
	struct guest_memory huge;

	ck_assert_int_lt(guest_memory_create(&config, &huge, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "guest memory"));
	config.regions[0].size = GIB(1) + KIB(4);
	config.pages = MEMORY_PAGES_2M;
	ck_assert_int_lt(guest_memory_create(&config, &huge, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "multiple of 2 MiB"));
}
END_TEST

START_TEST(preallocated_memory_is_resident_before_the_guest_runs)
{
	const struct guest_memory_config config = {.region_count = 1,
		.regions = {{.gpa = 0, .size = MIB(192)}},
		.pages = MEMORY_PAGES_THP,
		.prealloc = true};
	struct guest_memory pre;
	char line[256];
	unsigned long kib = 0, rss = 0;
	FILE *f;

	ck_assert_int_eq(guest_memory_create(&config, &pre, &err), 0);
	f = fopen("/proc/self/status", "r");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu", &kib) == 1)
			rss = kib;
	fclose(f);
	ck_assert_uint_ge(rss, 192 * 1024);
	guest_memory_destroy(&pre);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("guest RAM");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(
		tc, host_and_guest_addresses_are_congruent_modulo_2_mib_on_both_sides_of_the_hole);
	tcase_add_test(tc, a_view_is_given_only_for_a_range_wholly_inside_one_region);
	tcase_add_test(tc, views_agree_with_a_naive_oracle);
	tcase_add_test(tc, what_is_written_on_one_side_of_the_hole_does_not_show_on_the_other);
	tcase_add_test(tc, memory_that_the_host_cannot_give_is_refused_in_words);
	tcase_add_test(tc, preallocated_memory_is_resident_before_the_guest_runs);
	return run_tests("guest_memory", tc, NULL);
}
