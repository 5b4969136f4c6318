/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock (virtio 1.2 §5.10) bridged to Unix stream sockets: a host program connects to PATH and
 * writes "CONNECT PORT\n" (it reads "OK HOSTPORT\n" when the guest accepted); a guest program that
 * connects to host port P reaches the host program listening on PATH_P. See vsock.c for how.
 */
#pragma once

#include "virtio/device.h"

#define VSOCK_CID_MIN 3u
#define VSOCK_CID_MAX 0xfffffffeu

struct vsock_config {
	uint64_t cid;	    /* the guest's: VSOCK_CID_MIN to VSOCK_CID_MAX */
	const char *socket; /* PATH */
};

/* Makes the socket at PATH and the device. Main thread. Free it with virtio_device_destroy(), outside
 * loop_run() of the main loop. The config and its string are not kept. */
int vsock_create(const struct vsock_config *config, const struct guest_memory *memory,
	struct loop *main_loop, struct virtio_device **out, struct error *err);

/*
 * The guest goes on elsewhere or from an earlier moment (§5.10.6.8): end all streams and tell its
 * driver, which ends its side of them and reads the cid again. Main thread.
 */
void vsock_transport_reset(struct virtio_device *dev);
