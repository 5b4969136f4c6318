/* SPDX-License-Identifier: Apache-2.0 */
/* Marks of what devices write: each page, only those, on both sides of the hole, and none lost between threads. */
#include "tests/unit/page_at.h"
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/memory/dirty.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#define HOLE_START GIB(3)
#define HOLE_END   GIB(4)
#define ABOVE	   (MIB(3) + KIB(20))
#define AREA	   GIB(6)
#define UNIT	   MIB(2)
#define SLOTS	   4

static struct guest_memory memory;
static struct page_set marked;
static struct error err;
static unsigned seed;

static uint64_t up_to(uint64_t n)
{
	return (((uint64_t)rand_r(&seed) << 31) ^ (uint64_t)rand_r(&seed)) % (n + 1);
}

static void setup(void)
{
	const struct guest_memory_config config = {
		.region_count = 2,
		.regions = {{.gpa = 0, .size = HOLE_START}, {.gpa = HOLE_END, .size = ABOVE}},
		.area_gpa = AREA,
		.area_size = SLOTS * UNIT,
		.area_unit = UNIT,
		.pages = MEMORY_PAGES_OFF,
	};

	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), 0);
	ck_assert_int_eq(page_set_create(&marked, guest_memory_pages(&memory), &err), 0);
}

static void teardown(void)
{
	page_set_destroy(&marked);
	guest_memory_destroy(&memory);
}

static uint64_t count_marked(void)
{
	page_set_clear(&marked);
	guest_memory_marked(&memory, &marked);
	return page_set_size(&marked);
}

START_TEST(nothing_is_marked_but_while_somebody_follows)
{
	ck_assert(guest_memory_write(&memory, 0, "x", 1));
	ck_assert_uint_eq(count_marked(), 0);
	ck_assert_int_eq(guest_memory_follow(&memory, &err), 0);
	ck_assert_uint_eq(count_marked(), 0);
	ck_assert(guest_memory_write(&memory, HOLE_START - 1, "x", 1));
	ck_assert(guest_memory_zero(&memory, HOLE_END + 4095, 2));
	ck_assert(!guest_memory_write(&memory, HOLE_START - 1, "xy", 2));
	ck_assert_uint_eq(count_marked(), 3);
	ck_assert(page_set_has(&marked, HOLE_START / KIB(4) - 1));
	ck_assert(page_set_has(&marked, HOLE_START / KIB(4)));
	ck_assert(page_set_has(&marked, HOLE_START / KIB(4) + 1));
	guest_memory_unfollow(&memory);
	ck_assert(guest_memory_write(&memory, 0, "x", 1));
	ck_assert_int_eq(guest_memory_follow(&memory, &err), 0);
	ck_assert_uint_eq(count_marked(), 0);
	guest_memory_unfollow(&memory);
}
END_TEST

START_TEST(memory_that_comes_counts_as_written)
{
	ck_assert_int_eq(guest_memory_follow(&memory, &err), 0);
	ck_assert_int_eq(guest_memory_plug(&memory, 2, &err), 0);
	ck_assert_uint_eq(count_marked(), UNIT / KIB(4));
	ck_assert(page_set_has(&marked, page_at(&memory, AREA + 2 * UNIT)));
	ck_assert(page_set_has(&marked, page_at(&memory, AREA + 3 * UNIT - 1)));
	guest_memory_unmark(&memory, &marked, 0, marked.count);
	guest_memory_unplug(&memory, 2);
	ck_assert_int_eq(guest_memory_plug(&memory, 2, &err), 0);
	ck_assert_uint_eq(count_marked(), UNIT / KIB(4));
	guest_memory_unfollow(&memory);
}
END_TEST

/* All that can be wrong is near the ends of the pieces. */
static uint64_t some_gpa(void)
{
	static const uint64_t near[] = {
		MIB(1), HOLE_START, HOLE_END, HOLE_END + ABOVE, AREA + UNIT, AREA + SLOTS * UNIT};

	return near[up_to(ARRAY_SIZE(near) - 1)] - KIB(200) + up_to(KIB(400));
}

