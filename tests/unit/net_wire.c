/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of a network device: see net_wire.h. */
#include "tests/unit/net_wire.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

struct driver wire_guest;
int wire_host[NET_QUEUE_PAIRS_MAX];

const uint8_t wire_mac[6] = {2, 0, 0, 0, 0, 1};
const struct virtio_net_hdr_v1 wire_plain;

void wire_create(struct net_config config)
{
	driver_create(&wire_guest, RAM);
	wire_create_again(config);
}

void wire_create_again(struct net_config config)
{
	int fds[NET_QUEUE_PAIRS_MAX];
	struct error err;

	config.id = "net0";
	config.fd = -1;
	config.queues = config.queues ? config.queues : 1;
	memcpy(config.mac, wire_mac, sizeof(wire_mac));
	for (unsigned i = 0; i < config.queues; i++) {
		int pair[2];

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
		fds[i] = pair[0];
		if (wire_host[i] > 0)
			close(wire_host[i]);
		wire_host[i] = pair[1];
	}
	ck_assert_int_eq(net_create_on(&config, fds, false, &wire_guest.memory,
				 wire_guest.main_loop, &wire_guest.device, &err),
		0);
}

void wire_start(struct net_config config, uint64_t features, uint16_t queue_size)
{
	wire_create(config);
	ck_assert(driver_start(&wire_guest, features, queue_size));
}

void wire_end(void)
{
	driver_destroy(&wire_guest);
	for (unsigned i = 0; i < NET_QUEUE_PAIRS_MAX; i++) {
		if (wire_host[i] > 0)
			close(wire_host[i]);
		wire_host[i] = 0;
	}
}

void wire_restart(uint64_t features)
{
	wire_guest.heap_next = 4096;
	memset(driver_host(&wire_guest, 4096, RAM - 4096), 0, RAM - 4096);
	ck_assert(driver_start(&wire_guest, features, 64));
}

struct net_counters wire_counters(void)
{
	struct net_counters c;

	net_get_counters(wire_guest.device, &c);
	return c;
}

/* ---- the host's end ---- */

void wire_pattern(uint8_t *data, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 31 + seed + (i >> 8));
}

void wire_host_send(unsigned pair, struct virtio_net_hdr_v1 header, size_t len, unsigned seed)
{
	static uint8_t packet[NET_PACKET_MAX];
	struct pollfd writable = {.fd = wire_host[pair], .events = POLLOUT};

	memcpy(packet, &header, sizeof(header));
	wire_pattern(packet + sizeof(header), len, seed);
	while (send(wire_host[pair], packet, sizeof(header) + len, 0) < 0) {
		ck_assert_int_eq(errno, EAGAIN);
		ck_assert_int_eq(poll(&writable, 1, WAIT_MS), 1);
	}
}

ssize_t wire_host_receive(unsigned pair, struct virtio_net_hdr_v1 *header, uint8_t *data, int ms)
{
	static uint8_t packet[NET_PACKET_MAX];
	struct pollfd readable = {.fd = wire_host[pair], .events = POLLIN};
	ssize_t n;

	if (poll(&readable, 1, ms) != 1)
		return -1;
	n = recv(wire_host[pair], packet, sizeof(packet), 0);
	ck_assert_int_ge(n, (ssize_t)sizeof(*header));
	memcpy(header, packet, sizeof(*header));
	memcpy(data, packet + sizeof(*header), (size_t)n - sizeof(*header));
	return n - (ssize_t)sizeof(*header);
}

/* ---- the guest's end ---- */

uint64_t wire_rx_gpa[DRIVER_QUEUES_MAX][NET_QUEUE_SIZE];

void wire_post_rx(unsigned queue, unsigned count, uint32_t len)
{
	struct driver_queue *q = driver_queue(&wire_guest, queue);

	for (unsigned i = 0; i < count; i++) {
		struct driver_segment segment = {
			.gpa = driver_alloc(&wire_guest, len, 64), .len = len, .writable = true};

		wire_rx_gpa[queue][driver_add(q, &segment, 1)] = segment.gpa;
	}
	driver_kick(q);
}

struct driver_segment wire_packet(struct virtio_net_hdr_v1 header, size_t len, unsigned seed)
{
	struct driver_segment segment = {.len = (uint32_t)(sizeof(header) + len)};
	uint8_t *at;

	segment.gpa = driver_alloc(&wire_guest, segment.len, 1);
	at = driver_host(&wire_guest, segment.gpa, segment.len);
	memcpy(at, &header, sizeof(header));
	wire_pattern(at + sizeof(header), len, seed);
	return segment;
}

void wire_guest_send(unsigned queue, struct virtio_net_hdr_v1 header, size_t len, unsigned seed)
{
	struct driver_queue *q = driver_queue(&wire_guest, queue);
	struct driver_segment segment = wire_packet(header, len, seed);

	driver_add(q, &segment, 1);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
}

ssize_t wire_guest_receive(
	unsigned queue, struct virtio_net_hdr_v1 *header, unsigned seed, unsigned ms)
{
	static uint8_t packet[NET_PACKET_MAX], expected[NET_PACKET_MAX];
	struct driver_queue *q = driver_queue(&wire_guest, queue);
	size_t total = 0;
	uint16_t head, left = 1;

	for (bool first = true; left; left--, first = false) {
		uint32_t len;

		if (!driver_wait_used(q, &head, &len, first ? ms : 0))
			return -1;
		ck_assert_uint_le(total + len, sizeof(packet));
		memcpy(packet + total, driver_host(&wire_guest, wire_rx_gpa[queue][head], len),
			len);
		total += len;
		if (first) {
			ck_assert_uint_ge(len, sizeof(*header));
			memcpy(header, packet, sizeof(*header));
			left = header->num_buffers;
		}
	}
	wire_pattern(expected, total - sizeof(*header), seed);
	ck_assert_mem_eq(packet + sizeof(*header), expected, total - sizeof(*header));
	return (ssize_t)(total - sizeof(*header));
}

uint8_t wire_command(uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	struct driver_queue *q = driver_queue(&wire_guest, wire_guest.device->queue_count - 1);
	uint64_t gpa = driver_alloc(&wire_guest, 64, 8);
	uint8_t *at = driver_host(&wire_guest, gpa, 64);
	struct driver_segment segments[] = {
		{.gpa = gpa, .len = 2},
		{.gpa = gpa + 2, .len = len},
		{.gpa = gpa + 63, .len = 1, .writable = true},
	};
	uint32_t written;

	at[0] = class;
	at[1] = cmd;
	at[63] = 0xaa;
	memcpy(at + 2, data, len);
	driver_add(q, segments, 3);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, &written, WAIT_MS));
	ck_assert_uint_eq(written, 1);
	return at[63];
}

uint8_t wire_set_pairs(uint16_t pairs)
{
	return wire_command(
		VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, sizeof(pairs));
}

uint8_t wire_set_offloads(uint64_t offloads)
{
	return wire_command(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
		&offloads, sizeof(offloads));
}
