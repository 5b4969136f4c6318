/* SPDX-License-Identifier: Apache-2.0 */
/* A vsock's state: the guest goes on with another device, hears that its connections are over, and makes new ones. */
#include "tests/unit/runner.h"
#include "tests/unit/vsock_guest.h"

#include "virtio/vsock_private.h"

#include <check.h>
#include <string.h>

static struct guest guest;

static void make_again(uint64_t cid)
{
	const struct vsock_config config = {.cid = cid, .socket = guest.path};
	struct error err;

	driver_unplug(&guest.driver);
	ck_assert_msg(vsock_create(&config, &guest.driver.memory, guest.driver.main_loop,
			      &guest.driver.device, &err) == 0,
		"%s", err.text);
	driver_plug(&guest.driver);
}

static void save(struct state_writer *out)
{
	driver_quiesce(&guest.driver);
	driver_save(&guest.driver, out);
}

static void move(uint64_t cid)
{
	struct state_writer saved, again;
	struct error err;

	save(&saved);
	make_again(cid);
	ck_assert_msg(
		driver_load(&guest.driver, saved.bytes, saved.size, &err) == 0, "%s", err.text);
	driver_save(&guest.driver, &again);
	ck_assert_uint_eq(saved.size, again.size);
	ck_assert(cid != GUEST_CID || !memcmp(saved.bytes, again.bytes, saved.size));
	state_release(&saved);
	state_release(&again);
	driver_unquiesce(&guest.driver);
}

static void open_plugged(void)
{
	guest_create(&guest);
	driver_plug(&guest.driver);
	guest_start(&guest, DRIVER_ALL_FEATURES);
}

static uint64_t post_event(void)
{
	struct driver_segment segment = {
		.len = sizeof(struct virtio_vsock_event), .writable = true};

	segment.gpa = driver_alloc(&guest.driver, segment.len, 8);
	memset(driver_host(&guest.driver, segment.gpa, segment.len), 0xff, segment.len);
	driver_add(driver_queue(&guest.driver, VSOCK_EVENT), &segment, 1);
	driver_kick(driver_queue(&guest.driver, VSOCK_EVENT));
	return segment.gpa;
}

static void expect_reset(uint64_t gpa)
{
	const struct virtio_vsock_event *event =
		driver_host(&guest.driver, gpa, sizeof(struct virtio_vsock_event));
	uint32_t len;

	ck_assert(driver_wait_used(driver_queue(&guest.driver, VSOCK_EVENT), NULL, &len, WAIT_MS));
	ck_assert_uint_eq(len, sizeof(*event));
	ck_assert_uint_eq(event->id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
}

START_TEST(the_guest_hears_that_its_connections_are_over_and_makes_new_ones)
{
	struct connection old = {0}, c = {0};
	uint64_t cid, event;
	int fd;

	open_plugged();
	for (unsigned round = 0; round < 5; round++) {
		fd = host_begin(&guest, &old, 1000);
		event = post_event();
		move(GUEST_CID);
		expect_reset(event);
		host_expect_gone(fd);
		close(fd);
		ck_assert(!driver_poll_used(driver_queue(&guest.driver, VSOCK_EVENT), NULL, NULL));
		fd = host_begin(&guest, &c, 1001);
		host_write(fd, "hello", 5);
		guest_expect_data(&guest, &c, (const uint8_t *)"hello", 5);
		close(fd);
		guest_expect_shutdown(&guest, &c);
		guest_send(&guest, &c, VIRTIO_VSOCK_OP_RST, 0, NULL, 0);
		guest_expect_no_stream(&guest);
	}
	/* It may have another address there, and finds it in the configuration. */
	event = post_event();
	move(GUEST_CID + 1);
	expect_reset(event);
	driver_config_read(&guest.driver, 0, &cid, 8);
	ck_assert_uint_eq(cid, GUEST_CID + 1);
	guest_close(&guest);
}
END_TEST

/* §5.10.6.7; there need be no buffer when it happens. */
START_TEST(the_event_waits_for_a_buffer)
{
	open_plugged();
	move(GUEST_CID);
	usleep(1000);
	expect_reset(post_event());
	move(GUEST_CID);
	move(GUEST_CID);
	expect_reset(post_event());
	guest_close(&guest);
}
END_TEST

/* A packet that the guest had queued for an old connection is answered as one for none. */
START_TEST(what_was_queued_for_an_old_connection_is_refused)
{
	struct connection c = {0};
	struct packet p;
	int fd;

	open_plugged();
	fd = host_begin(&guest, &c, 1000);
	driver_quiesce(&guest.driver);
	guest_send(&guest, &c, VIRTIO_VSOCK_OP_RW, 0, "lost", 4);
	driver_unquiesce(&guest.driver);
	host_expect_data(fd, (const uint8_t *)"lost", 4);
	driver_quiesce(&guest.driver);
	guest_send(&guest, &c, VIRTIO_VSOCK_OP_RW, 0, "lost", 4);
	move(GUEST_CID);
	ck_assert(guest_receive(&guest, &p, WAIT_MS));
	ck_assert_uint_eq(p.hdr.op, VIRTIO_VSOCK_OP_RST);
	ck_assert_uint_eq(p.hdr.dst_port, c.guest_port);
	close(fd);
	guest_close(&guest);
}
END_TEST

START_TEST(every_stage_and_a_broken_device_go_along)
{
	struct driver_queue *q;

	guest_create(&guest);
	driver_plug(&guest.driver);
	move(GUEST_CID);
	guest_start(&guest, DRIVER_ALL_FEATURES);
	q = driver_queue(&guest.driver, VSOCK_TX);
	__atomic_store_n(&q->avail->idx, 1000, __ATOMIC_RELEASE);
	virtio_device_kick(guest.driver.device, VSOCK_TX);
	while (!atomic_load(&guest.driver.device->broken))
		usleep(100);
	move(GUEST_CID);
	ck_assert(atomic_load(&guest.driver.device->broken));
	driver_reset(&guest.driver);
	move(GUEST_CID);
	ck_assert_uint_eq(atomic_load(&guest.driver.device->status), 0);
	guest_close(&guest);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("vsock_state");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, the_guest_hears_that_its_connections_are_over_and_makes_new_ones);
	tcase_add_test(tc, the_event_waits_for_a_buffer);
	tcase_add_test(tc, what_was_queued_for_an_old_connection_is_refused);
	tcase_add_test(tc, every_stage_and_a_broken_device_go_along);
	return run_tests("vsock_state", tc, NULL);
}
