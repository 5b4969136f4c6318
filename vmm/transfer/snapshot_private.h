/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot that is being taken, for the files snapshot*.c. See snapshot.h. */
#pragma once

#include "vmm/base/loop.h"
#include "vmm/machine/hold.h"
#include "vmm/memory/pages.h"
#include "vmm/state/state.h"
#include "vmm/transfer/background.h"
#include "vmm/transfer/disk_copy.h"
#include "vmm/transfer/memory_file.h"
#include "vmm/transfer/precopy.h"
#include "vmm/transfer/snapshot.h"
#include "vmm/transfer/snapshot_dir.h"

#include <stdatomic.h>

struct snapshot;

/* A step: what a thread of its own does, and what the main loop does then, with `ret` and `err` of the first. */
struct snapshot_step {
	int (*work)(struct snapshot *s, struct error *err);
	void (*then)(struct snapshot *s);
};

/* See snapshot_slow.c. */
struct snapshot_slow {
	struct loop_timer timer;
	_Atomic unsigned level; /* the worker sets */
	bool stands;		/* vCPUs do, for now */
	uint64_t since_ns;
};

struct snapshot {
	struct machine *machine;
	struct snapshot_series *series;
	struct snapshot_options options; /* its path is `path` */
	struct snapshot_user *user;
	char path[PATH_MAX];
	struct machine_observer observer;

	struct loop_thread worker;
	struct loop_job to_worker, to_main;
	struct snapshot_step step; /* the one under way; work NULL: none */
	int ret;
	struct error err;
	bool ended;	    /* the machine */
	bool released;	    /* nobody waits any more: a step that ends, ends the loop */
	atomic_bool cancel; /* main thread sets, all look */

	struct snapshot_manifest manifest;
	struct snapshot_dir dir;
	struct memory_file *memory;
	/* How memory is written while the guest runs: by one of these. Both NULL: it is while the guest stands still. */
	struct background *background;
	struct precopy *precopy;
	struct snapshot_slow slow;
	struct page_set pages; /* what is to be saved */
	struct state_writer state;
	unsigned disk_count;
	struct disk_copy *disks[MACHINE_DISKS_MAX];

	struct machine_hold hold;
	bool waits_memory; /* for all of it to be there: a restored guest's comes while it runs */
	bool waits;	   /* for the user: snapshot_hold() */
	bool asked;	   /* the user is to be told of the release */
	bool holds;	   /* machine_hold() was called, and not machine_release() */
	bool collected; /* dirty pages were taken, or have begun to be: to be given up, or back */
	bool was_tracking;

	uint64_t began_ns, reported_ns;
	const char *phase;
	_Atomic uint64_t done, total;	 /* bytes, of the phase */
	uint64_t looked, looked_earlier; /* the worker's: pages, in all; before this pass */
	struct loop_timer progress;
	struct snapshot_report report;
};

/* ---- snapshot_memory.c, in this order ---- */

/* Main thread: in the background, where that can be. */
void snapshot_choose_background(struct snapshot *s);
/* The worker: what takes long; and what was left by it, right before the machine is held, again where something came between. */
int snapshot_open_memory(struct snapshot *s, struct error *err);
int snapshot_arm_memory(struct snapshot *s, struct error *err);
/* Main thread, held: which pages there are to save; they are protected, where it is done in the background. */
int snapshot_collect_pages(struct snapshot *s, struct error *err);
/* The worker, held, and when the guest runs again: each writes what is its to write. */
int snapshot_write_held(struct snapshot *s, struct error *err);
int snapshot_write_behind(struct snapshot *s, struct error *err);

/* ---- snapshot_slow.c ---- */

/* Main thread; any thread, in between; main thread, also where it never began. */
void snapshot_slow_begin(struct snapshot *s);
void snapshot_slow_set(struct snapshot *s, unsigned level);
void snapshot_slow_end(struct snapshot *s);

/* ---- snapshot_disks.c ---- */

/* Main thread; the worker; the worker, held; the worker. */
int snapshot_start_disks(struct snapshot *s, struct error *err);
int snapshot_prepare_disks(struct snapshot *s, struct error *err);
int snapshot_final_disks(struct snapshot *s, struct error *err);
int snapshot_finish_disks(struct snapshot *s, struct error *err);
/* Main thread: they are in the snapshot; nothing of them is left here. */
void snapshot_commit_disks(struct snapshot *s);
void snapshot_drop_disks(struct snapshot *s);
