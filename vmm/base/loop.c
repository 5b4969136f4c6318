/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop on io_uring. See loop.h for the contract.
 *
 * The best set of ring flags is tried first (DEFER_TASKRUN: completions are run when we ask, not by
 * interrupting us; Linux 6.1), then weaker ones. The ring is created disabled so that the thread
 * which enables it, not the one which created it, becomes its single issuer.
 *
 * Posted jobs form a lock-free stack: the poster that finds it empty wakes the loop through an
 * eventfd, the loop takes the whole stack and runs it in the order of posting.
 *
 * While a loop spins nothing enters the kernel: completions show in the ring's memory, and what the
 * kernel wants to do on this thread first shows as IORING_SQ_TASKRUN.
 */
#include "vmm/base/loop.h"

#include "vmm/base/log.h"
#include "vmm/base/spin.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#define COMPANY 8 /* busy waits without it that end the expectation */

struct loop {
	struct io_uring ring;
	struct loop_timer *timers; /* sorted by deadline */
	struct loop_poll wake;
	int wake_fd;
	bool enabled;
	_Atomic bool stop;
	_Atomic(struct loop_job *) jobs; /* shared: pushed by any thread, taken by the loop */
	struct loop_job *deferred;	 /* for the end of the round */
	struct loop_job deferred_end; /* ends that list, so that `next` is NULL only outside it */
	struct loop_watch *watches;
	unsigned requests,
		polls; /* that the kernel holds; of these, polls that may last for ever */
	bool spins;
	struct spin idle, busy; /* waits for others only, and waits for requests of our own too */
	struct spin_cost sleep_cost;
	unsigned company; /* busy waits left for which more from others is expected */
};

/* To look for what another thread does needs a CPU for that thread. */
static bool can_spin(void)
{
	static _Atomic int cpus;
	cpu_set_t set;

	if (!cpus)
		cpus = sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : CPU_COUNT(&set);
	return cpus > 1;
}

static int open_ring(struct io_uring *ring, unsigned entries)
{
	static const unsigned tries[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED,
		IORING_SETUP_R_DISABLED,
	};
	int ret = -EINVAL;

	for (unsigned i = 0; i < ARRAY_SIZE(tries) && ret == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = tries[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
			.cq_entries = entries * 4,
		};

		ret = io_uring_queue_init_params(entries, ring, &params);
	}
	return ret;
}

/*
 * System-call filters do not see what goes through a ring, so the ring itself is limited to the few
 * operations that our threads use, while it is still disabled: no open, no connect, no exec by it.
 * Kernels before 5.10 cannot; then the filters are all there is.
 */
static void restrict_ring(struct io_uring *ring)
{
	static const uint8_t operations[] = {IORING_OP_NOP, IORING_OP_READV, IORING_OP_WRITEV,
		IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC, IORING_OP_FALLOCATE,
		IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE};
	static const uint8_t registrations[] = {
		IORING_REGISTER_ENABLE_RINGS, IORING_REGISTER_FILES, IORING_UNREGISTER_FILES};
	struct io_uring_restriction
		allowed[ARRAY_SIZE(operations) + ARRAY_SIZE(registrations) + 1] = {0};
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(operations); i++)
		allowed[n++] = (struct io_uring_restriction){
			.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = operations[i]};
	for (unsigned i = 0; i < ARRAY_SIZE(registrations); i++)
		allowed[n++] = (struct io_uring_restriction){
			.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = registrations[i]};
	allowed[n++] = (struct io_uring_restriction){
		.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE};
	if (syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, allowed,
		    n) < 0)
		log_debug("this kernel cannot restrict an io_uring");
}

/* Debian 12's shared liburing does not export io_uring_enable_rings(). */
static int enable_ring(struct io_uring *ring)
{
	if (syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) <
		0)
		return -errno;
	return 0;
}

static void run_jobs(struct loop *loop)
{
	struct loop_job *job = atomic_exchange_explicit(&loop->jobs, NULL, memory_order_acquire);
	struct loop_job *in_order = NULL;

	while (job) {
		struct loop_job *next = job->next;

		job->next = in_order;
		in_order = job;
		job = next;
	}
	while (in_order) {
		struct loop_job *next = in_order->next;

		in_order->run(in_order);
		in_order = next;
	}
}

static void woken(struct loop_poll *poll, uint32_t revents)
{
	(void)revents;
	run_jobs(container_of(poll, struct loop, wake));
}

