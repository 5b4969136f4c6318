/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock: guests that break the rules lose a stream, or the device until they reset it, and
 * nothing else.
 */
#include "tests/unit/runner.h"
#include "tests/unit/vsock_guest.h"

#include "virtio/vsock_private.h"

#include <check.h>
#include <linux/virtio_config.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#define OP(name)  VIRTIO_VSOCK_OP_##name
#define HELLO	  ((const uint8_t *)"hello")
#define HELLO_LEN 5u

static struct guest guest;
static uint8_t data[MIB(1)];

static struct virtio_vsock_hdr packet_for_nobody(void)
{
	return (struct virtio_vsock_hdr){
		.src_cid = GUEST_CID,
		.dst_cid = 2,
		.src_port = 7,
		.dst_port = 5000,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = OP(RW),
	};
}

static void expect_refusal(const struct virtio_vsock_hdr *hdr)
{
	struct packet p;

	guest_send_raw(&guest, hdr, NULL, 0);
	ck_assert(guest_receive(&guest, &p, WAIT_MS));
	ck_assert_uint_eq(p.hdr.op, OP(RST));
	ck_assert_uint_eq(p.hdr.src_cid, hdr->dst_cid);
	ck_assert_uint_eq(p.hdr.src_port, hdr->dst_port);
	ck_assert_uint_eq(p.hdr.dst_port, hdr->src_port);
	ck_assert_uint_eq(p.hdr.type, hdr->type);
}

START_TEST(packets_that_belong_to_nothing_are_refused)
{
	struct virtio_vsock_hdr hdr;

	guest_open(&guest);
	close(host_listen(&guest, 5000, 1));
	hdr = packet_for_nobody();
	expect_refusal(&hdr);
	hdr.op = 99;
	expect_refusal(&hdr);
	hdr.op = OP(REQUEST);
	hdr.src_cid = GUEST_CID + 1;
	expect_refusal(&hdr);
	hdr.src_cid = GUEST_CID | 1ull << 32;
	expect_refusal(&hdr);
	hdr.src_cid = GUEST_CID;
	hdr.dst_cid = 1;
	expect_refusal(&hdr);
	hdr.dst_cid = 2;
	hdr.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	expect_refusal(&hdr);
	hdr.op = OP(RST); /* no answer: this would go on for ever */
	guest_send_raw(&guest, &hdr, NULL, 0);
	guest_expect_silence(&guest);
	guest_close(&guest);
}
END_TEST

START_TEST(an_operation_that_does_not_fit_resets_the_stream)
{
	static const uint16_t wrong[] = {OP(REQUEST), OP(RESPONSE), OP(INVALID), 8, 0xffff};

	guest_open(&guest);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct connection c;
		int fd = guest_begin(&guest, &c, 5000 + i, 7);

		guest_send(&guest, &c, wrong[i], 0, NULL, 0);
		guest_expect(&guest, &c, OP(RST), NULL);
		host_expect_end(fd);
		close(fd);
	}
	guest_close(&guest);
}
END_TEST

START_TEST(data_after_the_guests_own_end_resets_the_stream)
{
	struct connection c;
	int fd;

	guest_open(&guest);
	fd = guest_begin(&guest, &c, 5000, 7);
	guest_send(&guest, &c, OP(SHUTDOWN), VSOCK_SHUT_SEND, NULL, 0);
	guest_send(&guest, &c, OP(RW), 0, HELLO, HELLO_LEN);
	guest_expect(&guest, &c, OP(RST), NULL);
	close(fd);
	guest_close(&guest);
}
END_TEST

