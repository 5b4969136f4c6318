/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net, tap to guest (virtio 1.2 §5.1.6.3, §5.1.6.4).
 *
 * One readv() a packet, straight into the guest's buffers. How long the packet is shows only
 * afterwards, so chains for the largest possible one are taken from the ring beforehand; those that
 * were not needed serve the next packet, and each chain is translated once. Where the guest has
 * posted less than that, readv() is given an overflow buffer of ours behind the guest's: a short
 * packet (the usual one) still goes where it belongs, of a long one the tail waits in the overflow
 * until the guest has posted more. One that cannot fit even a full ring is dropped.
 *
 * With MRG_RXBUF a packet spans chains, and num_buffers says how many; without, it has one chain.
 *
 * When the guest has no buffers, reading stops and its kick is asked for; the tap's queue fills and
 * the host drops there, at no cost to us. A turn is bounded (NET_TURN_*), a longer one goes on
 * through a timer that is due at once, after everyone else on this thread has had a turn. So neither
 * a flood from outside nor a guest that posts nothing can stop reception for good, or starve others.
 */
#include "virtio/net_private.h"

#include "vmm/base/log.h"
#include "vmm/memory/dirty.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum outcome {
	PACKET,	 /* one packet delivered or dropped */
	DRAINED, /* the tap has none */
	STARVED, /* the guest has too few buffers */
};

static bool mergeable(const struct net_pair *pair)
{
	return virtio_has_feature(&pair->net->device, VIRTIO_NET_F_MRG_RXBUF);
}

static void drop(struct net_rx *rx)
{
	net_count_add(&rx->count.dropped, 1);
}

/* ---- the chains taken ---- */

/* Move what is left to the front, where a longest chain no longer fits behind it. False: no room even so. */
static bool make_space(struct net_rx *rx)
{
	unsigned count = rx->end - rx->first, segments = rx->segment_end - rx->segment_first;

	if (rx->segment_end <= NET_QUEUE_SIZE)
		return true;
	if (segments > NET_QUEUE_SIZE)
		return false;
	memmove(rx->taken, rx->taken + rx->first, count * sizeof(*rx->taken));
	memmove(rx->segments, rx->segments + rx->segment_first, segments * sizeof(*rx->segments));
	rx->first = rx->segment_first = 0;
	rx->end = count;
	rx->segment_end = segments;
	return true;
}

static bool take_one(struct net_pair *pair)
{
	struct device_queue *dq = net_rx_queue(pair);
	struct net_rx *rx = &pair->rx;
	struct descriptor_chain chain = {.capacity = NET_QUEUE_SIZE};

	if (!make_space(rx))
		return false;
	chain.segments = &rx->segments[rx->segment_end];
	if (!device_queue_pop(dq, &chain))
		return false;
	/* §5.1.6.3.1: at least a header; the rest of that rule (room for a whole packet) hurts only the driver. */
	if (chain.readable || chain.writable_len < NET_HEADER) {
		virtio_device_break(&pair->net->device,
			"a receive buffer is not writable or smaller than a header");
		return false;
	}
	rx->taken[rx->end++] = (struct net_buffer){
		.head = chain.head,
		.segments = chain.writable,
		.len = (uint32_t)min_u64(chain.writable_len, UINT32_MAX),
	};
	rx->segment_end += chain.writable;
	rx->room += rx->taken[rx->end - 1].len;
	return true;
}

/* Take chains until a packet of `len` bytes fits, or there are no more. */
static void top_up(struct net_pair *pair, uint32_t len)
{
	struct net_rx *rx = &pair->rx;

	if (!mergeable(pair)) {
		if (rx->first == rx->end)
			take_one(pair);
		return;
	}
	while (rx->room < len && take_one(pair))
		;
}

static void give_chains_back(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;

	virtqueue_unpop(&net_rx_queue(pair)->ring, (uint16_t)(rx->end - rx->first));
	rx->first = rx->end = rx->segment_first = rx->segment_end = 0;
	rx->room = 0;
}

/* All chains taken, as one that can be read or written by offset. */
static struct descriptor_chain view(const struct net_pair *pair, bool readable)
{
	const struct net_rx *rx = &pair->rx;
	uint16_t count = (uint16_t)(rx->segment_end - rx->segment_first);

	return (struct descriptor_chain){
		.memory = pair->net->device.memory,
		.segments = (struct iovec *)(uintptr_t)&rx->segments[rx->segment_first],
		.readable = readable ? count : 0,
		.writable = readable ? 0 : count,
	};
}

