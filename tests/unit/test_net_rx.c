/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net, host to guest: buffers filled as they come, and packets that find none. */
#include "tests/unit/net_wire.h"
#include "tests/unit/runner.h"

#include <check.h>

START_TEST(a_packet_received_spans_as_many_buffers_as_it_needs)
{
	static const size_t lengths[] = {
		1, 60, BUFFER - NET_HEADER, BUFFER - NET_HEADER + 1, 9014, 65550};
	struct virtio_net_hdr_v1 header;

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 256);
	wire_post_rx(RX, 256, BUFFER);
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		wire_host_send(0, wire_plain, lengths[i], i);
		ck_assert_int_eq(wire_guest_receive(RX, &header, i, WAIT_MS), (ssize_t)lengths[i]);
		ck_assert_uint_eq(
			header.num_buffers, (lengths[i] + NET_HEADER + BUFFER - 1) / BUFFER);
	}
	ck_assert_uint_eq(wire_counters().rx_packets, ARRAY_SIZE(lengths));
	wire_end();
}
END_TEST

START_TEST(without_mergeable_buffers_a_packet_has_one_and_a_longer_one_is_dropped)
{
	struct virtio_net_hdr_v1 header;

	wire_start((struct net_config){0}, NO_MRG, 64);
	wire_post_rx(RX, 16, BUFFER);
	wire_host_send(0, wire_plain, BUFFER - NET_HEADER, 1);
	wire_host_send(0, wire_plain, BUFFER - NET_HEADER + 1, 2);
	wire_host_send(0, wire_plain, 20, 3);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 1, WAIT_MS), BUFFER - NET_HEADER);
	ck_assert_uint_eq(header.num_buffers, 1);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 3, WAIT_MS), 20);
	ck_assert_uint_eq(header.num_buffers, 1);
	ck_assert_uint_eq(wire_counters().rx_dropped, 1);
	wire_end();
}
END_TEST

START_TEST(a_packet_waits_for_buffers_that_come_later)
{
	struct virtio_net_hdr_v1 header;

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	wire_post_rx(RX, 3, BUFFER);
	wire_host_send(0, wire_plain, 20000, 5);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 5, 50), -1);
	wire_post_rx(RX, 4, BUFFER);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 5, 50), -1);
	wire_post_rx(RX, 20, BUFFER);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 5, WAIT_MS), 20000);
	ck_assert_uint_eq(wire_counters().rx_dropped, 0);
	wire_end();
}
END_TEST

START_TEST(a_packet_that_no_full_ring_could_hold_is_dropped)
{
	struct virtio_net_hdr_v1 header;

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 4);
	wire_post_rx(RX, 4, BUFFER);
	wire_host_send(0, wire_plain, 20000, 1);
	wire_host_send(0, wire_plain, 5000, 2);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 2, WAIT_MS), 5000);
	ck_assert_uint_eq(wire_counters().rx_dropped, 1);
	wire_end();
}
END_TEST

START_TEST(buffers_in_many_tiny_pieces_are_filled_in_order)
{
	struct driver_segment pieces[200];
	struct driver_queue *q;
	uint64_t gpa;
	uint32_t len;

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 256);
	q = driver_queue(&wire_guest, RX);
	for (unsigned round = 0; round < 20; round++) {
		static uint8_t expected[1000];

		gpa = driver_alloc(&wire_guest, 1000, 1);
		for (unsigned i = 0; i < 200; i++)
			pieces[i] = (struct driver_segment){
				.gpa = gpa + 5 * i, .len = 5, .writable = true};
		driver_add_indirect(q, pieces, 200);
		driver_kick(q);
		wire_host_send(0, wire_plain, 900, round);
		ck_assert(driver_wait_used(q, NULL, &len, WAIT_MS));
		ck_assert_uint_eq(len, 912);
		wire_pattern(expected, 900, round);
		ck_assert_mem_eq(driver_host(&wire_guest, gpa + 12, 900), expected, 900);
	}
	wire_end();
}
END_TEST

