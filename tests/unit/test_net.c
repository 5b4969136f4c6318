/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net on a socket pair that stands in for a tap: what it offers, its limits, and that nothing of
 * what passes stops it. Packets out, packets in and commands are in test_net_tx.c, test_net_rx.c and
 * test_net_ctrl.c; real taps in test_net_tap.c.
 */
#include "tests/unit/net_wire.h"
#include "tests/unit/runner.h"

#include <check.h>
#include <string.h>

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

	wire_create((struct net_config){.queues = 2});
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		ck_assert_msg(driver_start(&wire_guest, cases[i].features | BIT(VIRTIO_F_VERSION_1),
				      16) == cases[i].good,
			"case %u", i);
		driver_reset(&wire_guest);
	}
	wire_end();
}
END_TEST

START_TEST(configuration_tells_mac_link_pairs_and_mtu)
{
	struct virtio_net_config config;

	wire_create((struct net_config){.queues = 3, .mtu = 9000});
	ck_assert_uint_eq(wire_guest.device->config_size, 12);
	driver_config_read(&wire_guest, 0, &config, wire_guest.device->config_size);
	ck_assert_mem_eq(config.mac, wire_mac, 6);
	ck_assert_uint_eq(config.status, VIRTIO_NET_S_LINK_UP);
	ck_assert_uint_eq(config.max_virtqueue_pairs, 3);
	ck_assert_uint_eq(config.mtu, 9000);
	ck_assert(wire_guest.device->features & BIT(VIRTIO_NET_F_MQ));
	ck_assert(wire_guest.device->features & BIT(VIRTIO_NET_F_MTU));
	wire_end();
}
END_TEST

START_TEST(one_pair_offers_no_mq_and_no_mtu_offers_none)
{
	wire_create((struct net_config){.queues = 1});
	ck_assert(!(wire_guest.device->features & (BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_MTU))));
	wire_end();
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

	driver_create(&wire_guest, RAM);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct net_config config = cases[i].config;
		struct error err;

		config.id = "net0";
		if (config.tap)
			config.fd = -1;
		ck_assert_int_lt(net_create(&config, &wire_guest.memory, wire_guest.main_loop,
					 &wire_guest.device, &err),
			0);
		ck_assert_msg(strstr(err.text, cases[i].text), "case %u: %s", i, err.text);
		ck_assert_ptr_eq(strstr(err.text, "net 'net0': "), err.text);
	}
	driver_destroy(&wire_guest);
}
END_TEST

/* ---- both ways ---- */

START_TEST(indices_wrap_around_both_ways)
{
	struct driver_segment out, in;
	struct virtio_net_hdr_v1 header;
	struct driver_queue *rx, *tx;
	uint8_t data[64];
	uint16_t head;
	uint32_t len;

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 8);
	rx = driver_queue(&wire_guest, RX);
	tx = driver_queue(&wire_guest, TX);
	out = wire_packet(wire_plain, 60, 1);
	in = (struct driver_segment){
		.gpa = driver_alloc(&wire_guest, 100, 1), .len = 100, .writable = true};
	for (unsigned i = 0; i < 66000; i++) {
		driver_add(rx, &in, 1);
		driver_kick(rx);
		driver_add(tx, &out, 1);
		driver_kick(tx);
		ck_assert_int_eq(wire_host_receive(0, &header, data, WAIT_MS), 60);
		wire_host_send(0, wire_plain, 60, 2);
		ck_assert(driver_wait_used(rx, &head, &len, WAIT_MS));
		ck_assert_uint_eq(len, 72);
		ck_assert(driver_wait_used(tx, &head, NULL, WAIT_MS));
	}
	ck_assert_uint_eq(rx->seen_used, (uint16_t)66000);
	wire_end();
}
END_TEST

/* ---- limits ---- */

START_TEST(sending_keeps_to_the_packet_rate)
{
	struct virtio_net_hdr_v1 header;
	uint64_t began, took;
	uint8_t data[100];

	/* The burst is 100 ms worth: 300 of 1000 packets a second take the other 200 ms. */
	wire_start((struct net_config){.pps = 1000}, DRIVER_ALL_FEATURES, 64);
	began = now_ns();
	for (unsigned i = 0; i < 300; i++) {
		wire_guest_send(TX, wire_plain, 100, 0);
		ck_assert_int_eq(wire_host_receive(0, &header, data, WAIT_MS), 100);
	}
	took = (now_ns() - began) / 1000000;
	ck_assert_uint_ge(took, 190);
	ck_assert_uint_le(took, 5000);
	wire_end();
}
END_TEST

