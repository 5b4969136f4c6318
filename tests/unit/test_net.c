/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net on a socket pair that stands in for a tap: what passes, what is dropped, what waits, and
 * that nothing of it stops the device. Real taps are tested in test_net_tap.c.
 */
#include "tests/unit/driver.h"
#include "tests/unit/runner.h"
#include "virtio/net_private.h"

#include <check.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BIT(f)	   (1ull << (f))
#define RAM	   MIB(16)
#define RX	   0
#define TX	   1
#define BUFFER	   1536u
#define WAIT_MS	   5000
#define NO_MRG	   (DRIVER_ALL_FEATURES & ~BIT(VIRTIO_NET_F_MRG_RXBUF))
#define NO_OFFLOAD (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF))

static struct driver d;
static int host[NET_QUEUE_PAIRS_MAX]; /* the tap's other end, one a pair */

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};

static void create(struct net_config config)
{
	int fds[NET_QUEUE_PAIRS_MAX];
	struct error err;

	driver_create(&d, RAM);
	config.id = "net0";
	config.fd = -1;
	config.queues = config.queues ? config.queues : 1;
	memcpy(config.mac, mac, sizeof(mac));
	for (unsigned i = 0; i < config.queues; i++) {
		int pair[2];

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
		fds[i] = pair[0];
		host[i] = pair[1];
	}
	ck_assert_int_eq(
		net_create_on(&config, fds, false, &d.memory, d.main_loop, &d.device, &err), 0);
}

static void start(struct net_config config, uint64_t features, uint16_t queue_size)
{
	create(config);
	ck_assert(driver_start(&d, features, queue_size));
}

static void end(void)
{
	driver_destroy(&d);
	for (unsigned i = 0; i < NET_QUEUE_PAIRS_MAX; i++)
		if (host[i] > 0)
			close(host[i]);
}

/* After a reset the guest's RAM is its driver's to lay out anew. */
static void restart(uint64_t features)
{
	d.heap_next = 4096;
	memset(driver_host(&d, 4096, RAM - 4096), 0, RAM - 4096);
	ck_assert(driver_start(&d, features, 64));
}

static struct net_counters counters(void)
{
	struct net_counters c;

	net_get_counters(d.device, &c);
	return c;
}

/* ---- the host's end ---- */

static void fill_pattern(uint8_t *data, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 31 + seed + (i >> 8));
}

/* A packet of `len` bytes with its header, towards the guest. */
static void host_send(unsigned pair, struct virtio_net_hdr_v1 header, size_t len, unsigned seed)
{
	static uint8_t packet[NET_PACKET_MAX];
	struct pollfd writable = {.fd = host[pair], .events = POLLOUT};

	memcpy(packet, &header, sizeof(header));
	fill_pattern(packet + sizeof(header), len, seed);
	while (send(host[pair], packet, sizeof(header) + len, 0) < 0) {
		ck_assert_int_eq(errno, EAGAIN);
		ck_assert_int_eq(poll(&writable, 1, WAIT_MS), 1);
	}
}

/* The next packet from the guest: its length without header, or -1. */
static ssize_t host_receive(unsigned pair, struct virtio_net_hdr_v1 *header, uint8_t *data, int ms)
{
	static uint8_t packet[NET_PACKET_MAX];
	struct pollfd readable = {.fd = host[pair], .events = POLLIN};
	ssize_t n;

	if (poll(&readable, 1, ms) != 1)
		return -1;
	n = recv(host[pair], packet, sizeof(packet), 0);
	ck_assert_int_ge(n, (ssize_t)sizeof(*header));
	memcpy(header, packet, sizeof(*header));
	memcpy(data, packet + sizeof(*header), (size_t)n - sizeof(*header));
	return n - (ssize_t)sizeof(*header);
}

/* ---- the guest's end ---- */

static uint64_t chain_gpa[DRIVER_QUEUES_MAX][NET_QUEUE_SIZE]; /* by head, of the only segment */

static void post_rx(unsigned queue, unsigned count, uint32_t len)
{
	struct driver_queue *q = driver_queue(&d, queue);

	for (unsigned i = 0; i < count; i++) {
		struct driver_segment segment = {
			.gpa = driver_alloc(&d, len, 64), .len = len, .writable = true};

		chain_gpa[queue][driver_add(q, &segment, 1)] = segment.gpa;
	}
	driver_kick(q);
}

static struct driver_segment packet_in_ram(
	struct virtio_net_hdr_v1 header, size_t len, unsigned seed)
{
	struct driver_segment segment = {.len = (uint32_t)(sizeof(header) + len)};
	uint8_t *at;

	segment.gpa = driver_alloc(&d, segment.len, 1);
	at = driver_host(&d, segment.gpa, segment.len);
	memcpy(at, &header, sizeof(header));
	fill_pattern(at + sizeof(header), len, seed);
	return segment;
}

static void guest_send(unsigned queue, struct virtio_net_hdr_v1 header, size_t len, unsigned seed)
{
	struct driver_queue *q = driver_queue(&d, queue);
	struct driver_segment segment = packet_in_ram(header, len, seed);

	driver_add(q, &segment, 1);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
}

