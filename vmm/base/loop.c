/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop on io_uring: jobs, watches, completions and the round they run in. See loop.h for the contract.
 *
 * Posted jobs form a lock-free stack: the poster that finds it empty wakes the loop through an
 * eventfd, the loop takes the whole stack and runs it in the order of posting.
 */
#include "vmm/base/log.h"
#include "vmm/base/loop_private.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <string.h>
#include <sys/eventfd.h>

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
	ret = loop_ring_open(&loop->ring, entries);
	if (ret < 0) {
		error_errno(err, -ret, "cannot create an io_uring");
		return error_hint(err,
			"Bulkhead needs io_uring: see /proc/sys/kernel/io_uring_disabled, "
			"the container's seccomp profile and RLIMIT_MEMLOCK");
	}
	loop_cpus(); /* asked for now, remembered for threads of a process under a filter */
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

void loop_spin(struct loop *loop, unsigned others)
{
	loop->spins = loop_cpus() > 1;
	loop->patient = loop_cpus() > others;
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
		ret = loop_ring_enable(&loop->ring);
		if (ret < 0)
			return error_errno(err, -ret, "cannot enable the event loop's io_uring");
		loop->enabled = true;
		loop_poll_start(loop, &loop->wake);
	}
	while (!atomic_load(&loop->stop)) {
		ret = loop_wait(loop);
		if (ret < 0 && ret != -EINTR && ret != -ETIME && ret != -EBUSY && ret != -EAGAIN)
			return error_errno(err, -ret, "the event loop cannot wait for events");
		loop_fire_timers(loop);
		handle_completions(loop);
		run_watches(loop);
		run_deferred(loop);
	}
	atomic_store(&loop->stop, false);
	return 0;
}
