/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's side of a virtio device, for tests. See driver.h. */
#include "tests/unit/driver.h"

#include "vmm/base/util.h"

#include <linux/virtio_config.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATUS_DRIVER (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)

static _Noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "test driver: %s: %s\n", what, why);
	abort();
}

/* ---- the transport's side ---- */

static void queue_interrupt(struct virtio_device *dev, uint16_t vector)
{
	struct driver *d = dev->transport_owner;

	if (vector < DRIVER_QUEUES_MAX)
		atomic_fetch_add(&d->interrupts[vector], 1);
}

static void config_interrupt(struct virtio_device *dev)
{
	struct driver *d = dev->transport_owner;

	atomic_fetch_add(&d->config_interrupts, 1);
}

static int vector_fd(struct virtio_device *dev, uint16_t vector)
{
	(void)dev;
	(void)vector;
	return -1;
}

static void kicks_nothing(struct virtio_device *dev)
{
	(void)dev; /* virtio_device_kick() writes to the queue's eventfd itself */
}

static const struct virtio_transport transport = {
	.queue_interrupt = queue_interrupt,
	.config_interrupt = config_interrupt,
	.vector_fd = vector_fd,
	.kicks_connect = kicks_nothing,
	.kicks_disconnect = kicks_nothing,
};

/* ---- life ---- */

void driver_create(struct driver *d, uint64_t ram)
{
	struct guest_memory_config config = {
		.region_count = 1,
		.regions[0] = {.gpa = 0, .size = ram},
		.pages = MEMORY_PAGES_OFF,
	};
	struct error err;

	memset(d, 0, sizeof(*d));
	d->heap_next = 4096; /* address 0 stays unused: it is what forgotten fields hold */
	if (guest_memory_create(&config, &d->memory, &err) < 0)
		fail("guest memory", err.text);
	if (loop_create(&d->main_loop, 64, &err) < 0)
		fail("main loop", err.text);
}

struct turn {
	struct loop_job job;
	struct loop *loop;
};

static void end_turn(struct loop_job *job)
{
	loop_stop(container_of(job, struct turn, job)->loop);
}

void driver_turn(struct driver *d)
{
	struct turn turn = {.job.run = end_turn, .loop = d->main_loop};
	struct error err;

	loop_post(d->main_loop, &turn.job);
	if (loop_run(d->main_loop, &err) < 0)
		fail("main loop", err.text);
}

static void setup_queue(struct driver *d, unsigned index, uint16_t size)
{
	struct driver_queue *q = &d->queues[index];
	struct device_queue *dq = &d->device->queues[index];

	memset(q, 0, sizeof(*q));
	q->driver = d;
	q->index = index;
	q->size = size;
	q->event_idx = virtio_has_feature(d->device, VIRTIO_RING_F_EVENT_IDX);
	q->registers = (struct virtqueue_registers){
		.size = size,
		.desc = driver_alloc(d, 16u * size, 16),
		.driver = driver_alloc(d, 6 + 2u * size, 2),
		/* On pages that the driver does not write; aligned as loosely as it may be. */
		.device = driver_alloc(d, 4 + 6 + 8u * size, 4096) + 4,
	};
	driver_alloc(d, 0, 4096);
	q->desc = driver_host(d, q->registers.desc, 16u * size);
	q->avail = driver_host(d, q->registers.driver, 6 + 2u * size);
	q->used = driver_host(d, q->registers.device, 6 + 8u * size);
	for (uint16_t i = 0; i < size; i++)
		q->desc[i].next = (uint16_t)(i + 1);
	q->free_count = size;
	dq->registers = q->registers;
	dq->enabled = true;
	dq->vector = (uint16_t)index;
}

static void set_status(struct driver *d, uint8_t status)
{
	pthread_mutex_lock(&d->device->lock);
	virtio_device_set_status(d->device, status);
	pthread_mutex_unlock(&d->device->lock);
}