/* Take a whole packet of the guest's: its length without header, its header; checks the pattern. -1: none. */
static ssize_t guest_receive(
	unsigned queue, struct virtio_net_hdr_v1 *header, unsigned seed, unsigned ms)
{
	static uint8_t packet[NET_PACKET_MAX], expected[NET_PACKET_MAX];
	struct driver_queue *q = driver_queue(&d, queue);
	size_t total = 0;
	uint16_t head, left = 1;

	for (bool first = true; left; left--, first = false) {
		uint32_t len;

		if (!driver_wait_used(q, &head, &len, first ? ms : 0))
			return -1;
		ck_assert_uint_le(total + len, sizeof(packet));
		memcpy(packet + total, driver_host(&d, chain_gpa[queue][head], len), len);
		total += len;
		if (first) {
			ck_assert_uint_ge(len, sizeof(*header));
			memcpy(header, packet, sizeof(*header));
			left = header->num_buffers;
		}
	}
	fill_pattern(expected, total - sizeof(*header), seed);
	ck_assert_mem_eq(packet + sizeof(*header), expected, total - sizeof(*header));
	return (ssize_t)(total - sizeof(*header));
}

static uint8_t command(uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	struct driver_queue *q = driver_queue(&d, d.device->queue_count - 1);
	uint64_t gpa = driver_alloc(&d, 64, 8);
	uint8_t *at = driver_host(&d, gpa, 64);
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

static uint8_t set_pairs(uint16_t pairs)
{
	return command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, sizeof(pairs));
}

static uint8_t set_offloads(uint64_t offloads)
{
	return command(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
		&offloads, sizeof(offloads));
}

static const struct virtio_net_hdr_v1 plain;

/* ---- identity, features, configuration ---- */

START_TEST(a_derived_mac_is_stable_local_and_of_one_station)
{
	uint8_t a[6], b[6];

	net_derive_mac("db1", "net0", a);
	net_derive_mac("db1", "net0", b);
	ck_assert_mem_eq(a, b, 6);
	ck_assert_uint_eq(a[0], 0x02);
	/* Pinned: a guest's address must not change with a new version of ours. */
	ck_assert_mem_eq(a, ((uint8_t[]){0x02, 0x8f, 0x0d, 0x56, 0xf4, 0x96}), 6);
	net_derive_mac("db1", "net1", b);
	ck_assert_mem_ne(a, b, 6);
	net_derive_mac("db2", "net0", b);
	ck_assert_mem_ne(a, b, 6);
	net_derive_mac("db1net0", "", b);
	ck_assert_mem_ne(a, b, 6);
}
END_TEST

START_TEST(an_offload_without_its_base_is_refused)
{
	static const struct {
		uint64_t features;
		bool good;
	} cases[] = {
		{0, true},
		{BIT(VIRTIO_NET_F_GUEST_TSO4), false},
		{BIT(VIRTIO_NET_F_GUEST_TSO6), false},
		{BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_CSUM), true},
		{BIT(VIRTIO_NET_F_GUEST_ECN) | BIT(VIRTIO_NET_F_GUEST_CSUM), false},
		{BIT(VIRTIO_NET_F_GUEST_ECN) | BIT(VIRTIO_NET_F_GUEST_TSO6) |
				BIT(VIRTIO_NET_F_GUEST_CSUM),
			true},
		{BIT(VIRTIO_NET_F_HOST_TSO4), false},
		{BIT(VIRTIO_NET_F_HOST_TSO6), false},
		{BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_CSUM), true},
		{BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_CSUM), false},
		{BIT(VIRTIO_NET_F_MQ), false},
		{BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_VQ), true},
		{BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS), false},
	};

	create((struct net_config){.queues = 2});
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		ck_assert_msg(driver_start(&d, cases[i].features | BIT(VIRTIO_F_VERSION_1), 16) ==
				      cases[i].good,
			"case %u", i);
		driver_reset(&d);
	}
	end();
}
END_TEST

START_TEST(configuration_tells_mac_link_pairs_and_mtu)
{
	struct virtio_net_config config;

	create((struct net_config){.queues = 3, .mtu = 9000});
	ck_assert_uint_eq(d.device->config_size, 12);
	driver_config_read(&d, 0, &config, d.device->config_size);
	ck_assert_mem_eq(config.mac, mac, 6);
	ck_assert_uint_eq(config.status, VIRTIO_NET_S_LINK_UP);
	ck_assert_uint_eq(config.max_virtqueue_pairs, 3);
	ck_assert_uint_eq(config.mtu, 9000);
	ck_assert(d.device->features & BIT(VIRTIO_NET_F_MQ));
	ck_assert(d.device->features & BIT(VIRTIO_NET_F_MTU));
	end();
}
END_TEST

START_TEST(one_pair_offers_no_mq_and_no_mtu_offers_none)
{
	create((struct net_config){.queues = 1});
	ck_assert(!(d.device->features & (BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_MTU))));
	end();
}
END_TEST

