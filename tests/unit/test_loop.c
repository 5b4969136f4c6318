/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: nothing posted is lost, timers fire in order and never early, polls stop cleanly. */
#include "tests/unit/runner.h"
#include "vmm/base/loop.h"
#include "vmm/base/spin.h"
#include "vmm/base/util.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#define POSTERS 4
#define POSTS	20000

static struct loop *loop;
static struct error err;

static void setup(void)
{
	ck_assert_int_eq(loop_create(&loop, 32, &err), 0);
}

static void teardown(void)
{
	loop_destroy(loop);
}

/* ---- jobs from other threads ---- */

struct counted {
	struct loop_job job;
	unsigned poster, number;
};

static struct counted *jobs;
static unsigned next_number[POSTERS], handled;

static void count_job(struct loop_job *job)
{
	struct counted *c = container_of(job, struct counted, job);

	ck_assert_uint_eq(c->number, next_number[c->poster]); /* in the order of posting */
	next_number[c->poster]++;
	if (++handled == POSTERS * POSTS)
		loop_stop(loop);
}

static void *post_many(void *arg)
{
	struct counted *mine = arg;

	for (unsigned i = 0; i < POSTS; i++)
		loop_post(loop, &mine[i].job);
	return NULL;
}

START_TEST(every_job_posted_by_any_thread_runs_once_and_in_its_posters_order)
{
	pthread_t threads[POSTERS];

	jobs = calloc(POSTERS * POSTS, sizeof(*jobs));
	for (unsigned i = 0; i < POSTERS * POSTS; i++)
		jobs[i] = (struct counted){
			.job.run = count_job, .poster = i / POSTS, .number = i % POSTS};
	for (unsigned i = 0; i < POSTERS; i++)
		ck_assert_int_eq(
			pthread_create(&threads[i], NULL, post_many, jobs + (size_t)i * POSTS), 0);
	ck_assert_int_eq(loop_run(loop, &err), 0);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(handled, POSTERS * POSTS);
	free(jobs);
}
END_TEST

/* ---- timers ---- */

struct stamped {
	struct loop_timer timer;
	uint64_t due, fired;
	unsigned order;
};

static unsigned fired_count;

static void stamp(struct loop_timer *timer)
{
	struct stamped *s = container_of(timer, struct stamped, timer);

	s->fired = now_ns();
	s->order = fired_count++;
	if (fired_count == 3)
		loop_stop(loop);
}

START_TEST(timers_fire_in_order_never_early_and_not_after_they_were_cleared)
{
	static const unsigned after_ms[] = {30, 10, 20, 15};
	struct stamped s[4] = {0};
	uint64_t start = now_ns();

	for (unsigned i = 0; i < 4; i++) {
		s[i].timer.fire = stamp;
		s[i].due = start + after_ms[i] * 1000000ull;
		loop_timer_set(loop, &s[i].timer, s[i].due);
	}
	loop_timer_clear(loop, &s[3].timer);
	s[1].due = start + 25000000;
	loop_timer_set(loop, &s[1].timer, s[1].due); /* moved behind s[2] */
	ck_assert_int_eq(loop_run(loop, &err), 0);
	ck_assert_uint_eq(s[3].fired, 0);
	ck_assert_uint_eq(s[2].order, 0);
	ck_assert_uint_eq(s[1].order, 1);
	ck_assert_uint_eq(s[0].order, 2);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_ge(s[i].fired, s[i].due);
}
END_TEST

/* ---- polls ---- */

static unsigned ready_count, stopped_count;
static int event_fd;

static void on_stopped(struct loop_poll *p)
{
	(void)p;
	stopped_count++;
	loop_stop(loop);
}

static void on_ready(struct loop_poll *p, uint32_t revents)
{
	ck_assert_uint_ne(revents & POLLIN, 0);
	ck_assert_uint_eq(stopped_count, 0);
	if (++ready_count < 1000)
		eventfd_write(event_fd, 1); /* the edge: it was never read */
	else
		loop_poll_stop(p, on_stopped);
}

START_TEST(a_poll_sees_every_edge_of_an_eventfd_that_nobody_reads_and_stops_once)
{
	struct loop_poll watch = {.events = POLLIN, .ready = on_ready};

	event_fd = watch.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	loop_poll_start(loop, &watch);
	eventfd_write(event_fd, 1);
	ck_assert_int_eq(loop_run(loop, &err), 0);
	ck_assert_uint_eq(ready_count, 1000);
	ck_assert_uint_eq(stopped_count, 1);
	close(event_fd);
}
END_TEST

