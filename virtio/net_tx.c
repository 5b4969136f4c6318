/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net, guest to tap (virtio 1.2 §5.1.6.2).
 *
 * One writev() a packet, straight from the guest's buffers, behind a checked copy of its header: a
 * packet that asks for an offload which was not negotiated, or names bytes outside itself, is
 * dropped and counted, and its chain completed all the same. The host's kernel checks again. The
 * tap takes a packet synchronously, so when the call returns the chain is free, and nothing is ever
 * in flight.
 *
 * Kicks are off while a queue is served. The driver is interrupted, if it wants to be, once a batch.
 */
#include "virtio/net_private.h"

#include <errno.h>

#define RETRY_NS 1000000u

static void drop(struct net_tx *tx)
{
	net_count_add(&tx->count.dropped, 1);
}

static bool segmentation_valid(uint64_t features, const struct virtio_net_hdr_v1 *header)
{
	if (header->gso_type & VIRTIO_NET_HDR_GSO_ECN && !(features >> VIRTIO_NET_F_HOST_ECN & 1))
		return false;
	switch (header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return header->gso_type == VIRTIO_NET_HDR_GSO_NONE;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		if (!(features >> VIRTIO_NET_F_HOST_TSO4 & 1))
			return false;
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		if (!(features >> VIRTIO_NET_F_HOST_TSO6 & 1))
			return false;
		break;
	default:
		return false;
	}
	return header->gso_size && header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
}

/* §5.1.6.2.1, for a frame of `len` bytes. Clears what only a device may say. */
static bool header_valid(uint64_t features, struct virtio_net_hdr_v1 *header, uint32_t len)
{
	header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	header->num_buffers = 0;
	if (header->flags) {
		if (!(features >> VIRTIO_NET_F_CSUM & 1))
			return false;
		if ((uint32_t)header->csum_start + header->csum_offset + 2 > len)
			return false;
	}
	return header->hdr_len <= len && segmentation_valid(features, header);
}

/* Drop the first `len` bytes of the segments: returns the index of the first that is left. */
static unsigned skip(struct iovec *segments, unsigned count, size_t len)
{
	unsigned i = 0;

	for (; i < count && len >= segments[i].iov_len; i++)
		len -= segments[i].iov_len;
	if (i < count) {
		segments[i].iov_base = (uint8_t *)segments[i].iov_base + len;
		segments[i].iov_len -= len;
	}
	return i;
}

/* False: the tap takes none at present, the packet is to be tried again. */
static bool transmit(struct net_pair *pair, struct descriptor_chain *chain)
{
	struct virtio_net_hdr_v1 header;
	struct net_tx *tx = &pair->tx;
	uint32_t len;
	unsigned first;
	ssize_t n;

	if (chain->readable_len <= NET_HEADER || chain->readable_len > NET_PACKET_MAX) {
		drop(tx);
		return true;
	}
	len = (uint32_t)chain->readable_len - NET_HEADER;
	chain_read(chain, 0, &header, sizeof(header));
	if (!header_valid(pair->net->device.driver_features, &header, len)) {
		drop(tx);
		return true;
	}
	/* The copy's place is right before the first segment that is left: chain->segments is &tx->segments[1]. */
	first = skip(chain->segments, chain->readable, NET_HEADER);
	tx->segments[first] = (struct iovec){.iov_base = &header, .iov_len = sizeof(header)};
	do
		n = writev(pair->fd, &tx->segments[first], (int)(1 + chain->readable - first));
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n < 0) {
		drop(tx);
		return true;
	}
	net_count_add(&tx->count.packets, 1);
	net_count_add(&tx->count.bytes, len);
	tx->debt.packets++;
	tx->debt.bytes += len;
	return true;
}

/* What is left of a turn. */
struct turn {
	unsigned packets;
	uint64_t bytes_end, batch_end; /* as tx->count.bytes counts */
};

/* Send until the ring is empty (0), or return when to go on. */
static uint64_t send_all(struct net_pair *pair, struct turn *turn)
{
	struct device_queue *dq = net_tx_queue(pair);
	struct net_tx *tx = &pair->tx;
	struct descriptor_chain chain = {.segments = tx->segments + 1, .capacity = NET_QUEUE_SIZE};

	for (;;) {
		uint64_t wait = net_limit_wait(&pair->net->tx_limit, &tx->debt);
		uint64_t bytes = net_count_get(&tx->count.bytes);

		if (wait)
			return wait;
		if (!turn->packets || bytes >= turn->bytes_end)
			return 1; /* due at once, after the others on this thread */
		if (bytes >= turn->batch_end) {
			turn->batch_end = bytes + NET_BATCH_BYTES;
			device_queue_signal(dq);
		}
		turn->packets--;
		if (!device_queue_pop(dq, &chain))
			return 0;
		if (!transmit(pair, &chain)) {
			virtqueue_unpop(&dq->ring, 1);
			/* A tap takes everything unless its owner has set a send buffer; then it says no
			 * more than this, and reports no edge to wait for. */
			return now_ns() + RETRY_NS;
		}
		virtqueue_push(&dq->ring, chain.head, 0);
	}
}

void net_tx_run(struct net_pair *pair)
{
	struct device_queue *dq = net_tx_queue(pair);
	uint64_t bytes = net_count_get(&pair->tx.count.bytes);
	struct turn turn = {NET_TURN_PACKETS, bytes + NET_TURN_BYTES, bytes + NET_BATCH_BYTES};
	uint64_t wait;

	if (!device_queue_usable(dq))
		return;
	virtqueue_disable_kicks(&dq->ring);
	wait = send_all(pair, &turn);
	device_queue_signal(dq);
	if (wait)
		loop_timer_set(dq->loop, &pair->tx.timer, wait);
	else
		device_queue_rest(dq);
}

static void due(struct loop_timer *timer)
{
	net_tx_run(container_of(timer, struct net_pair, tx.timer));
}

void net_tx_init(struct net_pair *pair)
{
	pair->tx.timer.fire = due;
}

void net_tx_stop(struct net_pair *pair)
{
	loop_timer_clear(net_tx_queue(pair)->loop, &pair->tx.timer);
}