START_TEST(impossible_configurations_are_refused_in_words)
{
	static const struct {
		struct net_config config;
		const char *text;
	} cases[] = {
		{{.queues = 0}, "queues=0"},
		{{.queues = NET_QUEUE_PAIRS_MAX + 1}, "queues=17"},
		{{.queues = 2, .fd = 5}, "fd=5 is one queue"},
		{{.queues = 1, .mac = {1, 2, 3, 4, 5, 6}}, "MAC address"},
		{{.queues = 1, .mac = {2, 2, 3, 4, 5, 6}, .mtu = 67}, "mtu=67"},
		{{.queues = 1, .mac = {2, 2, 3, 4, 5, 6}, .vhost = true, .bps = 1}, "vhost=on"},
		{{.queues = 1, .mac = {2, 2, 3, 4, 5, 6}, .tap = "a-name-of-sixteen"},
			"is not a tap's name"},
		{{.queues = 1, .mac = {2, 2, 3, 4, 5, 6}, .tap = "tap%d"}, "is not a tap's name"},
		{{.queues = 1, .mac = {2, 2, 3, 4, 5, 6}, .tap = ""}, "is not a tap's name"},
		{{.queues = 1, .mac = {2, 2, 3, 4, 5, 6}, .fd = 0},
			"descriptor 0 is not an open tap"},
	};

	driver_create(&d, RAM);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct net_config config = cases[i].config;
		struct error err;

		config.id = "net0";
		if (config.tap)
			config.fd = -1;
		ck_assert_int_lt(net_create(&config, &d.memory, d.main_loop, &d.device, &err), 0);
		ck_assert_msg(strstr(err.text, cases[i].text), "case %u: %s", i, err.text);
		ck_assert_ptr_eq(strstr(err.text, "net 'net0': "), err.text);
	}
	driver_destroy(&d);
}
END_TEST

/* ---- guest to host ---- */

START_TEST(a_packet_sent_arrives_unchanged_behind_its_header)
{
	static const size_t lengths[] = {1, 60, 1514, 9014, 65550};
	struct virtio_net_hdr_v1 header;
	static uint8_t got[NET_PACKET_MAX], expected[NET_PACKET_MAX];

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		guest_send(TX, plain, lengths[i], i);
		ck_assert_int_eq(host_receive(0, &header, got, WAIT_MS), (ssize_t)lengths[i]);
		fill_pattern(expected, lengths[i], i);
		ck_assert_mem_eq(got, expected, lengths[i]);
		ck_assert_mem_eq(&header, &plain, sizeof(header));
	}
	ck_assert_uint_eq(counters().tx_packets, ARRAY_SIZE(lengths));
	ck_assert_uint_eq(counters().tx_bytes, 1 + 60 + 1514 + 9014 + 65550);
	ck_assert_uint_eq(counters().tx_dropped, 0);
	end();
}
END_TEST

START_TEST(a_packet_in_any_number_of_pieces_arrives_whole)
{
	struct driver_segment pieces[40], whole;
	struct virtio_net_hdr_v1 header;
	static uint8_t got[NET_PACKET_MAX], expected[NET_PACKET_MAX];
	struct driver_queue *q;
	unsigned lens[] = {1, 5, 12, 13, 100};

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	q = driver_queue(&d, TX);
	fill_pattern(expected, 400, 7);
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(lens); i++) {
		uint32_t left, len = lens[i / 2];
		unsigned count = 0;

		/* Pieces of `len` bytes, so that the header ends before, in and at the edge of one. */
		whole = packet_in_ram(plain, 400, 7);
		for (left = whole.len; left && count < 39; count++) {
			uint32_t here = (uint32_t)min_u64(len, left);

			pieces[count] = (struct driver_segment){
				.gpa = whole.gpa + whole.len - left, .len = here};
			left -= here;
		}
		if (left)
			pieces[count++] = (struct driver_segment){
				.gpa = whole.gpa + whole.len - left, .len = left};
		if (i & 1)
			driver_add_indirect(q, pieces, count);
		else
			driver_add(q, pieces, count);
		driver_kick(q);
		ck_assert_int_eq(host_receive(0, &header, got, WAIT_MS), 400);
		ck_assert_mem_eq(got, expected, 400);
		ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
	}
	end();
}
END_TEST

START_TEST(a_segmentation_request_reaches_the_host_as_asked)
{
	const struct virtio_net_hdr_v1 sent = {
		/* DATA_VALID and a count are not the driver's to send: cleared. */
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN,
		.hdr_len = 54,
		.gso_size = 1448,
		.csum_start = 34,
		.csum_offset = 16,
		.num_buffers = 7,
	};
	struct virtio_net_hdr_v1 got, expected = sent;
	static uint8_t data[NET_PACKET_MAX];

	expected.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	expected.num_buffers = 0;
	start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	guest_send(TX, sent, 20000, 1);
	ck_assert_int_eq(host_receive(0, &got, data, WAIT_MS), 20000);
	ck_assert_mem_eq(&got, &expected, sizeof(got));
	end();
}
END_TEST

