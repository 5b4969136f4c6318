/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device side of one split virtqueue (virtio 1.2 §2.7), and nothing else: no thread, no descriptor,
 * no interrupt, so that it can be tested, fuzzed and measured alone.
 *
 * The ring's three areas are translated once, by virtqueue_start(), from registers that the transport
 * froze at DRIVER_OK. Everything read from them afterwards is hostile: each field is read once into a
 * local and checked there; indices are bounded, chains are no longer than the queue, loops end.
 * A violation marks the queue broken: virtqueue_pop() says -EPROTO now and ever after, `fault` says why.
 *
 * Threads: a queue belongs to the one thread that serves it.
 */
#pragma once

#include "vmm/memory/guest_memory.h"

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define VIRTQUEUE_SIZE_MAX 1024

/* What the driver wrote before DRIVER_OK. */
struct virtqueue_registers {
	uint16_t size;		       /* a power of two up to VIRTQUEUE_SIZE_MAX */
	uint64_t desc, driver, device; /* GPAs of descriptor table, available ring, used ring */
};

struct virtqueue {
	const struct guest_memory *memory;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t size;
	bool event_idx, indirect; /* negotiated VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC */
	uint16_t next_avail;	  /* free-running: the next available entry to take */
	uint16_t next_used;	  /* free-running: where the next completion goes */
	uint16_t signalled_used;  /* next_used at the last decision to interrupt */
	const char *fault;	  /* not NULL: broken, and why */
	const char *owner;	  /* for probes only: the device's id, or NULL */
	unsigned index;		  /* for probes only: which of its queues */
};

/*
 * One request: its device-readable segments first, then its device-writable ones, as host addresses.
 * `segments` and `capacity` are set by the owner; the rest by virtqueue_pop(). A chain with more
 * segments than the capacity is a violation: offer the driver a limit (seg_max) below it.
 */
struct descriptor_chain {
	struct iovec *segments;
	uint16_t capacity;
	const struct guest_memory *memory;
	uint16_t head;	   /* names the chain towards the driver */
	uint16_t readable; /* segments[0 .. readable) */
	uint16_t writable; /* segments[readable .. readable + writable) */
	uint64_t readable_len, writable_len;
};

/* Translate and check the areas: 0, or -EINVAL with q->fault set. `features` as negotiated. */
int virtqueue_start(struct virtqueue *q, const struct guest_memory *memory,
	const struct virtqueue_registers *registers, uint64_t features);

/* Take the next available chain: 1 taken, 0 none, -EPROTO broken (q->fault says why). */
int virtqueue_pop(struct virtqueue *q, struct descriptor_chain *chain);

/* Take a chain that was popped in an earlier life of the queue, and never completed: as virtqueue_pop(), but of its head. */
int virtqueue_retake(struct virtqueue *q, uint16_t head, struct descriptor_chain *chain);

/* Give back the last `count` popped chains, newest first, as if they had never been taken. */
void virtqueue_unpop(struct virtqueue *q, uint16_t count);

/* Complete a chain: `written` bytes of its writable part are valid. Visible to the driver at once. */
void virtqueue_push(struct virtqueue *q, uint16_t head, uint32_t written);

/*
 * Complete several chains at once (mergeable receive buffers): fill entries 0..count-1 with
 * virtqueue_fill(), then make all visible together with virtqueue_publish().
 */
void virtqueue_fill(struct virtqueue *q, uint16_t at, uint16_t head, uint32_t written);
void virtqueue_publish(struct virtqueue *q, uint16_t count);

/* Whether the driver wants an interrupt for what was pushed since the last call (§2.7.7). */
bool virtqueue_needs_interrupt(struct virtqueue *q);

/*
 * Ask the driver for no kicks / for kicks again. With event_idx, enabling means "kick at the next
 * chain". Enabling returns true when chains came in meanwhile: serve again instead of sleeping.
 */
void virtqueue_disable_kicks(struct virtqueue *q);
bool virtqueue_enable_kicks(struct virtqueue *q);

/* Whether there is a chain to take: one load, for those who look often. False for a broken queue. */
bool virtqueue_has_chains(const struct virtqueue *q);

/* Copy between a plain buffer and the readable / writable part of a chain from byte `offset` on.
 * Returns the bytes copied: less than `len` when the chain is shorter. */
size_t chain_read(const struct descriptor_chain *chain, size_t offset, void *data, size_t len);
size_t chain_write(
	const struct descriptor_chain *chain, size_t offset, const void *data, size_t len);
