/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver against virtio-blk, I/O threads and io_uring and all, on an image in memory. The input
 * is a little program: requests with any header, cut into segments anywhere, raw descriptor
 * chains, any available index, kicks, resets in mid-flight, new limits, configuration accesses, and
 * a file that grows and shrinks underneath.
 *
 * What must hold, besides what the sanitizers watch: after each program the device can be reset, and
 * the file has only the size that this program gave it: no request wrote past its capacity.
 *
 * The first byte chooses one of a few devices, made once; creating threads for each input would be
 * most of the work.
 */
#include "tests/fuzz/input.h"
#include "tests/unit/driver.h"
#include "virtio/blk.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define RAM	   KIB(256)
#define DATA	   KIB(64) /* RAM from here on is for buffers, below lie the rings */
#define QUEUE_SIZE 16
#define DISK_SIZE  KIB(256)
#define OPS_MAX	   200

struct target {
	struct driver d;
	int fd;
	uint64_t size; /* the file's, as last set here */
	bool made;
};

static void make(struct target *t, unsigned which)
{
	static const enum blk_cache caches[] = {
		BLK_CACHE_AUTO, BLK_CACHE_WRITEBACK, BLK_CACHE_WRITETHROUGH, BLK_CACHE_AUTO};
	struct blk_config config = {
		.id = "fuzz", .queues = 1 + which % 2, .cache = caches[which % 4]};
	char path[32];
	struct error err;

	t->fd = memfd_create("disk", MFD_CLOEXEC);
	if (t->fd < 0 || ftruncate(t->fd, DISK_SIZE) < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", t->fd);
	config.path = path;
	config.readonly = which == 7;
	config.discard = which != 6;
	driver_create(&t->d, RAM);
	if (blk_create(&config, &t->d.memory, t->d.main_loop, &t->d.device, &err) < 0)
		abort();
	t->size = DISK_SIZE;
	t->made = true;
}

/* Rings at the same places each time, all of RAM as at power-on. */
static void start(struct target *t, uint64_t features)
{
	memset(t->d.memory.regions[0].host, 0, RAM);
	t->d.heap_next = 4096;
	driver_start(&t->d, features | 1ull << VIRTIO_F_VERSION_1, QUEUE_SIZE);
}

static void publish(struct driver_queue *q, uint16_t head, uint16_t by)
{
	__atomic_store_n(&q->avail->ring[q->next_avail & (QUEUE_SIZE - 1)], head, __ATOMIC_RELAXED);
	q->next_avail = (uint16_t)(q->next_avail + by);
	__atomic_store_n(&q->avail->idx, q->next_avail, __ATOMIC_RELEASE);
}

static uint64_t sector_of(struct input *in)
{
	uint64_t n = take(in, 1);

	switch (n % 4) {
	case 0:
		return DISK_SIZE / 512 - n / 4 % 16;
	case 1:
		return take(in, 8);
	default:
		return take(in, 2) % (DISK_SIZE / 512);
	}
}

/* A request as a driver would make it: header, payload, data or room for it, status; cut up as the input says. */
static void add_request(struct input *in, struct driver_queue *q)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH,
		VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, 99};
	struct virtio_blk_outhdr header = {
		.type = types[take(in, 1) % ARRAY_SIZE(types)], .sector = sector_of(in)};
	bool reads = header.type == VIRTIO_BLK_T_IN || header.type == VIRTIO_BLK_T_GET_ID;
	uint32_t payload = (uint32_t)(take(in, 1) * (take(in, 1) % 4 ? 512 : 16)), left,
		 header_left = 16;
	uint32_t at = DATA + (uint32_t)take(in, 2);
	uint16_t head = (uint16_t)(take(in, 1) % QUEUE_SIZE), index = head;
	struct driver *d = q->driver;

	guest_memory_write(&d->memory, at, &header, sizeof(header));
	for (unsigned i = 0; i < payload && i < 128 && header.type >= VIRTIO_BLK_T_DISCARD;
		i += 16) {
		struct virtio_blk_discard_write_zeroes range = {.sector = sector_of(in),
			.num_sectors = (uint32_t)take(in, 2) % 600,
			.flags = take(in, 1) & 1};

		guest_memory_write(&d->memory, at + 16 + i, &range, sizeof(range));
	}
	left = 16 + payload + 1;
	for (unsigned n = 0; left && n < QUEUE_SIZE; n++) {
		uint32_t cut = (uint32_t)take(in, 1) * (n % 2 ? 512 : 4) + 1;
		bool writable = left == 1 || (reads && !header_left);
		struct vring_desc *desc = &q->desc[index];

		if (n == QUEUE_SIZE - 1 || cut > left)
			cut = left;
		if (header_left)
			cut = cut < header_left ? cut : header_left;
		else if (!writable && cut == left)
			cut = left - 1;
		header_left -= header_left ? cut : 0;
		left -= cut;
		index = (uint16_t)((index + 1) % QUEUE_SIZE);
		*desc = (struct vring_desc){.addr = at,
			.len = cut,
			.next = index,
			.flags = (uint16_t)((writable ? VRING_DESC_F_WRITE : 0) |
					    (left ? VRING_DESC_F_NEXT : 0))};
		at += cut;
	}
	publish(q, head, 1);
}

