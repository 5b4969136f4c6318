/* SPDX-License-Identifier: Apache-2.0 */
/* Split queues (virtio 1.2 §2.7), the driver's side. See virtio.h. */
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"
#include "guest/payloads/lib/virtio.h"

#define WAIT_MS	    20000
#define TABLE(size) (16ul * (size))
#define AVAIL(size) (6ul + 2ul * (size))
#define USED(size)  (6ul + 8ul * (size))

void virtq_alloc(struct virtq *q, uint16_t size)
{
	check(size && size <= VIRTQ_SIZE_MAX, "a queue of %u", size);
	memset(q, 0, sizeof(*q));
	q->size = size;
	q->vector = VIRTIO_NO_VECTOR;
	q->desc = memory_alloc(TABLE(size), 16);
	q->avail = memory_alloc(AVAIL(size), 2);
	q->used = memory_alloc(USED(size), 4);
}

static void empty(struct virtq *q)
{
	memset(q->desc, 0, TABLE(q->size));
	memset((void *)q->avail, 0, AVAIL(q->size));
	memset((void *)q->used, 0, USED(q->size));
	for (uint16_t i = 0; i < q->size; i++)
		q->desc[i].next = (uint16_t)(i + 1);
	q->free = 0;
	q->free_count = q->size;
	q->added = q->kicked = q->taken = 0;
}

static void write_address(uint64_t at, uint64_t address)
{
	mmio_write32(at, (uint32_t)address);
	mmio_write32(at + 4, (uint32_t)(address >> 32));
}

void virtq_write_registers(struct virtio *dev, unsigned index, uint16_t size, uint64_t desc,
	uint64_t avail, uint64_t used)
{
	mmio_write16(dev->common + VIRTIO_PCI_COMMON_Q_SELECT, (uint16_t)index);
	mmio_write16(dev->common + VIRTIO_PCI_COMMON_Q_SIZE, size);
	write_address(dev->common + VIRTIO_PCI_COMMON_Q_DESCLO, desc);
	write_address(dev->common + VIRTIO_PCI_COMMON_Q_AVAILLO, avail);
	write_address(dev->common + VIRTIO_PCI_COMMON_Q_USEDLO, used);
}

void virtq_attach(struct virtq *q, struct virtio *dev, unsigned index)
{
	q->dev = dev;
	q->index = index;
	q->event_idx = dev->features & FEATURE(VIRTIO_RING_F_EVENT_IDX);
	empty(q);
	virtq_write_registers(
		dev, index, q->size, (uint64_t)q->desc, (uint64_t)q->avail, (uint64_t)q->used);
	mmio_write16(dev->common + VIRTIO_PCI_COMMON_Q_MSIX, q->vector);
	check(mmio_read16(dev->common + VIRTIO_PCI_COMMON_Q_MSIX) == q->vector, "vector %u refused",
		q->vector);
	q->notify = dev->notify +
		    dev->notify_multiplier * mmio_read16(dev->common + VIRTIO_PCI_COMMON_Q_NOFF);
	mmio_write16(dev->common + VIRTIO_PCI_COMMON_Q_ENABLE, 1);
}

void virtq_publish(struct virtq *q, uint16_t head)
{
	q->avail->ring[q->added & (q->size - 1)] = head;
	q->added++;
	__atomic_store_n(&q->avail->idx, q->added, __ATOMIC_RELEASE);
}

static void fill(struct vring_desc *desc, const struct segment *segment, bool writable, bool last)
{
	desc->addr = (uint64_t)segment->data;
	desc->len = segment->len;
	desc->flags =
		(uint16_t)((writable ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT));
}

bool virtq_add(
	struct virtq *q, const struct segment *segments, unsigned out, unsigned in, uint64_t token)
{
	uint16_t head = q->free, at = head;

	if (q->free_count < out + in)
		return false;
	for (unsigned i = 0; i < out + in; i++) {
		at = q->free;
		fill(&q->desc[at], &segments[i], i >= out, i + 1 == out + in);
		q->free = q->desc[at].next;
		q->free_count--;
	}
	q->tokens[head] = token;
	virtq_publish(q, head);
	return true;
}

bool virtq_add_indirect(struct virtq *q, struct vring_desc *table, const struct segment *segments,
	unsigned out, unsigned in, uint64_t token)
{
	uint16_t head = q->free;

	if (!q->free_count)
		return false;
	for (unsigned i = 0; i < out + in; i++) {
		fill(&table[i], &segments[i], i >= out, i + 1 == out + in);
		table[i].next = (uint16_t)(i + 1);
	}
	q->free = q->desc[head].next;
	q->free_count--;
	q->desc[head].addr = (uint64_t)table;
	q->desc[head].len = (out + in) * (uint32_t)sizeof(*table);
	q->desc[head].flags = VRING_DESC_F_INDIRECT;
	q->tokens[head] = token;
	virtq_publish(q, head);
	return true;
}

void virtq_notify(struct virtq *q)
{
	q->kicks++;
	mmio_write16(q->notify, (uint16_t)q->index);
}

bool virtq_kick(struct virtq *q)
{
	uint16_t before = q->kicked;
	bool wanted;

	cpu_fence();
	q->kicked = q->added;
	if (q->event_idx)
		wanted = vring_need_event(virtq_avail_event(q), q->added, before);
	else
		wanted = !(q->used->flags & VRING_USED_F_NO_NOTIFY);
	if (wanted)
		virtq_notify(q);
	return wanted;
}

static void free_chain(struct virtq *q, uint16_t head)
{
	uint16_t last = head;

	q->free_count++;
	while (q->desc[last].flags & VRING_DESC_F_NEXT) {
		last = q->desc[last].next;
		q->free_count++;
	}
	q->desc[last].next = q->free;
	q->free = head;
}

bool virtq_take(struct virtq *q, uint64_t *token, uint32_t *len)
{
	volatile struct vring_used_elem *elem = &q->used->ring[q->taken & (q->size - 1)];

	if (__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) == q->taken)
		return false;
	check(elem->id < q->size, "queue %u: a completion of chain %u", q->index, elem->id);
	*token = q->tokens[elem->id];
	if (len)
		*len = elem->len;
	q->taken++;
	free_chain(q, (uint16_t)elem->id);
	return true;
}

uint64_t virtq_wait(struct virtq *q, uint32_t *len)
{
	uint64_t token = 0;

	check(wait_until(virtq_take(q, &token, len), WAIT_MS),
		"slot %u, queue %u: no completion (status %x)", q->dev->pci.slot, q->index,
		virtio_status(q->dev));
	return token;
}

void virtq_set_used_event(struct virtq *q, uint16_t event)
{
	q->avail->ring[q->size] = event;
	cpu_fence();
}

uint16_t virtq_avail_event(const struct virtq *q)
{
	return *(const volatile uint16_t *)&q->used->ring[q->size];
}
