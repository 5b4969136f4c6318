/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a device stand still while its driver believes it at work, and letting it go on: for whoever wants guest memory,
 * rings and back ends at one point in time.
 *
 * As with resets, the main loop alone knows the state, and queue threads answer it. `quiet` is the wish; queues_pausing counts the
 * answers that are out. A wish taken back before all have answered is carried out when they have: a queue is
 * never asked twice. A reset outruns a pause: a queue that is told to stop answers that only, and the end of the
 * reset is the end of the quiescing, for nothing runs then. A device that its driver set going just before, so that its
 * activation is still on its way through the loop, is not started (start_held) until it may be.
 */
#include "virtio/device_private.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

/* ---- queue threads ---- */

void virtio_pause_queue(struct loop_job *job)
{
	struct device_queue *dq = container_of(job, struct device_queue, pause_job);
	const struct virtio_ops *ops = dq->device->ops;

	if (!dq->running || dq->stopping)
		return;
	dq->pausing = dq->pause_owed = true;
	loop_watch_stop(dq->loop, &dq->chains);
	if (ops->queue_pause)
		ops->queue_pause(dq);
	else
		device_queue_paused(dq);
}

void device_queue_paused(struct device_queue *dq)
{
	if (!dq->pause_owed)
		return;
	dq->pause_owed = false;
	virtio_queue_answer(dq, DEVICE_QUEUE_PAUSED);
}

void virtio_resume_queue(struct loop_job *job)
{
	struct device_queue *dq = container_of(job, struct device_queue, resume_job);
	const struct virtio_ops *ops = dq->device->ops;

	dq->pausing = false;
	if (!device_queue_usable(dq))
		return;
	if (ops->queue_resume)
		ops->queue_resume(dq);
	/* Kicks may have come. */
	if (!dq->external && device_queue_serving(dq))
		ops->queue_kicked(dq);
}

/* ---- the main loop ---- */

static void resume(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->queue_count && dev->queues_running; i++)
		if (dev->queues[i].enabled)
			loop_post(dev->queues[i].loop, &dev->queues[i].resume_job);
}

/* Every queue stands still, or none runs. */
static void stands_still(struct virtio_device *dev)
{
	void (*done)(struct virtio_device *, void *) = dev->quiesce_done;

	if (!dev->quiet) { /* taken back meanwhile */
		resume(dev);
		return;
	}
	dev->paused = dev->queues_running;
	dev->quiesce_done = NULL;
	if (done)
		done(dev, dev->quiesce_done_arg);
}

void virtio_quiesce_answers(struct virtio_device *dev, unsigned count)
{
	BUG_ON(count > dev->queues_pausing);
	dev->queues_pausing -= count;
	if (count && !dev->queues_pausing)
		stands_still(dev);
}

void virtio_quiesce_reset(struct virtio_device *dev)
{
	dev->queues_pausing = 0;
	dev->start_held = dev->paused = false;
	if (dev->quiet)
		stands_still(dev);
}

void virtio_device_quiesce(
	struct virtio_device *dev, void (*done)(struct virtio_device *dev, void *arg), void *arg)
{
	bool resetting;

	BUG_ON(dev->quiesce_done);
	dev->quiet = true;
	dev->quiesce_done = done;
	dev->quiesce_done_arg = arg;
	pthread_mutex_lock(&dev->lock);
	resetting = dev->resetting;
	pthread_mutex_unlock(&dev->lock);
	if (resetting || dev->queues_pausing)
		return; /* the end of that is awaited */
	if (!dev->queues_running || dev->paused) {
		stands_still(dev);
		return;
	}
	for (unsigned i = 0; i < dev->queue_count; i++) {
		if (!dev->queues[i].enabled)
			continue;
		dev->queues_pausing++;
		loop_post(dev->queues[i].loop, &dev->queues[i].pause_job);
	}
}

void virtio_device_unquiesce(struct virtio_device *dev)
{
	if (!dev->quiet)
		return;
	dev->quiet = false;
	dev->quiesce_done = NULL;
	if (dev->transport && dev->transport->interrupts_deliver)
		dev->transport->interrupts_deliver(dev);
	virtio_device_tell_config(dev);
	if (dev->start_held) {
		dev->start_held = false;
		virtio_device_activate(dev);
	} else if (dev->paused) {
		dev->paused = false;
		resume(dev);
	}
}
