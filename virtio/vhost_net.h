/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-net: the kernel moves a queue pair's packets between guest memory and the tap, with our
 * eventfds as kicks and interrupts (linux/vhost.h). One descriptor, and one kernel worker, a pair.
 * A ring that the kernel cannot go on with is reported by an eventfd, which both rings share, as the
 * device breaks as a whole.
 *
 * Threads: opened and closed on the main thread, started and stopped on the pair's.
 */
#pragma once

#include "virtio/device.h"
#include "vmm/memory/dirty_logger.h"

#include <stdbool.h>

struct vhost_net {
	int fd;	       /* -1: not used */
	int silent_fd; /* stands in for the interrupt of a queue that has no vector */
	int error_fd;
	struct loop_poll error_poll;
	struct memory_logger logger;
	const struct device_queue *rings[2]; /* while they are the kernel's */
	bool running;
	bool ending; /* the loop has not let go of error_poll yet: it cannot be started again */
	/* Set by the owner, called on the pair's thread: a ring is broken, or the tap is gone; and what
	 * vhost_net_stop() began is complete. */
	void (*failed)(struct vhost_net *vhost);
	void (*stopped)(struct vhost_net *vhost);
};

/* The virtio and virtio-net features that a device may only offer if vhost_net_open() succeeds. */
int vhost_net_open(struct vhost_net *vhost, struct error *err);
void vhost_net_close(struct vhost_net *vhost);

/* Hand the two rings to the kernel, to go on where they are. On failure nothing is handed over. */
int vhost_net_start(struct vhost_net *vhost, struct device_queue *rx, struct device_queue *tx,
	int tap_fd, struct error *err);

/* Take them back: when it returns, the kernel touches neither rings nor buffers, and each ring's
 * position is where the kernel stopped. No `failed` follows; `stopped` does, perhaps at once. */
void vhost_net_stop(struct vhost_net *vhost, struct device_queue *rx, struct device_queue *tx);
