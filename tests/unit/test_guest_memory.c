/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: views never leave a region, huge-page congruence holds, and what the host cannot give is refused. */
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/memory/guest_memory.h"

#include <check.h>
#include <pthread.h>
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

/* ---- memory that comes and goes ---- */

#define AREA  GIB(4)
#define UNIT  MIB(2)
#define SLOTS 40
#define LAST  MIB(1) /* the last slot is smaller */
#define SIZE  (UNIT * (SLOTS - 1) + LAST)

static const struct guest_memory_config growing = {
	.region_count = 1,
	.regions = {{.gpa = 0, .size = MIB(4)}},
	.area_gpa = AREA,
	.area_size = SIZE,
	.area_unit = UNIT,
	.pages = MEMORY_PAGES_OFF,
};

/* By asking for each page whether it is there. */
static bool oracle(uint64_t plugged, uint64_t gpa, uint64_t len)
{
	if (gpa + len <= MIB(4))
		return true;
	if (gpa < AREA || gpa + len > AREA + SIZE)
		return false;
	for (uint64_t at = gpa & ~(KIB(4) - 1); at < gpa + len; at += KIB(4))
		if (!(plugged >> (at - AREA) / UNIT & 1))
			return false;
	return true;
}

START_TEST(views_of_memory_that_comes_and_goes_agree_with_a_naive_oracle)
{
	struct guest_memory m;
	uint64_t plugged = 0;
	unsigned seed = 11, seen = 0;

	ck_assert_int_eq(guest_memory_create(&growing, &m, &err), 0);
	ck_assert_uint_eq(guest_memory_slot_count(&m), SLOTS);
	ck_assert_uint_eq(guest_memory_slots_size(&m, (1ull << SLOTS) - 1), SIZE);
	for (unsigned n = 0; n < 60000; n++) {
		unsigned slot = (unsigned)rand_r(&seed) % SLOTS;
		uint64_t gpa = AREA - MIB(1) + (uint64_t)rand_r(&seed) % (SIZE + MIB(2));
		uint64_t len = (uint64_t)rand_r(&seed) % (n % 2 ? MIB(5) : KIB(8)) + 1;
		uint8_t *view;

		if (n % 16 == 0 && (plugged >> slot & 1))
			guest_memory_unplug(&m, slot);
		else if (n % 16 == 0)
			ck_assert_int_eq(guest_memory_plug(&m, slot, &err), 0);
		if (n % 16 == 0)
			plugged ^= 1ull << slot;
		view = guest_memory_view(&m, gpa, len);
		ck_assert_int_eq(!!view, oracle(plugged, gpa, len));
		seen += view != NULL;
		if (view)
			ck_assert_uint_eq((uintptr_t)view % MIB(2), gpa % MIB(2));
	}
	ck_assert_uint_gt(seen, 1000);
	ck_assert_ptr_null(guest_memory_view(&m, AREA, UINT64_MAX));
	ck_assert_ptr_null(guest_memory_view(&m, AREA, 0));
	guest_memory_destroy(&m);
}
END_TEST

START_TEST(a_slot_that_comes_again_is_of_zeros_and_a_view_of_one_that_went_does_not_fault)
{
	struct guest_memory m;
	uint8_t *view;

	ck_assert_int_eq(guest_memory_create(&growing, &m, &err), 0);
	ck_assert_int_eq(guest_memory_plug(&m, 3, &err), 0);
	view = guest_memory_view(&m, AREA + 3 * UNIT, UNIT);
	ck_assert_ptr_nonnull(view);
	memset(view, 0x5a, UNIT);
	guest_memory_unplug(&m, 3);
	ck_assert_uint_eq(view[0], 0);
	ck_assert_uint_eq(view[UNIT - 1], 0);
	ck_assert(!guest_memory_write(&m, AREA + 3 * UNIT, "x", 1));
	ck_assert_int_eq(guest_memory_plug(&m, 3, &err), 0);
	ck_assert(guest_memory_zero(&m, AREA + 3 * UNIT, UNIT));
	guest_memory_destroy(&m);
}
END_TEST

static struct piece {
	uint64_t gpa, size;
} pieces[SLOTS];
static unsigned piece_count;

static void take_piece(void *owner, uint64_t gpa, uint64_t size)
{
	ck_assert_ptr_eq(owner, pieces);
	pieces[piece_count++] = (struct piece){gpa, size};
}

START_TEST(what_is_plugged_is_told_in_pieces_as_large_as_can_be)
{
	struct guest_memory m;
	static const unsigned slots[] = {0, 1, 2, 7, SLOTS - 2, SLOTS - 1};

	ck_assert_int_eq(guest_memory_create(&growing, &m, &err), 0);
	guest_memory_each_plugged(&m, take_piece, pieces);
	ck_assert_uint_eq(piece_count, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(slots); i++)
		ck_assert_int_eq(guest_memory_plug(&m, slots[i], &err), 0);
	guest_memory_each_plugged(&m, take_piece, pieces);
	ck_assert_uint_eq(piece_count, 3);
	ck_assert(pieces[0].gpa == AREA && pieces[0].size == 3 * UNIT);
	ck_assert(pieces[1].gpa == AREA + 7 * UNIT && pieces[1].size == UNIT);
	ck_assert(pieces[2].gpa == AREA + (SLOTS - 2) * UNIT && pieces[2].size == UNIT + LAST);
	guest_memory_destroy(&m);
}
END_TEST

/* A device's thread, which reads and writes what is there. */
static struct guest_memory shared;
static _Atomic bool over;

static void *use(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	uint64_t done = 0;

	while (!over || !done) {
		/* Bytes of its own: what a guest does to the others is not ours to judge. */
		uint64_t gpa =
			AREA + (uint64_t)rand_r(&seed) % (SLOTS * UNIT / 64) * 64 + (uintptr_t)arg;

		done += guest_memory_write(&shared, gpa, "a", 1);
	}
	return NULL;
}

START_TEST(devices_use_memory_while_it_comes_and_goes)
{
	pthread_t threads[2];
	uint64_t plugged = 0;
	unsigned seed = 3;

	over = false;
	ck_assert_int_eq(guest_memory_create(&growing, &shared, &err), 0);
	for (uintptr_t i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, use, (void *)(i + 1)), 0);
	for (unsigned n = 0; n < 4000; n++) {
		unsigned slot = (unsigned)rand_r(&seed) % SLOTS;

		if (plugged >> slot & 1)
			guest_memory_unplug(&shared, slot);
		else
			ck_assert_int_eq(guest_memory_plug(&shared, slot, &err), 0);
		plugged ^= 1ull << slot;
	}
	for (unsigned slot = 0; slot < SLOTS; slot++)
		if (!(plugged >> slot & 1))
			ck_assert_int_eq(guest_memory_plug(&shared, slot, &err), 0);
	over = true;
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	guest_memory_destroy(&shared);
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
	tcase_add_test(tc, views_of_memory_that_comes_and_goes_agree_with_a_naive_oracle);
	tcase_add_test(
		tc, a_slot_that_comes_again_is_of_zeros_and_a_view_of_one_that_went_does_not_fault);
	tcase_add_test(tc, what_is_plugged_is_told_in_pieces_as_large_as_can_be);
	tcase_add_test(tc, devices_use_memory_while_it_comes_and_goes);
	return run_tests("guest_memory", tc, NULL);
}
