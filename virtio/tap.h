/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host tap interfaces (Linux Documentation/networking/tuntap.rst): Ethernet frames through a
 * descriptor, each with a 12-byte virtio_net_hdr in front that carries checksum and segmentation
 * offloads. One descriptor a queue; several of them on one interface share its flows.
 *
 * Threads: opening on the main thread; the others are single system calls, from any.
 */
#pragma once

#include "vmm/base/error.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Open `queues` queues of the interface `name` into fds[]. An interface that does not exist is
 * created and brought up, where the caller may; it goes when the last descriptor is closed.
 */
int tap_open(const char *name, unsigned queues, int *fds, struct error *err);

/* Check and prepare a descriptor that was opened elsewhere. It stays the caller's on failure. */
int tap_adopt(int fd, struct error *err);

/* The MTU of interface `name`, 0 when it cannot be told. */
uint16_t tap_mtu(const char *name);

/* What the reader of the tap can take unsegmented and unsummed: VIRTIO_NET_F_GUEST_* bits. Whole interface. */
int tap_set_offloads(int fd, uint64_t guest_features);

/* Let flows be steered to this queue of a multi-queue tap, or not; detaching drops what waits in it. */
int tap_attach_queue(int fd, bool attach);
