/* SPDX-License-Identifier: Apache-2.0 */
/* What device.c and quiesce.c share; nobody else includes it. Main loop, but where it says otherwise. */
#pragma once

#include "virtio/device.h"

#define NO_VECTOR 0xffff /* VIRTIO_MSI_NO_VECTOR, §4.1.4.3 */

/* What a queue's thread tells the main loop; as many of each as there are queues fit into one number. */
#define DEVICE_QUEUE_STOPPED 1u
#define DEVICE_QUEUE_PAUSED  (1u << 16)

/* Queue's thread. */
void virtio_queue_answer(struct device_queue *dq, unsigned what);

/* DRIVER_OK was accepted: start the queues, or hold that back while the device is to be quiet. */
void virtio_device_activate(struct virtio_device *dev);

/* Interrupt for a change of configuration that is noted. Any thread. */
void virtio_device_tell_config(struct virtio_device *dev);

/* Jobs of the queue's loop. */
void virtio_pause_queue(struct loop_job *job);
void virtio_resume_queue(struct loop_job *job);

/* So many queues have answered a pause; a reset is complete. */
void virtio_quiesce_answers(struct virtio_device *dev, unsigned count);
void virtio_quiesce_reset(struct virtio_device *dev);
