/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock: how connections begin, on both sides, and how a device starts over. The guest is a driver
 * that sends single packets (vsock_guest.h), the host programs are sockets of this process. How PATH is
 * made is tested in test_unix_listener.c.
 */
#include "tests/unit/runner.h"
#include "tests/unit/vsock_guest.h"

#include "virtio/vsock_private.h"

#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define OP(name)  VIRTIO_VSOCK_OP_##name
#define HELLO	  ((const uint8_t *)"hello")
#define HELLO_LEN 5u

static struct guest guest;
static uint8_t data[MIB(1)];

/* ---- connecting ---- */

START_TEST(the_configuration_space_holds_the_cid)
{
	uint64_t cid = 0;

	guest_create(&guest);
	driver_config_read(&guest.driver, 0, &cid, sizeof(cid));
	ck_assert_uint_eq(cid, GUEST_CID);
	guest_close(&guest);
}
END_TEST

START_TEST(a_host_program_reaches_a_guest_port)
{
	struct connection c;
	int fd;

	guest_open(&guest);
	fd = host_begin(&guest, &c, 1234);
	ck_assert_uint_ge(c.host_port, 1u << 30);
	host_write(fd, "hello", HELLO_LEN);
	guest_expect_data(&guest, &c, HELLO, HELLO_LEN);
	guest_send_data(&guest, &c, (const uint8_t *)"world!", 6);
	host_expect_data(fd, (const uint8_t *)"world!", 6);
	guest_send(&guest, &c, OP(SHUTDOWN), VSOCK_SHUT_BOTH, NULL, 0);
	guest_expect(&guest, &c, OP(RST), NULL);
	host_expect_end(fd);
	close(fd);
	guest_close(&guest);
}
END_TEST

START_TEST(a_guest_program_reaches_a_host_port)
{
	struct connection c;
	int fd;

	guest_open(&guest);
	fd = guest_begin(&guest, &c, 5000, 77);
	guest_send_data(&guest, &c, HELLO, HELLO_LEN);
	host_expect_data(fd, HELLO, HELLO_LEN);
	host_write(fd, "world!", 6);
	guest_expect_data(&guest, &c, (const uint8_t *)"world!", 6);
	close(fd);
	guest_expect_shutdown(&guest, &c);
	guest_send(&guest, &c, OP(RST), 0, NULL, 0);
	guest_expect_silence(&guest);
	guest_close(&guest);
}
END_TEST

START_TEST(a_host_port_without_a_listener_refuses_the_guest)
{
	struct connection c = {.host_port = 5001, .guest_port = 78};

	guest_open(&guest);
	guest_send(&guest, &c, OP(REQUEST), 0, NULL, 0);
	guest_expect(&guest, &c, OP(RST), NULL);
	guest_close(&guest);
}
END_TEST

START_TEST(a_guest_port_without_a_listener_closes_the_host_programs_connection)
{
	struct connection c = {.guest_port = 9};
	int fd;

	guest_open(&guest);
	fd = host_connect(&guest);
	host_write(fd, "CONNECT 9\n", 10);
	guest_expect(&guest, &c, OP(REQUEST), NULL);
	guest_send(&guest, &c, OP(RST), 0, NULL, 0);
	host_expect_end(fd);
	close(fd);
	guest_close(&guest);
}
END_TEST

START_TEST(a_full_listen_queue_of_a_host_program_is_waited_for)
{
	struct connection c = {.host_port = 5002, .guest_port = 1, .buf_alloc = GUEST_BUF_ALLOC};
	int listener, first, second;

	guest_open(&guest);
	listener = host_listen(&guest, 5002, 0);
	guest_send(&guest, &c, OP(REQUEST), 0, NULL, 0);
	guest_expect(&guest, &c, OP(RESPONSE), NULL);
	c.guest_port = 2;
	guest_send(&guest, &c, OP(REQUEST), 0, NULL, 0);
	guest_expect_silence(&guest);
	first = accept(listener, NULL, NULL);
	guest_expect(&guest, &c, OP(RESPONSE), NULL);
	second = accept(listener, NULL, NULL);
	ck_assert_int_ge(second, 0);
	guest_send_data(&guest, &c, HELLO, HELLO_LEN);
	host_expect_data(second, HELLO, HELLO_LEN);
	close(first);
	close(second);
	close(listener);
	guest_close(&guest);
}
END_TEST