int loop_create(struct loop **out, unsigned entries, struct error *err)
{
	_cleanup_free_ struct loop *loop = calloc(1, sizeof(*loop));
	int ret;

	if (!loop)
		return error_errno(err, ENOMEM, "cannot create an event loop");
	ret = open_ring(&loop->ring, entries);
	if (ret < 0) {
		error_errno(err, -ret, "cannot create an io_uring");
		return error_hint(err,
			"Bulkhead needs io_uring: see /proc/sys/kernel/io_uring_disabled, "
			"the container's seccomp profile and RLIMIT_MEMLOCK");
	}
	restrict_ring(&loop->ring);
	can_spin(); /* asked for now, remembered for threads of a process under a filter */
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0) {
		ret = error_errno(err, errno, "cannot create an eventfd");
		io_uring_queue_exit(&loop->ring);
		return ret;
	}
	loop->wake.fd = loop->wake_fd;
	loop->wake.events = POLLIN;
	loop->wake.ready = woken;
	loop->deferred = &loop->deferred_end;
	*out = steal_ptr(&loop);
	return 0;
}

void loop_spin(struct loop *loop)
{
	loop->spins = can_spin();
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	io_uring_queue_exit(&loop->ring);
	close(loop->wake_fd);
	free(loop);
}

static void wake(struct loop *loop)
{
	uint64_t one = 1;
	ssize_t n;

	do
		n = write(loop->wake_fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stop, true);
	wake(loop);
}

void loop_post(struct loop *loop, struct loop_job *job)
{
	struct loop_job *head = atomic_load_explicit(&loop->jobs, memory_order_relaxed);

	do
		job->next = head;
	while (!atomic_compare_exchange_weak_explicit(
		&loop->jobs, &head, job, memory_order_release, memory_order_relaxed));
	if (!head)
		wake(loop);
}

void loop_defer(struct loop *loop, struct loop_job *job)
{
	if (job->next)
		return;
	job->next = loop->deferred;
	loop->deferred = job;
}

static void run_deferred(struct loop *loop)
{
	while (loop->deferred != &loop->deferred_end) {
		struct loop_job *job = loop->deferred;

		loop->deferred = job->next;
		job->next = NULL;
		job->run(job);
	}
}

void loop_watch_start(struct loop *loop, struct loop_watch *watch)
{
	if (watch->on)
		return;
	watch->on = true;
	watch->next = loop->watches;
	loop->watches = watch;
}

void loop_watch_stop(struct loop *loop, struct loop_watch *watch)
{
	if (!watch->on)
		return;
	watch->on = false;
	for (struct loop_watch **at = &loop->watches; *at; at = &(*at)->next) {
		if (*at == watch) {
			*at = watch->next;
			break;
		}
	}
}

struct call {
	struct loop_job job;
	void (*fn)(void *arg);
	void *arg;
	sem_t done;
};

static void run_call(struct loop_job *job)
{
	struct call *call = container_of(job, struct call, job);

	call->fn(call->arg);
	sem_post(&call->done);
}

void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct call call = {.job.run = run_call, .fn = fn, .arg = arg};

	sem_init(&call.done, 0, 0);
	loop_post(loop, &call.job);
	while (sem_wait(&call.done) < 0)
		;
	sem_destroy(&call.done);
}

struct io_uring_sqe *loop_sqe(struct loop *loop)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);

	if (!sqe) {
		io_uring_submit(&loop->ring);
		sqe = io_uring_get_sqe(&loop->ring);
	}
	BUG_ON(!sqe);
	loop->requests++;
	return sqe;
}

static void poll_arm(struct loop_poll *poll)
{
	struct io_uring_sqe *sqe = loop_sqe(poll->loop);

	io_uring_prep_poll_multishot(sqe, poll->fd, poll->events);
	loop_bind(sqe, &poll->op);
	poll->armed = true;
	poll->loop->polls++;
}

static void poll_end(struct loop_poll *poll)
{
	if (!poll->armed && !poll->removing && poll->stopped)
		poll->stopped(poll);
}

static void poll_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct loop_poll *poll = container_of(op, struct loop_poll, op);

	if (!(flags & IORING_CQE_F_MORE)) {
		poll->armed = false;
		poll->loop->polls--;
	}
	if (!poll->wanted) {
		poll_end(poll);
		return;
	}
	/* The kernel ends a multishot poll when its completion queue overflows: arm it again. An error
	 * (a closed descriptor) is for the owner to see, once. */
	if (!poll->armed && res >= 0)
		poll_arm(poll);
	poll->ready(poll, res < 0 ? POLLERR : (uint32_t)res);
}

