/* SPDX-License-Identifier: Apache-2.0 */
/* A network device that is made to stand still amid traffic, both ways, and goes on. */
#include "tests/unit/net_wire.h"
#include "tests/unit/runner.h"

#include <check.h>
#include <string.h>

static uint8_t copy[RAM], data[NET_PACKET_MAX];

static void expect_untouched(void)
{
	memcpy(copy, wire_guest.memory.regions[0].host, wire_guest.heap_next);
	usleep(2000);
	ck_assert(!memcmp(copy, wire_guest.memory.regions[0].host, wire_guest.heap_next));
}

START_TEST(no_packet_is_lost_or_doubled_by_standing_still)
{
	struct virtio_net_hdr_v1 header;
	struct driver_queue *tx = driver_queue(&wire_guest, TX);

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 256);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 20; i++) {
			struct driver_segment segment = wire_packet(wire_plain, 100 + i, i);

			driver_add(tx, &segment, 1);
			wire_host_send(0, wire_plain, 200 + i, i);
			if (i == 10)
				wire_post_rx(RX, 20, BUFFER);
		}
		driver_kick(tx);
		driver_quiesce(&wire_guest);
		expect_untouched();
		driver_unquiesce(&wire_guest);
		for (unsigned i = 0; i < 20; i++) {
			ck_assert_int_eq(
				wire_host_receive(0, &header, data, WAIT_MS), (ssize_t)(100 + i));
			ck_assert(driver_wait_used(tx, NULL, NULL, WAIT_MS));
			ck_assert_int_eq(
				wire_guest_receive(RX, &header, i, WAIT_MS), (ssize_t)(200 + i));
		}
		ck_assert_int_eq(wire_host_receive(0, &header, data, 0), -1);
		ck_assert(!driver_poll_used(tx, NULL, NULL));
	}
	ck_assert_uint_eq(wire_counters().rx_dropped, 0);
	wire_end();
}
END_TEST

START_TEST(what_comes_meanwhile_waits_outside)
{
	struct virtio_net_hdr_v1 header;
	struct driver_queue *tx = driver_queue(&wire_guest, TX);
	struct driver_segment segment;

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	driver_quiesce(&wire_guest);
	wire_post_rx(RX, 30, BUFFER);
	wire_host_send(0, wire_plain, 3000, 1);
	segment = wire_packet(wire_plain, 500, 2);
	driver_add(tx, &segment, 1);
	driver_kick(tx);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 1, 50), -1);
	ck_assert_int_eq(wire_host_receive(0, &header, data, 50), -1);
	driver_unquiesce(&wire_guest);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 1, WAIT_MS), 3000);
	ck_assert_int_eq(wire_host_receive(0, &header, data, WAIT_MS), 500);
	wire_end();
}
END_TEST

/* Half of it lies in buffers of the guest's, which are the guest's again while the device stands still. */
START_TEST(a_packet_that_waits_for_buffers_survives)
{
	struct virtio_net_hdr_v1 header;
	struct driver_queue *q = driver_queue(&wire_guest, RX);

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	wire_post_rx(RX, 3, BUFFER);
	wire_host_send(0, wire_plain, 20000, 5);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 5, 50), -1);
	for (unsigned round = 0; round < 2; round++) {
		driver_quiesce(&wire_guest);
		ck_assert_uint_eq(wire_guest.device->queues[RX].ring.next_avail, 0);
		for (unsigned i = 0; i < q->next_avail; i++)
			memset(driver_host(&wire_guest, q->desc[i].addr, BUFFER), 0xaa, BUFFER);
		driver_unquiesce(&wire_guest);
		ck_assert_int_eq(wire_guest_receive(RX, &header, 5, 50), -1);
	}
	driver_quiesce(&wire_guest);
	wire_post_rx(RX, 20, BUFFER);
	driver_unquiesce(&wire_guest);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 5, WAIT_MS), 20000);
	ck_assert_uint_eq(wire_counters().rx_dropped, 0);
	wire_end();
}
END_TEST

START_TEST(limits_do_not_keep_it_from_standing_still)
{
	struct driver_queue *tx = driver_queue(&wire_guest, TX);
	struct virtio_net_hdr_v1 header;

	wire_start((struct net_config){.pps = 1}, DRIVER_ALL_FEATURES, 64);
	wire_post_rx(RX, 30, BUFFER);
	for (unsigned i = 0; i < 20; i++) {
		struct driver_segment segment = wire_packet(wire_plain, 100 + i, i);

		driver_add(tx, &segment, 1);
		wire_host_send(0, wire_plain, 200 + i, i);
	}
	driver_kick(tx);
	driver_quiesce(&wire_guest);
	expect_untouched();
	net_set_limits(wire_guest.device, 0, 0);
	driver_unquiesce(&wire_guest);
	for (unsigned i = 0; i < 20; i++) {
		ck_assert_int_eq(wire_host_receive(0, &header, data, WAIT_MS), (ssize_t)(100 + i));
		ck_assert_int_eq(wire_guest_receive(RX, &header, i, WAIT_MS), (ssize_t)(200 + i));
	}
	wire_end();
}
END_TEST

/* The control queue's thread tells the pairs' threads, which may stand still already. */
START_TEST(pairs_that_were_just_switched_on_or_off_stand_still_as_well)
{
	struct virtio_net_hdr_v1 header;
	const unsigned last = 3;

	wire_start((struct net_config){.queues = 4}, DRIVER_ALL_FEATURES, 64);
	for (unsigned i = 0; i < 4; i++)
		wire_post_rx(2 * i, 10, BUFFER);
	for (unsigned round = 0; round < 20; round++) {
		ck_assert_uint_eq(wire_set_pairs((uint16_t)(round % 2 ? 1 : 4)), VIRTIO_NET_OK);
		driver_quiesce(&wire_guest);
		expect_untouched();
		driver_unquiesce(&wire_guest);
	}
	ck_assert_uint_eq(wire_set_pairs(4), VIRTIO_NET_OK);
	wire_host_send(last, wire_plain, 99, 3);
	ck_assert_int_eq(wire_guest_receive(2 * last, &header, 3, WAIT_MS), 99);
	wire_end();
}
END_TEST

START_TEST(it_can_be_reset_or_destroyed_while_it_stands_still)
{
	wire_start((struct net_config){.queues = 2}, DRIVER_ALL_FEATURES, 64);
	for (unsigned round = 0; round < 10; round++) {
		wire_post_rx(RX, 3, BUFFER);
		wire_host_send(0, wire_plain, 20000, 5); /* too long: it is held */
		driver_quiesce(&wire_guest);
		driver_reset(&wire_guest);
		driver_unquiesce(&wire_guest);
		wire_restart(DRIVER_ALL_FEATURES);
		if (round % 2) { /* it was in the tap's queue still */
			wire_post_rx(RX, 20, BUFFER);
			usleep(1000);
		}
		driver_reset(&wire_guest);
		wire_restart(DRIVER_ALL_FEATURES);
	}
	driver_quiesce(&wire_guest);
	wire_end();
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("net_quiet");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, no_packet_is_lost_or_doubled_by_standing_still);
	tcase_add_test(tc, what_comes_meanwhile_waits_outside);
	tcase_add_test(tc, a_packet_that_waits_for_buffers_survives);
	tcase_add_test(tc, limits_do_not_keep_it_from_standing_still);
	tcase_add_test(tc, pairs_that_were_just_switched_on_or_off_stand_still_as_well);
	tcase_add_test(tc, it_can_be_reset_or_destroyed_while_it_stands_still);
	return run_tests("net_quiet", tc, NULL);
}
