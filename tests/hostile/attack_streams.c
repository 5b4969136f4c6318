/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets that mean nothing, for vsock and net: garbage in every field, of every length, through all
 * queues, and receive buffers of every shape. And a network device's rings, whoever serves them: we,
 * or the host's kernel (vhost=on). Afterwards a reset, and an honest exchange.
 */
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"
#include "tests/hostile/attack.h"

#include <linux/virtio_net.h>
#include <linux/virtio_vsock.h>

#define SIZE	   64
#define BUFFER	   8192
#define QUEUES_MAX 3

static struct virtio dev;
static struct virtq queues[QUEUES_MAX];
static uint8_t buffers[SIZE][BUFFER];

static void attach(unsigned count, uint64_t features)
{
	virtio_negotiate(&dev, features);
	for (unsigned i = 0; i < count; i++)
		virtq_attach(&queues[i], &dev, i);
	virtio_driver_ok(&dev);
}

static void open_device(unsigned type, unsigned count, uint64_t features)
{
	attack_open(SIZE, 0);
	virtio_open(&dev, type, 0);
	for (unsigned i = 0; i < count; i++)
		virtq_alloc(&queues[i], SIZE);
	attach(count, features);
}

static void drain(struct virtq *q)
{
	uint64_t token;

	while (virtq_take(q, &token, NULL))
		;
}

/* One to three buffers of any length, the header among them or not. */
static void send_pieces(struct virtq *q, uint8_t *data, uint32_t len, bool writable)
{
	struct segment segments[3];
	unsigned n = 0;

	for (uint32_t at = 0; at < len && n < 3; n++) {
		uint32_t here = n == 2 ? len - at : 1 + (uint32_t)attack_below(len - at);

		segments[n] = (struct segment){data + at, here};
		at += here;
	}
	if (virtq_add(q, segments, writable ? 0 : n, writable ? n : 0, 0))
		virtq_kick(q);
	else if (
		!writable) /* what is to be sent is taken soon; what waits for packets may wait long */
		wait_until((drain(q), q->free_count >= 3), 100);
}

static bool is_broken(void)
{
	return virtio_status(&dev) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static void fill_random(uint8_t *data, uint32_t len)
{
	for (uint32_t i = 0; i + 8 <= len; i += 8) {
		uint64_t r = attack_random();

		memcpy(data + i, &r, 8);
	}
}

/* ---- vsock ---- */

static uint64_t pick(uint64_t good)
{
	return attack_random() % 8 ? good : attack_random();
}

static void make_vsock_header(struct virtio_vsock_hdr *header, uint32_t len)
{
	*header = (struct virtio_vsock_hdr){
		.src_cid = pick(virtio_config(&dev, 0, 4)),
		.dst_cid = pick(2),
		.src_port = (uint32_t)pick(1000 + attack_below(50)),
		.dst_port = (uint32_t)pick(5000),
		.len = attack_random() % 32
			       ? len
			       : (uint32_t)attack_random(), /* a wrong one ends the round */
		.type = (uint16_t)pick(VIRTIO_VSOCK_TYPE_STREAM),
		.op = (uint16_t)pick(attack_below(9)),
		.flags = (uint32_t)pick(attack_below(4)),
		.buf_alloc = (uint32_t)pick(65536),
		.fwd_cnt = (uint32_t)attack_random(),
	};
}

/* Connecting to a port where nobody listens: the honest answer is a reset. */
static void check_vsock(void)
{
	static struct virtio_vsock_hdr request, answer;
	const struct segment in = {&answer, sizeof(answer)}, out = {&request, sizeof(request)};

	attach(3, 0);
	request = (struct virtio_vsock_hdr){
		.src_cid = virtio_config(&dev, 0, 4),
		.dst_cid = 2,
		.src_port = 99,
		.dst_port = 6000,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = VIRTIO_VSOCK_OP_REQUEST,
	};
	check(virtq_add(&queues[0], &in, 0, 1, 0) && virtq_add(&queues[1], &out, 1, 0, 0),
		"no descriptor free");
	virtq_notify(&queues[0]);
	virtq_notify(&queues[1]);
	virtq_wait(&queues[1], NULL);
	virtq_wait(&queues[0], NULL);
	check(answer.op == VIRTIO_VSOCK_OP_RST && answer.dst_port == 99,
		"connecting to nobody: operation %u for port %u", answer.op, answer.dst_port);
}

void attack_vsock(void)
{
	uint64_t rounds = boot_number("rounds", 40);

	open_device(VIRTIO_ID_VSOCK, 3, 0);
	for (uint64_t round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < 500 && !is_broken(); i++) {
			uint8_t *data = buffers[i % SIZE];
			uint32_t len = (uint32_t)attack_below(300);

			make_vsock_header((void *)data, len);
			if (attack_random() % 8 == 0)
				len = (uint32_t)attack_below(BUFFER - 100);
			send_pieces(&queues[1], data,
				len + (attack_random() % 64
						      ? (uint32_t)sizeof(struct virtio_vsock_hdr)
						      : 0),
				false);
			drain(&queues[1]);
			/* Now and then room for what comes back, sometimes too little of it. */
			if (attack_random() % 4 == 0) {
				drain(&queues[0]);
				send_pieces(&queues[0], buffers[SIZE - 1],
					(uint32_t)attack_below(200) + 1, true);
			}
		}
		attack_check_bystander("garbage on vsock");
		check_vsock();
		attach(3, 0);
	}
}

