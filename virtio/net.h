/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.2 §5.1) on a tap device, by name or as a passed descriptor; the packets move
 * on the queue pair's own thread, or in the kernel with vhost-net.
 */
#pragma once

#include "virtio/device.h"

#define NET_QUEUE_PAIRS_MAX 16

struct net_config {
	const char *id;
	const char *tap; /* interface name, or NULL when fd is given */
	int fd; /* an open tap descriptor (IFF_TAP | IFF_VNET_HDR), taken over on success; -1: use tap */
	uint8_t mac[6];
	uint16_t mtu;	 /* 0: the tap's own where that is not 1500, else not offered */
	unsigned queues; /* queue pairs; with fd: 1 */
	bool vhost;
	uint64_t pps,
		bps; /* packets and bytes a second, each direction; 0: no limit. Not with vhost. */
};

/* The MAC derived from VM name and device id: stable, locally administered, unicast. */
void net_derive_mac(const char *vm_name, const char *id, uint8_t mac[6]);

int net_create(const struct net_config *config, const struct guest_memory *memory,
	struct loop *main_loop, struct virtio_device **out, struct error *err);

/* As the guest first saw it: the configuration's, or that of the state which was loaded. */
void net_mac(const struct virtio_device *dev, uint8_t mac[6]);

/* Any thread. Nothing to set with vhost: the kernel moves the packets. */
void net_set_limits(struct virtio_device *dev, uint64_t pps, uint64_t bps);

/* As the guest sees it: rx is towards it. Bytes are whole frames, without the virtio header. With
 * vhost all are 0. */
struct net_counters {
	uint64_t rx_packets, rx_bytes, rx_dropped;
	uint64_t tx_packets, tx_bytes, tx_dropped;
};

/* Sums over the queues. Any thread. */
void net_get_counters(const struct virtio_device *dev, struct net_counters *counters);
