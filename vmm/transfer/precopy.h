/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as it was at one moment, copied ahead of that moment: for memory that userfaultfd cannot watch, which is private
 * mappings of files (a guest that was restored) and reserved huge pages. See background.h for the other way.
 *
 *   precopy_create()   main thread     nothing is copied yet
 *   precopy_run()      a worker        all pages, and again those that were written meanwhile, until few are left
 *   precopy_again()    a worker        the same, after something else came between
 *   precopy_collect()  in the pause    which are left
 *   precopy_hold()     a worker, in the pause: takes them
 *   precopy_finish()   a worker        hands over what waits in the pool
 *   precopy_destroy()  main thread     at any point
 *
 * The dirty engine tells what was written (vmm/kvm/dirty_engine.h). First pages go to the sink, pass after pass, as long as each
 * leaves less than the one before. When what is left fits into a pool in the host's memory it goes there, round after round: that is
 * as fast as memory and not as the disk, so a guest that writes faster than its disk comes to rest too. What the last
 * round left (2 MiB or less, where it came to rest) is copied into the pool in the pause, and the pool goes to the sink afterwards.
 * So the pause grows with what the guest writes within a round, which is some milliseconds, not with its memory.
 *
 * A guest that writes more than the pool holds, and faster than the sink takes it, is slowed down, more with each pass that
 * leaves no less than the one before. Where even that is not enough it does not come to rest. Nothing is given up then:
 * what the pool cannot hold is handed to the sink in the pause, and precopy_report.held says how much that was.
 *
 * Pages may be handed over several times: what comes last counts, and before the end each came last when it was as it was at
 * the moment. What was taken from the dirty engine is pending there from precopy_run() on: commit it, or roll it back.
 */
#pragma once

#include "vmm/kvm/dirty_engine.h"
#include "vmm/memory/guest_memory.h"

#include <stdatomic.h>

struct precopy;

#define PRECOPY_SLOWEST 3u

struct precopy_config {
	const struct guest_memory *memory;
	struct dirty_engine *engine; /* with this user, who joined it */
	struct dirty_user *user;
	bool all;      /* every page that is there; else what is dirty to the user */
	uint64_t pool; /* bytes; 0: a 32nd of the memory, 64 MiB at least */
	const atomic_bool *cancel;

	/* Pages [first, first + count), which the guest may be writing: if so, they come again. */
	int (*put)(void *owner, uint64_t first, const uint8_t *data, uint64_t count,
		struct error *err);
	/* So many pages follow now; for progress. */
	void (*expect)(void *owner, uint64_t pages);
	/* The guest is to be slowed down; 0: as ever, to PRECOPY_SLOWEST. */
	void (*slow)(void *owner, unsigned level);
	void *owner;
};

/* Counts of pages, but for the first two. */
struct precopy_report {
	unsigned passes; /* to the sink */
	unsigned rounds; /* into the pool */
	uint64_t paused; /* copied in the pause, `held` included */
	uint64_t held;	 /* handed to the sink in the pause: the pool was full */
	uint64_t pooled, pool_pages;
};

int precopy_create(
	struct precopy **precopy, const struct precopy_config *config, struct error *err);
int precopy_run(struct precopy *precopy, struct error *err);
int precopy_again(struct precopy *precopy, struct error *err);
/* No vCPU runs and devices are quiet, until precopy_hold() has returned. */
int precopy_collect(struct precopy *precopy, struct error *err);
int precopy_hold(struct precopy *precopy, struct error *err);
int precopy_finish(struct precopy *precopy, struct error *err);

struct precopy_report precopy_report(const struct precopy *precopy);
/* NULL is accepted. */
void precopy_destroy(struct precopy *precopy);