START_TEST(a_bad_packet_is_dropped_and_the_next_one_sent)
{
	static const struct virtio_net_hdr_v1 bad[] = {
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 90, .csum_offset = 9},
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 65535, .csum_offset = 65535},
		{.hdr_len = 101},
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
			.hdr_len = 54},
		{.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1000, .hdr_len = 54},
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = VIRTIO_NET_HDR_GSO_UDP,
			.gso_size = 1000},
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = 77, .gso_size = 1000},
		{.gso_type = VIRTIO_NET_HDR_GSO_ECN},
	};
	struct driver_segment stub = {.len = NET_HEADER}, huge = {.len = MIB(4)};
	struct virtio_net_hdr_v1 header;
	struct driver_queue *q;
	uint8_t data[100];

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	q = driver_queue(&d, TX);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		guest_send(TX, bad[i], 100, 0);
	stub.gpa = huge.gpa = driver_alloc(&d, huge.len, 1);
	driver_add(q, &stub, 1);
	driver_add(q, &huge, 1);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
	ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
	guest_send(TX, plain, 100, 0);
	ck_assert_int_eq(host_receive(0, &header, data, WAIT_MS), 100);
	ck_assert_int_eq(host_receive(0, &header, data, 0), -1);
	ck_assert_uint_eq(counters().tx_dropped, ARRAY_SIZE(bad) + 2);
	ck_assert(!(atomic_load(&d.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET));
	end();
}
END_TEST

START_TEST(an_offload_that_was_not_negotiated_is_not_sent)
{
	static const struct virtio_net_hdr_v1 bad[] = {
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16},
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
			.gso_size = 1000},
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = VIRTIO_NET_HDR_GSO_TCPV6,
			.gso_size = 1000},
	};

	start((struct net_config){0}, NO_OFFLOAD, 64);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		guest_send(TX, bad[i], 100, 0);
	ck_assert_uint_eq(counters().tx_dropped, ARRAY_SIZE(bad));
	end();
}
END_TEST

START_TEST(a_tap_that_pushes_back_loses_nothing)
{
	const unsigned packets = 60; /* a socket's buffer holds a few of this size */
	struct virtio_net_hdr_v1 header;
	static uint8_t got[NET_PACKET_MAX], expected[NET_PACKET_MAX];
	struct driver_segment segment;
	struct driver_queue *q;

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	q = driver_queue(&d, TX);
	for (unsigned i = 0; i < packets; i++) {
		segment = packet_in_ram(plain, 60000, i);
		driver_add(q, &segment, 1);
	}
	driver_kick(q);
	for (unsigned i = 0; i < packets; i++) {
		ck_assert_int_eq(host_receive(0, &header, got, WAIT_MS), 60000);
		fill_pattern(expected, 60000, i);
		ck_assert_mem_eq(got, expected, 60000);
	}
	for (unsigned i = 0; i < packets; i++)
		ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
	end();
}
END_TEST

/* ---- host to guest ---- */

START_TEST(a_packet_received_spans_as_many_buffers_as_it_needs)
{
	static const size_t lengths[] = {
		1, 60, BUFFER - NET_HEADER, BUFFER - NET_HEADER + 1, 9014, 65550};
	struct virtio_net_hdr_v1 header;

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 256);
	post_rx(RX, 256, BUFFER);
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		host_send(0, plain, lengths[i], i);
		ck_assert_int_eq(guest_receive(RX, &header, i, WAIT_MS), (ssize_t)lengths[i]);
		ck_assert_uint_eq(
			header.num_buffers, (lengths[i] + NET_HEADER + BUFFER - 1) / BUFFER);
	}
	ck_assert_uint_eq(counters().rx_packets, ARRAY_SIZE(lengths));
	end();
}
END_TEST

START_TEST(without_mergeable_buffers_a_packet_has_one_and_a_longer_one_is_dropped)
{
	struct virtio_net_hdr_v1 header;

	start((struct net_config){0}, NO_MRG, 64);
	post_rx(RX, 16, BUFFER);
	host_send(0, plain, BUFFER - NET_HEADER, 1);
	host_send(0, plain, BUFFER - NET_HEADER + 1, 2);
	host_send(0, plain, 20, 3);
	ck_assert_int_eq(guest_receive(RX, &header, 1, WAIT_MS), BUFFER - NET_HEADER);
	ck_assert_uint_eq(header.num_buffers, 1);
	ck_assert_int_eq(guest_receive(RX, &header, 3, WAIT_MS), 20);
	ck_assert_uint_eq(header.num_buffers, 1);
	ck_assert_uint_eq(counters().rx_dropped, 1);
	end();
}
END_TEST

START_TEST(a_packet_waits_for_buffers_that_come_later)
{
	struct virtio_net_hdr_v1 header;

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	post_rx(RX, 3, BUFFER);
	host_send(0, plain, 20000, 5);
	ck_assert_int_eq(guest_receive(RX, &header, 5, 50), -1);
	post_rx(RX, 4, BUFFER);
	ck_assert_int_eq(guest_receive(RX, &header, 5, 50), -1);
	post_rx(RX, 20, BUFFER);
	ck_assert_int_eq(guest_receive(RX, &header, 5, WAIT_MS), 20000);
	ck_assert_uint_eq(counters().rx_dropped, 0);
	end();
}
END_TEST

