/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk whose unchanged clusters come from a read-only base file, which any number of siblings share.
 *
 * File: a header of 4 KiB (magic, version, cluster, where the data begins, the base's path, size and identity, a checksum), a bitmap at
 * 64 KiB with a bit for each cluster of 64 KiB, and from `BLK_OVERLAY_DATA` on each cluster at its own offset. The header
 * never changes; the disk's size is the file's without what is before the data. All of it is sparse.
 *
 * A cluster whose bit is set is the overlay's own; the others are the base's, or zero behind its end. A write of a part of a cluster first
 * brings the whole of it over. Bits in memory (`live`) are set when a cluster is complete; those in the file only after an fdatasync that
 * began later than that, at the guest's next flush. So whatever moment the host dies, a bit in the file means data in the file, and what was
 * flushed is there; what was not may be the base's again, as a disk's write cache may lose it.
 *
 * That a file is an overlay is never found out by looking: the owner says so. (A guest can write any header into a raw disk.)
 *
 * Threads: the disk's one queue, but for blk_overlay_read() and blk_overlay_size(), which any may use; opening and growing on the main thread.
 */
#pragma once

#include "vmm/base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define BLK_OVERLAY_SHIFT   16
#define BLK_OVERLAY_CLUSTER (1u << BLK_OVERLAY_SHIFT)
#define BLK_OVERLAY_MAX	    (1ull << 44) /* bytes of a disk: what the bitmap has room for */
#define BLK_OVERLAY_BITMAP  (1ull << 16)
#define BLK_OVERLAY_DATA    (BLK_OVERLAY_BITMAP + BLK_OVERLAY_MAX / BLK_OVERLAY_CLUSTER / 8)

#define BLK_OVERLAY_NAME_SIZE 4024 /* of the base's path in the header */

struct blk_overlay;

/* What a file says of itself. It may be in use meanwhile: then it is of some moment. */
struct blk_overlay_info {
	uint64_t size, base_size; /* of the disk, and of the base when it was made; bytes */
	uint64_t clusters, own;	  /* of the disk, and those of them that are the overlay's own */
	uint64_t stray; /* that have data and are not its own: writes that were never flushed */
	char base
		[BLK_OVERLAY_NAME_SIZE]; /* as it was named when it was made; for people, not for open() */
};

/* Make the file, whole or not at all; of `size` bytes, at least the base's; 0: the base's. */
int blk_overlay_create(const char *path, const char *base, uint64_t size, struct error *err);

/* The file begins like one. That is for people and for refusals, and no proof. */
bool blk_overlay_seems(int fd);
/* Look at a file and check it; against `base` too, where that is not NULL. */
int blk_overlay_inspect(int fd, const char *path, const char *base, struct blk_overlay_info *info,
	struct error *err);

/* `fd` is the overlay's file, open, locked, and the caller's to close afterwards. Opens the base and locks it shared. */
int blk_overlay_open(
	struct blk_overlay **out, int fd, const char *path, const char *base, struct error *err);
/* NULL is accepted. What is complete is made stable first, as a flush does it. */
void blk_overlay_close(struct blk_overlay *overlay);

/* The disk's size as the file's length has it now. */
int blk_overlay_size(const struct blk_overlay *overlay, uint64_t *size, struct error *err);

/* Where [offset, ...) is, and in *len for how long that is so: where it lies in which file; -1: it is zero. */
int blk_overlay_find(
	const struct blk_overlay *overlay, uint64_t offset, uint64_t *len, uint64_t *file_offset);

/* Both in words of the disk: all clusters of the range are the overlay's own. */
bool blk_overlay_owns(const struct blk_overlay *overlay, uint64_t offset, uint64_t len);

/*
 * Before [offset, offset + len) is written: bring those clusters over that it covers in part. Waits for the files. *whole: there are
 * clusters that it covers whole, and that are not the overlay's own before blk_overlay_own().
 */
int blk_overlay_prepare(
	struct blk_overlay *overlay, uint64_t offset, uint64_t len, uint64_t size, bool *whole);
/* It is written. Negative errno: it is not the overlay's. */
int blk_overlay_own(struct blk_overlay *overlay, uint64_t offset, uint64_t len);

/* A number that stands for the clusters that are complete by now; after an fdatasync that began later, make their bits stable. Waits. */
uint64_t blk_overlay_mark(const struct blk_overlay *overlay);
int blk_overlay_persist(struct blk_overlay *overlay, uint64_t mark);
/* There are complete clusters whose bits are not stable. */
bool blk_overlay_is_ahead(const struct blk_overlay *overlay);
/* An fdatasync failed: no bit becomes stable any more. */
void blk_overlay_give_up(struct blk_overlay *overlay);

/* The disk's content, wherever it is; bytes behind the end of both files are zero. `data` aligned as direct I/O wants it. */
int blk_overlay_read(const struct blk_overlay *overlay, void *data, uint64_t len, uint64_t offset);
