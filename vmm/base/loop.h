/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: one io_uring, one thread.
 *
 * Everything a thread waits for is a completion on its ring: descriptors becoming ready (multishot
 * polls, edge-triggered), calls posted by other threads, and the device's own reads and writes. One
 * io_uring_enter() both submits what the last round queued and waits for the next completion, so a
 * wake-up, its I/O and its completion share system calls. Timers cost no system call at all: the
 * nearest deadline is the wait's time-out. A thread that is told to (loop_spin()) looks for the
 * next event before it sleeps, where that has proved quicker: see spin.h.
 *
 * Threads: the ring belongs to the thread in loop_run() (IORING_SETUP_SINGLE_ISSUER); only
 * loop_post(), loop_call() and loop_stop() may be used from others. Callbacks run one at a time, on
 * that thread, and may start and stop anything, themselves included.
 */
#pragma once

#include "vmm/base/error.h"

#include <liburing.h>
#include <pthread.h>
#include <stdint.h>

struct loop;
struct log_sink;

/*
 * One kind of completion. Embed it, set `done`, hand it to loop_sqe(): `done` is called with the
 * CQE's res and flags, once, or until a CQE without IORING_CQE_F_MORE for multishot requests. The
 * memory must stay valid until then.
 */
struct loop_op {
	void (*done)(struct loop_op *op, int32_t res, uint32_t flags);
};

/* A descriptor watched for readiness. Zero it, then loop_poll_start(). */
struct loop_poll {
	struct loop_op op, removed;
	struct loop *loop;
	int fd;
	uint32_t events; /* POLLIN, POLLOUT */
	bool armed;	 /* the kernel holds the request */
	bool removing;	 /* the kernel holds a request to let go of it */
	bool wanted;	 /* the owner has not stopped it */
	/* `ready` may be late or spurious: use non-blocking descriptors, read until EAGAIN. */
	void (*ready)(struct loop_poll *poll, uint32_t revents);
	void (*stopped)(struct loop_poll *poll);
};

/* A one-shot timer. Zero it and set `fire` before first use. */
struct loop_timer {
	struct loop_timer *next;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0 when not armed */
	void (*fire)(struct loop_timer *timer);
};

/* A function to be run on the loop's thread. The memory belongs to the loop until `run` is entered. */
struct loop_job {
	struct loop_job *next;
	void (*run)(struct loop_job *job);
};

/* `entries`: depth of the submission queue; the completion queue is four times that. */
int loop_create(struct loop **out, unsigned entries, struct error *err);

/*
 * Look for events before sleeping, where that has proved quicker (spin.h). Before loop_run(). `others`: threads that make
 * these events and want a CPU of their own meanwhile (vCPUs); where the host has not as many and one more, it looks
 * for the shortest time only.
 */
void loop_spin(struct loop *loop, unsigned others);

/* Only when no thread is in loop_run(). Requests still in flight are cancelled by the kernel; their
 * `done` is not called. NULL is accepted. */
void loop_destroy(struct loop *loop);

/* Handle events until loop_stop(). Returns 0, or a negative errno when the ring itself failed. */
int loop_run(struct loop *loop, struct error *err);

/* Make loop_run() return after the callback in progress. Any thread; may come before loop_run(). */
void loop_stop(struct loop *loop);

/* Queue a job; wait-free for the caller but for one eventfd write when the loop may be asleep. Any thread. */
void loop_post(struct loop *loop, struct loop_job *job);

/*
 * Run a job once at the end of this round: when every completion at hand has been handled, before the
 * loop submits and sleeps. For what a batch shares (one interrupt for many requests). A job that waits
 * already stays as it is, so callers need not keep count; it must not defer itself again from `run`.
 * Zero the job before first use, and use it for nothing else. The loop's own thread only.
 */
void loop_defer(struct loop *loop, struct loop_job *job);

/* Run fn(arg) on the loop's thread and wait until it has returned. Never from the loop's own thread. */
void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg);

/*
 * Something in memory that changes by itself (a ring that the guest fills) and can also be asked to
 * wake us, which costs whoever does so. Zero it and set the functions before first use.
 */
struct loop_watch {
	struct loop_watch *next;
	bool on;
	/* Has it changed? Called often, without side effects. */
	bool (*look)(const struct loop_watch *watch);
	/* The loop is about to sleep: ask to be woken. True when it has changed already. */
	bool (*arm)(struct loop_watch *watch);
	void (*run)(struct loop_watch *watch);
};

/*
 * Call `run` once, when it has changed: the loop looks at it as long as it is awake and arms it before
 * each sleep. What an armed watch wakes, the owner must watch by other means (an eventfd's poll). Watched
 * already: nothing happens. The loop's own thread only.
 */
void loop_watch_start(struct loop *loop, struct loop_watch *watch);
void loop_watch_stop(struct loop *loop, struct loop_watch *watch);

/*
 * A cleared submission entry whose completion goes to `op`; prepare it with io_uring_prep_*() and
 * then bind it with loop_bind() (the prep helpers clear user_data). Never NULL: a full queue is
 * submitted first. It is submitted when the loop next waits.
 */
struct io_uring_sqe *loop_sqe(struct loop *loop);
static inline void loop_bind(struct io_uring_sqe *sqe, struct loop_op *op)
{
	io_uring_sqe_set_data(sqe, op);
}

/* Watch `poll->fd`: set fd, events and ready, zero the rest. Edge-triggered, so an eventfd need not be read. */
void loop_poll_start(struct loop *loop, struct loop_poll *poll);

/*
 * Stop watching. No `ready` call follows. `stopped` (may be NULL) is called, perhaps at once, when
 * the kernel has let go: only then may *poll be freed, started again, or the descriptor closed.
 */
void loop_poll_stop(struct loop_poll *poll, void (*stopped)(struct loop_poll *poll));

/*
 * When the present round began (CLOCK_MONOTONIC): what a callback may take for now where the length of a round does not
 * matter. However many ask, it costs one look at the clock a round, and none where the loop looks for events. The
 * loop's own thread only.
 */
uint64_t loop_round_ns(struct loop *loop);

/* Arm, move (earlier or later) or disarm. Synchronous: after loop_timer_clear() `fire` is not called. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns);
void loop_timer_clear(struct loop *loop, struct loop_timer *timer);

/* A thread that does nothing but loop_run(). */
struct loop_thread {
	struct loop *loop;
	pthread_t thread;
	bool running;
	bool spins;	 /* look before sleeping: for threads whose next event is often near */
	unsigned others; /* see loop_spin() */
	void (*enter)(void *arg); /* run first on the new thread (seccomp filter), may be NULL */
	void *enter_arg;
	const struct log_sink *log; /* the starter's */
	char name[16];
};

/* Create the loop and its thread; signals are blocked in it. Set `spins` and `enter` before. */
int loop_thread_start(struct loop_thread *t, const char *name, unsigned entries, struct error *err);

/* Stop, join, destroy the loop. Does nothing when not running. */
void loop_thread_stop(struct loop_thread *t);