/* The kernel refuses to remove a poll while it delivers an event of it. */
static struct loop_poll racing;

static void never_ready(struct loop_poll *p, uint32_t revents)
{
	(void)p;
	(void)revents;
	ck_abort_msg("called after it was stopped");
}

static void signal_and_stop(struct loop_job *job)
{
	(void)job;
	eventfd_write(event_fd, 1);
	loop_poll_stop(&racing, on_stopped);
}

START_TEST(a_poll_stops_even_while_an_event_is_on_its_way)
{
	struct loop_job job = {.run = signal_and_stop};

	event_fd = racing.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	racing.events = POLLIN;
	racing.ready = never_ready;
	loop_poll_start(loop, &racing);
	loop_post(loop, &job);
	ck_assert_int_eq(loop_run(loop, &err), 0);
	ck_assert_uint_eq(stopped_count, 1);
	close(event_fd);
}
END_TEST

/* ---- the end of a round ---- */

static unsigned rounds, deferred_runs;
static struct loop_job deferred;

static void end_of_round(struct loop_job *job)
{
	(void)job;
	deferred_runs++;
	loop_stop(loop);
}

static void ask_twice(struct loop_job *job)
{
	(void)job;
	rounds++;
	loop_defer(loop, &deferred);
	loop_defer(loop, &deferred);
}

START_TEST(a_deferred_job_runs_once_for_all_that_asked_in_the_round)
{
	struct loop_job asks[2] = {{.run = ask_twice}, {.run = ask_twice}};

	deferred.run = end_of_round;
	loop_post(loop, &asks[0]);
	loop_post(loop, &asks[1]);
	ck_assert_int_eq(loop_run(loop, &err), 0);
	ck_assert_uint_eq(rounds, 2);
	ck_assert_uint_eq(deferred_runs, 1);
}
END_TEST

/* ---- the time of a round ---- */

static uint64_t times[3];

static void look_later(struct loop_timer *timer)
{
	(void)timer;
	times[2] = loop_round_ns(loop);
	loop_stop(loop);
}

static void look_twice(struct loop_job *job)
{
	uint64_t before = now_ns();

	(void)job;
	times[0] = loop_round_ns(loop);
	while (now_ns() < before + 1000000)
		;
	times[1] = loop_round_ns(loop);
}

START_TEST(a_round_has_one_time_which_is_past_all_that_the_wait_before_it_waited_for)
{
	struct loop_job job = {.run = look_twice};
	struct loop_timer timer = {.fire = look_later};
	uint64_t before = now_ns(), due = before + 5000000;

	if (_i)
		loop_spin(loop, 0);
	loop_post(loop, &job);
	loop_timer_set(loop, &timer, due);
	ck_assert_int_eq(loop_run(loop, &err), 0);
	ck_assert_uint_ge(times[0], before);
	ck_assert_uint_eq(times[1], times[0]);
	ck_assert_uint_ge(times[2], due);
	ck_assert_uint_le(times[2], now_ns());
}
END_TEST

/* ---- what a ring may not do ---- */

static int32_t open_result = 1;

static void on_open(struct loop_op *op, int32_t res, uint32_t flags)
{
	(void)op;
	(void)flags;
	open_result = res;
	loop_stop(loop);
}

START_TEST(a_ring_refuses_operations_that_the_monitor_never_uses)
{
	struct loop_op op = {.done = on_open};
	struct io_uring_sqe *sqe = loop_sqe(loop);

	io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	loop_bind(sqe, &op);
	ck_assert_int_eq(loop_run(loop, &err), 0);
	ck_assert_int_eq(open_result, -EACCES);
}
END_TEST

/* ---- calls ---- */

static void set_flag(void *arg)
{
	*(bool *)arg = true;
}

START_TEST(a_call_returns_after_it_ran_on_the_loops_thread)
{
	struct loop_thread thread = {0};

	ck_assert_int_eq(loop_thread_start(&thread, "test", 8, &err), 0);
	for (unsigned i = 0; i < 1000; i++) {
		bool flag = false;

		loop_call(thread.loop, set_flag, &flag);
		ck_assert(flag);
	}
	loop_thread_stop(&thread);
}
END_TEST

/* ---- watches ---- */

