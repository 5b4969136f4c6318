/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device side of a split virtqueue. See virtqueue.h for the contract.
 *
 * Ordering (virtio 1.2 §2.7.13): the available index is loaded with acquire before the entries it
 * announces; the used index is stored with release after the entries it announces; and deciding
 * whether to interrupt, or going to sleep after asking for kicks, needs a full barrier between our
 * store and the load of what the driver stored, because the driver does the same the other way round.
 *
 * What is stored is marked as dirty behind the store, see vmm/memory/dirty.h.
 */
#include "virtio/virtqueue.h"

#include "vmm/base/log.h"
#include "vmm/base/probe.h"
#include "vmm/base/util.h"
#include "vmm/memory/dirty.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <stdatomic.h>
#include <string.h>

/* Fields shared with the guest are accessed whole, once, and little-endian (so are our hosts). */
#define load(p)		    __atomic_load_n(p, __ATOMIC_RELAXED)
#define load_acquire(p)	    __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store(p, v)	    __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)

static int broken(struct virtqueue *q, const char *why)
{
	q->fault = why;
	return -EPROTO;
}

/* avail->ring[size] is the driver's "interrupt me past here", used->ring[size] our "kick me past here". */
static uint16_t *used_event(struct virtqueue *q)
{
	return &q->avail->ring[q->size];
}

static uint16_t *avail_event(struct virtqueue *q)
{
	return (uint16_t *)(void *)&q->used->ring[q->size];
}

int virtqueue_start(struct virtqueue *q, const struct guest_memory *memory,
	const struct virtqueue_registers *registers, uint64_t features)
{
	uint64_t size = registers->size;

	memset(q, 0, sizeof(*q));
	q->memory = memory;
	if (!size || size > VIRTQUEUE_SIZE_MAX || (size & (size - 1))) {
		q->fault = "the queue size is not a power of two in range";
		return -EINVAL;
	}
	if (registers->desc % 16 || registers->driver % 2 || registers->device % 4) {
		q->fault = "a ring address is misaligned";
		return -EINVAL;
	}
	q->size = (uint16_t)size;
	/* §2.7: 16 bytes a descriptor; 6 + 2 a slot; 6 + 8 a slot (the event words included). */
	q->desc = (void *)guest_memory_view(memory, registers->desc, 16 * size);
	q->avail = (void *)guest_memory_view(memory, registers->driver, 6 + 2 * size);
	q->used = (void *)guest_memory_view(memory, registers->device, 6 + 8 * size);
	if (!q->desc || !q->avail || !q->used) {
		q->fault = "a ring lies outside guest RAM";
		return -EINVAL;
	}
	q->event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	q->indirect = features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	return 0;
}

/* Append one descriptor's buffer to the chain. */
static int add_segment(struct virtqueue *q, struct descriptor_chain *chain, uint64_t gpa,
	uint32_t len, bool writable)
{
	unsigned at = (unsigned)chain->readable + chain->writable;
	uint8_t *view;

	if (!len)
		return 0; /* nothing to read or write there: legal, and no segment */
	if (at >= chain->capacity)
		return broken(q, "a chain has more segments than the device offered");
	view = guest_memory_view(q->memory, gpa, len);
	if (!view)
		return broken(q, "a buffer lies outside guest RAM");
	chain->segments[at] = (struct iovec){.iov_base = view, .iov_len = len};
	if (writable) {
		chain->writable++;
		chain->writable_len += len;
		return 0;
	}
	if (chain->writable)
		return broken(q, "a readable buffer follows a writable one");
	chain->readable++;
	chain->readable_len += len;
	return 0;
}

/* §2.7 aligns the ring's parts; an indirect table may lie anywhere. Each field is read whole and once. */
struct __attribute__((packed)) loose_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/*
 * Follow a chain in `table` (`entries` long) from `index`. An indirect table may stand in the ring only.
 */
static int walk(struct virtqueue *q, struct descriptor_chain *chain, const void *table,
	uint32_t entries, uint16_t index, bool in_ring)
{
	for (uint32_t steps = 0;; steps++) {
		const volatile struct loose_desc *desc = (const struct loose_desc *)table + index;
		uint64_t gpa;
		uint32_t len;
		uint16_t flags;
		int ret;

		if (steps == entries)
			return broken(q, "a chain loops");
		gpa = desc->addr;
		len = desc->len;
		flags = desc->flags;
		if (flags & VRING_DESC_F_INDIRECT) {
			const void *indirect;

			/* §2.7.5.3.1: negotiated, not nested, not followed by NEXT, a whole number of entries. */
			if (!q->indirect || !in_ring || flags & VRING_DESC_F_NEXT)
				return broken(q, "an indirect descriptor where none may be");
			if (!len || len % 16 || len / 16 > q->size)
				return broken(q, "an indirect table of a wrong size");
			indirect = guest_memory_view(q->memory, gpa, len);
			if (!indirect)
				return broken(q, "an indirect table lies outside guest RAM");
			return walk(q, chain, indirect, len / 16, 0, false);
		}
		ret = add_segment(q, chain, gpa, len, flags & VRING_DESC_F_WRITE);
		if (ret < 0)
			return ret;
		if (!(flags & VRING_DESC_F_NEXT))
			return 1;
		index = desc->next;
		if (index >= entries)
			return broken(q, "a descriptor index is out of range");
	}
}

