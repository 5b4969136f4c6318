/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop's insides, shared by the files loop*.c; nobody else includes it. */
#pragma once

#include "vmm/base/loop.h"
#include "vmm/base/spin.h"

#include <stdatomic.h>
#include <stdbool.h>

struct loop {
	struct io_uring ring;
	struct loop_timer *timers; /* sorted by deadline */
	uint64_t round_ns;	   /* when the round began; 0: nobody has asked yet */
	struct loop_poll wake;
	int wake_fd;
	bool enabled;
	_Atomic bool stop;
	_Atomic(struct loop_job *) jobs; /* shared: pushed by any thread, taken by the loop */
	struct loop_job *deferred;	 /* for the end of the round */
	struct loop_job deferred_end; /* ends that list, so that `next` is NULL only outside it */
	struct loop_watch *watches;
	unsigned requests,
		polls;		/* that the kernel holds; of these, polls that may last for ever */
	bool spins, patient;	/* looks before it sleeps; and longer than SPIN_MIN_NS */
	struct spin idle, busy; /* waits for others only, and waits for requests of our own too */
	struct spin_cost sleep_cost;
	unsigned company; /* busy waits left for which more from others is expected */
};

/* ---- the ring (loop_ring.c); all return 0 or a negative errno ---- */

int loop_ring_open(struct io_uring *ring, unsigned entries);
int loop_ring_enable(struct io_uring *ring);

/* ---- waiting (loop_wait.c) ---- */

/* CPUs that this process may use. */
unsigned loop_cpus(void);
/* Until there is something to do, or the nearest timer is due: 0 or a negative errno. */
int loop_wait(struct loop *loop);
void loop_fire_timers(struct loop *loop);
