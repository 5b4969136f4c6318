/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all virtio devices share. See device.h for the life of a device and who runs where.
 *
 * All changes between "off", "active" and "resetting" happen on the main loop, in the order in which
 * the vCPUs asked for them: DRIVER_OK posts activate_job, writing 0 posts reset_job. Queue threads
 * answer a stop by adding to queues_done and posting queue_done_job. So there is one thread that
 * knows the state, and none that waits.
 */
#include "virtio/device_private.h"

#include "vmm/base/log.h"
#include "vmm/base/probe.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

static void activate_job(struct loop_job *job);
static void reset_device(struct loop_job *job);
static void queue_done(struct loop_job *job);
static void start_queue(struct loop_job *job);
static void stop_queue(struct loop_job *job);
static bool look_for_chains(const struct loop_watch *watch);
static bool ask_for_kicks(struct loop_watch *watch);
static void chains_came(struct loop_watch *watch);

static struct loop_thread *thread_of(struct virtio_device *dev, unsigned queue)
{
	return &dev->threads[min_u64(queue / dev->queues_per_thread, dev->thread_count - 1)];
}

static void reset_registers(struct virtio_device *dev)
{
	dev->driver_features = 0;
	dev->activated = false;
	dev->resetting = false;
	atomic_store(&dev->broken, false);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		struct device_queue *dq = &dev->queues[i];

		dq->registers = (struct virtqueue_registers){.size = dq->size_max};
		dq->enabled = false;
		dq->vector = NO_VECTOR;
		dq->kept_at = dq->kept_count = 0;
	}
}

int virtio_device_init(struct virtio_device *dev, const char *id, const struct guest_memory *memory,
	struct loop *main_loop, unsigned queue_count, unsigned queues_per_thread,
	uint16_t queue_size, struct error *err)
{
	snprintf(dev->id, sizeof(dev->id), "%s", id);
	dev->memory = memory;
	dev->main_loop = main_loop;
	dev->features |= 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX |
			 1ull << VIRTIO_RING_F_INDIRECT_DESC;
	dev->queue_count = queue_count;
	dev->queues_per_thread = queues_per_thread;
	/* A last queue beyond the groups (net's control queue) is served by the last thread. */
	dev->thread_count = queue_count / queues_per_thread;
	if (!dev->loop_entries)
		dev->loop_entries = 128;
	dev->queues = calloc(queue_count, sizeof(*dev->queues));
	dev->threads = calloc(dev->thread_count, sizeof(*dev->threads));
	if (!dev->queues || !dev->threads) {
		free(dev->queues);
		free(dev->threads);
		return error_errno(err, ENOMEM, "cannot create the device '%s'", id);
	}
	for (unsigned i = 0; i < queue_count; i++) {
		struct device_queue *dq = &dev->queues[i];

		dq->device = dev;
		dq->index = i;
		dq->kick_fd = -1;
		dq->size_max = queue_size;
		dq->start_job.run = start_queue;
		dq->stop_job.run = stop_queue;
		dq->pause_job.run = virtio_pause_queue;
		dq->resume_job.run = virtio_resume_queue;
		dq->chains.look = look_for_chains;
		dq->chains.arm = ask_for_kicks;
		dq->chains.run = chains_came;
	}
	dev->activate_job.run = activate_job;
	dev->reset_job.run = reset_device;
	dev->queue_done_job.run = queue_done;
	pthread_mutex_init(&dev->lock, NULL);
	reset_registers(dev);
	return 0;
}

/* ---- activation, on the main loop ---- */

static int prepare_threads(struct virtio_device *dev, struct error *err)
{
	for (unsigned i = 0; i < dev->queue_count; i++) {
		struct device_queue *dq = &dev->queues[i];
		struct loop_thread *thread = thread_of(dev, i);
		char name[16];
		int ret;

		if (!dq->enabled)
			continue;
		if (dq->kick_fd < 0)
			dq->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (dq->kick_fd < 0)
			return error_errno(err, errno, "cannot create the eventfd of a queue");
		if (!thread->running) {
			snprintf(name, sizeof(name), "%.11s.%u", dev->id,
				(unsigned)(thread - dev->threads) & 0xff);
			thread->enter = dev->thread_enter;
			thread->enter_arg = dev->thread_enter_arg;
			thread->spins = true;
			thread->others = dev->vcpus;
			ret = loop_thread_start(thread, name, dev->loop_entries, err);
			if (ret < 0)
				return ret;
		}
		dq->loop = thread->loop;
	}
	return 0;
}

