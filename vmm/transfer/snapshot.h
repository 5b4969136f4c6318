/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a snapshot of a machine that runs: memory, state and disks of one point in time, in a folder that is there
 * whole or not at all.
 *
 *   prepare   (a thread of its own)  the folder under another name; disks are copied ahead; memory is armed, or copied ahead
 *   hold      (main loop)            vCPUs and devices stand still: see vmm/machine/hold.h
 *   take      (held)                 dirty pages collected, state saved, disks' last blocks, memory protected or written
 *   release   (main loop)            the guest goes on
 *   write     (the thread)           memory, where it can be written while the guest runs; checksums; everything to the disk
 *   publish   (the thread)           the manifest last, then the folder gets its name
 *
 * What the guest wrote since the last snapshot is given up only when this one is there: after one that failed, the next
 * incremental one has all of it.
 *
 * Threads: the main thread; callbacks too.
 */
#pragma once

#include "vmm/machine/machine.h"
#include "vmm/transfer/manifest.h"

#include <limits.h>

/* What an incremental snapshot builds on: the last one of this machine. One a machine; zero it. */
struct snapshot_series {
	char id[SNAPSHOT_ID_SIZE]; /* "": there is none */
	char path[PATH_MAX];	   /* absolute */
	bool busy;		   /* one is being taken */
};

struct snapshot_options {
	const char *path; /* of the folder to make */
	bool incremental;
	bool background; /* memory is written while the guest runs, where this host and memory can do that */
	bool track;  /* what is written from now on, so that the next one can be incremental */
	bool resume; /* else the machine stays paused, as by the user */
	enum snapshot_compression compression;
	enum snapshot_disk_mode disks;
};

/* Nanoseconds for which the guest stood still, and what for. */
struct snapshot_pause {
	uint64_t total, quiesce, state, memory, disks;
};

struct snapshot_report {
	char id[SNAPSHOT_ID_SIZE], parent[SNAPSHOT_ID_SIZE];
	char path[PATH_MAX];
	bool background;      /* no memory was written in the pause */
	unsigned passes;      /* in which memory was copied ahead of the moment; 0: it was not */
	uint64_t pause_bytes; /* of memory that were copied, or written, in the pause */
	uint64_t data_bytes;  /* of memory, before compression */
	uint64_t
		slowed_ns; /* for which the guest stood still before the moment, some ms at a time */
	uint64_t elapsed_ns;
	struct snapshot_pause pause;
};

/* Who wants one. Embed it. */
struct snapshot_user {
	/* `phase` is a constant text. total 0: nobody knows. */
	void (*progress)(
		struct snapshot_user *user, const char *phase, uint64_t done, uint64_t total);
	/*
	 * Everything is prepared, and the machine is to be held now. False: wait for snapshot_hold(), which comes when the
	 * user is ready. May be NULL.
	 */
	bool (*about_to_hold)(struct snapshot_user *user);
	/* The point in time is behind: the guest goes on, or it never came to it. Once for each false of the above. */
	void (*released)(struct snapshot_user *user);
	/* Once. `err` NULL: it is there. */
	void (*ended)(struct snapshot_user *user, const struct snapshot_report *report,
		const struct error *err);
};

struct snapshot;

/* What is wrong from the start is refused here, and `ended` is not called. */
int snapshot_begin(struct machine *machine, struct snapshot_series *series,
	const struct snapshot_options *options, struct snapshot_user *user, struct snapshot **out,
	struct error *err);

/* See about_to_hold. */
void snapshot_hold(struct snapshot *snapshot);

/* It ends by `ended`, later: as cancelled, or done where it was too late. The guest goes on in any case. */
void snapshot_cancel(struct snapshot *snapshot);

/* The machine is about to be destroyed: cancel, wait, and forget; `ended` comes from within. Its loop turns no more. */
void snapshot_release(struct snapshot *snapshot);
