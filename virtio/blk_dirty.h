/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a disk have changed: the disk's half of the dirty engine.
 *
 * A bit stands for 64 KiB of the disk as the guest sees it. A queue's thread sets it when a write, a discard or a
 * write-zeroes has COMPLETED, whatever came of it, and before the guest is told. Not before it is submitted: a copier
 * that takes the bits and then reads could take the bit and read the old block while the write is still on its way,
 * and nothing would say that the copy is stale. Set afterwards, each bit that is taken stands for bytes that are there to be
 * read, and a block that was read while a write was under way is marked again. So a copy is whole when, with no request
 * in flight, the last bits have been taken and their blocks read.
 *
 * Bits are given up only for good: a taker adds what it takes to a set of its own, and gives all of it back when what it
 * did with the blocks comes to nothing.
 *
 * Threads: marks on queue threads; takes and gives back on any one thread at a time; start, restart and stop on the main
 * thread. A disk that is not tracked costs a load per write.
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/memory/page_set.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BLK_DIRTY_SHIFT 16
#define BLK_DIRTY_BLOCK (1u << BLK_DIRTY_SHIFT)

/* How many blocks `size` bytes make: the last may be a part of one. */
static inline uint64_t block_count(uint64_t size)
{
	return (size >> BLK_DIRTY_SHIFT) + !!(size & (BLK_DIRTY_BLOCK - 1));
}

/* Room for `count` blocks in a set of them (of zeros, or one that was created); those that are new are not in it. It never shrinks. */
int block_set_grow(struct page_set *set, uint64_t count, struct error *err);

struct blk_dirty_map;

#define BLK_DIRTY_SINCE 64

struct blk_dirty {
	_Atomic(struct blk_dirty_map *) map; /* NULL: not tracked */
	char since
		[BLK_DIRTY_SINCE]; /* whose copy the marks count from, for takers; a stop clears it */
};

/* Track `size` bytes, none of them changed. Where there is no memory: -ENOMEM, and not tracked. What lies beyond counts as changed each time. */
int blk_dirty_start(struct blk_dirty *dirty, uint64_t size);

/* Queue threads may still be at work with the map that is returned: free() it when they have been seen to be elsewhere. */
struct blk_dirty_map *blk_dirty_stop(struct blk_dirty *dirty);

static inline bool blk_dirty_on(const struct blk_dirty *dirty)
{
	return atomic_load_explicit(&dirty->map, memory_order_relaxed);
}

void blk_dirty_mark_map(struct blk_dirty_map *map, uint64_t offset, uint64_t len);

/* [offset, offset + len) has been written, perhaps. */
static inline void blk_dirty_mark(struct blk_dirty *dirty, uint64_t offset, uint64_t len)
{
	struct blk_dirty_map *map = atomic_load_explicit(&dirty->map, memory_order_acquire);

	if (__builtin_expect(!!map, 0))
		blk_dirty_mark_map(map, offset, len);
}

/* Blocks marked and not taken, of a disk of `size` bytes. */
uint64_t blk_dirty_pending(const struct blk_dirty *dirty, uint64_t size);

/* Move the marks into `set`, which holds all blocks of the disk; what it had stays in it. */
void blk_dirty_take(struct blk_dirty *dirty, struct page_set *set);

/* Mark all of `set` again. */
void blk_dirty_give_back(struct blk_dirty *dirty, const struct page_set *set);