int virtqueue_retake(struct virtqueue *q, uint16_t head, struct descriptor_chain *chain)
{
	if (q->fault)
		return -EPROTO;
	if (head >= q->size)
		return broken(q, "a chain's head is out of range");
	chain->memory = q->memory;
	chain->head = head;
	chain->readable = chain->writable = 0;
	chain->readable_len = chain->writable_len = 0;
	return walk(q, chain, q->desc, q->size, head, true);
}

int virtqueue_pop(struct virtqueue *q, struct descriptor_chain *chain)
{
	uint16_t avail, head;
	int ret;

	if (q->fault)
		return -EPROTO;
	avail = load_acquire(&q->avail->idx);
	if (avail == q->next_avail)
		return 0;
	if ((uint16_t)(avail - q->next_avail) > q->size)
		return broken(q, "the available index ran ahead of the ring");
	head = load(&q->avail->ring[q->next_avail & (q->size - 1)]);
	ret = virtqueue_retake(q, head, chain);
	if (ret > 0) {
		q->next_avail++;
		PROBE(virtqueue__take, q->owner, q->index, head);
	}
	return ret;
}

void virtqueue_unpop(struct virtqueue *q, uint16_t count)
{
	q->next_avail = (uint16_t)(q->next_avail - count);
}

void virtqueue_fill(struct virtqueue *q, uint16_t at, uint16_t head, uint32_t written)
{
	struct vring_used_elem *elem =
		&q->used->ring[(uint16_t)(q->next_used + at) & (q->size - 1)];

	store(&elem->id, (uint32_t)head);
	store(&elem->len, written);
	guest_memory_mark(q->memory, elem, sizeof(*elem));
	PROBE(virtqueue__complete, q->owner, q->index, head, written);
}

void virtqueue_publish(struct virtqueue *q, uint16_t count)
{
	q->next_used = (uint16_t)(q->next_used + count);
	store_release(&q->used->idx, q->next_used);
	guest_memory_mark(q->memory, &q->used->idx, sizeof(q->used->idx));
}

void virtqueue_push(struct virtqueue *q, uint16_t head, uint32_t written)
{
	virtqueue_fill(q, 0, head, written);
	virtqueue_publish(q, 1);
}

bool virtqueue_needs_interrupt(struct virtqueue *q)
{
	uint16_t before = q->signalled_used;
	uint16_t event;

	if (q->fault || before == q->next_used)
		return false;
	q->signalled_used = q->next_used;
	atomic_thread_fence(memory_order_seq_cst);
	if (!q->event_idx)
		return !(load(&q->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	/* §2.7.7.2: when the entry at used_event is among those just added; all modulo 2^16. */
	event = load(used_event(q));
	return (uint16_t)(q->next_used - event - 1) < (uint16_t)(q->next_used - before);
}

static void set_used_flags(struct virtqueue *q, uint16_t flags)
{
	store(&q->used->flags, flags);
	guest_memory_mark(q->memory, &q->used->flags, sizeof(flags));
}

void virtqueue_disable_kicks(struct virtqueue *q)
{
	/* With event_idx the stale avail_event already keeps the driver silent for 2^16 chains. */
	if (!q->event_idx && !q->fault)
		set_used_flags(q, VRING_USED_F_NO_NOTIFY);
}

bool virtqueue_enable_kicks(struct virtqueue *q)
{
	if (q->fault)
		return false;
	if (q->event_idx) {
		store(avail_event(q), q->next_avail);
		guest_memory_mark(q->memory, avail_event(q), sizeof(uint16_t));
	} else {
		set_used_flags(q, 0);
	}
	atomic_thread_fence(memory_order_seq_cst);
	return load_acquire(&q->avail->idx) != q->next_avail;
}

bool virtqueue_has_chains(const struct virtqueue *q)
{
	return !q->fault && load_acquire(&q->avail->idx) != q->next_avail;
}

/* Copy between `data` and `count` segments, from byte `offset` of the segments on. */
static size_t copy_segments(const struct guest_memory *memory, const struct iovec *segments,
	unsigned count, size_t offset, uint8_t *data, size_t len, bool to_guest)
{
	size_t done = 0;

	for (unsigned i = 0; i < count && done < len; i++) {
		size_t here = segments[i].iov_len;
		uint8_t *base = segments[i].iov_base;

		if (offset >= here) {
			offset -= here;
			continue;
		}
		here = min_u64(here - offset, len - done);
		if (to_guest) {
			memcpy(base + offset, data + done, here);
			guest_memory_mark(memory, base + offset, here);
		} else {
			memcpy(data + done, base + offset, here);
		}
		done += here;
		offset = 0;
	}
	return done;
}

size_t chain_read(const struct descriptor_chain *chain, size_t offset, void *data, size_t len)
{
	return copy_segments(chain->memory, chain->segments, chain->readable, offset,
		(uint8_t *)data, len, false);
}

size_t chain_write(
	const struct descriptor_chain *chain, size_t offset, const void *data, size_t len)
{
	return copy_segments(chain->memory, chain->segments + chain->readable, chain->writable,
		offset, (uint8_t *)(uintptr_t)data, len, true);
}