void loop_poll_start(struct loop *loop, struct loop_poll *poll)
{
	poll->loop = loop;
	poll->op.done = poll_done;
	poll->wanted = true;
	poll_arm(poll);
}

static void poll_remove(struct loop_poll *poll)
{
	struct io_uring_sqe *sqe = loop_sqe(poll->loop);

	io_uring_prep_poll_remove(sqe, (uint64_t)(uintptr_t)&poll->op);
	loop_bind(sqe, &poll->removed);
	poll->removing = true;
}

static void poll_removed(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct loop_poll *poll = container_of(op, struct loop_poll, removed);

	(void)flags;
	poll->removing = false;
	/* The kernel does not remove a poll whose event it is just delivering: once more. */
	if (res == -EALREADY && poll->armed)
		poll_remove(poll);
	else
		poll_end(poll);
}

void loop_poll_stop(struct loop_poll *poll, void (*stopped)(struct loop_poll *poll))
{
	poll->wanted = false;
	poll->stopped = stopped;
	poll->removed.done = poll_removed;
	if (!poll->armed)
		poll_end(poll);
	else if (!poll->removing)
		poll_remove(poll);
}

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

static void fire_timers(struct loop *loop)
{
	uint64_t now;

	if (!loop->timers)
		return;
	now = now_ns();
	while (loop->timers && loop->timers->deadline_ns <= now) {
		struct loop_timer *timer = loop->timers;

		loop->timers = timer->next;
		timer->deadline_ns = 0;
		timer->fire(timer);
	}
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
 * not for long.
 */
static uint32_t busy_limit(const struct loop *loop)
{
	return loop->company ? spin_limit(&loop->sleep_cost) : SPIN_MIN_NS;
}

static void learn_company(struct loop *loop)
{
	if (look_at_watches(loop))
		loop->company = COMPANY;
	else if (loop->company)
		loop->company--;
}

static int wait_events(struct loop *loop)
{
	/* Polls stay for ever: what is beyond them is I/O, whose end has a rhythm of its own. */
	bool busy = loop->requests > loop->polls;
	struct spin *spin = busy ? &loop->busy : &loop->idle;
	uint32_t limit = busy ? busy_limit(loop) : spin_limit(&loop->sleep_cost);
	uint64_t start;
	bool seen;
	int ret;

	if (!loop->spins)
		return arm_watches(loop) ? 0 : sleep_for_events(loop);
	start = now_ns();
	seen = spin_worthwhile(spin, limit) && look_for_a_while(loop, start + limit);
	ret = seen || arm_watches(loop) ? 0 : sleep_and_learn(loop);
	spin_learn(spin, now_ns() - start, seen, limit);
	if (busy)
		learn_company(loop);
	return ret;
}

static void handle_completions(struct loop *loop)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&loop->ring, &cqe) == 0) {
		struct loop_op *op = io_uring_cqe_get_data(cqe);
		int32_t res = cqe->res;
		uint32_t flags = cqe->flags;

		io_uring_cqe_seen(&loop->ring, cqe);
		if (!(flags & IORING_CQE_F_MORE))
			loop->requests--;
		op->done(op, res, flags);
	}
}

static void run_watches(struct loop *loop)
{
	struct loop_watch *watch = loop->watches;

	while (watch) {
		if (watch->look(watch)) {
			loop_watch_stop(loop, watch);
			watch->run(
				watch); /* may start and stop any, itself included: from the front again */
			watch = loop->watches;
		} else {
			watch = watch->next;
		}
	}
}

int loop_run(struct loop *loop, struct error *err)
{
	int ret;

	if (!loop->enabled) {
		ret = enable_ring(&loop->ring);
		if (ret < 0)
			return error_errno(err, -ret, "cannot enable the event loop's io_uring");
		loop->enabled = true;
		loop_poll_start(loop, &loop->wake);
	}
	while (!atomic_load(&loop->stop)) {
		ret = wait_events(loop);
		if (ret < 0 && ret != -EINTR && ret != -ETIME && ret != -EBUSY && ret != -EAGAIN)
			return error_errno(err, -ret, "the event loop cannot wait for events");
		fire_timers(loop);
		handle_completions(loop);
		run_watches(loop);
		run_deferred(loop);
	}
	atomic_store(&loop->stop, false);
	return 0;
}
