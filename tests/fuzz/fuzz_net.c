/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest and a hostile network against virtio-net. The input picks features and ring sizes
 * and is then a program: post chains of every shape, kick, send packets from the host, issue control
 * commands, scribble over the rings. Both sides of the device run on this thread's one loop, so that
 * an input always does the same. After each step the receive queue's books must balance.
 */
#include "tests/fuzz/input.h"
#include "virtio/net_private.h"
#include "vmm/base/log.h"

#include <linux/virtio_config.h>
#include <string.h>
#include <sys/socket.h>

#define RAM	   KIB(256)
#define RING_SPACE KIB(16) /* rings lie below, one after another; buffers behind */
#define PAIRS	   2
#define QUEUES	   (2 * PAIRS + 1)

static struct guest_memory memory;
static struct loop *loop;
static struct virtio_device *device;
static int host[PAIRS];

/* ---- life: what device.c does with threads, without them ---- */

static void end_turn(struct loop_job *job)
{
	(void)job;
	loop_stop(loop);
}

static void turn(void)
{
	struct loop_job job = {.run = end_turn};
	struct error err;

	loop_post(loop, &job);
	BUG_ON(loop_run(loop, &err) < 0);
}

static void create(struct input *in)
{
	struct net_config config = {.id = "fuzz",
		.fd = -1,
		.mac = {2, 0, 0, 0, 0, 1},
		.queues = 1 + take(in, 1) % PAIRS};
	int fds[PAIRS];
	struct error err;

	for (unsigned i = 0; i < config.queues; i++) {
		int pair[2];

		BUG_ON(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0);
		fds[i] = pair[0];
		host[i] = pair[1];
	}
	BUG_ON(net_create_on(&config, fds, false, &memory, loop, &device, &err) < 0);
}

