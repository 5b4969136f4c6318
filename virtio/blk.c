/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk (virtio 1.2 §5.2): the device. See blk.h for the contract, blk_queue.c for the requests,
 * blk_image.c for the file.
 *
 * One I/O thread a queue. All queues share the file, the limits and the configuration; a queue's
 * requests live in a pool of its own, carved from one mapping that costs memory only as deep as the
 * queue is really used.
 *
 * Cache modes. `none` bypasses the host's page cache, `writeback` uses it; with both a completed write
 * is stable after the next FLUSH. `writethrough` makes it stable before it completes. The driver sees
 * which of the two holds in the `writeback` field, and may change it (CONFIG_WCE); one that does
 * not negotiate FLUSH could never make anything stable, so it gets writethrough (§5.2.6.2).
 */
#include "virtio/blk_queue.h"

#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

/* The fields that stand for what we offer: up to write_zeroes_may_unmap and its padding. */
#define CONFIG_SIZE (offsetof(struct virtio_blk_config, unused1) + 3)

static struct blk *blk_of(struct virtio_device *dev)
{
	return container_of(dev, struct blk, dev);
}

static void fill_config(struct blk *blk, struct virtio_blk_config *config)
{
	const struct blk_image *image = &blk->image;
	uint32_t physical_blocks = image->physical_size / image->block_size;

	memset(config, 0, sizeof(*config));
	config->capacity = htole64(atomic_load(&blk->capacity));
	config->seg_max = htole32(BLK_SEG_MAX);
	config->blk_size = htole32(image->block_size);
	config->physical_block_exp = (uint8_t)__builtin_ctz(physical_blocks);
	config->min_io_size = htole16((uint16_t)physical_blocks);
	config->wce = atomic_load(&blk->writeback);
	config->num_queues = htole16((uint16_t)blk->dev.queue_count);
	config->max_discard_sectors = htole32(BLK_DISCARD_MAX);
	config->max_discard_seg = htole32(BLK_RANGES_MAX);
	config->discard_sector_alignment = htole32(image->physical_size >> BLK_SECTOR_SHIFT);
	config->max_write_zeroes_sectors = htole32(BLK_ZEROES_MAX);
	config->max_write_zeroes_seg = htole32(BLK_RANGES_MAX);
	config->write_zeroes_may_unmap = image->discard;
}

static void config_read(struct virtio_device *dev, uint32_t offset, void *data, uint32_t len)
{
	struct virtio_blk_config config;

	fill_config(blk_of(dev), &config);
	memcpy(data, (uint8_t *)&config + offset, len);
}

static void config_write(struct virtio_device *dev, uint32_t offset, const void *data, uint32_t len)
{
	struct blk *blk = blk_of(dev);
	uint8_t value;

	if (offset != offsetof(struct virtio_blk_config, wce) || len != 1)
		return;
	if (!virtio_has_feature(dev, VIRTIO_BLK_F_CONFIG_WCE) ||
		!virtio_has_feature(dev, VIRTIO_BLK_F_FLUSH))
		return;
	memcpy(&value, data, 1);
	atomic_store(&blk->writeback, value & 1);
}

/* Each negotiation starts from the configured mode, whatever an earlier driver chose. */
static bool features_ok(struct virtio_device *dev, uint64_t features)
{
	struct blk *blk = blk_of(dev);
	bool flush = features >> VIRTIO_BLK_F_FLUSH & 1;

	atomic_store(&blk->writeback, flush && blk->image.cache != BLK_CACHE_WRITETHROUGH);
	return true;
}

static void free_blk(struct blk *blk)
{
	blk_image_close(&blk->image);
	if (blk->pools)
		munmap(blk->pools, blk->pools_size);
	free(blk_dirty_stop(&blk->dirty));
	free(blk->queues);
	free(blk);
}

static void destroy(struct virtio_device *dev)
{
	blk_flush_cancel(blk_of(dev));
	free_blk(blk_of(dev));
}

static const struct virtio_ops ops = {
	.id = 2,
	.name = "virtio-blk",
	.config_read = config_read,
	.config_write = config_write,
	.features_ok = features_ok,
	.queue_start = blk_queue_start,
	.queue_kicked = blk_queue_kicked,
	.queue_stop = blk_queue_stop,
	.queue_pause = blk_queue_pause,
	.queue_resume = blk_queue_resume,
	.state = &blk_state_table,
	.queue_kept = blk_queue_kept,
	.state_save = blk_state_save,
	.state_check = blk_state_check,
	.state_load = blk_state_load,
	.destroy = destroy,
};

