/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that hold disks in a snapshot: ranges copied so that holes stay holes, checksums, block maps.
 *
 * A disk's file has every byte at its own offset. In an incremental one only some blocks mean anything; its block map
 * says which (blocks of BLK_DIRTY_BLOCK bytes). The map is a file of its own, because a block that became zero is a hole in
 * the one and a bit in the other.
 *
 * Block map, little-endian: magic "BHBLKMAP", uint32 version 1, uint32 bytes of a block, uint64 bytes of the disk, then a bit for
 * each block, lowest first, in whole uint64; last the XXH3-128 of all before (low, high).
 *
 * Threads: an object belongs to one thread at a time, but for struct disk_work.
 */
#pragma once

#include "virtio/blk_dirty.h"
#include "vmm/base/error.h"
#include "vmm/transfer/file.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct blk_overlay;

/* How far it is. Written by the thread that works, read by any; `cancelled` the other way round. */
struct disk_work {
	_Atomic uint64_t done, total; /* bytes of the disk */
	_Atomic bool cancelled;
};

/* Copies from one file to another at the same offsets. */
struct disk_pump {
	int from, to;
	const char *from_name, *to_name;   /* in messages */
	const struct blk_overlay *overlay; /* what is read in place of `from`; NULL: nothing */
	bool fresh;		/* what was not written in `to` is a hole: zeros need not be made */
	struct disk_work *work; /* or NULL */
	uint8_t *buffer;
};

/* The buffer; free it with disk_pump_release(). */
int disk_pump_init(struct disk_pump *pump, struct error *err);
void disk_pump_release(struct disk_pump *pump);

/* Copy [offset, offset + len), blocks of zeros as holes. `from` may be open for direct I/O; its length is that of its sectors. */
int disk_pump_range(struct disk_pump *pump, uint64_t offset, uint64_t len, struct error *err);
/* The blocks of `set`, of a disk of `size` bytes. */
int disk_pump_blocks(
	struct disk_pump *pump, const struct page_set *set, uint64_t size, struct error *err);

/* Make [offset, offset + len) of `to` zeros; nothing where it is fresh. */
int disk_pump_clear(struct disk_pump *pump, uint64_t offset, uint64_t len, struct error *err);

/*
 * SNAPSHOT_CHECK_BLOCKS: the exclusive or of the file's blocks' XXH3-128 with the block's number plus one as the seed; one of zeros adds
 * nothing, so that holes cost nothing, and an incremental copy of a large disk as much as was written. disk_file_sum() adds
 * the range's to `sum`: it begins at a block's begin, and ends at one's end or the file's.
 */
int disk_file_sum(int fd, const char *name, uint64_t offset, uint64_t len, struct disk_work *work,
	struct checksum *sum, struct error *err);
/* Of the file's `size` bytes. */
int disk_file_checksum(int fd, const char *name, uint64_t size, struct disk_work *work,
	struct checksum *sum, struct error *err);

/* Make `name` in the folder of these blocks, on stable storage when it returns; it must not be there. */
int disk_map_write(
	int dirfd, const char *name, const struct page_set *set, uint64_t size, struct error *err);
/* What is read is hostile. *set is to be released. */
int disk_map_read(
	int dirfd, const char *name, struct page_set *set, uint64_t *size, struct error *err);
