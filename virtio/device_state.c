/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state that all virtio devices share: how far the driver has come (virtio 1.2 §2.1), what was negotiated, the registers
 * of the queues and where each ring stands.
 *
 * Only a quiet device is saved, so a ring's two positions say everything, but for requests that were taken and are kept (a
 * disk's, held back by a limit): those are named by their heads, and popped anew, first of all, by the device that takes over. What
 * the driver shares with us (rings, event indices) is in guest memory.
 *
 * Loading believes nothing: what a driver could not have brought about is refused, rings are translated and checked as at
 * DRIVER_OK, features must be offered here.
 */
#include "virtio/device_private.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <inttypes.h>
#include <linux/virtio_config.h>
#include <string.h>

static const struct state_field queue_fields[] = {
	STATE_UINT(struct virtqueue_state, desc),
	STATE_UINT(struct virtqueue_state, driver),
	STATE_UINT(struct virtqueue_state, device),
	STATE_UINT(struct virtqueue_state, size),
	STATE_UINT(struct virtqueue_state, vector),
	STATE_UINT(struct virtqueue_state, next_avail),
	STATE_UINT(struct virtqueue_state, next_used),
	STATE_UINT(struct virtqueue_state, signalled_used),
	STATE_BOOL(struct virtqueue_state, enabled),
	{.name = "kept",
		.kind = STATE_KIND_UINT,
		.offset = offsetof(struct virtqueue_state, kept),
		.size = sizeof(uint16_t),
		.count = VIRTQUEUE_SIZE_MAX,
		.used = offsetof(struct virtqueue_state, kept_count)},
};
const struct state_table virtqueue_state_table =
	STATE_TABLE("virtqueue", 1, struct virtqueue_state, queue_fields);

/* ---- saving ---- */

static void save_queue(struct device_queue *dq, bool runs, struct virtqueue_state *s)
{
	const struct virtio_ops *ops = dq->device->ops;

	*s = (struct virtqueue_state){
		.desc = dq->registers.desc,
		.driver = dq->registers.driver,
		.device = dq->registers.device,
		.size = dq->registers.size,
		.vector = dq->vector,
		.enabled = dq->enabled,
	};
	if (!runs || !dq->enabled)
		return;
	s->next_avail = dq->ring.next_avail;
	s->next_used = dq->ring.next_used;
	s->signalled_used = dq->ring.signalled_used;
	while (dq->kept_at + s->kept_count < dq->kept_count) {
		s->kept[s->kept_count] = dq->kept[dq->kept_at + s->kept_count];
		s->kept_count++;
	}
	if (ops->queue_kept && !s->kept_count) /* one that has not started yet has nothing else */
		s->kept_count = ops->queue_kept(dq, s->kept);
}

void virtio_device_save(struct virtio_device *dev, struct virtio_device_state *s)
{
	BUG_ON(!dev->quiet || dev->queues_pausing || dev->queue_count > VIRTIO_QUEUES_MAX);
	pthread_mutex_lock(&dev->lock);
	*s = (struct virtio_device_state){
		.type = dev->ops->id,
		.status = atomic_load(&dev->status),
		.activated = dev->activated,
		.broken = atomic_load(&dev->broken),
		.config_generation = atomic_load(&dev->config_generation),
		.config_changed = atomic_load(&dev->config_changed),
		.driver_features = dev->driver_features,
		.queue_count = dev->queue_count,
	};
	for (unsigned i = 0; i < dev->queue_count; i++)
		save_queue(&dev->queues[i], s->activated && !s->broken, &s->queues[i]);
	pthread_mutex_unlock(&dev->lock);
}

/* ---- checking ---- */

static int contradiction(struct error *err, const char *what)
{
	return error_set(err, ERROR_CORRUPT, "the state contradicts itself: %s", what);
}

