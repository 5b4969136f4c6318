/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net's control queue (virtio 1.2 §5.1.6.5): how many queue pairs are in use, and which
 * receive offloads. Every other command is answered with VIRTIO_NET_ERR.
 *
 * The queue is served by the last pair's thread (or, without MQ, by the second pair's, whose own
 * queues are then not used). What a command means for other pairs is done by their threads, soon
 * after the answer.
 */
#include "virtio/net_private.h"

#include "virtio/tap.h"

#include <errno.h>

static bool set_pairs(struct net *net, const struct descriptor_chain *chain)
{
	uint16_t wanted;
	unsigned before;

	if (!virtio_has_feature(&net->device, VIRTIO_NET_F_MQ) ||
		chain_read(chain, sizeof(struct virtio_net_ctrl_hdr), &wanted, sizeof(wanted)) <
			sizeof(wanted))
		return false;
	if (wanted < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN || wanted > net->pair_count)
		return false;
	before = atomic_exchange(&net->active_pairs, wanted);
	for (unsigned i = (unsigned)min_u64(before, wanted); i < max_u64(before, wanted); i++)
		net_pair_post_sync(net->pairs[i]);
	return true;
}

static bool set_offloads(struct net *net, const struct descriptor_chain *chain)
{
	uint64_t wanted, allowed = net->device.driver_features & NET_GUEST_OFFLOADS;

	if (!virtio_has_feature(&net->device, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ||
		chain_read(chain, sizeof(struct virtio_net_ctrl_hdr), &wanted, sizeof(wanted)) <
			sizeof(wanted))
		return false;
	if (wanted & ~allowed)
		return false;
	/* The first pair's queue is always attached, and the setting is the whole interface's. */
	if (net->is_tap && tap_set_offloads(net->pairs[0]->fd, wanted) < 0)
		return false;
	atomic_store(&net->guest_offloads, wanted);
	return true;
}

static bool execute(struct net *net, const struct descriptor_chain *chain)
{
	struct virtio_net_ctrl_hdr header;

	if (chain_read(chain, 0, &header, sizeof(header)) < sizeof(header))
		return false;
	if (header.class == VIRTIO_NET_CTRL_MQ && header.cmd == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET)
		return set_pairs(net, chain);
	if (header.class == VIRTIO_NET_CTRL_GUEST_OFFLOADS &&
		header.cmd == VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET)
		return set_offloads(net, chain);
	return false;
}

/* Answer up to `left` commands; false when there may be more. */
static bool answer(struct device_queue *dq, unsigned left)
{
	struct iovec segments[NET_QUEUE_SIZE];
	struct descriptor_chain chain = {.segments = segments, .capacity = NET_QUEUE_SIZE};

	do {
		while (left && device_queue_pop(dq, &chain)) {
			uint8_t ack = execute(net_of(dq->device), &chain) ? VIRTIO_NET_OK
									  : VIRTIO_NET_ERR;

			left--;
			virtqueue_push(&dq->ring, chain.head,
				(uint32_t)chain_write(&chain, 0, &ack, sizeof(ack)));
		}
		device_queue_signal(dq);
		if (!device_queue_usable(dq) || !virtqueue_enable_kicks(&dq->ring))
			return true;
	} while (left);
	return false;
}

void net_ctrl_run(struct device_queue *dq)
{
	struct net *net = net_of(dq->device);

	virtqueue_disable_kicks(&dq->ring);
	/* A guest that never stops asking goes on after the others on this thread. */
	if (!answer(dq, NET_QUEUE_SIZE))
		virtio_device_kick(dq->device, dq->index);
	net_pairs_stop_broken(net);
}
