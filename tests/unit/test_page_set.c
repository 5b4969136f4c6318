/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of pages and their numbers, against an oracle that keeps one bool a page and looks at each: nothing is lost across
 * words of zeros, at odd tails, or between the pieces of a guest's memory.
 */
#include "tests/unit/page_at.h"
#include "tests/unit/runner.h"
#include "vmm/base/util.h"

#include <check.h>
#include <string.h>

#define ROUNDS 300

static struct error err;
static unsigned seed;

static uint64_t up_to(uint64_t n)
{
	return (((uint64_t)rand_r(&seed) << 31) ^ (uint64_t)rand_r(&seed)) % (n + 1);
}

/* ---- the set alone ---- */

#define PAGES_MAX 1500

static struct page_set set, other;
static bool oracle[PAGES_MAX], other_oracle[PAGES_MAX];

static void same(const struct page_set *s, const bool *want)
{
	uint64_t size = 0;

	for (uint64_t page = 0; page < s->count; page++) {
		ck_assert_int_eq(page_set_has(s, page), want[page]);
		size += want[page];
	}
	ck_assert_uint_eq(page_set_size(s), size);
	ck_assert_int_eq(page_set_is_empty(s), size == 0);
	ck_assert(!page_set_has(s, s->count));
}

/* The ranges are those that a walk over the oracle finds: each as long as can be, none twice, none missed. */
static void same_ranges(uint64_t from)
{
	uint64_t at = from, first, count;

	while (page_set_next_range(&set, at, &first, &count)) {
		for (; at < first; at++)
			ck_assert(!oracle[at]);
		for (; at < first + count; at++)
			ck_assert(oracle[at]);
		ck_assert(at == set.count || !oracle[at]);
	}
	for (; at < set.count; at++)
		ck_assert(!oracle[at]);
}

/* Some pages here and there, or long runs, or next to nothing: words of zeros and of ones both come. */
static void change(struct page_set *s, bool *want)
{
	unsigned steps = (unsigned)up_to(12);

	for (unsigned i = 0; i < steps; i++) {
		uint64_t first = up_to(s->count);
		uint64_t count = up_to(min_u64(s->count - first, up_to(1) ? 3 : 700));
		bool add = up_to(2);

		if (add)
			page_set_add(s, first, count);
		else
			page_set_remove(s, first, count);
		for (uint64_t page = first; page < first + count; page++)
			want[page] = add;
	}
}

static void begin(uint64_t count)
{
	ck_assert_int_eq(page_set_create(&set, count, &err), 0);
	ck_assert_int_eq(page_set_create(&other, count, &err), 0);
	memset(oracle, 0, sizeof(oracle));
	memset(other_oracle, 0, sizeof(other_oracle));
}

static void end(void)
{
	page_set_destroy(&set);
	page_set_destroy(&other);
}

START_TEST(sets_of_any_size_agree_with_a_naive_oracle)
{
	seed = 1;
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint64_t first, count, size = 0;

		begin(n % 3 ? up_to(PAGES_MAX) : up_to(20) * 64);
		change(&set, oracle);
		same(&set, oracle);
		same_ranges(0);
		same_ranges(up_to(set.count));
		first = up_to(set.count);
		count = up_to(set.count - first);
		for (uint64_t page = first; page < first + count; page++)
			size += oracle[page];
		ck_assert_uint_eq(page_set_size_of(&set, first, count), size);
		end();
	}
}
END_TEST

START_TEST(two_sets_are_combined_as_a_naive_oracle_does_it)
{
	seed = 2;
	for (unsigned n = 0; n < ROUNDS; n++) {
		begin(up_to(PAGES_MAX));
		change(&set, oracle);
		change(&other, other_oracle);
		for (uint64_t page = 0; page < set.count; page++)
			oracle[page] = n % 2 ? oracle[page] && !other_oracle[page]
					     : oracle[page] || other_oracle[page];
		if (n % 2)
			page_set_subtract(&set, &other);
		else
			page_set_union(&set, &other);
		same(&set, oracle);
		page_set_copy(&other, &set);
		same(&other, oracle);
		page_set_clear(&set);
		ck_assert(page_set_is_empty(&set));
		end();
	}
}
END_TEST