static uint64_t offered_features(const struct blk *blk, unsigned queues)
{
	uint64_t features = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
			    1ull << VIRTIO_BLK_F_TOPOLOGY | 1ull << VIRTIO_BLK_F_FLUSH |
			    1ull << VIRTIO_BLK_F_CONFIG_WCE;

	if (queues > 1)
		features |= 1ull << VIRTIO_BLK_F_MQ;
	if (blk->image.readonly)
		return features | 1ull << VIRTIO_BLK_F_RO;
	features |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	if (blk->image.discard)
		features |= 1ull << VIRTIO_BLK_F_DISCARD;
	return features;
}

static int check_config(const struct blk_config *config, struct error *err)
{
	if (!config->queues || config->queues > BLK_QUEUES_MAX)
		return error_set(err, ERROR_BAD_REQUEST,
			"disk '%s': queues=%u is not between 1 and %d", config->id, config->queues,
			BLK_QUEUES_MAX);
	if (config->serial && strlen(config->serial) > BLK_SERIAL_LEN)
		return error_set(err, ERROR_BAD_REQUEST,
			"disk '%s': the serial '%s' is longer than %d bytes", config->id,
			config->serial, BLK_SERIAL_LEN);
	return 0;
}

static int allocate(struct blk *blk, const struct blk_config *config, struct error *err)
{
	blk->queues = calloc(config->queues, sizeof(*blk->queues));
	blk->pools_size = blk_queue_pool_size() * config->queues;
	blk->pools = mmap(NULL, blk->pools_size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (blk->pools == MAP_FAILED)
		blk->pools = NULL;
	if (!blk->queues || !blk->pools)
		return error_errno(err, ENOMEM, "cannot create disk '%s'", config->id);
	return 0;
}

static int setup(struct blk *blk, const struct blk_config *config,
	const struct guest_memory *memory, struct loop *main_loop, struct error *err)
{
	const char *serial = config->serial ? config->serial : config->id;
	int ret = blk_image_open(&blk->image, config, err);

	if (ret < 0)
		return ret;
	ret = allocate(blk, config, err);
	if (ret < 0)
		return ret;
	memcpy(blk->serial, serial, strnlen(serial, sizeof(blk->serial)));
	atomic_store(&blk->capacity, blk->image.size >> BLK_SECTOR_SHIFT);
	atomic_store(&blk->writeback, blk->image.cache != BLK_CACHE_WRITETHROUGH);
	token_bucket_set(&blk->iops, config->iops);
	token_bucket_set(&blk->bps, config->bps);
	blk->dev.ops = &ops;
	blk->dev.config_size = CONFIG_SIZE;
	blk->dev.features = offered_features(blk, config->queues);
	ret = virtio_device_init(
		&blk->dev, config->id, memory, main_loop, config->queues, 1, BLK_QUEUE_SIZE, err);
	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < config->queues; i++)
		blk_queue_init(
			&blk->queues[i], blk, i, (uint8_t *)blk->pools + i * blk_queue_pool_size());
	return 0;
}

int blk_create(const struct blk_config *config, const struct guest_memory *memory,
	struct loop *main_loop, struct virtio_device **out, struct error *err)
{
	struct blk *blk;
	int ret = check_config(config, err);

	if (ret < 0)
		return ret;
	blk = calloc(1, sizeof(*blk));
	if (!blk)
		return error_errno(err, ENOMEM, "cannot create disk '%s'", config->id);
	ret = setup(blk, config, memory, main_loop, err);
	if (ret < 0) {
		free_blk(blk);
		return ret;
	}
	*out = &blk->dev;
	return 0;
}

uint64_t blk_size(struct virtio_device *dev)
{
	return atomic_load(&blk_of(dev)->capacity) << BLK_SECTOR_SHIFT;
}

enum blk_cache blk_cache_mode(struct virtio_device *dev)
{
	return blk_of(dev)->image.cache; /* chosen when it was opened, and for good */
}

