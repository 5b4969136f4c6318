/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net, guest to host: what is sent, what is dropped, what waits. */
#include "tests/unit/net_wire.h"
#include "tests/unit/runner.h"

#include <check.h>
#include <sys/socket.h>

START_TEST(a_packet_sent_arrives_unchanged_behind_its_header)
{
	static const size_t lengths[] = {1, 60, 1514, 9014, 65550};
	struct virtio_net_hdr_v1 header;
	static uint8_t got[NET_PACKET_MAX], expected[NET_PACKET_MAX];

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		wire_guest_send(TX, wire_plain, lengths[i], i);
		ck_assert_int_eq(wire_host_receive(0, &header, got, WAIT_MS), (ssize_t)lengths[i]);
		wire_pattern(expected, lengths[i], i);
		ck_assert_mem_eq(got, expected, lengths[i]);
		ck_assert_mem_eq(&header, &wire_plain, sizeof(header));
	}
	ck_assert_uint_eq(wire_counters().tx_packets, ARRAY_SIZE(lengths));
	ck_assert_uint_eq(wire_counters().tx_bytes, 1 + 60 + 1514 + 9014 + 65550);
	ck_assert_uint_eq(wire_counters().tx_dropped, 0);
	wire_end();
}
END_TEST

START_TEST(a_packet_in_any_number_of_pieces_arrives_whole)
{
	struct driver_segment pieces[40], whole;
	struct virtio_net_hdr_v1 header;
	static uint8_t got[NET_PACKET_MAX], expected[NET_PACKET_MAX];
	struct driver_queue *q;
	unsigned lens[] = {1, 5, 12, 13, 100};

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	q = driver_queue(&wire_guest, TX);
	wire_pattern(expected, 400, 7);
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(lens); i++) {
		uint32_t left, len = lens[i / 2];
		unsigned count = 0;

		/* Pieces of `len` bytes, so that the header ends before, in and at the edge of one. */
		whole = wire_packet(wire_plain, 400, 7);
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
		ck_assert_int_eq(wire_host_receive(0, &header, got, WAIT_MS), 400);
		ck_assert_mem_eq(got, expected, 400);
		ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
	}
	wire_end();
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
	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	wire_guest_send(TX, sent, 20000, 1);
	ck_assert_int_eq(wire_host_receive(0, &got, data, WAIT_MS), 20000);
	ck_assert_mem_eq(&got, &expected, sizeof(got));
	wire_end();
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

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	q = driver_queue(&wire_guest, TX);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		wire_guest_send(TX, bad[i], 100, 0);
	stub.gpa = huge.gpa = driver_alloc(&wire_guest, huge.len, 1);
	driver_add(q, &stub, 1);
	driver_add(q, &huge, 1);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
	ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
	wire_guest_send(TX, wire_plain, 100, 0);
	ck_assert_int_eq(wire_host_receive(0, &header, data, WAIT_MS), 100);
	ck_assert_int_eq(wire_host_receive(0, &header, data, 0), -1);
	ck_assert_uint_eq(wire_counters().tx_dropped, ARRAY_SIZE(bad) + 2);
	ck_assert(!(atomic_load(&wire_guest.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET));
	wire_end();
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

	wire_start((struct net_config){0}, NO_OFFLOAD, 64);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		wire_guest_send(TX, bad[i], 100, 0);
	ck_assert_uint_eq(wire_counters().tx_dropped, ARRAY_SIZE(bad));
	wire_end();
}
END_TEST

START_TEST(a_tap_that_pushes_back_loses_nothing)
{
	const unsigned packets = 60; /* a socket's buffer holds a few of this size */
	struct virtio_net_hdr_v1 header;
	static uint8_t got[NET_PACKET_MAX], expected[NET_PACKET_MAX];
	struct driver_segment segment;
	struct driver_queue *q;

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	q = driver_queue(&wire_guest, TX);
	for (unsigned i = 0; i < packets; i++) {
		segment = wire_packet(wire_plain, 60000, i);
		driver_add(q, &segment, 1);
	}
	driver_kick(q);
	for (unsigned i = 0; i < packets; i++) {
		ck_assert_int_eq(wire_host_receive(0, &header, got, WAIT_MS), 60000);
		wire_pattern(expected, 60000, i);
		ck_assert_mem_eq(got, expected, 60000);
	}
	for (unsigned i = 0; i < packets; i++)
		ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
	wire_end();
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("socket");

	tcase_set_timeout(tcase, 50);
	tcase_add_test(tcase, a_packet_sent_arrives_unchanged_behind_its_header);
	tcase_add_test(tcase, a_packet_in_any_number_of_pieces_arrives_whole);
	tcase_add_test(tcase, a_segmentation_request_reaches_the_host_as_asked);
	tcase_add_test(tcase, a_bad_packet_is_dropped_and_the_next_one_sent);
	tcase_add_test(tcase, an_offload_that_was_not_negotiated_is_not_sent);
	tcase_add_test(tcase, a_tap_that_pushes_back_loses_nothing);
	return run_tests("net_tx", tcase, NULL);
}
