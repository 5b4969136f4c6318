/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only a disk has of state. The file behind it may be another one: what the guest believes of it (size, block size, whether it
 * may write) must hold there too. One that has grown meanwhile is announced. Limits are the configuration's; what was owed to
 * them is forgiven, as by every change of them.
 */
#include "virtio/blk_queue.h"

#include "vmm/base/util.h"

#include <inttypes.h>

struct blk_state {
	uint64_t capacity; /* sectors */
	uint32_t block_size;
	uint8_t readonly, writeback;
	uint8_t flush_lost; /* a flush has failed once: the guest may miss data, and is not to hear otherwise */
};
_Static_assert(sizeof(struct blk_state) <= VIRTIO_OWN_STATE_MAX, "it is kept in the transport's");

static const struct state_field fields[] = {
	STATE_UINT(struct blk_state, capacity, .max = UINT64_MAX >> BLK_SECTOR_SHIFT),
	STATE_UINT(struct blk_state, block_size),
	STATE_BOOL(struct blk_state, readonly),
	STATE_BOOL(struct blk_state, writeback),
	STATE_BOOL(struct blk_state, flush_lost),
};
const struct state_table blk_state_table = STATE_TABLE("blk", 1, struct blk_state, fields);

static struct blk *blk_of(struct virtio_device *dev)
{
	return container_of(dev, struct blk, dev);
}

void blk_state_save(struct virtio_device *dev, void *own)
{
	struct blk *blk = blk_of(dev);

	*(struct blk_state *)own = (struct blk_state){
		.capacity = atomic_load(&blk->capacity),
		.block_size = blk->image.block_size,
		.readonly = blk->image.readonly,
		.writeback = atomic_load(&blk->writeback),
		.flush_lost = atomic_load(&blk->flush_lost),
	};
}

int blk_state_check(struct virtio_device *dev, const struct virtio_device_state *shared,
	const void *own, struct error *err)
{
	const struct blk_state *s = own;
	const struct blk *blk = blk_of(dev);
	bool flushes = shared->driver_features >> VIRTIO_BLK_F_FLUSH & 1;

	if (blk_size(dev) >> BLK_SECTOR_SHIFT < s->capacity)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest's disk has %" PRIu64 " bytes, this file only %" PRIu64,
			s->capacity << BLK_SECTOR_SHIFT, blk_size(dev));
	if (blk->image.block_size > s->block_size)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest's disk has blocks of %" PRIu32 " bytes, this one of %" PRIu32,
			s->block_size, blk->image.block_size);
	if (blk->image.readonly != s->readonly)
		return error_set(err, ERROR_INCOMPATIBLE, "the guest's disk is %s, this one is not",
			s->readonly ? "read-only" : "writable");
	/* §5.2.6.2: who cannot flush never has a volatile cache. */
	if (s->writeback && !flushes && shared->status & VIRTIO_CONFIG_S_FEATURES_OK)
		return error_set(err, ERROR_CORRUPT,
			"the state contradicts itself: a write-back cache without flushes");
	return 0;
}

void blk_state_load(struct virtio_device *dev, const void *own)
{
	const struct blk_state *s = own;
	struct blk *blk = blk_of(dev);

	atomic_store(&blk->writeback, s->writeback);
	atomic_store(&blk->flush_lost, s->flush_lost);
	if (atomic_load(&blk->capacity) != s->capacity)
		virtio_device_config_changed(dev);
}