static void poke(struct input *in, struct driver *d)
{
	uint64_t at = take(in, 1) % 2 ? take(in, 2) : DATA + take(in, 2),
		 len = take(in, 1) % 32 + 1;
	uint8_t bytes[32] = {0};

	for (unsigned i = 0; i < len; i++)
		bytes[i] = (uint8_t)take(in, 1);
	guest_memory_write(&d->memory, at, bytes, len);
}

/* Until all that was made available is completed, or a while: the device may hold it or be broken. */
static void settle(struct driver_queue *q, unsigned microseconds)
{
	uint64_t limit = now_ns() + microseconds * 1000ull;

	while (__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) != q->next_avail &&
		now_ns() < limit)
		usleep(20);
}

static void access_config(struct input *in, struct driver *d)
{
	uint32_t len = 1u << take(in, 1) % 4,
		 offset = (uint32_t)take(in, 1) % d->device->config_size;
	uint64_t value = take(in, len);

	if (offset + len > d->device->config_size)
		return; /* the transport lets no such access through */
	driver_config_write(d, offset, &value, len);
	driver_config_read(d, offset, &value, len);
}

static void resize(struct input *in, struct target *t)
{
	uint64_t size = take(in, 1) * 2048;
	struct error err;

	if (ftruncate(t->fd, (off_t)size) < 0)
		abort();
	t->size = size;
	size = 0;
	blk_resize(t->d.device, &size, &err);
}

static void step(struct input *in, struct target *t)
{
	struct driver *d = &t->d;
	struct driver_queue *q = driver_queue(d, (unsigned)take(in, 1) % d->queue_count);

	switch (take(in, 1) % 16) {
	default:
		add_request(in, q);
		break;
	case 0:
		poke(in, d);
		break;
	case 1:
		publish(q, (uint16_t)take(in, 2), (uint16_t)take(in, 1) % 4);
		break;
	case 2:
	case 3:
		virtio_device_kick(d->device, q->index);
		break;
	case 4:
	case 5:
		virtio_device_kick(d->device, q->index);
		settle(q, 1000);
		break;
	case 6:
		driver_reset(d);
		start(t, take(in, 8));
		break;
	case 7:
		access_config(in, d);
		break;
	case 8:
		blk_set_limits(d->device, take(in, 1) % 4 ? 0 : take(in, 2),
			take(in, 1) % 4 ? 0 : take(in, 4));
		break;
	case 9:
		resize(in, t);
		break;
	}
}

/* A short write may have grown a file that was cut off underneath, but never past the capacity. */
static void check_file(struct target *t)
{
	uint64_t capacity;
	struct stat st;

	driver_config_read(&t->d, 0, &capacity, 8);
	if (fstat(t->fd, &st) < 0 || (uint64_t)st.st_size > max_u64(t->size, capacity * 512))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct target targets[8];
	struct input in = {data, size};
	unsigned which = (unsigned)take(&in, 1) % ARRAY_SIZE(targets);
	struct target *t = &targets[which];

	log_open("fuzz", LOG_ERROR, NULL, NULL);
	if (!t->made)
		make(t, which);
	start(t, DRIVER_ALL_FEATURES);
	for (unsigned i = 0; in.left && i < OPS_MAX; i++)
		step(&in, t);
	settle(driver_queue(&t->d, 0), 200);
	driver_reset(&t->d);
	check_file(t);
	blk_set_limits(t->d.device, 0, 0);
	if (ftruncate(t->fd, (off_t)max_u64(t->size, DISK_SIZE)) < 0)
		abort();
	return 0;
}