/* A ring's index that another thread moves on, and the kick that it owes a sleeper. */
struct changing {
	struct loop_watch watch;
	struct loop_poll kick;
	struct loop *loop;
	_Atomic unsigned produced;
	_Atomic bool asked;
	unsigned consumed, runs;
};

static bool changed(const struct loop_watch *watch)
{
	const struct changing *c = container_of(watch, struct changing, watch);

	return atomic_load(&c->produced) != c->consumed;
}

static bool ask(struct loop_watch *watch)
{
	struct changing *c = container_of(watch, struct changing, watch);

	atomic_store(&c->asked, true);
	return changed(watch);
}

static void consume(struct changing *c)
{
	c->consumed = atomic_load(&c->produced);
	loop_watch_start(c->loop, &c->watch);
	if (c->consumed == POSTS)
		loop_stop(c->loop);
}

static void run_watch(struct loop_watch *watch)
{
	struct changing *c = container_of(watch, struct changing, watch);

	ck_assert(changed(watch));
	c->runs++;
	consume(c);
}

static void kick_came(struct loop_poll *poll, uint32_t revents)
{
	(void)revents;
	consume(container_of(poll, struct changing, kick));
}

static void *produce(void *arg)
{
	struct changing *c = arg;
	uint64_t one = 1;

	for (unsigned i = 0; i < POSTS; i++) {
		atomic_fetch_add(&c->produced, 1);
		if (atomic_exchange(&c->asked, false))
			ck_assert_int_eq(write(c->kick.fd, &one, sizeof(one)), sizeof(one));
		if (i % 1000 == 0)
			usleep(300); /* longer than anybody spins */
		for (unsigned pause = 0; pause < 20; pause++)
			spin_pause();
	}
	return NULL;
}

START_TEST(a_watch_misses_no_change_whether_the_loop_looks_or_sleeps)
{
	struct changing c = {.loop = loop};
	pthread_t producer;

	if (_i)
		loop_spin(loop, 1);
	c.kick.fd = eventfd(0, EFD_NONBLOCK);
	c.kick.events = POLLIN;
	c.kick.ready = kick_came;
	c.watch.look = changed;
	c.watch.arm = ask;
	c.watch.run = run_watch;
	loop_poll_start(loop, &c.kick);
	loop_watch_start(loop, &c.watch);
	pthread_create(&producer, NULL, produce, &c);
	ck_assert_int_eq(loop_run(loop, &err), 0);
	pthread_join(producer, NULL);
	ck_assert_uint_eq(c.consumed, POSTS);
	close(c.kick.fd);
}
END_TEST

static void stop_at_timer(struct loop_timer *timer)
{
	(void)timer;
	loop_stop(loop);
}

START_TEST(a_watch_that_was_stopped_does_not_run)
{
	struct changing c = {.loop = loop, .produced = 1};
	struct loop_timer end = {.fire = stop_at_timer};

	c.watch.look = changed;
	c.watch.arm = ask;
	c.watch.run = run_watch;
	loop_watch_start(loop, &c.watch);
	loop_watch_stop(loop, &c.watch);
	loop_timer_set(loop, &end, now_ns() + 1000000);
	ck_assert_int_eq(loop_run(loop, &err), 0);
	ck_assert_uint_eq(c.runs, 0);
	ck_assert(!c.asked);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("event loop");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, every_job_posted_by_any_thread_runs_once_and_in_its_posters_order);
	tcase_add_test(tc, timers_fire_in_order_never_early_and_not_after_they_were_cleared);
	tcase_add_test(tc, a_poll_sees_every_edge_of_an_eventfd_that_nobody_reads_and_stops_once);
	tcase_add_test(tc, a_poll_stops_even_while_an_event_is_on_its_way);
	tcase_add_test(tc, a_deferred_job_runs_once_for_all_that_asked_in_the_round);
	tcase_add_loop_test(tc,
		a_round_has_one_time_which_is_past_all_that_the_wait_before_it_waited_for, 0, 2);
	tcase_add_test(tc, a_ring_refuses_operations_that_the_monitor_never_uses);
	tcase_add_test(tc, a_call_returns_after_it_ran_on_the_loops_thread);
	tcase_add_loop_test(tc, a_watch_misses_no_change_whether_the_loop_looks_or_sleeps, 0, 2);
	tcase_add_test(tc, a_watch_that_was_stopped_does_not_run);
	return run_tests("loop", tc, NULL);
}
