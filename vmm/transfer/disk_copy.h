/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running disk's content at one point in time, as a file in a snapshot's folder.
 *
 *   start     main thread      opens the file, switches tracking on
 *   prepare   a worker         while the guest runs: all that can be done before the pause
 *   final     any one thread   in the pause, the disk quiet and flushed: the point in time
 *   finish    a worker         while the guest runs again: checksum, map, stable storage
 *   commit    main thread      the snapshot is there: changes count from it
 *   destroy   main thread      without a commit all is as if nothing had been: no file, no mark lost
 *
 * Each step is called once and in this order, but destroy, which may come at any time that no other runs. A step that fails leaves
 * only destroy. reflink: the file shares the image's blocks, made within the pause, however large the disk. copy: made
 * while the guest runs, pass by pass over what changed meanwhile, until little is left or it does not become
 * less; that is copied in the pause. incremental: the same, of what changed since the parent's copy, into a file with a map
 * of its blocks (disk_file.h), named FILE.map.
 */
#pragma once

#include "vmm/transfer/disk_file.h"

struct virtio_device;
struct disk_copy;

#define DISK_MAP_SUFFIX ".map"

enum disk_copy_mode { DISK_COPY_REFLINK, DISK_COPY_FULL, DISK_COPY_INCREMENTAL };

struct disk_copy_config {
	struct virtio_device *dev; /* a disk; it must outlive the copy */
	enum disk_copy_mode mode;
	int dirfd;	    /* the folder; the caller's, to stay open */
	const char *file;   /* to be made in it */
	const char *parent; /* incremental: whose copy it is laid over */
	bool track;	    /* from the point in time on, for an incremental one to come */
	bool checksum;	    /* of the whole file: it is read once more, after the pause */
	uint64_t pause_max; /* bytes to be copied in the pause that are refused before it; 0: any */
};

struct disk_copy_result {
	uint64_t size; /* of the disk, bytes */
	bool has_map;  /* FILE.map belongs to it */
	bool has_checksum;
	struct checksum sum;		     /* of `file` */
	uint64_t before_bytes, paused_bytes; /* looked at before and in the pause */
	unsigned passes;
};

int disk_copy_start(
	const struct disk_copy_config *config, struct disk_copy **out, struct error *err);
int disk_copy_prepare(struct disk_copy *copy, struct error *err);
int disk_copy_final(struct disk_copy *copy, struct error *err);
int disk_copy_finish(struct disk_copy *copy, struct disk_copy_result *result, struct error *err);

/* `id`: what a later incremental names as its parent. */
void disk_copy_commit(struct disk_copy *copy, const char *id);

/* NULL is accepted. */
void disk_copy_destroy(struct disk_copy *copy);

/* Any thread: how far it is; end the present and all later steps with the kind `cancelled`. */
void disk_copy_progress(const struct disk_copy *copy, uint64_t *done, uint64_t *total);
void disk_copy_cancel(struct disk_copy *copy);

/* Changes count from here on, since the disk's content is that snapshot's: of a disk just restored. Main thread, no vCPU running. */
int disk_copy_count_from(struct virtio_device *dev, const char *id, struct error *err);

/* Whether an incremental copy can be laid over that snapshot's. Main thread. */
bool disk_copy_has_changes_since(struct virtio_device *dev, const char *id);