START_TEST(marks_agree_with_a_naive_oracle)
{
	static bool oracle[(HOLE_START + MIB(4) + SLOTS * UNIT) / KIB(4)];
	uint64_t pages = guest_memory_pages(&memory);

	ck_assert_uint_le(pages, ARRAY_SIZE(oracle));
	seed = 3;
	for (unsigned slot = 0; slot < SLOTS - 1; slot++)
		ck_assert_int_eq(guest_memory_plug(&memory, slot, &err), 0);
	ck_assert_int_eq(guest_memory_follow(&memory, &err), 0);
	for (unsigned n = 0; n < 1000; n++) {
		uint64_t gpa = some_gpa(), len = up_to(n % 4 ? 9 : KIB(600));
		const uint8_t *host = guest_memory_view(&memory, gpa, len);

		guest_memory_mark(&memory, host, len);
		for (uint64_t at = gpa; host && at < gpa + len; at += KIB(4) - at % KIB(4))
			oracle[page_at(&memory, at)] = true;
		guest_memory_mark(&memory, &memory, sizeof(memory));
		if (n % 100 == 50) {
			uint64_t first = up_to(pages) & ~63ull;
			uint64_t count = min_u64(up_to(pages) & ~63ull, pages - first);

			count_marked();
			guest_memory_unmark(&memory, &marked, first, count);
			memset(oracle + first, 0, count);
		}
		if (n % 100 == 99) {
			count_marked();
			for (uint64_t page = 0; page < pages; page++)
				if (page_set_has(&marked, page) != oracle[page])
					ck_abort_msg("page %llu", (unsigned long long)page);
		}
	}
	guest_memory_unfollow(&memory);
}
END_TEST

START_TEST(of_segments_as_much_is_marked_as_was_written)
{
	uint8_t *ram = guest_memory_view(&memory, 0, MIB(1)), ours[64];
	const struct iovec segments[] = {
		{ram + KIB(4), 100}, {ram + KIB(40), KIB(8)}, {ours, 64}, {ram + KIB(80), KIB(4)}};

	ck_assert_int_eq(guest_memory_follow(&memory, &err), 0);
	guest_memory_mark_segments(&memory, segments, 4, 0);
	ck_assert_uint_eq(count_marked(), 0);
	guest_memory_mark_segments(&memory, segments, 4, 101);
	ck_assert_uint_eq(count_marked(), 2);
	guest_memory_mark_segments(&memory, segments, 4, 100 + KIB(8) + 64);
	ck_assert_uint_eq(count_marked(), 3);
	guest_memory_mark_segments(&memory, segments, 4, UINT64_MAX);
	ck_assert_uint_eq(count_marked(), 4);
	guest_memory_unfollow(&memory);
}
END_TEST

/* ---- threads ---- */

#define RACE_PAGES 256
#define WRITERS	   2

static uint64_t *ram;
static _Atomic bool over;
static _Atomic uint64_t written;

static void *writer(void *arg)
{
	unsigned random = (unsigned)(uintptr_t)arg;

	while (!over) {
		/* A word of its own in some page. */
		_Atomic uint64_t *word =
			(_Atomic uint64_t *)&ram[(uint64_t)rand_r(&random) % RACE_PAGES * 512 +
						 (uintptr_t)arg];

		atomic_store_explicit(word, *word + 1, memory_order_relaxed);
		guest_memory_mark(&memory, word, sizeof(*word));
		written++;
	}
	return NULL;
}

/* Take the marks, then the pages, as who copies memory while devices write does it. */
static void take_into(uint64_t *copy)
{
	uint64_t first, count;

	count_marked();
	guest_memory_unmark(&memory, &marked, 0, marked.count);
	for (uint64_t from = 0; page_set_next_range(&marked, from, &first, &count);
		from = first + count)
		for (uint64_t i = first * 512; i < (first + count) * 512; i++)
			copy[i] = __atomic_load_n(&ram[i], __ATOMIC_RELAXED);
}

START_TEST(no_write_is_lost_while_marks_are_taken_and_following_begins_and_ends)
{
	uint64_t *copy = calloc(RACE_PAGES, KIB(4)), seen = 0;
	pthread_t threads[WRITERS];

	ram = (uint64_t *)(void *)guest_memory_view(&memory, 0, RACE_PAGES * KIB(4));
	over = false;
	for (uintptr_t i = 0; i < WRITERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, writer, (void *)(i + 1)), 0);
	for (unsigned n = 0; n < 20; n++) {
		ck_assert_int_eq(guest_memory_follow(&memory, &err), 0);
		for (uint64_t i = 0; i < RACE_PAGES * 512; i++)
			copy[i] = __atomic_load_n(&ram[i], __ATOMIC_RELAXED);
		for (unsigned i = 0; i < 10; i++) {
			uint64_t until = written + 100;

			while (written < until)
				sched_yield();
			take_into(copy);
			seen += page_set_size(&marked);
		}
		if (n < 19)
			guest_memory_unfollow(&memory);
	}
	over = true;
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	take_into(copy);
	guest_memory_unfollow(&memory);
	ck_assert_uint_gt(seen, 100);
	ck_assert(!memcmp(copy, ram, RACE_PAGES * KIB(4)));
	free(copy);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("marks");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, nothing_is_marked_but_while_somebody_follows);
	tcase_add_test(tc, memory_that_comes_counts_as_written);
	tcase_add_test(tc, marks_agree_with_a_naive_oracle);
	tcase_add_test(tc, of_segments_as_much_is_marked_as_was_written);
	tcase_add_test(tc, no_write_is_lost_while_marks_are_taken_and_following_begins_and_ends);
	return run_tests("dirty", tc, NULL);
}
