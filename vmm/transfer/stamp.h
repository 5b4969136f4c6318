/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was found good and has not been written since need not be read again: the file `verified`.
 *
 * It names the snapshot's id and, a line for each part, the file's device, inode, size, and the times of its last writing (mtime) and
 * last change of any kind (ctime) in nanoseconds. Nobody can set a ctime: the kernel sets it with every write. So a part whose line
 * is still true holds what it held. The kernel's time for files goes in ticks, so a line is made only when the last change is some
 * ticks ago; whatever is written later has another time then. A copied or moved snapshot has other inodes: it is read once.
 *
 * What this cannot see is a disk that gives back other bytes than it was given: `bulkhead inspect --verify` reads all.
 */
#pragma once

#include "vmm/transfer/manifest.h"

#define SNAPSHOT_STAMP_FILE "verified"

/*
 * The lines of all parts as they are now; the caller's to free(). Waits for a few ticks of the clock. Made before the parts are read and
 * saved when they were found good: what was written meanwhile has another time, and its line does not hold.
 */
char *snapshot_stamp_make(int dir, const struct snapshot_manifest *manifest);
int snapshot_stamp_save(int dir, const char *text, struct error *err);

/* Is the part that `fd` is open on as the folder's stamp says? Never where there is none. */
bool snapshot_stamp_holds(
	int dir, const struct snapshot_manifest *manifest, const char *part, int fd);