void virtio_device_activate(struct virtio_device *dev)
{
	struct error err;

	if (dev->quiet) {
		dev->start_held = true;
		return;
	}
	if (prepare_threads(dev, &err) < 0) {
		log_error("%s '%s': %s", dev->ops->name, dev->id, err.text);
		virtio_device_break(dev, "the host could not start it");
		return;
	}
	if (dev->transport)
		dev->transport->kicks_connect(dev);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		struct device_queue *dq = &dev->queues[i];

		if (!dq->enabled)
			continue;
		dev->queues_running++;
		loop_post(dq->loop, &dq->start_job);
	}
}

static void activate_job(struct loop_job *job)
{
	virtio_device_activate(container_of(job, struct virtio_device, activate_job));
}

static void kicked(struct loop_poll *poll, uint32_t revents)
{
	struct device_queue *dq = container_of(poll, struct device_queue, kick);

	PROBE(virtqueue__kick, dq->device->id, dq->index, revents);
	if (device_queue_serving(dq))
		dq->device->ops->queue_kicked(dq);
}

static struct device_queue *watched(const struct loop_watch *watch)
{
	return container_of(watch, struct device_queue, chains);
}

static bool look_for_chains(const struct loop_watch *watch)
{
	return virtqueue_has_chains(&watched(watch)->ring);
}

static bool ask_for_kicks(struct loop_watch *watch)
{
	return virtqueue_enable_kicks(&watched(watch)->ring);
}

static void chains_came(struct loop_watch *watch)
{
	kicked(&watched(watch)->kick, 0);
}

void device_queue_rest(struct device_queue *dq)
{
	if (device_queue_serving(dq))
		loop_watch_start(dq->loop, &dq->chains);
}

static void start_queue(struct loop_job *job)
{
	struct device_queue *dq = container_of(job, struct device_queue, start_job);
	const struct virtio_ops *ops = dq->device->ops;

	dq->running = true;
	dq->stopping = false;
	dq->pausing = dq->pause_owed = false;
	dq->external = false;
	if (ops->queue_start)
		ops->queue_start(dq);
	if (dq->external)
		return;
	dq->kick.fd = dq->kick_fd;
	dq->kick.events = POLLIN;
	dq->kick.ready = kicked;
	loop_poll_start(dq->loop, &dq->kick);
	/* The driver may have queued chains before its kicks could reach us. */
	if (device_queue_usable(dq))
		ops->queue_kicked(dq);
}

/* ---- reset: main loop -> queue threads -> main loop ---- */

static void finish_reset(struct virtio_device *dev)
{
	pthread_mutex_lock(&dev->lock);
	if (dev->transport)
		dev->transport->kicks_disconnect(dev);
	reset_registers(dev);
	atomic_store(&dev->status, 0);
	pthread_mutex_unlock(&dev->lock);
	atomic_store(&dev->config_changed, false);
	virtio_quiesce_reset(dev); /* first: who asked for the reset may free the device */
	if (dev->reset_done) {
		void (*done)(struct virtio_device *, void *) = dev->reset_done;

		dev->reset_done = NULL;
		done(dev, dev->reset_done_arg);
	}
}

static void reset_device(struct loop_job *job)
{
	struct virtio_device *dev = container_of(job, struct virtio_device, reset_job);

	if (!dev->queues_running) {
		finish_reset(dev);
		return;
	}
	for (unsigned i = 0; i < dev->queue_count; i++)
		if (dev->queues[i].enabled)
			loop_post(dev->queues[i].loop, &dev->queues[i].stop_job);
}