/* ---- net ---- */

static void make_frame(uint8_t *data, uint32_t len)
{
	struct virtio_net_hdr_v1 *header = (void *)data;

	fill_random(data, len);
	*header = (struct virtio_net_hdr_v1){
		.flags = (uint8_t)pick(attack_below(4)),
		.gso_type = (uint8_t)pick(attack_below(6)),
		.hdr_len = (uint16_t)pick(attack_below(200)),
		.gso_size = (uint16_t)pick(attack_below(2000)),
		.csum_start = (uint16_t)pick(attack_below(100)),
		.csum_offset = (uint16_t)pick(attack_below(30)),
		.num_buffers = (uint16_t)attack_random(),
	};
	if (len > sizeof(*header) + 14 && attack_random() & 1) {
		memset(data + sizeof(*header), 0xff, 6);
		memcpy(data + sizeof(*header) + 12, "\x08\x00\x45", 3);
	}
}

/* Frames still go out: an honest one is taken, and the device stays whole. */
static void check_net(void)
{
	static uint8_t frame[sizeof(struct virtio_net_hdr_v1) + 60];
	const struct segment segment = {frame, sizeof(frame)};

	attach(2, 0);
	memset(frame, 0, sizeof(frame));
	memset(frame + sizeof(struct virtio_net_hdr_v1), 0xff, 6);
	check(virtq_add(&queues[1], &segment, 1, 0, 0), "no descriptor free");
	virtq_notify(&queues[1]);
	virtq_wait(&queues[1], NULL);
	check(!is_broken(), "an honest frame broke the device");
}

void attack_net(void)
{
	uint64_t rounds = boot_number("rounds", 40);

	open_device(VIRTIO_ID_NET, 2, -1ull);
	for (uint64_t round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < 500 && !is_broken(); i++) {
			uint8_t *data = buffers[i % SIZE];
			uint32_t len =
				1 + (uint32_t)attack_below(attack_random() % 4 ? 200 : BUFFER - 1);

			make_frame(data, len);
			send_pieces(&queues[1], data, len, false);
			drain(&queues[1]);
			if (attack_random() % 4 == 0) {
				drain(&queues[0]);
				send_pieces(&queues[0], buffers[SIZE - 1],
					1 + (uint32_t)attack_below(2000), true);
			}
		}
		attack_check_bystander("garbage on net");
		check_net();
		attach(2, round & 1 ? -1ull : 0);
	}
}

/* ---- net: the rings themselves ---- */

#define BROKEN_MS 10000

static void index_ahead(struct virtq *q)
{
	q->avail->idx = (uint16_t)(q->added + SIZE + 1 + attack_below(1000));
}

static void head_out_of_range(struct virtq *q)
{
	virtq_publish(q, (uint16_t)(SIZE + attack_below(1000)));
}

static void chain_without_end(struct virtq *q)
{
	q->desc[0] = (struct vring_desc){.addr = (uint64_t)buffers[0],
		.len = 100,
		.flags = VRING_DESC_F_NEXT | (q->index & 1 ? 0 : VRING_DESC_F_WRITE)};
	virtq_publish(q, 0);
}

static void buffer_outside_ram(struct virtq *q)
{
	q->desc[0] = (struct vring_desc){
		.addr = 1ull << 45, .len = 2048, .flags = q->index & 1 ? 0 : VRING_DESC_F_WRITE};
	virtq_publish(q, 0);
}

/* The host keeps sending, so that a receive ring is looked at too. */
void attack_net_rings(void)
{
	static void (*const spoil[])(struct virtq * q) = {
		index_ahead, head_out_of_range, chain_without_end, buffer_outside_ram};
	const unsigned kinds = sizeof(spoil) / sizeof(*spoil);

	open_device(VIRTIO_ID_NET, 2, -1ull);
	for (unsigned round = 0; round < 4 * kinds; round++) {
		struct virtq *q = &queues[round & 1];

		spoil[round / 2 % kinds](q);
		virtq_notify(q);
		check(wait_until(is_broken(), BROKEN_MS),
			"queue %u, attack %u: no NEEDS_RESET, status %x", round & 1,
			round / 2 % kinds, virtio_status(&dev));
		attack_check_bystander("a broken network ring");
		check_net();
		attach(2, round & 2 ? -1ull : 0);
	}
}