START_TEST(a_listen_queue_that_stays_full_refuses_the_guest_in_the_end)
{
	struct connection c = {.host_port = 5003, .guest_port = 1, .buf_alloc = GUEST_BUF_ALLOC};
	uint64_t begun;
	int listener;

	guest_open(&guest);
	listener = host_listen(&guest, 5003, 0);
	guest_send(&guest, &c, OP(REQUEST), 0, NULL, 0);
	guest_expect(&guest, &c, OP(RESPONSE), NULL);
	c.guest_port = 2;
	begun = now_ns();
	guest_send(&guest, &c, OP(REQUEST), 0, NULL, 0);
	guest_expect(&guest, &c, OP(RST), NULL);
	ck_assert_uint_ge(now_ns() - begun, VSOCK_DIAL_NS);
	close(listener);
	guest_close(&guest);
}
END_TEST

/* ---- the greeting ---- */

START_TEST(a_wrong_greeting_is_answered_by_closing)
{
	static const char *const wrong[] = {"\n", "CONNECT\n", "CONNECT \n", "connect 5\n",
		"CONNECT 5 \n", "CONNECT -5\n", "CONNECT 0x5\n", "CONNECT 4294967296\n",
		"CONNECT 99999999999999999999\n", "GET / HTTP/1.1\r\n\r\n", "CONNECT 5\r\n",
		"this line is longer than any greeting and has no end"};

	guest_open(&guest);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		int fd = host_connect(&guest);

		host_write(fd, wrong[i], strlen(wrong[i]));
		host_expect_end(fd);
		close(fd);
	}
	guest_expect_silence(&guest);
	guest_close(&guest);
}
END_TEST

START_TEST(a_greeting_may_come_in_pieces_and_with_data_behind_it)
{
	struct connection c = {.guest_port = 4294967295u, .buf_alloc = GUEST_BUF_ALLOC};
	char answer[32];
	int fd;

	guest_open(&guest);
	fd = host_connect(&guest);
	for (const char *at = "CONNECT 4294967295"; *at; at++) {
		host_write(fd, at, 1);
		usleep(200);
	}
	guest_expect_silence(&guest);
	host_write(fd, "\nhello", 1 + HELLO_LEN);
	guest_expect(&guest, &c, OP(REQUEST), NULL);
	guest_expect_silence(&guest);
	guest_send(&guest, &c, OP(RESPONSE), 0, NULL, 0);
	guest_expect_data(&guest, &c, HELLO, HELLO_LEN);
	snprintf(answer, sizeof(answer), "OK %u\n", c.host_port);
	host_expect_data(fd, (uint8_t *)answer, strlen(answer));
	close(fd);
	guest_close(&guest);
}
END_TEST

START_TEST(a_greeting_cut_short_by_leaving_is_forgotten_at_once)
{
	int fd;

	guest_open(&guest);
	fd = host_connect(&guest);
	host_write(fd, "CONN", 4);
	close(fd);
	usleep(20000);
	guest_expect_no_stream(&guest);
	guest_close(&guest);
}
END_TEST

START_TEST(who_is_slow_to_greet_or_gets_no_answer_is_closed_in_time)
{
	struct connection c = {.guest_port = 9};
	uint64_t begun = now_ns();
	struct pollfd pfd[2];

	guest_open(&guest);
	for (unsigned i = 0; i < 2; i++)
		pfd[i] = (struct pollfd){.fd = host_connect(&guest), .events = POLLIN};
	host_write(pfd[0].fd, "CONNECT", 7);
	host_write(pfd[1].fd, "CONNECT 9\n", 10);
	guest_expect(&guest, &c, OP(REQUEST), NULL);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(poll(&pfd[i], 1, 40000), 1);
	ck_assert_uint_ge(now_ns() - begun, VSOCK_GREETING_NS - 100000000ull);
	guest_expect(&guest, &c, OP(RST), NULL);
	close(pfd[0].fd);
	close(pfd[1].fd);
	guest_close(&guest);
}
END_TEST

START_TEST(many_slow_greetings_hold_up_only_each_other)
{
	int slow[2 * VSOCK_GREETINGS_MAX], fd;
	struct connection old, c = {.guest_port = 9};

	guest_open(&guest);
	fd = host_begin(&guest, &old, 8);
	for (unsigned i = 0; i < ARRAY_SIZE(slow); i++)
		slow[i] = host_connect(&guest);
	host_write(fd, "hello", HELLO_LEN);
	guest_expect_data(&guest, &old, HELLO, HELLO_LEN);
	/* The last one waits in the listen queue until some of the others are done. */
	host_write(slow[ARRAY_SIZE(slow) - 1], "CONNECT 9\n", 10);
	guest_expect_silence(&guest);
	for (unsigned i = 0; i < VSOCK_GREETINGS_MAX; i++)
		close(slow[i]);
	guest_expect(&guest, &c, OP(REQUEST), NULL);
	for (unsigned i = VSOCK_GREETINGS_MAX; i < ARRAY_SIZE(slow); i++)
		close(slow[i]);
	close(fd);
	guest_close(&guest);
}
END_TEST

/* ---- reset ---- */

