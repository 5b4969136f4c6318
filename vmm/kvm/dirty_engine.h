/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty engine: which pages of guest RAM changed, whoever wrote them, for everybody who copies memory while its
 * guest lives (snapshots, migration). It unites KVM's log of what vCPUs write (dirty_log.h) and the marks of what devices
 * and the monitor write (vmm/memory/dirty.h). Nothing is tracked, and nothing paid, while it has no user.
 *
 * A user joins; from then on it is told of each page that changed since its sink has had it. At first that is all memory.
 *
 *   look     which pages are dirty now. Nothing changes by it.
 *   rearm    right before some of those are copied: a write from here on makes the page dirty again. The page is *pending*.
 *   commit   the sink has what is pending, for good. Or
 *   rollback it has not (it failed, was cancelled): what was pending is dirty again.
 *
 * Who copies while vCPUs run looks once a pass and rearms window by window, each right before it is copied. Who copies
 * while they stand still collects: look and rearm in one. So a bit is given up only after the sink has the bytes, and two
 * users never take a bit from each other: what one rearms stays dirty to the others.
 *
 * Memory that comes (hot-plug) is dirty whole. After a reset, which makes a new VM, everything is.
 *
 * Arming (dirty_engine_arm) is for users that collect: a page that was never armed costs the next collect's pause time to
 * protect it. Armed beforehand, while vCPUs run, only what was written since is left to do in the pause.
 *
 * Threads: any, but attach, detach, join and leave belong to the one that maps memory. vCPUs may run meanwhile.
 */
#pragma once

#include "vmm/kvm/kvm.h"
#include "vmm/memory/page_set.h"

#include <pthread.h>

struct dirty_user {
	struct dirty_user *next;
	struct page_set backlog; /* dirty, and said so by no bitmap any more */
	struct page_set pending; /* rearmed, and neither committed nor rolled back */
};

struct dirty_engine {
	struct guest_memory *memory;
	pthread_mutex_t lock;	  /* guards what is below */
	struct vm *vm;		  /* NULL: there is none now */
	struct dirty_user *users; /* NULL: nothing is tracked */
	struct page_set
		seen; /* bits of the two bitmaps that were there when somebody looked, and still are */
	struct page_set taken;	 /* scratch */
	struct page_set counted; /* bits of theirs that are in `dirtied` already */
	uint64_t dirtied;
	bool broken; /* KVM's log is lost */
};

void dirty_engine_init(struct dirty_engine *engine, struct guest_memory *memory);
/* No user is left. */
void dirty_engine_destroy(struct dirty_engine *engine);

/* A new VM has its memory mapped; it is about to go. */
void dirty_engine_attach(struct dirty_engine *engine, struct vm *vm);
void dirty_engine_detach(struct dirty_engine *engine);

/* `user` need not be initialised. When the last leaves, tracking ends: that takes time, do it while vCPUs run. */
int dirty_engine_join(struct dirty_engine *engine, struct dirty_user *user, struct error *err);
/*
 * The same before a vCPU has run in the VM that was attached, by the first user: no page is dirty to it. So for memory that came out of
 * the sink itself.
 */
int dirty_engine_join_clean(
	struct dirty_engine *engine, struct dirty_user *user, struct error *err);
void dirty_engine_leave(struct dirty_engine *engine, struct dirty_user *user);
bool dirty_engine_active(struct dirty_engine *engine);

/* All that is dirty to the user among the pages that are present, in place of what `into` held. */
int dirty_engine_look(struct dirty_engine *engine, struct dirty_user *user, struct page_set *into,
	struct error *err);

/* Take what `set` has of these pages (multiples of 64, but at the end of the set). It is pending even if this fails. */
int dirty_engine_rearm(struct dirty_engine *engine, struct dirty_user *user,
	const struct page_set *set, uint64_t first, uint64_t count, struct error *err);

/* Both, of all memory. No vCPU runs, and devices are quiet. A failure rolls back what is pending. */
int dirty_engine_collect(struct dirty_engine *engine, struct dirty_user *user,
	struct page_set *into, struct error *err);

void dirty_engine_commit(struct dirty_engine *engine, struct dirty_user *user);
void dirty_engine_rollback(struct dirty_engine *engine, struct dirty_user *user);

/* Arm every page that is present. They are dirty to every user as before. It takes a few ms a GiB: best on a thread of its own. */
int dirty_engine_arm(struct dirty_engine *engine, struct error *err);

/* A collect is to come, within a pause: take the memory for it that this user's tracking has not needed so far. */
void dirty_engine_touch(struct dirty_engine *engine, struct dirty_user *user);

/*
 * How many pages became dirty since the engine was made: each once between two times that it was rearmed, and none
 * before it was armed first. It is found by looking, and takes nobody's bits.
 */
uint64_t dirty_engine_dirtied(struct dirty_engine *engine);
