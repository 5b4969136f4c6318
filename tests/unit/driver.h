/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of a virtio device, for tests: a small RAM, a driver that negotiates, and queues
 * to which chains are added and from whose used rings completions are taken.
 *
 * The device under test runs as in a VM: its queues on I/O threads of their own, its main loop on
 * the test's thread, which turns it only inside driver_start(), driver_reset() and driver_destroy().
 * The driver is well-behaved: it kicks only when the device wants kicks, and waits for a reset. A test
 * that wants to misbehave writes to the rings itself (desc, avail, used are plain pointers).
 * A failure of the helper itself (out of RAM, no io_uring) ends the program with one line.
 */
#pragma once

#include "virtio/device.h"
#include "virtio/pci.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define DRIVER_QUEUES_MAX   34
#define DRIVER_WAIT_MS	    40000
#define DRIVER_ALL_FEATURES UINT64_MAX

struct driver;

struct driver_segment {
	uint64_t gpa;
	uint32_t len;
	bool writable;
};

struct driver_queue {
	struct driver *driver;
	unsigned index;
	uint16_t size;
	bool event_idx;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	struct virtqueue_registers registers;
	uint16_t free_head, free_count; /* unused descriptors, linked by next */
	uint16_t next_avail;		/* chains added, published or not */
	uint16_t kicked_avail;		/* next_avail at the last driver_kick() */
	uint16_t seen_used;		/* completions taken */
	unsigned kicks;			/* sent */
};

struct driver {
	struct guest_memory memory;
	uint64_t heap_next;
	struct loop *main_loop;
	struct virtio_device *device; /* set by the test once created with memory and main_loop */
	struct virtio_pci *pci; /* where it was plugged in: its interrupts are pending bits then */
	struct pci_host host;
	unsigned queue_count;
	struct driver_queue queues[DRIVER_QUEUES_MAX];
	_Atomic unsigned interrupts[DRIVER_QUEUES_MAX]; /* vector i belongs to queue i */
	_Atomic unsigned config_interrupts;
};

/* RAM of `ram` bytes from address 0, and a main loop. Then create the device on them and set d->device. */
void driver_create(struct driver *d, uint64_t ram);

/* Negotiate (offered & wanted), set up all queues with `queue_size` entries, DRIVER_OK, wait for the
 * activation. False when the device does not agree to the features. */
bool driver_start(struct driver *d, uint64_t wanted, uint16_t queue_size);

/* Write 0 to the status / wait until it reads 0 (turning the main loop). driver_reset() is both. */
void driver_reset_begin(struct driver *d);
void driver_reset_wait(struct driver *d);
void driver_reset(struct driver *d);

/* Quiesce, turning the main loop until the device stands still / let it go on. */
void driver_quiesce(struct driver *d);
void driver_unquiesce(struct driver *d);

/*
 * Put the device behind a PCI function, before driver_start(); and end both, or the device alone where there is no function. Then the test
 * may make another device on the same memory.
 */
void driver_plug(struct driver *d);
void driver_unplug(struct driver *d);

/* The state of a plugged device that is quiet / load it into one that is fresh. */
void driver_save(struct driver *d, struct state_writer *out);
int driver_load(struct driver *d, const void *bytes, size_t size, struct error *err);

/* Run what has been posted to the main loop. */
void driver_turn(struct driver *d);

/* Destroys the device too. */
void driver_destroy(struct driver *d);

/* A fresh, zeroed piece of guest RAM; nothing is given back before driver_destroy(). */
uint64_t driver_alloc(struct driver *d, uint64_t len, uint64_t align);
void *driver_host(struct driver *d, uint64_t gpa, uint64_t len);

/* A copy of all RAM while the device may be writing, and which of its pages are no longer as they were. The caller frees it. */
uint64_t *driver_copy_ram(const struct driver *d);
bool driver_page_differs(const struct driver *d, const uint64_t *copy, uint64_t page);

void driver_config_read(struct driver *d, uint32_t offset, void *data, uint32_t len);
void driver_config_write(struct driver *d, uint32_t offset, const void *data, uint32_t len);

/* Make a chain available and return its head. Visible to the device at once; not kicked. */
uint16_t driver_add(struct driver_queue *q, const struct driver_segment *segments, unsigned count);
uint16_t driver_add_indirect(
	struct driver_queue *q, const struct driver_segment *segments, unsigned count);

/* Kick if the device wants a kick for what was added since the last call (§2.7.10). */
void driver_kick(struct driver_queue *q);

/* Take the next completion: at once if there is one / waiting for it. False: none (in `ms`). */
bool driver_poll_used(struct driver_queue *q, uint16_t *head, uint32_t *len);
bool driver_wait_used(struct driver_queue *q, uint16_t *head, uint32_t *len, unsigned ms);

/* Wait until queue `index` has had `count` interrupts since the start; how many it has had (in `ms`). */
unsigned driver_wait_interrupts(struct driver *d, unsigned index, unsigned count, unsigned ms);

static inline struct driver_queue *driver_queue(struct driver *d, unsigned index)
{
	return &d->queues[index];
}