START_TEST(a_reset_in_mid_flight_closes_all_streams_and_the_device_works_again)
{
	struct connection c[3];
	int fd[3], late;

	guest_open(&guest);
	fill_random(data, MIB(1), 8);
	fd[0] = guest_begin(&guest, &c[0], 5000, 7);
	fd[1] = host_begin(&guest, &c[1], 8);
	fd[2] = host_connect(&guest); /* a greeting under way */
	guest_send_data(&guest, &c[0], data, VSOCK_BUFFER_LARGE);
	host_write(fd[1], data, 150000);
	host_write(fd[2], "CONN", 4);
	driver_reset(&guest.driver);
	for (unsigned i = 1; i < 3; i++)
		host_expect_gone(fd[i]);
	/* Nobody drives it: who comes now is closed at once. */
	late = host_connect(&guest);
	for (unsigned i = 0; i < 3; i++)
		driver_turn(&guest.driver);
	host_expect_gone(late);
	guest_start(&guest, DRIVER_ALL_FEATURES);
	for (unsigned i = 0; i < 3; i++)
		close(fd[i]);
	close(late);
	fd[0] = host_begin(&guest, &c[0], 9);
	host_write(fd[0], "hello", HELLO_LEN);
	guest_expect_data(&guest, &c[0], HELLO, HELLO_LEN);
	close(fd[0]);
	guest_close(&guest);
}
END_TEST

START_TEST(a_transport_reset_ends_the_streams_and_is_told_to_the_guest)
{
	struct driver_queue *events;
	struct driver_segment segment = {.len = 4, .writable = true};
	struct connection c;
	uint32_t len;
	int fd;

	guest_open(&guest);
	vsock_transport_reset(guest.driver.device);
	fd = host_begin(&guest, &c, 7);
	vsock_transport_reset(guest.driver.device);
	host_expect_end(fd);
	close(fd);
	/* The guest has no event buffer yet: the event waits, and two are one. */
	segment.gpa = guest.tx_gpa[0];
	memset(driver_host(&guest.driver, segment.gpa, 4), 0xff, 4);
	events = driver_queue(&guest.driver, 2);
	driver_add(events, &segment, 1);
	driver_add(events, &segment, 1);
	driver_kick(events);
	ck_assert(driver_wait_used(events, NULL, &len, WAIT_MS));
	ck_assert_uint_eq(len, 4);
	ck_assert_uint_eq(*(uint32_t *)driver_host(&guest.driver, segment.gpa, 4), 0);
	ck_assert(!driver_wait_used(events, NULL, NULL, 100));
	fd = host_begin(&guest, &c, 7);
	close(fd);
	guest_close(&guest);
}
END_TEST

START_TEST(the_device_can_be_destroyed_in_the_middle_of_everything)
{
	struct connection c;
	int fd, greeting;

	guest_open(&guest);
	fd = guest_begin(&guest, &c, 5000, 7);
	greeting = host_connect(&guest);
	guest_send_data(&guest, &c, data, VSOCK_BUFFER_LARGE);
	host_write(fd, data, 1000);
	guest_close(&guest);
	host_expect_gone(greeting);
	close(fd);
	close(greeting);
}
END_TEST

static TCase *connections(void)
{
	TCase *tc = tcase_create("connections");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, the_configuration_space_holds_the_cid);
	tcase_add_test(tc, a_host_program_reaches_a_guest_port);
	tcase_add_test(tc, a_guest_program_reaches_a_host_port);
	tcase_add_test(tc, a_host_port_without_a_listener_refuses_the_guest);
	tcase_add_test(tc, a_guest_port_without_a_listener_closes_the_host_programs_connection);
	tcase_add_test(tc, a_full_listen_queue_of_a_host_program_is_waited_for);
	tcase_add_test(tc, a_listen_queue_that_stays_full_refuses_the_guest_in_the_end);
	tcase_add_test(tc, a_wrong_greeting_is_answered_by_closing);
	tcase_add_test(tc, a_greeting_may_come_in_pieces_and_with_data_behind_it);
	tcase_add_test(tc, a_greeting_cut_short_by_leaving_is_forgotten_at_once);
	tcase_add_test(tc, who_is_slow_to_greet_or_gets_no_answer_is_closed_in_time);
	tcase_add_test(tc, many_slow_greetings_hold_up_only_each_other);
	return tc;
}

static TCase *resets(void)
{
	TCase *tc = tcase_create("resets");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_reset_in_mid_flight_closes_all_streams_and_the_device_works_again);
	tcase_add_test(tc, a_transport_reset_ends_the_streams_and_is_told_to_the_guest);
	tcase_add_test(tc, the_device_can_be_destroyed_in_the_middle_of_everything);
	return tc;
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	return run_tests("vsock", connections(), resets(), NULL);
}