static void kick_released(struct loop_poll *poll)
{
	struct device_queue *dq = container_of(poll, struct device_queue, kick);

	dq->device->ops->queue_stop(dq);
}

static void stop_queue(struct loop_job *job)
{
	struct device_queue *dq = container_of(job, struct device_queue, stop_job);

	dq->stopping = true;
	dq->pause_owed = false; /* the end of the reset answers */
	if (dq->external)
		dq->device->ops->queue_stop(dq);
	else
		loop_poll_stop(&dq->kick, kick_released);
	loop_watch_stop(dq->loop, &dq->chains);
}

void device_queue_stopped(struct device_queue *dq)
{
	BUG_ON(!dq->running);
	dq->running = false;
	virtio_queue_answer(dq, DEVICE_QUEUE_STOPPED);
}

void virtio_queue_answer(struct device_queue *dq, unsigned what)
{
	struct virtio_device *dev = dq->device;

	/* Only the first to add posts: the job takes all that came until it runs. */
	if (atomic_fetch_add(&dev->queues_done, what) == 0)
		loop_post(dev->main_loop, &dev->queue_done_job);
}

static void queue_done(struct loop_job *job)
{
	struct virtio_device *dev = container_of(job, struct virtio_device, queue_done_job);
	unsigned done = atomic_exchange(&dev->queues_done, 0);
	unsigned stopped = done % DEVICE_QUEUE_PAUSED;

	BUG_ON(stopped > dev->queues_running);
	dev->queues_running -= stopped;
	/* A queue that was paused and then stopped has said both in this order: all stopped means that no answer is under way. */
	virtio_quiesce_answers(dev, done / DEVICE_QUEUE_PAUSED);
	if (stopped && !dev->queues_running)
		finish_reset(dev);
}

/* ---- status, from the transport, under dev->lock ---- */

static bool queues_valid(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->queue_count; i++) {
		struct device_queue *dq = &dev->queues[i];

		if (dq->enabled && virtqueue_start(&dq->ring, dev->memory, &dq->registers,
					   dev->driver_features) < 0) {
			virtio_device_break(dev, dq->ring.fault);
			return false;
		}
		dq->ring.owner = dev->id;
		dq->ring.index = i;
	}
	return true;
}

void virtio_device_set_driver_features(struct virtio_device *dev, unsigned word, uint32_t value)
{
	if (word > 1 || dev->status & VIRTIO_CONFIG_S_FEATURES_OK || dev->resetting)
		return;
	dev->driver_features &= ~(0xffffffffull << 32 * word);
	dev->driver_features |= (uint64_t)value << 32 * word;
}

/* §3.1.1 step 5: the driver reads the bit back to learn whether we agreed. */
static bool features_agreed(struct virtio_device *dev)
{
	if (dev->driver_features & ~dev->features || !virtio_has_feature(dev, VIRTIO_F_VERSION_1))
		return false;
	return !dev->ops->features_ok || dev->ops->features_ok(dev, dev->driver_features);
}

void virtio_device_set_status(struct virtio_device *dev, uint8_t status)
{
	uint8_t old = atomic_load(&dev->status);
	uint8_t added = status & (uint8_t)~old;

	if (dev->resetting)
		return;
	if (!status) {
		if (!dev->activated) {
			reset_registers(dev);
			atomic_store(&dev->status, 0);
			return;
		}
		dev->resetting = true;
		loop_post(dev->main_loop, &dev->reset_job);
		return;
	}
	if (added & VIRTIO_CONFIG_S_FEATURES_OK && !features_agreed(dev))
		status &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	/* NEEDS_RESET is ours to set; what the driver has set, only a reset clears (§2.1.1). */
	atomic_store(&dev->status, (status & (uint8_t)~VIRTIO_CONFIG_S_NEEDS_RESET) | old);
	if (!(added & VIRTIO_CONFIG_S_DRIVER_OK) || dev->activated)
		return;
	if (!(dev->status & VIRTIO_CONFIG_S_FEATURES_OK)) {
		virtio_device_break(dev, "DRIVER_OK before FEATURES_OK");
		return;
	}
	if (!queues_valid(dev))
		return;
	dev->activated = true;
	loop_post(dev->main_loop, &dev->activate_job);
}

