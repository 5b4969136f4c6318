/* SPDX-License-Identifier: Apache-2.0 */
/* A vsock that is made to stand still while streams carry data, and goes on. */
#include "tests/unit/runner.h"
#include "tests/unit/vsock_guest.h"

#include <check.h>
#include <string.h>

static struct guest guest;
static uint8_t data[MIB(1)];

static void expect_untouched(void)
{
	static uint8_t *copy;
	uint64_t size = guest.driver.heap_next;

	copy = realloc(copy, size);
	memcpy(copy, guest.driver.memory.regions[0].host, size);
	usleep(2000);
	ck_assert(!memcmp(copy, guest.driver.memory.regions[0].host, size));
}

START_TEST(streams_go_on_where_they_were)
{
	struct connection in = {0}, out = {0};
	int host_in, host_out;

	guest_open(&guest);
	fill_random(data, sizeof(data), 1);
	host_in = host_begin(&guest, &in, 1000);
	host_out = guest_begin(&guest, &out, 2000, 3000);
	for (unsigned round = 0; round < 20; round++) {
		/* All of it may stay in the socket: above a quarter of its buffer it takes no more. */
		size_t len = 100 + round * 1000;

		host_write(host_in, data + round, len);
		driver_quiesce(&guest.driver);
		host_write(host_in, data + round + len, 77);
		expect_untouched();
		driver_unquiesce(&guest.driver);
		guest_expect_data(&guest, &in, data + round, len + 77);
		guest_send(&guest, &out, VIRTIO_VSOCK_OP_RW, 0, data + round, 50);
		out.sent += 50;
		driver_quiesce(&guest.driver);
		expect_untouched();
		driver_unquiesce(&guest.driver);
		host_expect_data(host_out, data + round, 50);
	}
	close(host_in);
	close(host_out);
	guest_close(&guest);
}
END_TEST

START_TEST(what_either_end_begins_meanwhile_begins_after)
{
	struct connection c = {0};
	struct packet p;
	int listener, fd;

	guest_open(&guest);
	listener = host_listen(&guest, 2000, 1);
	driver_quiesce(&guest.driver);
	fd = host_connect(&guest);
	host_write(fd, "CONNECT 1000\n", 13);
	c = (struct connection){.host_port = 2000, .guest_port = 9, .buf_alloc = GUEST_BUF_ALLOC};
	guest_send(&guest, &c, VIRTIO_VSOCK_OP_REQUEST, 0, NULL, 0);
	ck_assert(!guest_sent(&guest, 50));
	ck_assert(!guest_receive(&guest, &p, 50));
	driver_unquiesce(&guest.driver);
	ck_assert(guest_sent(&guest, WAIT_MS));
	for (unsigned i = 0; i < 2; i++) {
		ck_assert(guest_receive(&guest, &p, WAIT_MS));
		ck_assert(p.hdr.op == VIRTIO_VSOCK_OP_REQUEST ||
			  p.hdr.op == VIRTIO_VSOCK_OP_RESPONSE);
	}
	close(listener);
	close(fd);
	guest_close(&guest);
}
END_TEST

START_TEST(it_can_be_reset_or_destroyed_while_it_stands_still)
{
	struct connection c = {0};
	int fd;

	guest_open(&guest);
	for (unsigned round = 0; round < 5; round++) {
		fd = host_begin(&guest, &c, 1000);
		driver_quiesce(&guest.driver);
		driver_reset(&guest.driver);
		driver_unquiesce(&guest.driver);
		host_expect_gone(fd);
		close(fd);
		guest_start(&guest, DRIVER_ALL_FEATURES);
	}
	host_begin(&guest, &c, 1000);
	driver_quiesce(&guest.driver);
	guest_close(&guest);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("vsock_quiet");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, streams_go_on_where_they_were);
	tcase_add_test(tc, what_either_end_begins_meanwhile_begins_after);
	tcase_add_test(tc, it_can_be_reset_or_destroyed_while_it_stands_still);
	return run_tests("vsock_quiet", tc, NULL);
}