START_TEST(a_packet_that_no_full_ring_could_hold_is_dropped)
{
	struct virtio_net_hdr_v1 header;

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 4);
	post_rx(RX, 4, BUFFER);
	host_send(0, plain, 20000, 1);
	host_send(0, plain, 5000, 2);
	ck_assert_int_eq(guest_receive(RX, &header, 2, WAIT_MS), 5000);
	ck_assert_uint_eq(counters().rx_dropped, 1);
	end();
}
END_TEST

START_TEST(buffers_in_many_tiny_pieces_are_filled_in_order)
{
	struct driver_segment pieces[200];
	struct driver_queue *q;
	uint64_t gpa;
	uint32_t len;

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 256);
	q = driver_queue(&d, RX);
	for (unsigned round = 0; round < 20; round++) {
		static uint8_t expected[1000];

		gpa = driver_alloc(&d, 1000, 1);
		for (unsigned i = 0; i < 200; i++)
			pieces[i] = (struct driver_segment){
				.gpa = gpa + 5 * i, .len = 5, .writable = true};
		driver_add_indirect(q, pieces, 200);
		driver_kick(q);
		host_send(0, plain, 900, round);
		ck_assert(driver_wait_used(q, NULL, &len, WAIT_MS));
		ck_assert_uint_eq(len, 912);
		fill_pattern(expected, 900, round);
		ck_assert_mem_eq(driver_host(&d, gpa + 12, 900), expected, 900);
	}
	end();
}
END_TEST

START_TEST(absurdly_fragmented_buffers_cost_a_packet_not_the_device)
{
	struct driver_segment pieces[250];
	struct virtio_net_hdr_v1 header;
	struct driver_queue *q;
	uint64_t gpa;

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 256);
	q = driver_queue(&d, RX);
	gpa = driver_alloc(&d, 250, 1);
	for (unsigned i = 0; i < 250; i++)
		pieces[i] = (struct driver_segment){.gpa = gpa + i, .len = 1, .writable = true};
	for (unsigned i = 0; i < 8; i++)
		chain_gpa[RX][driver_add_indirect(q, pieces, 250)] = gpa;
	driver_kick(q);
	host_send(0, plain, 1500, 1); /* 512 segments of one byte do not hold it */
	host_send(0, plain, 100, 2);
	ck_assert_int_eq(guest_receive(RX, &header, 2, WAIT_MS), 100);
	ck_assert_uint_eq(counters().rx_dropped, 1);
	end();
}
END_TEST

START_TEST(reception_goes_on_after_a_flood_met_a_guest_without_buffers)
{
	struct virtio_net_hdr_v1 header;
	unsigned sent = 0;

	/* The trap of CVE-2020-16843: many times over, none posted, a flood, then buffers again. */
	start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	for (unsigned round = 0; round < 30; round++) {
		for (unsigned i = 0; i < 20; i++)
			host_send(0, plain, 1000, sent + i);
		post_rx(RX, 5, BUFFER);
		for (unsigned i = 0; i < 5; i++)
			ck_assert_int_eq(guest_receive(RX, &header, sent + i, WAIT_MS), 1000);
		ck_assert_int_eq(guest_receive(RX, &header, 0, 2), -1);
		post_rx(RX, 15, BUFFER);
		for (unsigned i = 5; i < 20; i++)
			ck_assert_int_eq(guest_receive(RX, &header, sent + i, WAIT_MS), 1000);
		sent += 20;
	}
	end();
}
END_TEST

START_TEST(a_segmented_packet_is_hidden_from_a_driver_that_cannot_take_it)
{
	const struct virtio_net_hdr_v1 tso = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.gso_size = 1448};
	const struct virtio_net_hdr_v1 sum = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM};
	const struct virtio_net_hdr_v1 valid = {.flags = VIRTIO_NET_HDR_F_DATA_VALID};
	struct virtio_net_hdr_v1 header;

	start((struct net_config){0}, NO_OFFLOAD, 64);
	post_rx(RX, 64, BUFFER);
	host_send(0, tso, 3000, 1);
	host_send(0, sum, 1000, 1);
	host_send(0, valid, 500, 2);
	ck_assert_int_eq(guest_receive(RX, &header, 2, WAIT_MS), 500);
	ck_assert_uint_eq(header.flags, 0); /* §5.1.6.4.1: no flags without GUEST_CSUM */
	ck_assert_uint_eq(counters().rx_dropped, 2);
	end();
}
END_TEST

START_TEST(a_flood_inwards_does_not_hold_up_sending)
{
	struct virtio_net_hdr_v1 header;
	uint8_t data[100];
	unsigned received = 0;

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 256);
	post_rx(RX, 256, BUFFER);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 100; i++)
			host_send(0, plain, 100, received + i);
		guest_send(TX, plain, 100, 0);
		ck_assert_int_eq(host_receive(0, &header, data, WAIT_MS), 100);
		for (unsigned i = 0; i < 100; i++)
			ck_assert_int_eq(guest_receive(RX, &header, received + i, WAIT_MS), 100);
		received += 100;
		post_rx(RX, 100, BUFFER);
	}
	end();
}
END_TEST