START_TEST(receiving_keeps_to_the_byte_rate_until_it_is_lifted)
{
	struct virtio_net_hdr_v1 header;
	uint64_t began = now_ns(), took;

	wire_start((struct net_config){.bps = 100000}, DRIVER_ALL_FEATURES, 64);
	wire_post_rx(RX, 60, BUFFER);
	for (unsigned i = 0; i < 30; i++)
		wire_host_send(0, wire_plain, 1000, i);
	for (unsigned i = 0; i < 30; i++)
		ck_assert_int_eq(wire_guest_receive(RX, &header, i, WAIT_MS), 1000);
	took = (now_ns() - began) / 1000000;
	ck_assert_uint_ge(took, 180);
	/* An hour's worth of debt, forgiven at once. */
	net_set_limits(wire_guest.device, 0, 1);
	for (unsigned i = 0; i < 3; i++)
		wire_host_send(0, wire_plain, 1000, i);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 0, WAIT_MS), 1000);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 1, 50), -1);
	net_set_limits(wire_guest.device, 0, 0);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 1, WAIT_MS), 1000);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 2, WAIT_MS), 1000);
	wire_end();
}
END_TEST

/* ---- breaking and resetting ---- */

START_TEST(a_broken_ring_stops_the_device_until_it_is_reset)
{
	struct virtio_net_hdr_v1 header;
	struct driver_queue *q;
	uint8_t data[100];

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	q = driver_queue(&wire_guest, TX);
	__atomic_store_n(&q->avail->idx, 1000, __ATOMIC_RELEASE);
	virtio_device_kick(wire_guest.device, TX);
	for (unsigned ms = 0;
		!(atomic_load(&wire_guest.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET) &&
		ms < WAIT_MS;
		ms++)
		usleep(1000);
	ck_assert(atomic_load(&wire_guest.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET);
	driver_reset(&wire_guest);
	wire_restart(DRIVER_ALL_FEATURES);
	wire_guest_send(TX, wire_plain, 100, 0);
	ck_assert_int_eq(wire_host_receive(0, &header, data, WAIT_MS), 100);
	wire_end();
}
END_TEST

START_TEST(a_receive_buffer_without_room_for_the_header_breaks_the_device)
{
	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	wire_post_rx(RX, 1, NET_HEADER - 1);
	for (unsigned ms = 0;
		!(atomic_load(&wire_guest.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET) &&
		ms < WAIT_MS;
		ms++)
		usleep(1000);
	ck_assert(atomic_load(&wire_guest.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET);
	wire_end();
}
END_TEST

START_TEST(a_reset_under_traffic_gives_back_a_working_device)
{
	struct virtio_net_hdr_v1 header;
	static uint8_t data[NET_PACKET_MAX];

	wire_create((struct net_config){.queues = 2, .pps = 5000});
	for (unsigned round = 0; round < 20; round++) {
		struct driver_segment segment;

		wire_restart(DRIVER_ALL_FEATURES);
		wire_post_rx(0, 20, BUFFER);
		wire_post_rx(2, 20, BUFFER);
		ck_assert_uint_eq(wire_set_pairs(2), VIRTIO_NET_OK);
		for (unsigned i = 0; i < 30; i++) {
			wire_host_send(i & 1, wire_plain, 1400 * (i % 3) + 10, i);
			segment = wire_packet(wire_plain, 1000, i);
			driver_add(driver_queue(&wire_guest, 1), &segment, 1);
		}
		driver_kick(driver_queue(&wire_guest, 1));
		usleep(500 * (round % 5));
		driver_reset(&wire_guest);
		while (wire_host_receive(0, &header, data, 0) >= 0)
			;
	}
	wire_restart(DRIVER_ALL_FEATURES);
	wire_post_rx(RX, 60, BUFFER);
	wire_guest_send(TX, wire_plain, 10, 0);
	ck_assert_int_eq(wire_host_receive(0, &header, data, WAIT_MS), 10);
	wire_end();
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
	tcase_add_test(tcase, indices_wrap_around_both_ways);
	tcase_add_test(tcase, sending_keeps_to_the_packet_rate);
	tcase_add_test(tcase, receiving_keeps_to_the_byte_rate_until_it_is_lifted);
	tcase_add_test(tcase, a_broken_ring_stops_the_device_until_it_is_reset);
	tcase_add_test(tcase, a_receive_buffer_without_room_for_the_header_breaks_the_device);
	tcase_add_test(tcase, a_reset_under_traffic_gives_back_a_working_device);
	return run_tests("net", tcase, NULL);
}