bool virtio_device_configurable(const struct virtio_device *dev)
{
	return !dev->resetting && !(atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK);
}

void virtio_device_kick(struct virtio_device *dev, unsigned queue)
{
	uint64_t one = 1;
	ssize_t ignored;

	if (queue >= dev->queue_count || dev->queues[queue].kick_fd < 0)
		return; /* not active yet: start_queue() looks once by itself */
	ignored = write(dev->queues[queue].kick_fd, &one, sizeof(one));
	(void)ignored;
}

void virtio_device_break(struct virtio_device *dev, const char *why)
{
	if (atomic_exchange(&dev->broken, true))
		return;
	log_guest("%s '%s' stopped until the guest resets it: %s", dev->ops->name, dev->id, why);
	atomic_fetch_or(&dev->status, VIRTIO_CONFIG_S_NEEDS_RESET);
	virtio_device_config_changed(dev);
}

void virtio_device_config_changed(struct virtio_device *dev)
{
	atomic_fetch_add(&dev->config_generation, 1);
	if (!(atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	/* The vCPUs may have been saved already. Noted before we look: whoever ends the quiet looks after. */
	atomic_store(&dev->config_changed, true);
	if (!atomic_load(&dev->quiet))
		virtio_device_tell_config(dev);
}

void virtio_device_tell_config(struct virtio_device *dev)
{
	if (atomic_exchange(&dev->config_changed, false) && dev->transport)
		dev->transport->config_interrupt(dev);
}

/* ---- for devices ---- */

bool device_queue_pop(struct device_queue *dq, struct descriptor_chain *chain)
{
	int ret;

	if (!device_queue_serving(dq))
		return false;
	if (dq->kept_at < dq->kept_count)
		ret = virtqueue_retake(&dq->ring, dq->kept[dq->kept_at++], chain);
	else
		ret = virtqueue_pop(&dq->ring, chain);
	if (ret < 0)
		virtio_device_break(dq->device, dq->ring.fault);
	return ret > 0;
}

void device_queue_signal(struct device_queue *dq)
{
	if (!virtqueue_needs_interrupt(&dq->ring) || !dq->device->transport)
		return;
	PROBE(virtqueue__interrupt, dq->device->id, dq->index, dq->vector);
	dq->device->transport->queue_interrupt(dq->device, dq->vector);
}

/* ---- whole-device reset and end, on the main thread ---- */

void virtio_device_reset(
	struct virtio_device *dev, void (*done)(struct virtio_device *dev, void *arg), void *arg)
{
	bool post;

	dev->reset_done = done;
	dev->reset_done_arg = arg;
	pthread_mutex_lock(&dev->lock);
	post = !dev->resetting;
	dev->resetting = true;
	pthread_mutex_unlock(&dev->lock);
	/* Posted even for an idle device: an activation may be waiting in the loop before it. */
	if (post)
		loop_post(dev->main_loop, &dev->reset_job);
}

static void end_wait(struct virtio_device *dev, void *arg)
{
	bool *done = arg;

	*done = true;
	loop_stop(dev->main_loop);
}

void virtio_device_reset_now(struct virtio_device *dev)
{
	struct error err;
	bool done = false;

	virtio_device_reset(dev, end_wait, &done);
	while (!done)
		if (loop_run(dev->main_loop, &err) < 0)
			log_error("%s '%s': %s", dev->ops->name, dev->id, err.text);
}

void virtio_device_destroy(struct virtio_device *dev)
{
	if (dev->activated)
		virtio_device_reset_now(dev);
	for (unsigned i = 0; i < dev->thread_count; i++)
		loop_thread_stop(&dev->threads[i]);
	for (unsigned i = 0; i < dev->queue_count; i++)
		if (dev->queues[i].kick_fd >= 0)
			close(dev->queues[i].kick_fd);
	free(dev->queues);
	free(dev->threads);
	pthread_mutex_destroy(&dev->lock);
	dev->ops->destroy(dev);
}
