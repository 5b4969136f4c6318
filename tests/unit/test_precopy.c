/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying memory ahead: what the sink has in the end is memory as it was at the moment, whoever wrote before it and writes after
 * it; and what was taken from the dirty engine can be given back.
 */
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/memory/dirty.h"
#include "vmm/memory/pages.h"
#include "vmm/transfer/precopy.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#define PAGE	GUEST_PAGE_SIZE
#define UNIT	MIB(2)
#define WRITERS 2u

static struct guest_memory memory;
static struct dirty_engine engine;
static struct dirty_user user;
static struct error err;
static uint64_t pages;
static uint8_t *expected, *image; /* by page number */
static struct page_set given;
static atomic_bool cancel;
static uint64_t cancel_at; /* pages given after which it is cancelled; 0: never */
static unsigned meddling;  /* times that what is given is written right then */
static unsigned slowed,
	obeys_at; /* the level; that from which on the guest writes no more; 0: it writes nothing */
static uint64_t told;

static void ok(int ret)
{
	ck_assert_msg(ret == 0, "%s", ret < 0 ? err.text : "");
}

/* Two regions with the hole between them, the second with an odd tail; of three slots one is there. */
static void setup(void)
{
	const struct guest_memory_config config = {
		.region_count = 2,
		.regions = {{.gpa = 0, .size = MIB(4)}, {.gpa = GIB(4), .size = MIB(3) + 3 * PAGE}},
		.area_gpa = GIB(8),
		.area_size = 3 * UNIT,
		.area_unit = UNIT,
		.pages = MEMORY_PAGES_OFF,
	};

	ok(guest_memory_create(&config, &memory, &err));
	ok(guest_memory_plug(&memory, 1, &err));
	pages = guest_memory_pages(&memory);
	dirty_engine_init(&engine, &memory);
	ok(dirty_engine_join(&engine, &user, &err));
	expected = calloc(pages, PAGE);
	image = malloc(pages * PAGE);
	ok(page_set_create(&given, pages, &err));
	ck_assert(expected && image);
	memset(image, 0xee, pages * PAGE);
	atomic_store(&cancel, false);
	cancel_at = meddling = slowed = obeys_at = 0;
}

static void teardown(void)
{
	dirty_engine_leave(&engine, &user);
	dirty_engine_destroy(&engine);
	guest_memory_destroy(&memory);
	page_set_destroy(&given);
	free(expected);
	free(image);
}

static bool find(uint64_t page, struct page_range *range)
{
	struct page_set one;
	bool found;

	ok(page_set_create(&one, pages, &err));
	page_set_add(&one, page, 1);
	found = guest_memory_next_range(&memory, &one, 0, 1, range);
	page_set_destroy(&one);
	return found;
}

static void write_page(uint64_t page, uint64_t value)
{
	struct page_range r;

	ck_assert(find(page, &r));
	for (unsigned i = 0; i < PAGE / 8; i += 64)
		((volatile uint64_t *)(void *)r.host)[i] = value;
	guest_memory_mark(&memory, r.host, PAGE);
}

static int put(void *owner, uint64_t first, const uint8_t *data, uint64_t count, struct error *why)
{
	(void)why;
	ck_assert_ptr_null(owner);
	ck_assert(first + count <= pages);
	page_set_add(&given, first, count);
	memcpy(image + first * PAGE, data, count * PAGE);
	if (meddling) {
		meddling--;
		write_page(first, meddling + 1);
	}
	for (uint64_t i = 0; slowed < obeys_at && i < count; i++)
		write_page(first + i, told + i);
	if (cancel_at && page_set_size(&given) >= cancel_at)
		atomic_store(&cancel, true);
	return 0;
}

static void expect(void *owner, uint64_t count)
{
	ck_assert_ptr_null(owner);
	told += count;
}

static void slow(void *owner, unsigned level)
{
	ck_assert_ptr_null(owner);
	ck_assert_uint_le(level, PRECOPY_SLOWEST);
	slowed = level;
}

static struct precopy *make(bool all, uint64_t pool)
{
	const struct precopy_config config = {
		.memory = &memory,
		.engine = &engine,
		.user = &user,
		.all = all,
		.pool = pool,
		.cancel = &cancel,
		.put = put,
		.expect = expect,
		.slow = slow,
	};
	struct precopy *p;

