/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk again out of what snapshots hold of it: a full file, and the incremental ones laid over it.
 *
 * Each block comes from the newest layer that has it. Where the file system can, the full file's blocks are shared
 * (reflink) and only what is laid over them is copied. What is read is hostile: maps and files are measured against each other
 * before anything is made. Blocking: workers, or before the machine runs.
 */
#pragma once

#include "vmm/transfer/disk_file.h"

struct disk_layer {
	int dirfd;	  /* the snapshot's folder */
	const char *file; /* in it */
	bool has_map;	  /* it is incremental: FILE.map is there too */
};

struct disk_restored {
	uint64_t size; /* of the disk, bytes */
	bool shared;   /* the full file's blocks were not copied */
	bool has_map;  /* no layer was full: merged to one incremental */
};

/*
 * Make the file or fill the block device `path`; newest layer first, the last one full. A file that is there already is
 * refused unless `replace`, and is there as it was until the new one is complete. A volume keeps what it has beyond the disk's size.
 */
int disk_restore(const struct disk_layer *layers, unsigned count, const char *path, bool replace,
	struct disk_work *work, struct disk_restored *restored, struct error *err);

/*
 * The same as one file of a snapshot, in the folder `dirfd`, on stable storage when it returns: full where the last layer is, else
 * incremental over that one's parent, with its map.
 */
int disk_merge(const struct disk_layer *layers, unsigned count, int dirfd, const char *file,
	struct disk_work *work, struct disk_restored *restored, struct error *err);