static bool broken(void)
{
	for (unsigned i = 0; i < 40000; i++) {
		if (atomic_load(&guest.driver.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET)
			return true;
		usleep(1000);
	}
	return false;
}

static void expect_works_after_reset(void)
{
	struct connection c;
	int fd;

	driver_reset(&guest.driver);
	guest_start(&guest, DRIVER_ALL_FEATURES);
	fd = host_begin(&guest, &c, 11);
	host_write(fd, "hello", HELLO_LEN);
	guest_expect_data(&guest, &c, HELLO, HELLO_LEN);
	close(fd);
}

START_TEST(a_length_beyond_the_buffer_breaks_the_device_until_reset)
{
	struct virtio_vsock_hdr hdr = packet_for_nobody();
	struct connection c;
	int fd;

	guest_open(&guest);
	fd = guest_begin(&guest, &c, 5000, 7);
	hdr.len = 101;
	guest_send_raw(&guest, &hdr, data, 100);
	ck_assert(broken());
	host_expect_end(fd); /* host programs need not wait for the reset */
	close(fd);
	expect_works_after_reset();
	hdr.len = UINT32_MAX;
	guest_send_raw(&guest, &hdr, NULL, 0);
	ck_assert(broken());
	fd = host_connect(&guest);
	host_expect_gone(fd);
	close(fd);
	expect_works_after_reset();
	guest_close(&guest);
}
END_TEST

START_TEST(a_packet_shorter_than_a_header_breaks_the_device_until_reset)
{
	struct driver_segment segment = {.len = VSOCK_HEADER - 1};

	guest_open(&guest);
	segment.gpa = guest.tx_gpa[0];
	driver_add(driver_queue(&guest.driver, 1), &segment, 1);
	driver_kick(driver_queue(&guest.driver, 1));
	ck_assert(broken());
	expect_works_after_reset();
	guest_close(&guest);
}
END_TEST

START_TEST(a_receive_buffer_without_room_breaks_the_device_until_reset)
{
	struct driver_segment segment = {.len = VSOCK_HEADER - 1, .writable = true};
	struct connection c = {.host_port = 5000, .guest_port = 7};

	guest_create(&guest);
	guest_start_deaf(&guest, DRIVER_ALL_FEATURES);
	segment.gpa = guest.rx_gpa[0];
	driver_add(driver_queue(&guest.driver, 0), &segment, 1);
	guest_send(&guest, &c, OP(REQUEST), 0, NULL, 0);
	ck_assert(broken());
	expect_works_after_reset();
	guest_close(&guest);
}
END_TEST

START_TEST(a_header_in_pieces_is_read_and_written)
{
	struct virtio_vsock_hdr hdr = packet_for_nobody(), *answer;
	struct driver_segment tx[VSOCK_HEADER], rx[VSOCK_HEADER];
	struct driver_queue *queue;
	uint32_t len;

	guest_create(&guest);
	guest_start_deaf(&guest, DRIVER_ALL_FEATURES);
	for (unsigned i = 0; i < VSOCK_HEADER; i++) {
		tx[i] = (struct driver_segment){guest.tx_gpa[0] + i, 1, false};
		rx[i] = (struct driver_segment){guest.rx_gpa[0] + i, 1, true};
	}
	memcpy(driver_host(&guest.driver, guest.tx_gpa[0], sizeof(hdr)), &hdr, sizeof(hdr));
	queue = driver_queue(&guest.driver, 0);
	driver_add_indirect(queue, rx, VSOCK_HEADER);
	driver_add(driver_queue(&guest.driver, 1), tx, VSOCK_HEADER);
	driver_kick(driver_queue(&guest.driver, 1));
	ck_assert(driver_wait_used(queue, NULL, &len, WAIT_MS));
	ck_assert_uint_eq(len, VSOCK_HEADER);
	answer = driver_host(&guest.driver, guest.rx_gpa[0], sizeof(*answer));
	ck_assert_uint_eq(answer->op, OP(RST));
	ck_assert_uint_eq(answer->dst_port, hdr.src_port);
	guest_close(&guest);
}
END_TEST

START_TEST(a_guest_that_receives_nothing_is_heard_no_further_than_our_bounded_memory)
{
	struct virtio_vsock_hdr hdr = packet_for_nobody();
	struct packet p;

	guest_create(&guest);
	guest_start_deaf(&guest, DRIVER_ALL_FEATURES);
	for (unsigned i = 0; i < VSOCK_REFUSALS + GUEST_TX; i++) {
		hdr.src_port = 1000 + i;
		guest_send_raw(&guest, &hdr, NULL, 0);
	}
	ck_assert(!guest_sent(&guest, 200));
	guest_post_rx(&guest);
	for (unsigned i = 0; i < VSOCK_REFUSALS + GUEST_TX; i++) {
		ck_assert(guest_receive(&guest, &p, WAIT_MS));
		ck_assert_uint_eq(p.hdr.op, OP(RST));
		ck_assert_uint_eq(p.hdr.dst_port, 1000 + i);
	}
	ck_assert(guest_sent(&guest, WAIT_MS));
	guest_close(&guest);
}
END_TEST

START_TEST(a_guest_beyond_its_credit_loses_that_stream_only)
{
	struct connection c, other;
	uint32_t sent = 0;
	struct packet p;
	int fd, other_fd;

	guest_open(&guest);
	fd = guest_begin(&guest, &c, 5000, 7);
	other_fd = guest_begin(&guest, &other, 5001, 8);
	do {
		guest_send(&guest, &c, OP(RW), 0, data, 65536);
		ck_assert(guest_sent(&guest, WAIT_MS));
		sent += 65536;
		if (guest_receive(&guest, &p, 0) && p.hdr.op == OP(RST))
			break;
	} while (sent < MIB(4));
	ck_assert_uint_lt(sent, MIB(4));
	ck_assert_uint_gt(sent, VSOCK_BUFFER_LARGE);
	ck_assert_uint_eq(p.hdr.src_port, 5000);
	guest_send_data(&guest, &other, HELLO, HELLO_LEN);
	host_expect_data(other_fd, HELLO, HELLO_LEN);
	close(fd);
	close(other_fd);
	guest_close(&guest);
}
END_TEST

static TCase *hostile(void)
{
	TCase *tc = tcase_create("hostile");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, packets_that_belong_to_nothing_are_refused);
	tcase_add_test(tc, an_operation_that_does_not_fit_resets_the_stream);
	tcase_add_test(tc, data_after_the_guests_own_end_resets_the_stream);
	tcase_add_test(tc, a_length_beyond_the_buffer_breaks_the_device_until_reset);
	tcase_add_test(tc, a_packet_shorter_than_a_header_breaks_the_device_until_reset);
	tcase_add_test(tc, a_receive_buffer_without_room_breaks_the_device_until_reset);
	tcase_add_test(tc, a_header_in_pieces_is_read_and_written);
	tcase_add_test(
		tc, a_guest_that_receives_nothing_is_heard_no_further_than_our_bounded_memory);
	tcase_add_test(tc, a_guest_beyond_its_credit_loses_that_stream_only);
	return tc;
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	return run_tests("vsock_hostile", hostile(), NULL);
}
