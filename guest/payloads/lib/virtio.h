/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of virtio over PCI (virtio 1.2 §2.7, §3, §4.1): devices and split queues. The
 * fields are open, because a test's work is often to break what is in them.
 */
#pragma once

#include "guest/payloads/lib/pci.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#define VIRTIO_NO_VECTOR 0xffff
#define VIRTQ_SIZE_MAX	 1024

#define FEATURE(bit) (1ull << (bit))

struct virtio {
	struct pci_function pci;
	uint64_t common, isr, config, notify; /* addresses of the structures */
	uint32_t notify_multiplier;
	unsigned msix; /* capability */
	unsigned vectors;
	uint64_t msix_table, msix_pending;
	uint64_t features; /* negotiated */
};

struct virtq {
	struct virtio *dev;
	unsigned index;
	uint16_t size;
	uint16_t vector; /* MSI-X entry; set before virtq_attach() */
	bool event_idx;
	struct vring_desc *desc;
	volatile struct vring_avail *avail;
	volatile struct vring_used *used;
	uint64_t notify;
	uint16_t free, free_count; /* descriptors, chained by `next` */
	uint16_t added, kicked;	   /* free-running: available index; its value at the last kick */
	uint16_t taken;		   /* free-running: used entries taken */
	uint64_t kicks;		   /* notifications really sent */
	uint64_t tokens[VIRTQ_SIZE_MAX];
};

struct segment {
	const void *data;
	uint32_t len;
};

/* The nth device of this type (VIRTIO_ID_*), its structures found by their capabilities. */
bool virtio_find(struct virtio *dev, unsigned type, unsigned nth);

/* The same, ending the test when there is none. */
void virtio_open(struct virtio *dev, unsigned type, unsigned nth);

uint8_t virtio_status(const struct virtio *dev);

/* Write 0 to the status and wait until it reads 0. */
void virtio_reset(struct virtio *dev);

/* From reset to FEATURES_OK, with as many of `wanted` as are offered (VERSION_1 always). */
void virtio_negotiate(struct virtio *dev, uint64_t wanted);
uint64_t virtio_offered(const struct virtio *dev);
void virtio_driver_ok(struct virtio *dev);

/* Entry `entry` of the MSI-X table interrupts this processor with `vector`. Switches MSI-X on. */
void virtio_vector(struct virtio *dev, unsigned entry, unsigned vector);
void virtio_mask(struct virtio *dev, unsigned entry, bool masked);
bool virtio_pending(struct virtio *dev, unsigned entry);

uint64_t virtio_config(const struct virtio *dev, unsigned offset, unsigned size);

/* Memory for a queue of `size`, as often as it is attached. */
void virtq_alloc(struct virtq *q, uint16_t size);

/* Write the queue's registers and enable it: between virtio_negotiate() and virtio_driver_ok(). */
void virtq_attach(struct virtq *q, struct virtio *dev, unsigned index);

/* Registers alone. */
void virtq_write_registers(struct virtio *dev, unsigned index, uint16_t size, uint64_t desc,
	uint64_t avail, uint64_t used);

/*
 * Make a chain of `out` readable and `in` writable segments available. The token comes back from
 * virtq_take(). False when there are not enough free descriptors. virtq_add_indirect() uses one, and
 * `table`, which must hold as many as there are segments and stay until the chain is taken.
 */
bool virtq_add(
	struct virtq *q, const struct segment *segments, unsigned out, unsigned in, uint64_t token);
bool virtq_add_indirect(struct virtq *q, struct vring_desc *table, const struct segment *segments,
	unsigned out, unsigned in, uint64_t token);

/* Make one chain that starts at this descriptor available, whatever it is. */
void virtq_publish(struct virtq *q, uint16_t head);

/* Notify the device, if it wants that. True when it did. */
bool virtq_kick(struct virtq *q);
void virtq_notify(struct virtq *q);

/* Take a completed chain, if there is one. */
bool virtq_take(struct virtq *q, uint64_t *token, uint32_t *len);

/* The same, waiting; ends the test when none comes. */
uint64_t virtq_wait(struct virtq *q, uint32_t *len);

/* The driver's event fields (§2.7.7, §2.7.10). */
void virtq_set_used_event(struct virtq *q, uint16_t event);
uint16_t virtq_avail_event(const struct virtq *q);