	ok(precopy_create(&p, &config, &err));
	return p;
}

/* Of all memory that is there. */
static void remember(void)
{
	struct page_set all;
	struct page_range r;

	ok(page_set_create(&all, pages, &err));
	guest_memory_add_present(&memory, &all);
	for (uint64_t from = 0; guest_memory_next_range(&memory, &all, from, pages, &r);
		from = r.first + r.count)
		memcpy(expected + r.first * PAGE, r.host, r.count * PAGE);
	page_set_destroy(&all);
}

static void check_image(const struct page_set *wanted)
{
	for (uint64_t page = 0; page < pages; page++) {
		ck_assert_msg(page_set_has(&given, page) == page_set_has(wanted, page),
			"page %lu was%s given", page, page_set_has(&given, page) ? "" : " not");
		if (page_set_has(wanted, page))
			ck_assert_msg(!memcmp(image + page * PAGE, expected + page * PAGE, PAGE),
				"page %lu is not as it was", page);
	}
}

/* ---- writers ---- */

static _Atomic bool halt, stop;
static _Atomic unsigned halted;
static _Atomic uint64_t writes;

static void *write_on(void *arg)
{
	unsigned seed = *(unsigned *)arg;

	while (!stop) {
		struct page_range piece = guest_memory_piece(&memory, rand_r(&seed) % 2);
		uint8_t *host = piece.host + (uint64_t)rand_r(&seed) % piece.count * PAGE;

		memset(host, rand_r(&seed) % 4 ? rand_r(&seed) : 0, PAGE);
		guest_memory_mark(&memory, host, PAGE);
		writes++;
		if (!halt)
			continue;
		halted++;
		while (halt && !stop)
			sched_yield();
		halted--;
	}
	return NULL;
}

static void wait_for_writes(void)
{
	uint64_t before = writes;

	while (writes < before + 50)
		sched_yield();
}

START_TEST(what_it_hands_over_is_memory_as_it_was_at_the_moment_whoever_writes)
{
	static const uint64_t pools[] = {PAGE, 16 * PAGE, KIB(512), MIB(4), 0};
	unsigned seeds[WRITERS] = {1 + (unsigned)_i, 77 + (unsigned)_i};
	struct page_set all;
	pthread_t threads[WRITERS];
	struct precopy *p = make(true, pools[_i]);

	halt = stop = false;
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_create(&threads[i], NULL, write_on, &seeds[i]);
	wait_for_writes();
	ok(precopy_run(p, &err));
	wait_for_writes();
	ok(precopy_again(p, &err));
	halt = true;
	while (halted < WRITERS)
		sched_yield();
	ok(precopy_collect(p, &err));
	ok(precopy_hold(p, &err));
	remember();
	halt = false;
	wait_for_writes();
	ok(precopy_finish(p, &err));
	stop = true;
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	ok(page_set_create(&all, pages, &err));
	guest_memory_add_present(&memory, &all);
	check_image(&all);
	ck_assert_uint_ge(told, page_set_size(&all));
	ck_assert_uint_ge(precopy_report(p).passes, 1);
	page_set_destroy(&all);
	precopy_destroy(p);
}
END_TEST

/* No page is dirty then. */
static void settle_engine(void)
{
	struct page_set set;

	ok(page_set_create(&set, pages, &err));
	ok(dirty_engine_collect(&engine, &user, &set, &err));
	dirty_engine_commit(&engine, &user);
	page_set_destroy(&set);
}

START_TEST(what_is_written_while_it_is_handed_over_comes_again)
{
	struct precopy *p = make(true, PAGE);
	struct page_set all;

	settle_engine();
	write_page(0, 77);
	meddling = 2;
	ok(precopy_run(p, &err));
	ck_assert_uint_eq(meddling, 0);
	ok(precopy_collect(p, &err));
	ok(precopy_hold(p, &err));
	remember();
	ok(precopy_finish(p, &err));
	ok(page_set_create(&all, pages, &err));
	guest_memory_add_present(&memory, &all);
	check_image(&all);
	page_set_destroy(&all);
	precopy_destroy(p);
}
END_TEST