START_TEST(a_range_goes_on_across_words_of_ones_and_is_found_behind_words_of_zeros)
{
	uint64_t first, count;

	begin(1000);
	page_set_add(&set, 63, 1);
	page_set_add(&set, 700, 300);
	ck_assert(page_set_next_range(&set, 0, &first, &count));
	ck_assert(first == 63 && count == 1);
	ck_assert(page_set_next_range(&set, 64, &first, &count));
	ck_assert(first == 700 && count == 300);
	ck_assert(page_set_next_range(&set, 999, &first, &count));
	ck_assert(first == 999 && count == 1);
	ck_assert(!page_set_next_range(&set, 1000, &first, &count));
	ck_assert(!page_set_next_range(&set, UINT64_MAX, &first, &count));
	end();
}
END_TEST

/* ---- a guest's pages ---- */

#define HOLE_START GIB(3)
#define HOLE_END   GIB(4)
#define ABOVE	   (MIB(6) + KIB(12)) /* an odd tail */
#define AREA	   GIB(5)
#define UNIT	   MIB(4)
#define SLOTS	   5
#define AREA_SIZE  (UNIT * (SLOTS - 1) + MIB(1) + KIB(4))

static struct guest_memory memory;

static void make_memory(void)
{
	const struct guest_memory_config config = {
		.region_count = 2,
		.regions = {{.gpa = 0, .size = HOLE_START}, {.gpa = HOLE_END, .size = ABOVE}},
		.area_gpa = AREA,
		.area_size = AREA_SIZE,
		.area_unit = UNIT,
		.pages = MEMORY_PAGES_OFF,
	};

	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), 0);
}

START_TEST(each_page_of_each_piece_has_a_number_of_its_own)
{
	uint64_t end_of_last = 0;

	make_memory();
	ck_assert_uint_eq(guest_memory_piece_count(&memory), 2 + SLOTS);
	for (unsigned i = 0; i < guest_memory_piece_count(&memory); i++) {
		struct page_range piece = guest_memory_piece(&memory, i);

		ck_assert_uint_ge(piece.first, end_of_last);
		ck_assert_uint_lt(piece.first, end_of_last + 512);
		ck_assert_uint_eq(piece.first % 512, 0);
		for (uint64_t page = 0; page < piece.count; page += 1 + up_to(50)) {
			uint64_t gpa = piece.gpa + page * KIB(4);
			uint8_t *host = piece.host + page * KIB(4);

			ck_assert_uint_eq(page_at(&memory, gpa), piece.first + page);
			ck_assert_uint_eq(guest_memory_page_of(&memory, host), piece.first + page);
			ck_assert_uint_eq(
				guest_memory_page_of(&memory, host + 4095), piece.first + page);
		}
		end_of_last = piece.first + piece.count;
	}
	ck_assert_uint_eq(guest_memory_pages(&memory), end_of_last);
	guest_memory_destroy(&memory);
}
END_TEST

START_TEST(what_is_no_ram_has_no_number)
{
	static const uint64_t none[] = {
		HOLE_START, HOLE_END - 1, HOLE_END + ABOVE, AREA - 1, AREA + AREA_SIZE, UINT64_MAX};

	make_memory();
	for (unsigned i = 0; i < ARRAY_SIZE(none); i++)
		ck_assert_uint_eq(page_at(&memory, none[i]), GUEST_PAGE_NONE);
	ck_assert_uint_eq(guest_memory_page_of(&memory, &memory), GUEST_PAGE_NONE);
	ck_assert_uint_eq(guest_memory_page_of(&memory, NULL), GUEST_PAGE_NONE);
	ck_assert_uint_eq(
		guest_memory_page_of(&memory, memory.area.host + AREA_SIZE), GUEST_PAGE_NONE);
	guest_memory_destroy(&memory);
}
END_TEST

/* Page by page: whether it exists, is plugged, and is in the set. */
static bool there(const struct page_set *pages, uint64_t page)
{
	for (unsigned i = 0; i < guest_memory_piece_count(&memory); i++) {
		struct page_range piece = guest_memory_piece(&memory, i);

		if (page - piece.first < piece.count)
			return guest_memory_piece_present(&memory, i) && page_set_has(pages, page);
	}
	return false;
}

