/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: the control queue, and the queue pairs and offloads that it switches. */
#include "tests/unit/net_wire.h"
#include "tests/unit/runner.h"

#include <check.h>
#include <string.h>

START_TEST(commands_outside_what_was_negotiated_are_answered_with_an_error)
{
	uint16_t two = 2;

	wire_start((struct net_config){.queues = 2},
		DRIVER_ALL_FEATURES & ~BIT(VIRTIO_NET_F_GUEST_TSO6), 64);
	ck_assert_uint_eq(wire_set_pairs(0), VIRTIO_NET_ERR);
	ck_assert_uint_eq(wire_set_pairs(3), VIRTIO_NET_ERR);
	ck_assert_uint_eq(wire_set_pairs(2), VIRTIO_NET_OK);
	ck_assert_uint_eq(wire_set_pairs(1), VIRTIO_NET_OK);
	ck_assert_uint_eq(
		wire_command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &two, 1),
		VIRTIO_NET_ERR);
	ck_assert_uint_eq(wire_command(VIRTIO_NET_CTRL_MQ, 1, &two, 2), VIRTIO_NET_ERR);
	ck_assert_uint_eq(wire_command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "\1", 1),
		VIRTIO_NET_ERR);
	ck_assert_uint_eq(wire_command(0xff, 0xff, "", 0), VIRTIO_NET_ERR);
	ck_assert_uint_eq(wire_set_offloads(BIT(VIRTIO_NET_F_GUEST_TSO6)), VIRTIO_NET_ERR);
	ck_assert_uint_eq(wire_set_offloads(BIT(40)), VIRTIO_NET_ERR);
	ck_assert_uint_eq(wire_set_offloads(BIT(VIRTIO_NET_F_GUEST_CSUM)), VIRTIO_NET_OK);
	wire_end();
}
END_TEST

START_TEST(offloads_switched_off_hide_segmented_packets)
{
	const struct virtio_net_hdr_v1 tso = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.gso_size = 1448};
	struct virtio_net_hdr_v1 header;

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	wire_post_rx(RX, 64, BUFFER);
	wire_host_send(0, tso, 3000, 1);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 1, WAIT_MS), 3000);
	ck_assert_uint_eq(wire_set_offloads(0), VIRTIO_NET_OK);
	wire_host_send(0, tso, 3000, 2);
	wire_host_send(0, wire_plain, 100, 3);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 3, WAIT_MS), 100);
	wire_end();
}
END_TEST

START_TEST(a_pair_receives_from_when_the_driver_asks_until_it_lets_go)
{
	struct virtio_net_hdr_v1 header;

	wire_start((struct net_config){.queues = 3}, DRIVER_ALL_FEATURES, 64);
	for (unsigned i = 0; i < 3; i++)
		wire_post_rx(2 * i, 64, BUFFER);
	for (unsigned i = 0; i < 3; i++)
		wire_host_send(i, wire_plain, 100, i);
	ck_assert_int_eq(wire_guest_receive(0, &header, 0, WAIT_MS), 100);
	ck_assert_int_eq(wire_guest_receive(2, &header, 1, 20), -1);
	ck_assert_int_eq(wire_guest_receive(4, &header, 2, 20), -1);
	ck_assert_uint_eq(wire_set_pairs(3), VIRTIO_NET_OK);
	ck_assert_int_eq(wire_guest_receive(2, &header, 1, WAIT_MS), 100);
	ck_assert_int_eq(wire_guest_receive(4, &header, 2, WAIT_MS), 100);
	/* Back and forth, faster than a poll can end. */
	for (unsigned round = 0; round < 100; round++) {
		ck_assert_uint_eq(wire_set_pairs(1 + round % 3), VIRTIO_NET_OK);
		ck_assert_uint_eq(wire_set_pairs(3), VIRTIO_NET_OK);
	}
	wire_host_send(1, wire_plain, 100, 4);
	ck_assert_int_eq(wire_guest_receive(2, &header, 4, WAIT_MS), 100);
	ck_assert_uint_eq(wire_set_pairs(2), VIRTIO_NET_OK);
	for (unsigned tries = 0; tries < 50; tries++) { /* the answer comes before the deed */
		wire_host_send(2, wire_plain, 100, 5);
		if (wire_guest_receive(4, &header, 5, 50) < 0)
			break;
		ck_assert_uint_lt(tries, 49);
	}
	for (unsigned i = 0; i < 3; i++)
		wire_guest_send(2 * i + 1, wire_plain, 10, 0);
	wire_end();
}
END_TEST

START_TEST(a_driver_without_mq_finds_the_control_queue_third)
{
	struct virtio_net_hdr_v1 header;
	uint64_t offloads = 0;
	struct driver_queue *q;
	uint64_t gpa;
	uint8_t *at;

	wire_start(
		(struct net_config){.queues = 3}, DRIVER_ALL_FEATURES & ~BIT(VIRTIO_NET_F_MQ), 64);
	q = driver_queue(&wire_guest, 2);
	gpa = driver_alloc(&wire_guest, 16, 8);
	at = driver_host(&wire_guest, gpa, 16);
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
	wire_post_rx(RX, 4, BUFFER);
	wire_host_send(0, wire_plain, 100, 1);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 1, WAIT_MS), 100);
	wire_end();
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("socket");

	tcase_set_timeout(tcase, 50);
	tcase_add_test(tcase, commands_outside_what_was_negotiated_are_answered_with_an_error);
	tcase_add_test(tcase, offloads_switched_off_hide_segmented_packets);
	tcase_add_test(tcase, a_pair_receives_from_when_the_driver_asks_until_it_lets_go);
	tcase_add_test(tcase, a_driver_without_mq_finds_the_control_queue_third);
	return run_tests("net_ctrl", tcase, NULL);
}
