/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers: forked processes for whatever may block in the kernel.
 *
 * A mount of a dead disk, a statfs() of a lost network file system or a sync can hang for ever, out of reach of any
 * signal. So such calls are never made by the agent itself but by a fork of it, which sends its answer as JSON through a
 * pipe. When it does not come in time the request is answered with `guest_timeout`, the worker is
 * killed, and where even that does not end it, it is left behind and counted; the agent goes on. At most
 * WORKERS_MAX exist at once, those left behind included.
 */
#pragma once

#include "vmm/rpc/rpc.h"

#define WORKERS_MAX 64

/*
 * Runs in the worker. `params` is the caller's, copied by the fork. Returns the result, or NULL after filling *err.
 * What it gave to worker_part() before is merged into the result, and is answered even when the rest does not come.
 */
typedef json_t *worker_run(const void *params, struct error *err);

/* Serve a request by a worker: answers the call, now or later. */
void worker_serve(struct rpc_call *call, uint64_t timeout_ms, worker_run *run);

/* The same for the agent itself: `done` gets the result (borrowed) or NULL and an error. -errno: not started. */
struct worker;
int worker_start(const char *what, worker_run *run, const void *params, uint64_t timeout_ms,
	void (*done)(void *user, json_t *result, const struct error *err), void *user,
	struct error *err);

/* Wait for it, with the loop standing still: while process 1 boots. The result is the caller's. */
json_t *worker_wait(const char *what, worker_run *run, const void *params, uint64_t timeout_ms,
	struct error *err);

/* In the worker: a first part of the result, sent at once. Takes it over. */
void worker_part(json_t *part);

/* How many are at work, and how many of them were given up. */
unsigned worker_count(void);
unsigned worker_stuck_count(void);
