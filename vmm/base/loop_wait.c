/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How an event loop waits: timers, looking, sleeping.
 *
 * While a loop looks nothing enters the kernel: completions show in the ring's memory, and what the kernel wants to do on
 * this thread first shows as IORING_SQ_TASKRUN. How long it looks, and whether, is learned: see spin.h.
 */
#include "vmm/base/loop_private.h"
#include "vmm/base/util.h"

#include <sched.h>
#include <time.h>

#define COMPANY 8 /* busy waits without it that end the expectation */

void loop_timer_clear(struct loop *loop, struct loop_timer *timer)
{
	if (!timer->deadline_ns)
		return;
	for (struct loop_timer **at = &loop->timers; *at; at = &(*at)->next) {
		if (*at == timer) {
			*at = timer->next;
			break;
		}
	}
	timer->deadline_ns = 0;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns)
{
	struct loop_timer **at = &loop->timers;

	loop_timer_clear(loop, timer);
	timer->deadline_ns = deadline_ns ? deadline_ns : 1;
	while (*at && (*at)->deadline_ns <= timer->deadline_ns)
		at = &(*at)->next;
	timer->next = *at;
	*at = timer;
}

uint64_t loop_round_ns(struct loop *loop)
{
	if (!loop->round_ns)
		loop->round_ns = now_ns();
	return loop->round_ns;
}

void loop_fire_timers(struct loop *loop)
{
	uint64_t now;

	if (!loop->timers)
		return;
	now = loop_round_ns(loop);
	while (loop->timers && loop->timers->deadline_ns <= now) {
		struct loop_timer *timer = loop->timers;

		loop->timers = timer->next;
		timer->deadline_ns = 0;
		timer->fire(timer);
	}
}

unsigned loop_cpus(void)
{
	static _Atomic unsigned cpus;
	cpu_set_t set;

	if (!cpus)
		cpus = sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (unsigned)CPU_COUNT(&set);
	return cpus;
}

/* Submit what is queued and wait for a completion or the nearest timer, in one system call. */
static int sleep_for_events(struct loop *loop)
{
	struct io_uring_cqe *cqe;
	struct __kernel_timespec ts;
	uint64_t now, left;

	if (!loop->timers)
		return io_uring_submit_and_wait(&loop->ring, 1);
	now = now_ns();
	left = loop->timers->deadline_ns > now ? loop->timers->deadline_ns - now : 0;
	ts.tv_sec = (long long)(left / 1000000000u);
	ts.tv_nsec = (long long)(left % 1000000000u);
	return io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &ts, NULL);
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The same, now and then with a look at what it costs us; what there is to submit goes first, it is no part of that. */
static int sleep_and_learn(struct loop *loop)
{
	uint64_t before;
	int ret;

	if (!spin_cost_due(&loop->sleep_cost))
		return sleep_for_events(loop);
	io_uring_submit(&loop->ring);
	before = thread_cpu_ns();
	ret = sleep_for_events(loop);
	spin_cost_learn(&loop->sleep_cost, thread_cpu_ns() - before);
	return ret;
}

static bool look_at_watches(const struct loop *loop)
{
	for (const struct loop_watch *watch = loop->watches; watch; watch = watch->next)
		if (watch->look(watch))
			return true;
	return false;
}

/* Whether there is something to do, from what memory shows. */
static bool look(const struct loop *loop)
{
	unsigned flags = __atomic_load_n(loop->ring.sq.kflags, __ATOMIC_RELAXED);

	return io_uring_cq_ready(&loop->ring) ||
	       flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW) || look_at_watches(loop);
}

static bool look_for_a_while(struct loop *loop, uint64_t end)
{
	if (loop->timers)
		end = min_u64(end, loop->timers->deadline_ns);
	if (io_uring_sq_ready(&loop->ring))
		io_uring_submit_and_get_events(&loop->ring);
	do {
		if (look(loop))
			return true;
		spin_pause();
	} while (now_ns() < end);
	return false;
}

/* Ask every watch to wake us. True when one has something already. */
static bool arm_watches(struct loop *loop)
{
	bool changed = false;

	for (struct loop_watch *watch = loop->watches; watch; watch = watch->next)
		changed |= watch->arm(watch);
	return changed;
}

/*
 * Looking spares a wake-up, and those who are watched the work of waking us. Where only the end of our own I/O can come,
 * as with a guest that has one request at a time, it spares the first only, and takes a CPU that this I/O may need: then
 * not for long. Nor where it takes the CPU from those whom we wait for.
 */
static uint32_t look_limit(const struct loop *loop, bool busy)
{
	if (!loop->patient || (busy && !loop->company))
		return SPIN_MIN_NS;
	return spin_limit(&loop->sleep_cost);
}

static void learn_company(struct loop *loop)
{
	if (look_at_watches(loop))
		loop->company = COMPANY;
	else if (loop->company)
		loop->company--;
}

int loop_wait(struct loop *loop)
{
	/* Polls stay for ever: what is beyond them is I/O, whose end has a rhythm of its own. */
	bool busy = loop->requests > loop->polls;
	struct spin *spin = busy ? &loop->busy : &loop->idle;
	uint64_t start;
	uint32_t limit;
	bool seen;
	int ret;

	loop->round_ns = 0;
	if (!loop->spins)
		return arm_watches(loop) ? 0 : sleep_for_events(loop);
	limit = look_limit(loop, busy);
	start = now_ns();
	seen = spin_worthwhile(spin, limit) && look_for_a_while(loop, start + limit);
	ret = seen || arm_watches(loop) ? 0 : sleep_and_learn(loop);
	loop->round_ns = now_ns();
	spin_learn(spin, loop->round_ns - start, seen, limit);
	if (busy)
		learn_company(loop);
	return ret;
}