START_TEST(indices_wrap_around_both_ways)
{
	struct driver_segment out, in;
	struct virtio_net_hdr_v1 header;
	struct driver_queue *rx, *tx;
	uint8_t data[64];
	uint16_t head;
	uint32_t len;

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 8);
	rx = driver_queue(&d, RX);
	tx = driver_queue(&d, TX);
	out = packet_in_ram(plain, 60, 1);
	in = (struct driver_segment){.gpa = driver_alloc(&d, 100, 1), .len = 100, .writable = true};
	for (unsigned i = 0; i < 66000; i++) {
		driver_add(rx, &in, 1);
		driver_kick(rx);
		driver_add(tx, &out, 1);
		driver_kick(tx);
		ck_assert_int_eq(host_receive(0, &header, data, WAIT_MS), 60);
		host_send(0, plain, 60, 2);
		ck_assert(driver_wait_used(rx, &head, &len, WAIT_MS));
		ck_assert_uint_eq(len, 72);
		ck_assert(driver_wait_used(tx, &head, NULL, WAIT_MS));
	}
	ck_assert_uint_eq(rx->seen_used, (uint16_t)66000);
	end();
}
END_TEST

START_TEST(an_interrupt_follows_what_was_received)
{
	struct virtio_net_hdr_v1 header;

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	post_rx(RX, 10, BUFFER);
	for (unsigned i = 1; i <= 10; i++) {
		host_send(0, plain, 100, i);
		ck_assert_int_eq(guest_receive(RX, &header, i, WAIT_MS), 100);
		for (unsigned ms = 0; atomic_load(&d.interrupts[RX]) < i && ms < WAIT_MS; ms++)
			usleep(1000);
		ck_assert_uint_eq(atomic_load(&d.interrupts[RX]), i);
	}
	end();
}
END_TEST

/* ---- control queue and queue pairs ---- */

START_TEST(commands_outside_what_was_negotiated_are_answered_with_an_error)
{
	uint16_t two = 2;

	start((struct net_config){.queues = 2}, DRIVER_ALL_FEATURES & ~BIT(VIRTIO_NET_F_GUEST_TSO6),
		64);
	ck_assert_uint_eq(set_pairs(0), VIRTIO_NET_ERR);
	ck_assert_uint_eq(set_pairs(3), VIRTIO_NET_ERR);
	ck_assert_uint_eq(set_pairs(2), VIRTIO_NET_OK);
	ck_assert_uint_eq(set_pairs(1), VIRTIO_NET_OK);
	ck_assert_uint_eq(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &two, 1),
		VIRTIO_NET_ERR);
	ck_assert_uint_eq(command(VIRTIO_NET_CTRL_MQ, 1, &two, 2), VIRTIO_NET_ERR);
	ck_assert_uint_eq(
		command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "\1", 1), VIRTIO_NET_ERR);
	ck_assert_uint_eq(command(0xff, 0xff, "", 0), VIRTIO_NET_ERR);
	ck_assert_uint_eq(set_offloads(BIT(VIRTIO_NET_F_GUEST_TSO6)), VIRTIO_NET_ERR);
	ck_assert_uint_eq(set_offloads(BIT(40)), VIRTIO_NET_ERR);
	ck_assert_uint_eq(set_offloads(BIT(VIRTIO_NET_F_GUEST_CSUM)), VIRTIO_NET_OK);
	end();
}
END_TEST

START_TEST(offloads_switched_off_hide_segmented_packets)
{
	const struct virtio_net_hdr_v1 tso = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.gso_size = 1448};
	struct virtio_net_hdr_v1 header;

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	post_rx(RX, 64, BUFFER);
	host_send(0, tso, 3000, 1);
	ck_assert_int_eq(guest_receive(RX, &header, 1, WAIT_MS), 3000);
	ck_assert_uint_eq(set_offloads(0), VIRTIO_NET_OK);
	host_send(0, tso, 3000, 2);
	host_send(0, plain, 100, 3);
	ck_assert_int_eq(guest_receive(RX, &header, 3, WAIT_MS), 100);
	end();
}
END_TEST