static int refuse_shrinking(
	const struct virtio_device *dev, uint64_t before, uint64_t after, struct error *err)
{
	/* A guest uses all of its disk: there is no moment at which the end may go away under it. */
	return error_set(err, ERROR_WRONG_STATE,
		"disk '%s' cannot be resized: it would shrink from %" PRIu64 " to %" PRIu64
		" bytes",
		dev->id, before, after);
}

int blk_resize(struct virtio_device *dev, uint64_t *size, struct error *err)
{
	struct blk *blk = blk_of(dev);
	uint64_t before = blk_size(dev), now = before;
	int ret = 0;

	if (*size && *size < before)
		return refuse_shrinking(dev, before, *size, err);
	if (*size > before)
		ret = blk_image_grow(&blk->image, *size, err);
	if (ret == 0)
		ret = blk_image_measure(&blk->image, &now, err);
	if (ret < 0)
		return error_prefix(err, "disk '%s' cannot be resized", dev->id);
	if (now < before)
		return refuse_shrinking(dev, before, now, err);
	*size = now;
	if (now == before)
		return 0;
	/* Together with the generation, so that a driver that reads it in halves can tell (§2.5.2). */
	pthread_mutex_lock(&dev->lock);
	atomic_store(&blk->capacity, now >> BLK_SECTOR_SHIFT);
	virtio_device_config_changed(dev);
	pthread_mutex_unlock(&dev->lock);
	return 0;
}

bool blk_is_mounted(struct virtio_device *dev)
{
	return blk_image_is_mounted(&blk_of(dev)->image);
}

void blk_set_limits(struct virtio_device *dev, uint64_t iops, uint64_t bps)
{
	struct blk *blk = blk_of(dev);

	token_bucket_set(&blk->iops, iops);
	token_bucket_set(&blk->bps, bps);
	for (unsigned i = 0; i < dev->queue_count; i++)
		blk_queue_limits_changed(&blk->queues[i]);
}

void blk_get_counters(struct virtio_device *dev, uint64_t counters[BLK_COUNTERS])
{
	struct blk *blk = blk_of(dev);

	memset(counters, 0, sizeof(*counters) * BLK_COUNTERS);
	for (unsigned i = 0; i < dev->queue_count; i++)
		for (unsigned c = 0; c < BLK_COUNTERS; c++)
			counters[c] += atomic_load_explicit(
				&blk->queues[i].counters[c], memory_order_relaxed);
}

uint64_t blk_in_flight(struct virtio_device *dev)
{
	struct blk *blk = blk_of(dev);
	uint64_t held = 0;

	for (unsigned i = 0; i < dev->queue_count; i++)
		held += atomic_load_explicit(&blk->queues[i].held, memory_order_relaxed);
	return held;
}

void blk_add_latency(struct virtio_device *dev, enum blk_latency kind, struct histogram_sums *sums)
{
	struct blk *blk = blk_of(dev);

	for (unsigned i = 0; i < dev->queue_count; i++)
		histogram_add_to(sums, &blk->queues[i].latencies[kind]);
}

/* ---- which blocks change ---- */

static void nothing(void *arg)
{
	(void)arg;
}

/* Each queue's thread is seen between two requests: what it saw of `dirty` before, it sees no more. */
static void pass_by_queues(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->thread_count; i++)
		if (dev->threads[i].running)
			loop_call(dev->threads[i].loop, nothing, NULL);
}

int blk_track(struct virtio_device *dev, struct error *err)
{
	struct blk *blk = blk_of(dev);

	if (blk_dirty_on(&blk->dirty))
		return 0;
	if (blk_dirty_start(&blk->dirty, blk_size(dev)) < 0)
		return error_errno(
			err, ENOMEM, "disk '%s': its changes cannot be tracked", dev->id);
	pass_by_queues(dev);
	return 0;
}

void blk_untrack(struct virtio_device *dev)
{
	struct blk_dirty_map *map = blk_dirty_stop(&blk_of(dev)->dirty);

	if (map)
		pass_by_queues(dev);
	free(map);
}

struct blk_dirty *blk_dirty(struct virtio_device *dev)
{
	return &blk_of(dev)->dirty;
}

struct blk_source blk_source(struct virtio_device *dev)
{
	const struct blk_image *image = &blk_of(dev)->image;

	return (struct blk_source){
		.fd = image->fd, .block_device = image->block_device, .overlay = image->overlay};
}