/* ---- delivering ---- */

static bool segmentation_accepted(uint64_t offloads, uint8_t gso_type)
{
	switch (gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return true;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return offloads >> VIRTIO_NET_F_GUEST_TSO4 & 1;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return offloads >> VIRTIO_NET_F_GUEST_TSO6 & 1;
	default:
		return false;
	}
}

/*
 * Make the kernel's header what this driver may see (§5.1.6.4.1). False: it may not see this packet;
 * such were queued in the tap before its offloads were set to what the driver negotiated.
 */
static bool finish_header(struct net_pair *pair, uint16_t num_buffers)
{
	uint64_t offloads = atomic_load_explicit(&pair->net->guest_offloads, memory_order_relaxed);
	struct descriptor_chain out = view(pair, false), in = view(pair, true);
	struct virtio_net_hdr_v1 header;

	chain_read(&in, 0, &header, sizeof(header));
	if (!segmentation_accepted(offloads, header.gso_type))
		return false;
	if (!(offloads >> VIRTIO_NET_F_GUEST_CSUM & 1)) {
		if (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
			return false;
		header.flags = 0;
	}
	header.num_buffers = num_buffers;
	chain_write(&out, 0, &header, sizeof(header));
	return true;
}

/* A packet of `len` bytes lies in the first chains taken: give them to the driver, all at once. */
static void deliver(struct net_pair *pair, uint32_t len)
{
	struct virtqueue *ring = &net_rx_queue(pair)->ring;
	struct net_rx *rx = &pair->rx;
	uint32_t left = len;
	uint16_t count = 0;

	for (uint64_t room = 0; room < len; count++)
		room += rx->taken[rx->first + count].len;
	if (!finish_header(pair, count)) {
		drop(rx);
		return;
	}
	for (uint16_t i = 0; i < count; i++) {
		const struct net_buffer *buffer = &rx->taken[rx->first];
		uint32_t here = (uint32_t)min_u64(left, buffer->len);

		virtqueue_fill(ring, i, buffer->head, here);
		left -= here;
		rx->room -= buffer->len;
		rx->segment_first += buffer->segments;
		rx->first++;
	}
	virtqueue_publish(ring, count);
	if (rx->first == rx->end)
		rx->first = rx->end = rx->segment_first = rx->segment_end = 0;
	net_count_add(&rx->count.packets, 1);
	net_count_add(&rx->count.bytes, len - NET_HEADER);
	rx->debt.packets++;
	rx->debt.bytes += len - NET_HEADER;
}

/* The tail of the packet held goes where it belongs, once there is room for it. */
static enum outcome deliver_held(struct net_pair *pair)
{
	struct virtqueue *ring = &net_rx_queue(pair)->ring;
	struct net_rx *rx = &pair->rx;
	struct descriptor_chain out;
	uint32_t len = rx->held;

	top_up(pair, len);
	if (rx->room < len) {
		/* The driver cannot post more than a ring, nor we remember more segments. */
		if (rx->end - rx->first < ring->size &&
			rx->segment_end - rx->segment_first <= NET_QUEUE_SIZE)
			return STARVED;
		rx->held = 0;
		drop(rx);
		return PACKET;
	}
	out = view(pair, false);
	chain_write(&out, rx->held_placed, rx->overflow, len - rx->held_placed);
	rx->held = 0;
	deliver(pair, len);
	return PACKET;
}

/* ---- reading ---- */

static enum outcome read_failed(struct net_pair *pair, int errnum)
{
	static struct log_limit limit;

	/* EBADFD: this queue was detached, or the interface deleted, while we polled. */
	if (errnum != EAGAIN && errnum != EINTR && errnum != EBADFD)
		log_write_limited(&limit, LOG_WARN, "virtio-net '%s': cannot receive: %s",
			pair->net->device.id, strerrordesc_np(errnum));
	return errnum == EINTR ? PACKET : DRAINED;
}

static enum outcome receive(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	unsigned count;
	ssize_t n;

	if (rx->held)
		return deliver_held(pair);
	top_up(pair, NET_PACKET_MAX);
	count = rx->segment_end - rx->segment_first;
	if (!count)
		return STARVED;
	if (rx->room < NET_PACKET_MAX)
		rx->segments[rx->segment_first + count++] = (struct iovec){
			.iov_base = rx->overflow,
			.iov_len = NET_PACKET_MAX - rx->room,
		};
	n = readv(pair->fd, &rx->segments[rx->segment_first], (int)count);
	if (n <= 0)
		return n ? read_failed(pair, errno) : DRAINED;
	guest_memory_mark_segments(
		pair->net->device.memory, &rx->segments[rx->segment_first], count, (uint64_t)n);
	/* Longer than we ever offered: cut off by the host (an interface with a raised gso_max_size). */
	if (n < NET_HEADER || n >= NET_PACKET_MAX || (n > (ssize_t)rx->room && !mergeable(pair))) {
		drop(rx);
		return PACKET;
	}
	if (n > (ssize_t)rx->room) {
		rx->held = (uint32_t)n;
		rx->held_placed = (uint32_t)rx->room;
		return deliver_held(pair);
	}
	deliver(pair, (uint32_t)n);
	return PACKET;
}

void net_rx_run(struct net_pair *pair)
{
	struct device_queue *dq = net_rx_queue(pair);
	struct net_rx *rx = &pair->rx;
	uint64_t bytes = net_count_get(&rx->count.bytes), turn_end = bytes + NET_TURN_BYTES;
	uint64_t batch_end = bytes + NET_BATCH_BYTES;
	unsigned left = NET_TURN_PACKETS;

	if (rx->state != NET_RX_ON || !device_queue_serving(dq))
		return;
	virtqueue_disable_kicks(&dq->ring);
	while (device_queue_usable(dq)) {
		uint64_t wait = net_limit_wait(&pair->net->rx_limit, &rx->debt);
		enum outcome outcome;

		bytes = net_count_get(&rx->count.bytes);
		if (!wait && (!left-- || bytes >= turn_end))
			wait = 1; /* due at once */
		if (wait) {
			loop_timer_set(dq->loop, &rx->timer, wait);
			break;
		}
		if (bytes >= batch_end) {
			batch_end = bytes + NET_BATCH_BYTES;
			device_queue_signal(dq);
		}
		outcome = receive(pair);
		if (outcome == DRAINED ||
			(outcome == STARVED && !virtqueue_enable_kicks(&dq->ring)))
			break;
	}
	device_queue_signal(dq);
}

/* ---- starting and stopping ---- */

/* The packet that waits for buffers: what lies in the guest's already goes before the rest, in ours. */
static void withdraw_held(const struct net_pair *pair, struct net_rx *rx)
{
	struct descriptor_chain in = view(pair, true);

	memmove(rx->overflow + rx->held_placed, rx->overflow, rx->held - rx->held_placed);
	chain_read(&in, 0, rx->overflow, rx->held_placed);
	rx->held_placed = 0;
}

void net_rx_pause(struct net_pair *pair)
{
	struct device_queue *dq = net_rx_queue(pair);

	loop_timer_clear(dq->loop, &pair->rx.timer);
	if (pair->rx.held)
		withdraw_held(pair, &pair->rx);
	give_chains_back(pair);
	if (device_queue_usable(dq))
		device_queue_signal(dq);
}

static void readable(struct loop_poll *poll, uint32_t revents)
{
	(void)revents;
	net_rx_run(container_of(poll, struct net_pair, rx.poll));
}

static void due(struct loop_timer *timer)
{
	net_rx_run(container_of(timer, struct net_pair, rx.timer));
}

void net_rx_init(struct net_pair *pair)
{
	pair->rx.timer.fire = due;
	pair->rx.poll.fd = pair->fd;
	pair->rx.poll.events = POLLIN;
	pair->rx.poll.ready = readable;
}

void net_rx_start(struct net_pair *pair)
{
	pair->rx.state = NET_RX_ON;
	loop_poll_start(net_rx_queue(pair)->loop, &pair->rx.poll);
	net_rx_run(pair);
}

static void poll_released(struct loop_poll *poll)
{
	struct net_pair *pair = container_of(poll, struct net_pair, rx.poll);

	pair->rx.state = NET_RX_OFF;
	net_pair_sync(pair);
}

void net_rx_stop(struct net_pair *pair)
{
	struct device_queue *dq = net_rx_queue(pair);

	pair->rx.state = NET_RX_ENDING;
	loop_timer_clear(dq->loop, &pair->rx.timer);
	give_chains_back(pair);
	pair->rx.held = 0;
	loop_poll_stop(&pair->rx.poll, poll_released);
}