START_TEST(a_pair_receives_from_when_the_driver_asks_until_it_lets_go)
{
	struct virtio_net_hdr_v1 header;

	start((struct net_config){.queues = 3}, DRIVER_ALL_FEATURES, 64);
	for (unsigned i = 0; i < 3; i++)
		post_rx(2 * i, 64, BUFFER);
	for (unsigned i = 0; i < 3; i++)
		host_send(i, plain, 100, i);
	ck_assert_int_eq(guest_receive(0, &header, 0, WAIT_MS), 100);
	ck_assert_int_eq(guest_receive(2, &header, 1, 20), -1);
	ck_assert_int_eq(guest_receive(4, &header, 2, 20), -1);
	ck_assert_uint_eq(set_pairs(3), VIRTIO_NET_OK);
	ck_assert_int_eq(guest_receive(2, &header, 1, WAIT_MS), 100);
	ck_assert_int_eq(guest_receive(4, &header, 2, WAIT_MS), 100);
	/* Back and forth, faster than a poll can end. */
	for (unsigned round = 0; round < 100; round++) {
		ck_assert_uint_eq(set_pairs(1 + round % 3), VIRTIO_NET_OK);
		ck_assert_uint_eq(set_pairs(3), VIRTIO_NET_OK);
	}
	host_send(1, plain, 100, 4);
	ck_assert_int_eq(guest_receive(2, &header, 4, WAIT_MS), 100);
	ck_assert_uint_eq(set_pairs(2), VIRTIO_NET_OK);
	for (unsigned tries = 0; tries < 50; tries++) { /* the answer comes before the deed */
		host_send(2, plain, 100, 5);
		if (guest_receive(4, &header, 5, 50) < 0)
			break;
		ck_assert_uint_lt(tries, 49);
	}
	for (unsigned i = 0; i < 3; i++)
		guest_send(2 * i + 1, plain, 10, 0);
	end();
}
END_TEST

START_TEST(a_driver_without_mq_finds_the_control_queue_third)
{
	struct virtio_net_hdr_v1 header;
	uint64_t offloads = 0;
	struct driver_queue *q;
	uint64_t gpa;
	uint8_t *at;

	start((struct net_config){.queues = 3}, DRIVER_ALL_FEATURES & ~BIT(VIRTIO_NET_F_MQ), 64);
	q = driver_queue(&d, 2);
	gpa = driver_alloc(&d, 16, 8);
	at = driver_host(&d, gpa, 16);
	at[0] = VIRTIO_NET_CTRL_GUEST_OFFLOADS;
	memcpy(at + 2, &offloads, 8);
	at[10] = 0xaa;
	driver_add(q,
		(struct driver_segment[]){
			{.gpa = gpa, .len = 10}, {.gpa = gpa + 10, .len = 1, .writable = true}},
		2);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
	ck_assert_uint_eq(at[10], VIRTIO_NET_OK);
	post_rx(RX, 4, BUFFER);
	host_send(0, plain, 100, 1);
	ck_assert_int_eq(guest_receive(RX, &header, 1, WAIT_MS), 100);
	end();
}
END_TEST

/* ---- limits ---- */

START_TEST(sending_keeps_to_the_packet_rate)
{
	struct virtio_net_hdr_v1 header;
	uint64_t began, took;
	uint8_t data[100];

	/* The burst is 100 ms worth: 300 of 1000 packets a second take the other 200 ms. */
	start((struct net_config){.pps = 1000}, DRIVER_ALL_FEATURES, 64);
	began = now_ns();
	for (unsigned i = 0; i < 300; i++) {
		guest_send(TX, plain, 100, 0);
		ck_assert_int_eq(host_receive(0, &header, data, WAIT_MS), 100);
	}
	took = (now_ns() - began) / 1000000;
	ck_assert_uint_ge(took, 190);
	ck_assert_uint_le(took, 5000);
	end();
}
END_TEST

START_TEST(receiving_keeps_to_the_byte_rate_until_it_is_lifted)
{
	struct virtio_net_hdr_v1 header;
	uint64_t began = now_ns(), took;

	start((struct net_config){.bps = 100000}, DRIVER_ALL_FEATURES, 64);
	post_rx(RX, 60, BUFFER);
	for (unsigned i = 0; i < 30; i++)
		host_send(0, plain, 1000, i);
	for (unsigned i = 0; i < 30; i++)
		ck_assert_int_eq(guest_receive(RX, &header, i, WAIT_MS), 1000);
	took = (now_ns() - began) / 1000000;
	ck_assert_uint_ge(took, 180);
	/* An hour's worth of debt, forgiven at once. */
	net_set_limits(d.device, 0, 1);
	for (unsigned i = 0; i < 3; i++)
		host_send(0, plain, 1000, i);
	ck_assert_int_eq(guest_receive(RX, &header, 0, WAIT_MS), 1000);
	ck_assert_int_eq(guest_receive(RX, &header, 1, 50), -1);
	net_set_limits(d.device, 0, 0);
	ck_assert_int_eq(guest_receive(RX, &header, 1, WAIT_MS), 1000);
	ck_assert_int_eq(guest_receive(RX, &header, 2, WAIT_MS), 1000);
	end();
}
END_TEST

/* ---- breaking and resetting ---- */