static int check_features(
	const struct virtio_device *dev, const struct virtio_device_state *s, struct error *err)
{
	uint64_t missing = s->driver_features & ~dev->features;

	if (!(s->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return 0;
	if (missing)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest uses feature %d of %s, which this host does not offer",
			__builtin_ctzll(missing), dev->ops->name);
	if (!(s->driver_features >> VIRTIO_F_VERSION_1 & 1))
		return contradiction(err, "features were agreed on without VERSION_1");
	return 0;
}

/* §2.1, as set_status() and virtio_device_break() leave it. */
static int check_status(const struct virtio_device_state *s, struct error *err)
{
	const uint8_t going = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;

	if (s->broken != !!(s->status & VIRTIO_CONFIG_S_NEEDS_RESET))
		return contradiction(err, "whether the device needs a reset");
	if (s->activated && (s->status & going) != going)
		return contradiction(err, "it is at work, but its driver has not said so");
	if (!s->activated && !s->broken && s->status & VIRTIO_CONFIG_S_DRIVER_OK)
		return contradiction(err, "its driver is at work, but it is not");
	return 0;
}

static struct virtqueue_registers registers_of(const struct virtqueue_state *s)
{
	return (struct virtqueue_registers){
		.size = s->size, .desc = s->desc, .driver = s->driver, .device = s->device};
}

static int check_ring(const struct virtio_device *dev, const struct virtio_device_state *s,
	unsigned index, struct error *err)
{
	const struct virtqueue_state *qs = &s->queues[index];
	const struct virtqueue_registers registers = registers_of(qs);
	struct virtqueue ring;

	if (virtqueue_start(&ring, dev->memory, &registers, s->driver_features) < 0)
		return error_set(err, ERROR_CORRUPT, "queue %u: %s", index, ring.fault);
	if (qs->kept_count && !dev->ops->queue_kept)
		return error_set(err, ERROR_CORRUPT, "queue %u: it keeps no chains", index);
	if ((uint16_t)(qs->next_avail - qs->next_used) != qs->kept_count)
		return error_set(err, ERROR_CORRUPT,
			"queue %u: %u chains were taken and %u completed, but %" PRIu32 " are kept",
			index, qs->next_avail, qs->next_used, qs->kept_count);
	for (uint32_t i = 0; i < qs->kept_count; i++)
		if (qs->kept[i] >= qs->size)
			return error_set(err, ERROR_CORRUPT,
				"queue %u: a kept chain's head is out of range", index);
	return 0;
}

int virtio_device_check(
	struct virtio_device *dev, const struct virtio_device_state *s, struct error *err)
{
	int ret;

	if (s->type != dev->ops->id)
		return error_set(err, ERROR_INCOMPATIBLE, "it was a device of type %u and is a %s",
			s->type, dev->ops->name);
	if (s->queue_count != dev->queue_count)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest knows %" PRIu32 " queues of it, and it has %u", s->queue_count,
			dev->queue_count);
	ret = check_status(s, err);
	if (ret == 0)
		ret = check_features(dev, s, err);
	for (unsigned i = 0; i < s->queue_count && ret == 0; i++) {
		if (s->activated && !s->broken && s->queues[i].enabled)
			ret = check_ring(dev, s, i, err);
		else if (s->queues[i].kept_count)
			ret = contradiction(err, "a queue that does not run keeps chains");
	}
	return ret;
}

/* ---- loading ---- */

static void load_queue(struct device_queue *dq, const struct virtio_device_state *s,
	const struct virtqueue_state *qs)
{
	struct virtio_device *dev = dq->device;
	struct virtqueue *ring = &dq->ring;

	dq->registers = registers_of(qs);
	dq->enabled = qs->enabled;
	dq->vector = qs->vector;
	dq->kept_at = 0;
	dq->kept_count = qs->kept_count;
	memcpy(dq->kept, qs->kept, qs->kept_count * sizeof(qs->kept[0]));
	if (!s->activated || !qs->enabled)
		return;
	if (s->broken) {
		*ring = (struct virtqueue){.fault = "it was broken when it was saved"};
	} else {
		BUG_ON(virtqueue_start(ring, dev->memory, &dq->registers, s->driver_features) < 0);
		ring->next_avail = qs->next_avail;
		ring->next_used = qs->next_used;
		ring->signalled_used = qs->signalled_used;
	}
	ring->owner = dev->id;
	ring->index = dq->index;
}

void virtio_device_load(struct virtio_device *dev, const struct virtio_device_state *s)
{
	BUG_ON(dev->activated || dev->resetting);
	dev->quiet = true;
	pthread_mutex_lock(&dev->lock);
	dev->driver_features = s->driver_features;
	if (s->status & VIRTIO_CONFIG_S_FEATURES_OK && dev->ops->features_ok)
		dev->ops->features_ok(dev, s->driver_features);
	for (unsigned i = 0; i < dev->queue_count; i++)
		load_queue(&dev->queues[i], s, &s->queues[i]);
	atomic_store(&dev->status, s->status);
	atomic_store(&dev->config_generation, s->config_generation);
	atomic_store(&dev->config_changed, s->config_changed);
	atomic_store(&dev->broken, s->broken);
	dev->activated = dev->start_held = s->activated;
	pthread_mutex_unlock(&dev->lock);
}
