/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent waits for: descriptors, time-outs, signals and children, on one epoll. An io_uring would
 * ask more of the guest's kernel than an agent may.
 *
 * One process has one of it, so it is state of this file, not an object. Callbacks run one at a time and may start
 * and stop anything, themselves included; nothing here is called from a signal handler.
 */
#pragma once

#include "vmm/base/error.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>

/* A descriptor. Zero it, set fd and ready; `mask` is what it is watched for (0: not at all). */
struct event {
	int fd;
	uint32_t mask;
	void (*ready)(struct event *event, uint32_t events);
};

/* One shot. Zero it and set fire before first use. */
struct timer {
	struct timer *next;
	uint64_t deadline_ns; /* 0: not armed */
	void (*fire)(struct timer *timer);
};

/*
 * A child process. `exited` is called once, with waitid()'s answer, while the child is still a zombie: its
 * process group cannot have become anyone else's yet. It is reaped right after.
 */
struct child {
	struct child *next;
	pid_t pid;
	void (*exited)(struct child *child, const siginfo_t *info);
};

/* Blocks `signals` for good and hands them to `caught`, with what sigqueue() gave; SIGCHLD is added. */
int events_open(const sigset_t *signals, void (*caught)(int signal, int value), struct error *err);
/* In a forked child: let go of everything, and set signals as a new program expects them. */
void events_leave(void);
/* Until *stop is true after a callback. */
void events_run(const bool *stop);

/* Watch for EPOLLIN, EPOLLOUT or both; 0 stops. Before closing the descriptor: 0. */
void event_watch(struct event *event, uint32_t mask);

void timer_set(struct timer *timer, uint64_t ms);
void timer_clear(struct timer *timer);

void child_watch(struct child *child);
/* It is reaped when it ends all the same, but nobody is told. */
void child_forget(struct child *child);