START_TEST(a_broken_ring_stops_the_device_until_it_is_reset)
{
	struct virtio_net_hdr_v1 header;
	struct driver_queue *q;
	uint8_t data[100];

	start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	q = driver_queue(&d, TX);
	__atomic_store_n(&q->avail->idx, 1000, __ATOMIC_RELEASE);
	virtio_device_kick(d.device, TX);
	for (unsigned ms = 0;
		!(atomic_load(&d.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET) && ms < WAIT_MS;
		ms++)
		usleep(1000);
	ck_assert(atomic_load(&d.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET);
	driver_reset(&d);
	restart(DRIVER_ALL_FEATURES);
	guest_send(TX, plain, 100, 0);
	ck_assert_int_eq(host_receive(0, &header, data, WAIT_MS), 100);
	end();
}
END_TEST

START_TEST(a_receive_buffer_without_room_for_the_header_breaks_the_device)
{
	start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	post_rx(RX, 1, NET_HEADER - 1);
	for (unsigned ms = 0;
		!(atomic_load(&d.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET) && ms < WAIT_MS;
		ms++)
		usleep(1000);
	ck_assert(atomic_load(&d.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET);
	end();
}
END_TEST

START_TEST(a_reset_under_traffic_gives_back_a_working_device)
{
	struct virtio_net_hdr_v1 header;
	static uint8_t data[NET_PACKET_MAX];

	create((struct net_config){.queues = 2, .pps = 5000});
	for (unsigned round = 0; round < 20; round++) {
		struct driver_segment segment;

		restart(DRIVER_ALL_FEATURES);
		post_rx(0, 20, BUFFER);
		post_rx(2, 20, BUFFER);
		ck_assert_uint_eq(set_pairs(2), VIRTIO_NET_OK);
		for (unsigned i = 0; i < 30; i++) {
			host_send(i & 1, plain, 1400 * (i % 3) + 10, i);
			segment = packet_in_ram(plain, 1000, i);
			driver_add(driver_queue(&d, 1), &segment, 1);
		}
		driver_kick(driver_queue(&d, 1));
		usleep(500 * (round % 5));
		driver_reset(&d);
		while (host_receive(0, &header, data, 0) >= 0)
			;
	}
	restart(DRIVER_ALL_FEATURES);
	post_rx(RX, 60, BUFFER);
	guest_send(TX, plain, 10, 0);
	ck_assert_int_eq(host_receive(0, &header, data, WAIT_MS), 10);
	end();
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("socket");

	tcase_set_timeout(tcase, 50);
	tcase_add_test(tcase, a_derived_mac_is_stable_local_and_of_one_station);
	tcase_add_test(tcase, an_offload_without_its_base_is_refused);
	tcase_add_test(tcase, configuration_tells_mac_link_pairs_and_mtu);
	tcase_add_test(tcase, one_pair_offers_no_mq_and_no_mtu_offers_none);
	tcase_add_test(tcase, impossible_configurations_are_refused_in_words);
	tcase_add_test(tcase, a_packet_sent_arrives_unchanged_behind_its_header);
	tcase_add_test(tcase, a_packet_in_any_number_of_pieces_arrives_whole);
	tcase_add_test(tcase, a_segmentation_request_reaches_the_host_as_asked);
	tcase_add_test(tcase, a_bad_packet_is_dropped_and_the_next_one_sent);
	tcase_add_test(tcase, an_offload_that_was_not_negotiated_is_not_sent);
	tcase_add_test(tcase, a_tap_that_pushes_back_loses_nothing);
	tcase_add_test(tcase, a_packet_received_spans_as_many_buffers_as_it_needs);
	tcase_add_test(
		tcase, without_mergeable_buffers_a_packet_has_one_and_a_longer_one_is_dropped);
	tcase_add_test(tcase, a_packet_waits_for_buffers_that_come_later);
	tcase_add_test(tcase, a_packet_that_no_full_ring_could_hold_is_dropped);
	tcase_add_test(tcase, buffers_in_many_tiny_pieces_are_filled_in_order);
	tcase_add_test(tcase, absurdly_fragmented_buffers_cost_a_packet_not_the_device);
	tcase_add_test(tcase, reception_goes_on_after_a_flood_met_a_guest_without_buffers);
	tcase_add_test(tcase, a_segmented_packet_is_hidden_from_a_driver_that_cannot_take_it);
	tcase_add_test(tcase, a_flood_inwards_does_not_hold_up_sending);
	tcase_add_test(tcase, indices_wrap_around_both_ways);
	tcase_add_test(tcase, an_interrupt_follows_what_was_received);
	tcase_add_test(tcase, commands_outside_what_was_negotiated_are_answered_with_an_error);
	tcase_add_test(tcase, offloads_switched_off_hide_segmented_packets);
	tcase_add_test(tcase, a_pair_receives_from_when_the_driver_asks_until_it_lets_go);
	tcase_add_test(tcase, a_driver_without_mq_finds_the_control_queue_third);
	tcase_add_test(tcase, sending_keeps_to_the_packet_rate);
	tcase_add_test(tcase, receiving_keeps_to_the_byte_rate_until_it_is_lifted);
	tcase_add_test(tcase, a_broken_ring_stops_the_device_until_it_is_reset);
	tcase_add_test(tcase, a_receive_buffer_without_room_for_the_header_breaks_the_device);
	tcase_add_test(tcase, a_reset_under_traffic_gives_back_a_working_device);
	return run_tests("net", tcase, NULL);
}