/* Walks what lies around the ends of the pieces, where alone something can go wrong. */
static void walk(const struct page_set *pages, uint64_t max)
{
	uint64_t at = HOLE_START / KIB(4) - 3000;
	struct page_range r;

	while (guest_memory_next_range(&memory, pages, at, max, &r)) {
		ck_assert(r.count && r.count <= max);
		for (; at < r.first; at++)
			ck_assert(!there(pages, at));
		for (uint64_t i = 0; i < r.count; i++, at++) {
			ck_assert(there(pages, at));
			ck_assert_uint_eq(page_at(&memory, r.gpa + i * KIB(4)), at);
			ck_assert_uint_eq(guest_memory_page_of(&memory, r.host + i * KIB(4)), at);
		}
	}
	for (; at < pages->count; at++)
		ck_assert(!there(pages, at));
}

START_TEST(a_walk_over_memory_agrees_with_a_naive_oracle)
{
	struct page_set pages;
	uint64_t plugged = 0;

	seed = 5;
	make_memory();
	ck_assert_int_eq(page_set_create(&pages, guest_memory_pages(&memory), &err), 0);
	for (unsigned n = 0; n < 25; n++) {
		unsigned slot = (unsigned)up_to(SLOTS - 1);
		uint64_t base = HOLE_START / KIB(4) - 3000, room = pages.count - base;

		if (plugged >> slot & 1)
			guest_memory_unplug(&memory, slot);
		else
			ck_assert_int_eq(guest_memory_plug(&memory, slot, &err), 0);
		plugged ^= 1ull << slot;
		for (unsigned i = 0; i < 20; i++) {
			uint64_t first = base + up_to(room - 1);
			uint64_t count = up_to(min_u64(pages.count - first, n % 2 ? 5 : 3000));

			if (up_to(1))
				page_set_add(&pages, first, count);
			else
				page_set_remove(&pages, first, count);
		}
		walk(&pages, n % 3 ? UINT64_MAX : 1 + up_to(100));
	}
	page_set_destroy(&pages);
	guest_memory_destroy(&memory);
}
END_TEST

START_TEST(all_that_is_present_is_what_the_pieces_say)
{
	struct page_set pages;

	make_memory();
	ck_assert_int_eq(guest_memory_plug(&memory, SLOTS - 1, &err), 0);
	ck_assert_int_eq(page_set_create(&pages, guest_memory_pages(&memory), &err), 0);
	guest_memory_add_present(&memory, &pages);
	ck_assert_uint_eq(page_set_size(&pages) * KIB(4), HOLE_START + ABOVE + MIB(1) + KIB(4));
	page_set_destroy(&pages);
	guest_memory_destroy(&memory);
}
END_TEST

START_TEST(to_touch_a_set_changes_nothing_of_it)
{
	struct page_set touched, before;

	for (uint64_t count = 0; count < 40000; count = count * 3 + 1) {
		ck_assert_int_eq(page_set_create(&touched, count, &err), 0);
		ck_assert_int_eq(page_set_create(&before, count, &err), 0);
		page_set_add(&touched, count / 3, count / 3);
		page_set_copy(&before, &touched);
		page_set_touch(&touched);
		ck_assert_mem_eq(
			touched.words, before.words, page_set_words(&touched) * sizeof(*set.words));
		page_set_destroy(&before);
		page_set_destroy(&touched);
	}
}
END_TEST

int main(void)
{
	TCase *sets = tcase_create("sets"), *pages = tcase_create("a guest's pages");

	tcase_set_timeout(sets, 60);
	tcase_set_timeout(pages, 60);
	tcase_add_test(sets, sets_of_any_size_agree_with_a_naive_oracle);
	tcase_add_test(sets, two_sets_are_combined_as_a_naive_oracle_does_it);
	tcase_add_test(
		sets, a_range_goes_on_across_words_of_ones_and_is_found_behind_words_of_zeros);
	tcase_add_test(sets, to_touch_a_set_changes_nothing_of_it);
	tcase_add_test(pages, each_page_of_each_piece_has_a_number_of_its_own);
	tcase_add_test(pages, what_is_no_ram_has_no_number);
	tcase_add_test(pages, a_walk_over_memory_agrees_with_a_naive_oracle);
	tcase_add_test(pages, all_that_is_present_is_what_the_pieces_say);
	return run_tests("page_set", sets, pages, NULL);
}
