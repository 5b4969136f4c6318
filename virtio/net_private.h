/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net's insides, shared by net.c (device and life cycle), net_rx.c and net_tx.c (data path),
 * net_ctrl.c (control queue), the unit test and the fuzzer; nobody else includes it.
 *
 * Threads: a pair's fields belong to the thread of its two queues, but for those marked shared.
 */
#pragma once

#include "virtio/net.h"
#include "virtio/token_bucket.h"
#include "virtio/vhost_net.h"
#include "vmm/base/util.h"

#include <linux/virtio_net.h>

#define NET_QUEUE_SIZE 256
#define NET_HEADER     ((uint32_t)sizeof(struct virtio_net_hdr_v1))

/* The largest packet: header, Ethernet header with a VLAN tag, and what segmentation offload makes. */
#define NET_PACKET_MAX (NET_HEADER + 18u + 65536u)

/* One turn of a queue: after so much, others on the thread have theirs first. */
#define NET_TURN_PACKETS 64u
#define NET_TURN_BYTES	 (512u * 1024u)
/* A batch: after so much the driver is interrupted, if it wants to be, so that it works while we do. */
#define NET_BATCH_BYTES (64u * 1024u)

#define NET_GUEST_OFFLOADS                                                                         \
	(1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_TSO4 |                       \
		1ull << VIRTIO_NET_F_GUEST_TSO6 | 1ull << VIRTIO_NET_F_GUEST_ECN)

struct net;
struct net_pair;

/* One direction's limits, shared by the queues of that direction. */
struct net_limit {
	struct token_bucket packets, bytes;
};

/* What a queue has moved and not yet been granted: it moves no more until it is. */
struct net_debt {
	uint64_t packets, bytes;
};

/* Written by one thread, read by any. */
struct net_count {
	_Atomic uint64_t packets, bytes, dropped;
};

struct net_buffer {
	uint16_t head;
	uint16_t segments;
	uint32_t len;
};

enum net_rx_state {
	NET_RX_OFF,
	NET_RX_ON,
	NET_RX_ENDING, /* the kernel has not let go of the poll yet */
};

struct net_rx {
	struct loop_poll poll;
	struct loop_timer timer;
	enum net_rx_state state;
	bool stop_asked;  /* queue_stop() awaits device_queue_stopped() */
	bool pause_asked; /* queue_pause() awaits device_queue_paused() */
	struct net_debt debt;
	struct net_count count;

	/* Chains taken from the ring, not yet used, oldest first: taken[first .. end), with their
	 * segments in the same order in segments[segment_first .. segment_end), `room` bytes in all. */
	unsigned first, end, segment_first, segment_end;
	uint64_t room;
	/* A packet that the chains taken then could not hold waits for more of them: its length, and
	 * how much of it is in them already; the rest is in overflow. 0: none waits. */
	uint32_t held, held_placed;

	struct net_buffer taken[2 * NET_QUEUE_SIZE];
	struct iovec segments[2 * NET_QUEUE_SIZE + 1]; /* one more, for the overflow */
	uint8_t overflow[NET_PACKET_MAX];
};

struct net_tx {
	struct loop_timer timer;
	struct net_debt debt;
	struct net_count count;
	struct iovec segments[1 + NET_QUEUE_SIZE]; /* the header's copy first */
};

struct net_pair {
	struct net *net;
	unsigned index;
	int fd;
	bool attached; /* flows are steered to this queue of the tap */
	struct vhost_net vhost;
	struct loop_job sync_job;
	_Atomic bool sync_posted; /* shared: sync_job is on its way */
	struct net_rx rx;
	struct net_tx tx;
};

struct net {
	struct virtio_device device;
	struct virtio_net_config config; /* little-endian, as the guest reads it */
	unsigned pair_count;
	bool is_tap; /* false: a test's socket, which knows no tap ioctls */
	bool vhost;
	_Atomic unsigned active_pairs;	 /* shared: as the driver set it (§5.1.6.5.5) */
	_Atomic uint64_t guest_offloads; /* shared: VIRTIO_NET_F_GUEST_* bits now in force */
	struct net_limit rx_limit, tx_limit;
	struct net_pair *pairs[NET_QUEUE_PAIRS_MAX];
};

static inline struct net *net_of(struct virtio_device *dev)
{
	return container_of(dev, struct net, device);
}

static inline struct device_queue *net_rx_queue(const struct net_pair *pair)
{
	return &pair->net->device.queues[2 * pair->index];
}

static inline struct device_queue *net_tx_queue(const struct net_pair *pair)
{
	return &pair->net->device.queues[2 * pair->index + 1];
}

/* ---- net.c ---- */

/* net_create() on ready descriptors, one a pair, taken over on success. */
int net_create_on(const struct net_config *config, const int *fds, bool is_tap,
	const struct guest_memory *memory, struct loop *main_loop, struct virtio_device **out,
	struct error *err);

/* §5.1.3.1: no feature without those that it needs. */
bool net_features_consistent(uint64_t features);

/* ---- net_pair.c ---- */

/* Pair `index` on this descriptor of the tap, which becomes its own. Where it fails, what is there is in net->pairs. */
int net_pair_create(struct net *net, unsigned index, int fd, struct error *err);

/* Whether the host steers flows to it; nothing where it is the only one, or there is no tap. */
void net_pair_attach(struct net_pair *pair, bool attached);

/* Bring the pair in line with the driver's wishes (is it started? is it one of the active ones?). Pair's thread. */
void net_pair_sync(struct net_pair *pair);

/* The same, from any thread: soon, on the pair's own. Its RX queue must have been activated. */
void net_pair_post_sync(struct net_pair *pair);

/* If the device is broken: every pair stops. User-mode pairs see that by themselves, but the kernel's
 * (vhost) do not. Any of the device's threads. */
void net_pairs_stop_broken(struct net *net);

/* ---- net.c: limits ---- */

/* 0: go on. Otherwise the time at which to ask again. */
uint64_t net_limit_wait(struct net_limit *limit, struct net_debt *debt);

static inline uint64_t net_count_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline void net_count_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, net_count_get(counter) + n, memory_order_relaxed);
}

/* ---- net_rx.c, net_tx.c, net_ctrl.c: each on the queue's thread ---- */

void net_rx_init(struct net_pair *pair);
void net_rx_start(struct net_pair *pair);
void net_rx_stop(struct net_pair *pair); /* net_pair_sync() follows when it is OFF */
void net_rx_run(struct net_pair *pair);
/* Let go of the chains taken, and keep what was received; net_rx_run() goes on with it. */
void net_rx_pause(struct net_pair *pair);

void net_tx_init(struct net_pair *pair);
void net_tx_stop(struct net_pair *pair);
void net_tx_run(struct net_pair *pair);

void net_ctrl_run(struct device_queue *dq);

/* ---- net_state.c ---- */

extern const struct state_table net_state_table;
void net_state_save(struct virtio_device *dev, void *own);
int net_state_check(struct virtio_device *dev, const struct virtio_device_state *shared,
	const void *own, struct error *err);
void net_state_load(struct virtio_device *dev, const void *own);