START_TEST(absurdly_fragmented_buffers_cost_a_packet_not_the_device)
{
	struct driver_segment pieces[250];
	struct virtio_net_hdr_v1 header;
	struct driver_queue *q;
	uint64_t gpa;

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 256);
	q = driver_queue(&wire_guest, RX);
	gpa = driver_alloc(&wire_guest, 250, 1);
	for (unsigned i = 0; i < 250; i++)
		pieces[i] = (struct driver_segment){.gpa = gpa + i, .len = 1, .writable = true};
	for (unsigned i = 0; i < 8; i++)
		wire_rx_gpa[RX][driver_add_indirect(q, pieces, 250)] = gpa;
	driver_kick(q);
	wire_host_send(0, wire_plain, 1500, 1); /* 512 segments of one byte do not hold it */
	wire_host_send(0, wire_plain, 100, 2);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 2, WAIT_MS), 100);
	ck_assert_uint_eq(wire_counters().rx_dropped, 1);
	wire_end();
}
END_TEST

START_TEST(reception_goes_on_after_a_flood_met_a_guest_without_buffers)
{
	struct virtio_net_hdr_v1 header;
	unsigned sent = 0;

	/* The trap of CVE-2020-16843: many times over, none posted, a flood, then buffers again. */
	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	for (unsigned round = 0; round < 30; round++) {
		for (unsigned i = 0; i < 20; i++)
			wire_host_send(0, wire_plain, 1000, sent + i);
		wire_post_rx(RX, 5, BUFFER);
		for (unsigned i = 0; i < 5; i++)
			ck_assert_int_eq(wire_guest_receive(RX, &header, sent + i, WAIT_MS), 1000);
		ck_assert_int_eq(wire_guest_receive(RX, &header, 0, 2), -1);
		wire_post_rx(RX, 15, BUFFER);
		for (unsigned i = 5; i < 20; i++)
			ck_assert_int_eq(wire_guest_receive(RX, &header, sent + i, WAIT_MS), 1000);
		sent += 20;
	}
	wire_end();
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

	wire_start((struct net_config){0}, NO_OFFLOAD, 64);
	wire_post_rx(RX, 64, BUFFER);
	wire_host_send(0, tso, 3000, 1);
	wire_host_send(0, sum, 1000, 1);
	wire_host_send(0, valid, 500, 2);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 2, WAIT_MS), 500);
	ck_assert_uint_eq(header.flags, 0); /* §5.1.6.4.1: no flags without GUEST_CSUM */
	ck_assert_uint_eq(wire_counters().rx_dropped, 2);
	wire_end();
}
END_TEST

START_TEST(a_flood_inwards_does_not_hold_up_sending)
{
	struct virtio_net_hdr_v1 header;
	uint8_t data[100];
	unsigned received = 0;

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 256);
	wire_post_rx(RX, 256, BUFFER);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 100; i++)
			wire_host_send(0, wire_plain, 100, received + i);
		wire_guest_send(TX, wire_plain, 100, 0);
		ck_assert_int_eq(wire_host_receive(0, &header, data, WAIT_MS), 100);
		for (unsigned i = 0; i < 100; i++)
			ck_assert_int_eq(
				wire_guest_receive(RX, &header, received + i, WAIT_MS), 100);
		received += 100;
		wire_post_rx(RX, 100, BUFFER);
	}
	wire_end();
}
END_TEST

START_TEST(an_interrupt_follows_what_was_received)
{
	struct virtio_net_hdr_v1 header;

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	wire_post_rx(RX, 10, BUFFER);
	for (unsigned i = 1; i <= 10; i++) {
		wire_host_send(0, wire_plain, 100, i);
		/* Before the packet is taken: a driver that saw it already asks for the next one's. */
		ck_assert_uint_eq(driver_wait_interrupts(&wire_guest, RX, i, WAIT_MS), i);
		ck_assert_int_eq(wire_guest_receive(RX, &header, i, WAIT_MS), 100);
	}
	wire_end();
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("socket");

	tcase_set_timeout(tcase, 50);
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
	tcase_add_test(tcase, an_interrupt_follows_what_was_received);
	return run_tests("net_rx", tcase, NULL);
}
