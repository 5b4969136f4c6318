/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The working set of a restored guest (workingset.h), from one restore to the next: where the snapshot's folder has none, what the
 * guest touches in its first seconds is noted there; where it has one, that is read ahead on a worker while the guest starts.
 *
 * Nothing waits for any of it, and nothing of it is an error: a folder that cannot be written just gets none, and what cannot
 * be read ahead the guest finds out. What is noted is that of the restored guest: after a reset it is another one.
 *
 * Threads: the main thread, but for restore_working_touched().
 */
#pragma once

#include "vmm/machine/machine.h"
#include "vmm/memory/page_set.h"

#include <pthread.h>
#include <stdatomic.h>

struct restore_working {
	struct machine *machine;
	int dir;	      /* the snapshot's folder; not ours */
	unsigned step;	      /* on demand: one page of so many brings them all; else 0 */
	struct page_set set;  /* what was noted, to be read ahead or kept */
	pthread_mutex_t lock; /* of the set, while the guest's touches are told */
	bool begun, notes;
	struct machine_observer observer;
	struct loop_timer due; /* to note */
	pthread_t worker;
	bool working;
	atomic_bool cancel;
	struct loop_job worked;
	const void *log;
};

/*
 * The machine has its memory, mapped or watched, and does not run yet. `window`: 0, or so many pages come whenever one of
 * them is touched, and what is touched is told by restore_working_touched().
 */
void restore_working_begin(
	struct restore_working *working, struct machine *machine, int dir, unsigned window);

/* Any one thread, also after restore_working_end(). */
void restore_working_touched(struct restore_working *working, uint64_t page);

/* Before memory goes. It need not have begun. */
void restore_working_end(struct restore_working *working);