bool driver_start(struct driver *d, uint64_t wanted, uint16_t queue_size)
{
	uint64_t features = d->device->features & wanted;

	if (!d->pci) {
		d->device->transport = &transport;
		d->device->transport_owner = d;
	}
	d->queue_count = d->device->queue_count;
	if (d->queue_count > DRIVER_QUEUES_MAX)
		fail("start", "too many queues");
	set_status(d, STATUS_DRIVER);
	pthread_mutex_lock(&d->device->lock);
	virtio_device_set_driver_features(d->device, 0, (uint32_t)features);
	virtio_device_set_driver_features(d->device, 1, (uint32_t)(features >> 32));
	pthread_mutex_unlock(&d->device->lock);
	set_status(d, STATUS_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	if (!(atomic_load(&d->device->status) & VIRTIO_CONFIG_S_FEATURES_OK))
		return false;
	for (unsigned i = 0; i < d->queue_count; i++)
		setup_queue(d, i, queue_size);
	set_status(d, STATUS_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	driver_turn(d);
	return true;
}

void driver_reset_begin(struct driver *d)
{
	set_status(d, 0);
}

void driver_reset_wait(struct driver *d)
{
	uint64_t limit = now_ns() + DRIVER_WAIT_MS * 1000000ull;

	driver_turn(d);
	while (atomic_load(&d->device->status)) {
		if (now_ns() > limit)
			fail("reset", "the status does not become 0");
		usleep(100);
		driver_turn(d);
	}
}

void driver_reset(struct driver *d)
{
	driver_reset_begin(d);
	driver_reset_wait(d);
}

static void stands_still(struct virtio_device *dev, void *arg)
{
	bool *quiet = arg;

	(void)dev;
	*quiet = true;
}

void driver_quiesce(struct driver *d)
{
	uint64_t limit = now_ns() + DRIVER_WAIT_MS * 1000000ull;
	bool quiet = false;

	virtio_device_quiesce(d->device, stands_still, &quiet);
	while (!quiet) {
		if (now_ns() > limit)
			fail("quiesce", "the device does not come to rest");
		driver_turn(d);
	}
}

void driver_unquiesce(struct driver *d)
{
	virtio_device_unquiesce(d->device);
	driver_turn(d);
}

void driver_plug(struct driver *d)
{
	struct error err;

	pci_host_init(&d->host, 0xc0000000, 0x10000000);
	if (virtio_pci_create(d->device, &d->pci, &err) < 0 ||
		pci_host_plug(&d->host, virtio_pci_function(d->pci), 1, &err) < 0)
		fail("plug", err.text);
}

void driver_unplug(struct driver *d)
{
	if (d->pci) {
		pci_host_unplug(&d->host, virtio_pci_function(d->pci));
		virtio_pci_destroy(d->pci);
		pci_host_destroy(&d->host);
	} else if (d->device) {
		virtio_device_destroy(d->device);
	}
	d->pci = NULL;
	d->device = NULL;
}

void driver_save(struct driver *d, struct state_writer *out)
{
	struct error err;

	state_begin(out);
	virtio_pci_save(d->pci, out);
	if (state_finish(out, &err) < 0)
		fail("save", err.text);
}

int driver_load(struct driver *d, const void *bytes, size_t size, struct error *err)
{
	struct state_reader in;
	int ret = state_open(&in, bytes, size, err);

	if (ret < 0)
		return ret;
	ret = virtio_pci_load(d->pci, &in, err);
	if (ret == 0)
		ret = state_all_taken(&in, err);
	state_close(&in);
	return ret;
}

void driver_destroy(struct driver *d)
{
	driver_unplug(d);
	loop_destroy(d->main_loop);
	guest_memory_destroy(&d->memory);
}

/* ---- RAM and configuration space ---- */

uint64_t driver_alloc(struct driver *d, uint64_t len, uint64_t align)
{
	uint64_t gpa = align_up(d->heap_next, align ? align : 1);

	d->heap_next = gpa + len;
	if (d->heap_next > d->memory.size)
		fail("driver_alloc", "the guest RAM of this test is too small");
	return gpa;
}

void *driver_host(struct driver *d, uint64_t gpa, uint64_t len)
{
	void *view = guest_memory_view(&d->memory, gpa, len);

	if (!view)
		fail("driver_host", "not RAM");
	return view;
}

/* What the device writes meanwhile may come or not: no concern of the thread sanitizer's. */
__attribute__((no_sanitize("thread"))) uint64_t *driver_copy_ram(const struct driver *d)
{
	const volatile uint64_t *ram = (const void *)d->memory.regions[0].host;
	uint64_t *copy = malloc(d->memory.size);

	for (uint64_t i = 0; copy && i < d->memory.size / 8; i++)
		copy[i] = ram[i];
	return copy;
}

__attribute__((no_sanitize("thread"))) bool driver_page_differs(
	const struct driver *d, const uint64_t *copy, uint64_t page)
{
	const volatile uint64_t *ram = (const void *)d->memory.regions[0].host;

	for (uint64_t i = page * 512; i < (page + 1) * 512; i++)
		if (copy[i] != ram[i])
			return true;
	return false;
}

void driver_config_read(struct driver *d, uint32_t offset, void *data, uint32_t len)
{
	pthread_mutex_lock(&d->device->lock);
	d->device->ops->config_read(d->device, offset, data, len);
	pthread_mutex_unlock(&d->device->lock);
}

void driver_config_write(struct driver *d, uint32_t offset, const void *data, uint32_t len)
{
	pthread_mutex_lock(&d->device->lock);
	d->device->ops->config_write(d->device, offset, data, len);
	pthread_mutex_unlock(&d->device->lock);
}

/* ---- rings ---- */

static void fill(struct vring_desc *desc, const struct driver_segment *segment, bool last)
{
	desc->addr = segment->gpa;
	desc->len = segment->len;
	desc->flags = (uint16_t)((segment->writable ? VRING_DESC_F_WRITE : 0) |
				 (last ? 0 : VRING_DESC_F_NEXT));
}

static uint16_t publish(struct driver_queue *q, uint16_t head)
{
	q->avail->ring[q->next_avail & (q->size - 1)] = head;
	q->next_avail++;
	__atomic_store_n(&q->avail->idx, q->next_avail, __ATOMIC_RELEASE);
	return head;
}

uint16_t driver_add(struct driver_queue *q, const struct driver_segment *segments, unsigned count)
{
	uint16_t head = q->free_head, at = head;

	if (count == 0 || count > q->free_count)
		fail("driver_add", "no free descriptors");
	for (unsigned i = 0; i < count; i++) {
		at = q->free_head;
		q->free_head = q->desc[at].next;
		fill(&q->desc[at], &segments[i], i + 1 == count);
	}
	q->free_count = (uint16_t)(q->free_count - count);
	return publish(q, head);
}

uint16_t driver_add_indirect(
	struct driver_queue *q, const struct driver_segment *segments, unsigned count)
{
	uint64_t gpa = driver_alloc(q->driver, 16ull * count, 16);
	struct vring_desc *table = driver_host(q->driver, gpa, 16ull * count);
	uint16_t head = q->free_head;

	if (!q->free_count)
		fail("driver_add_indirect", "no free descriptors");
	for (unsigned i = 0; i < count; i++) {
		fill(&table[i], &segments[i], i + 1 == count);
		table[i].next = (uint16_t)(i + 1);
	}
	q->free_head = q->desc[head].next;
	q->free_count--;
	q->desc[head].addr = gpa;
	q->desc[head].len = 16 * count;
	q->desc[head].flags = VRING_DESC_F_INDIRECT;
	return publish(q, head);
}

void driver_kick(struct driver_queue *q)
{
	uint16_t before = q->kicked_avail, event;
	bool wanted;

	q->kicked_avail = q->next_avail;
	atomic_thread_fence(memory_order_seq_cst);
	if (q->event_idx) {
		event = __atomic_load_n(
			(uint16_t *)(void *)&q->used->ring[q->size], __ATOMIC_RELAXED);
		wanted = (uint16_t)(q->next_avail - event - 1) < (uint16_t)(q->next_avail - before);
	} else {
		wanted = !(__atomic_load_n(&q->used->flags, __ATOMIC_RELAXED) &
			   VRING_USED_F_NO_NOTIFY);
	}
	if (!wanted)
		return;
	q->kicks++;
	virtio_device_kick(q->driver->device, q->index);
}

static void release_chain(struct driver_queue *q, uint16_t head)
{
	uint16_t at = head, count = 1;

	while (q->desc[at].flags & VRING_DESC_F_NEXT && count < q->size) {
		at = q->desc[at].next;
		count++;
	}
	q->desc[at].next = q->free_head;
	q->free_head = head;
	q->free_count = (uint16_t)(q->free_count + count);
}

bool driver_poll_used(struct driver_queue *q, uint16_t *head, uint32_t *len)
{
	const struct vring_used_elem *elem = &q->used->ring[q->seen_used & (q->size - 1)];

	if (__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) == q->seen_used)
		return false;
	if (elem->id >= q->size)
		fail("used ring", "the device completed a chain that does not exist");
	if (head)
		*head = (uint16_t)elem->id;
	if (len)
		*len = elem->len;
	release_chain(q, (uint16_t)elem->id);
	q->seen_used++;
	/* "Interrupt me at the next one": used_event stands behind the available ring. */
	if (q->event_idx)
		__atomic_store_n(&q->avail->ring[q->size], q->seen_used, __ATOMIC_RELEASE);
	atomic_thread_fence(memory_order_seq_cst);
	return true;
}

bool driver_wait_used(struct driver_queue *q, uint16_t *head, uint32_t *len, unsigned ms)
{
	uint64_t limit = now_ns() + ms * 1000000ull;

	while (!driver_poll_used(q, head, len)) {
		if (now_ns() > limit)
			return false;
		usleep(20);
	}
	return true;
}

unsigned driver_wait_interrupts(struct driver *d, unsigned index, unsigned count, unsigned ms)
{
	uint64_t limit = now_ns() + ms * 1000000ull;

	while (atomic_load(&d->interrupts[index]) < count && now_ns() < limit)
		usleep(100);
	return atomic_load(&d->interrupts[index]);
}