static bool negotiate(struct input *in)
{
	uint64_t features = device->features & (take(in, 8) | 1ull << VIRTIO_F_VERSION_1);

	virtio_device_set_driver_features(device, 0, (uint32_t)features);
	virtio_device_set_driver_features(device, 1, (uint32_t)(features >> 32));
	virtio_device_set_status(device, VIRTIO_CONFIG_S_FEATURES_OK);
	return atomic_load(&device->status) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static void start_queues(struct input *in)
{
	for (unsigned i = 0; i < device->queue_count; i++) {
		struct device_queue *dq = &device->queues[i];
		uint64_t base = KIB(2) * i;

		dq->registers = (struct virtqueue_registers){
			.size = (uint16_t)(1u << take(in, 1) % 6),
			.desc = base,
			.driver = base + 0x400,
			.device = base + 0x600,
		};
		BUG_ON(virtqueue_start(
			       &dq->ring, &memory, &dq->registers, device->driver_features) < 0);
		dq->enabled = dq->running = true;
		dq->loop = loop;
		device->queues_running++;
		device->ops->queue_start(dq);
	}
}

static void stop_queues(void)
{
	for (unsigned i = 0; i < device->queue_count; i++) {
		struct device_queue *dq = &device->queues[i];

		dq->stopping = true;
		loop_watch_stop(loop, &dq->chains);
		device->ops->queue_stop(dq);
	}
	for (unsigned rounds = 0; device->queues_running; rounds++) {
		BUG_ON(rounds == 1000);
		turn();
	}
}

/* ---- the guest ---- */

static struct device_queue *pick_queue(struct input *in)
{
	return &device->queues[take(in, 1) % device->queue_count];
}

static void kick(struct device_queue *dq)
{
	if (device_queue_usable(dq))
		device->ops->queue_kicked(dq);
}

/* Descriptors in the ring or in a table of their own, with lengths and directions from the input. */
static void add_chain(struct input *in, struct device_queue *dq)
{
	unsigned count = 1 + take(in, 1) % 8, shape = (unsigned)take(in, 1);
	uint16_t size = dq->registers.size, head = (uint16_t)(take(in, 1) % size);
	bool indirect = shape & 1, writable = shape & 2;
	uint64_t table = indirect ? RING_SPACE + take(in, 1) * 128 : dq->registers.desc;
	uint16_t idx = 0;

	for (unsigned i = 0; i < count; i++) {
		unsigned at = indirect ? i : (head + i) % size;
		struct vring_desc desc = {
			.addr = RING_SPACE + take(in, 2) * 4,
			.len = (uint32_t)take(in, shape & 4 ? 1 : 2),
			.flags = (uint16_t)((i + 1 < count ? VRING_DESC_F_NEXT : 0) |
					    (writable ? VRING_DESC_F_WRITE : 0)),
			.next = (uint16_t)(indirect ? i + 1 : (at + 1) % size),
		};

		if (shape & 8 && i + 1 == count)
			desc.flags ^= VRING_DESC_F_WRITE;
		guest_memory_write(&memory, table + 16 * at, &desc, sizeof(desc));
	}
	if (indirect) {
		struct vring_desc desc = {
			.addr = table, .len = 16 * count, .flags = VRING_DESC_F_INDIRECT};

		guest_memory_write(&memory, dq->registers.desc + 16u * head, &desc, sizeof(desc));
	}
	guest_memory_read(&memory, dq->registers.driver + 2, &idx, 2);
	guest_memory_write(&memory, dq->registers.driver + 4 + 2u * (idx % size), &head, 2);
	idx++;
	guest_memory_write(&memory, dq->registers.driver + 2, &idx, 2);
}

static void scribble(struct input *in)
{
	uint64_t at = take(in, 2) % RING_SPACE, len = 1 + take(in, 1) % 32;
	uint8_t bytes[32];

	for (unsigned i = 0; i < len; i++)
		bytes[i] = (uint8_t)take(in, 1);
	guest_memory_write(&memory, at, bytes, len);
}

/* A good control command, so that the input need not find its layout by chance. */
static void command(struct input *in)
{
	struct device_queue *dq = &device->queues[device->queue_count - 1];
	const uint64_t at = RING_SPACE + KIB(64);
	struct vring_desc desc[] = {
		{.addr = at,
			.len = 2 + (uint32_t)take(in, 1) % 9,
			.flags = VRING_DESC_F_NEXT,
			.next = 1},
		{.addr = at + 16, .len = 1, .flags = VRING_DESC_F_WRITE},
	};
	uint8_t bytes[10] = {(uint8_t)(4 + take(in, 1) % 3), 0};
	uint16_t idx = 0, head = 0;

	for (unsigned i = 2; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)take(in, 1);
	if (dq->registers.size < 2)
		return;
	guest_memory_write(&memory, at, bytes, sizeof(bytes));
	guest_memory_write(&memory, dq->registers.desc, desc, sizeof(desc));
	guest_memory_read(&memory, dq->registers.driver + 2, &idx, 2);
	guest_memory_write(
		&memory, dq->registers.driver + 4 + 2u * (idx % dq->registers.size), &head, 2);
	idx++;
	guest_memory_write(&memory, dq->registers.driver + 2, &idx, 2);
	kick(dq);
}

/* ---- the network ---- */

static void host_send(struct input *in)
{
	static uint8_t packet[NET_PACKET_MAX + 100];
	unsigned pair = take(in, 1) % net_of(device)->pair_count;
	size_t len = take(in, 2) + (take(in, 1) & 1 ? 0 : 12);

	for (unsigned i = 0; i < NET_HEADER; i++)
		packet[i] = (uint8_t)(len & 1 ? 0 : take(in, 1));
	(void)!send(host[pair], packet, len, MSG_DONTWAIT);
}

static void host_drain(void)
{
	static uint8_t packet[NET_PACKET_MAX];

	for (unsigned i = 0; i < net_of(device)->pair_count; i++) {
		ssize_t n;

		while ((n = recv(host[i], packet, sizeof(packet), MSG_DONTWAIT)) > 0)
			BUG_ON(n <= NET_HEADER);
	}
}

/* ---- what must hold ---- */

static void check_books(void)
{
	struct net *net = net_of(device);

	for (unsigned p = 0; p < net->pair_count; p++) {
		const struct net_rx *rx = &net->pairs[p]->rx;
		uint64_t room = 0, segments = 0, segment_bytes = 0;

		for (unsigned i = rx->first; i < rx->end; i++) {
			room += rx->taken[i].len;
			segments += rx->taken[i].segments;
		}
		for (unsigned i = rx->segment_first; i < rx->segment_end; i++)
			segment_bytes += rx->segments[i].iov_len;
		BUG_ON(rx->first > rx->end || rx->end > 2 * NET_QUEUE_SIZE);
		BUG_ON(room != rx->room || room != segment_bytes);
		BUG_ON(segments != rx->segment_end - rx->segment_first);
		BUG_ON(rx->held && rx->held_placed >= rx->held);
	}
}

static void step(struct input *in)
{
	switch (take(in, 1) % 10) {
	case 0:
	case 1:
	case 2:
		add_chain(in, pick_queue(in));
		break;
	case 3:
		kick(pick_queue(in));
		break;
	case 4:
	case 5:
		host_send(in);
		break;
	case 6:
		turn();
		break;
	case 7:
		scribble(in);
		break;
	case 8:
		command(in);
		break;
	case 9:
		host_drain();
		net_set_limits(device, take(in, 1) & 1 ? 1u << 20 : 0, 0);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	if (!loop) {
		const struct guest_memory_config config = {
			.region_count = 1, .regions[0] = {.size = RAM}, .pages = MEMORY_PAGES_OFF};
		struct error err;

		BUG_ON(log_open("fuzz", LOG_ERROR, NULL, &err) < 0);
		BUG_ON(guest_memory_create(&config, &memory, &err) < 0 ||
			loop_create(&loop, 64, &err) < 0);
	}
	guest_memory_zero(&memory, 0, RAM);
	create(&in);
	if (negotiate(&in)) {
		start_queues(&in);
		while (in.left) {
			step(&in);
			check_books();
		}
		stop_queues();
	}
	for (unsigned i = 0; i < net_of(device)->pair_count; i++)
		close(host[i]);
	virtio_device_destroy(device);
	return 0;
}
