/* SPDX-License-Identifier: Apache-2.0 */
/* A network device's state: saved amid traffic, and loaded by another device on the same guest memory. */
#include "tests/unit/net_wire.h"
#include "tests/unit/runner.h"

#include <check.h>
#include <string.h>

static uint8_t data[NET_PACKET_MAX];
static struct net_config config;

static void start(struct net_config with, uint64_t features)
{
	config = with;
	wire_create(config);
	driver_plug(&wire_guest);
	ck_assert(driver_start(&wire_guest, features, 64));
}

static void save(struct state_writer *out)
{
	driver_quiesce(&wire_guest);
	driver_save(&wire_guest, out);
}

static void make_again(void)
{
	driver_unplug(&wire_guest);
	wire_create_again(config);
	driver_plug(&wire_guest);
}

static void move(void)
{
	struct state_writer saved, again;
	struct error err;

	save(&saved);
	make_again();
	ck_assert_msg(driver_load(&wire_guest, saved.bytes, saved.size, &err) == 0, "%s", err.text);
	driver_save(&wire_guest, &again);
	ck_assert_uint_eq(saved.size, again.size);
	ck_assert_mem_eq(saved.bytes, again.bytes, saved.size);
	state_release(&saved);
	state_release(&again);
	driver_unquiesce(&wire_guest);
}

static void wrap_soon(unsigned index)
{
	struct driver_queue *q = driver_queue(&wire_guest, index);
	struct virtqueue *ring = &wire_guest.device->queues[index].ring;

	q->next_avail = q->kicked_avail = q->seen_used = 65530;
	q->avail->idx = q->used->idx = 65530;
	q->avail->ring[q->size] = 65530;
	ring->next_avail = ring->next_used = ring->signalled_used = 65530;
}

/* What was sent leaves once, by the old device's tap or the new one's; buffers posted for the old serve the new. */
START_TEST(traffic_goes_on_with_the_device_that_takes_over)
{
	struct virtio_net_hdr_v1 header;
	struct driver_queue *tx;

	start((struct net_config){0}, _i ? NO_MRG : DRIVER_ALL_FEATURES);
	driver_quiesce(&wire_guest);
	wrap_soon(RX);
	wrap_soon(TX);
	driver_unquiesce(&wire_guest);
	tx = driver_queue(&wire_guest, TX);
	wire_post_rx(RX, 20, BUFFER);
	for (unsigned round = 0; round < 20; round++) {
		unsigned sent = 0;

		for (unsigned i = 0; i < 10; i++) {
			struct driver_segment segment = wire_packet(wire_plain, 100 + i, i);

			driver_add(tx, &segment, 1);
		}
		driver_kick(tx);
		driver_quiesce(&wire_guest);
		while (wire_host_receive(0, &header, data, 0) >= 0)
			sent++;
		move();
		while (wire_host_receive(0, &header, data, sent < 10 ? WAIT_MS : 0) >= 0)
			sent++;
		ck_assert_uint_eq(sent, 10);
		for (unsigned i = 0; i < 10; i++)
			ck_assert(driver_wait_used(tx, NULL, NULL, WAIT_MS));
		ck_assert(!driver_poll_used(tx, NULL, NULL));
		wire_host_send(0, wire_plain, 300, round);
		ck_assert_int_eq(wire_guest_receive(RX, &header, round, WAIT_MS), 300);
		wire_post_rx(RX, 1, BUFFER);
	}
	wire_end();
}
END_TEST

START_TEST(what_the_guest_was_told_and_what_it_set_go_along)
{
	struct virtio_net_hdr_v1 header;
	struct net *net;
	uint64_t offloads = BIT(VIRTIO_NET_F_GUEST_CSUM);
	uint16_t mtu;
	uint8_t mac[6];

	start((struct net_config){.queues = 3, .mtu = 9000}, DRIVER_ALL_FEATURES);
	ck_assert_uint_eq(wire_set_pairs(3), VIRTIO_NET_OK);
	ck_assert_uint_eq(wire_set_offloads(offloads), VIRTIO_NET_OK);
	config.mtu = 4000;
	move();
	net = net_of(wire_guest.device);
	ck_assert_uint_eq(atomic_load(&net->active_pairs), 3);
	ck_assert_uint_eq(atomic_load(&net->guest_offloads), offloads);
	driver_config_read(&wire_guest, offsetof(struct virtio_net_config, mtu), &mtu, 2);
	ck_assert_uint_eq(mtu, 9000);
	net->config.mac[5] = 77; /* another host would give it another one */
	move();
	driver_config_read(&wire_guest, 0, mac, 6);
	ck_assert_uint_eq(mac[5], 77);
	wire_post_rx(4, 10, BUFFER);
	wire_host_send(2, wire_plain, 99, 3);
	ck_assert_int_eq(wire_guest_receive(4, &header, 3, WAIT_MS), 99);
	ck_assert_uint_eq(wire_set_pairs(1), VIRTIO_NET_OK);
	wire_end();
}
END_TEST

START_TEST(every_stage_and_a_broken_device_go_along)
{
	struct driver_queue *q;

	config = (struct net_config){.queues = 2};
	wire_create(config);
	driver_plug(&wire_guest);
	move();
	for (unsigned round = 0; round < 2; round++) {
		ck_assert(driver_start(&wire_guest, DRIVER_ALL_FEATURES, 64));
		move();
		q = driver_queue(&wire_guest, TX);
		__atomic_store_n(&q->avail->idx, 1000, __ATOMIC_RELEASE);
		virtio_device_kick(wire_guest.device, TX);
		while (!atomic_load(&wire_guest.device->broken))
			usleep(100);
		move();
		ck_assert(atomic_load(&wire_guest.device->broken));
		driver_reset(&wire_guest);
		move();
		ck_assert_uint_eq(atomic_load(&wire_guest.device->status), 0);
	}
	wire_end();
}
END_TEST

static void expect_refused(const struct state_writer *saved, const char *words)
{
	struct error err;

	make_again();
	ck_assert_int_lt(driver_load(&wire_guest, saved->bytes, saved->size, &err), 0);
	ck_assert_msg(strstr(err.text, words), "%s", err.text);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	ck_assert(!wire_guest.device->quiet);
}

START_TEST(a_device_that_lacks_what_the_guest_uses_is_refused)
{
	struct state_writer saved;

	start((struct net_config){.queues = 2, .mtu = 9000}, DRIVER_ALL_FEATURES);
	save(&saved);
	config.mtu = 0;
	expect_refused(&saved, "feature 3 of virtio-net");
	config.mtu = 9000;
	config.queues = 4;
	expect_refused(&saved, "5 queues");
	state_release(&saved);
	wire_end();
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("net_state");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, traffic_goes_on_with_the_device_that_takes_over, 0, 2);
	tcase_add_test(tc, what_the_guest_was_told_and_what_it_set_go_along);
	tcase_add_test(tc, every_stage_and_a_broken_device_go_along);
	tcase_add_test(tc, a_device_that_lacks_what_the_guest_uses_is_refused);
	return run_tests("net_state", tc, NULL);
}