static void run_all(struct precopy *p)
{
	ok(precopy_run(p, &err));
	ok(precopy_collect(p, &err));
	ok(precopy_hold(p, &err));
	remember();
	ok(precopy_finish(p, &err));
}

START_TEST(of_what_changed_only_that_is_handed_over)
{
	struct page_set wanted;
	struct precopy *p;

	ok(page_set_create(&wanted, pages, &err));
	settle_engine();
	for (uint64_t page = 3; page < 1024; page += 7) {
		write_page(page, page);
		page_set_add(&wanted, page, 1);
	}
	p = make(false, _i ? PAGE : 0);
	run_all(p);
	check_image(&wanted);
	ck_assert_uint_eq(precopy_report(p).held, 0);
	precopy_destroy(p);
	page_set_destroy(&wanted);
}
END_TEST

START_TEST(what_the_pool_cannot_hold_is_handed_over_in_the_pause_and_said)
{
	struct precopy *p = make(true, 16 * PAGE);
	struct precopy_report report;
	struct page_set all;

	ok(precopy_run(p, &err));
	for (uint64_t page = 100; page < 200; page++)
		write_page(page, page);
	ok(precopy_collect(p, &err));
	ok(precopy_hold(p, &err));
	remember();
	report = precopy_report(p);
	ck_assert_uint_eq(report.paused, 100);
	ck_assert_uint_eq(report.held, 84);
	ck_assert_uint_eq(report.pooled, 16);
	for (uint64_t page = 0; page < 300; page++)
		write_page(page, 1);
	ok(precopy_finish(p, &err));
	ok(page_set_create(&all, pages, &err));
	guest_memory_add_present(&memory, &all);
	check_image(&all);
	page_set_destroy(&all);
	precopy_destroy(p);
}
END_TEST

START_TEST(a_guest_that_writes_too_much_is_slowed_down_until_it_does_not)
{
	struct precopy *p = make(true, 64 * PAGE);

	obeys_at = (unsigned)_i + 1;
	ok(precopy_run(p, &err));
	ck_assert_uint_eq(slowed, 0);
	obeys_at = 0;
	ok(precopy_again(p, &err));
	ck_assert_uint_eq(slowed, min_u64((uint64_t)_i + 1, PRECOPY_SLOWEST));
	ok(precopy_collect(p, &err));
	ok(precopy_hold(p, &err));
	ck_assert_uint_eq(precopy_report(p).held, 0);
	precopy_destroy(p);
}
END_TEST

START_TEST(what_was_called_back_is_dirty_again)
{
	struct page_set set;
	struct precopy *p;

	ok(page_set_create(&set, pages, &err));
	settle_engine();
	for (uint64_t page = 0; page < 1024; page++)
		write_page(page, page + 1);
	p = make(true, PAGE);
	cancel_at = 1;
	ck_assert_int_lt(precopy_run(p, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_CANCELLED);
	precopy_destroy(p);
	dirty_engine_rollback(&engine, &user);
	ok(dirty_engine_look(&engine, &user, &set, &err));
	ck_assert_uint_eq(page_set_size_of(&set, 0, 1024), 1024);
	page_set_destroy(&set);
}
END_TEST

START_TEST(memory_that_came_meanwhile_is_refused)
{
	struct precopy *p = make(true, 0);

	ok(precopy_run(p, &err));
	ok(guest_memory_plug(&memory, 2, &err));
	ck_assert_int_lt(precopy_collect(p, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_WRONG_STATE);
	precopy_destroy(p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("precopy");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(
		tc, what_it_hands_over_is_memory_as_it_was_at_the_moment_whoever_writes, 0, 5);
	tcase_add_test(tc, what_is_written_while_it_is_handed_over_comes_again);
	tcase_add_loop_test(tc, of_what_changed_only_that_is_handed_over, 0, 2);
	tcase_add_test(tc, what_the_pool_cannot_hold_is_handed_over_in_the_pause_and_said);
	tcase_add_loop_test(
		tc, a_guest_that_writes_too_much_is_slowed_down_until_it_does_not, 0, 4);
	tcase_add_test(tc, what_was_called_back_is_dirty_again);
	tcase_add_test(tc, memory_that_came_meanwhile_is_refused);
	return run_tests("precopy", tc, NULL);
}
