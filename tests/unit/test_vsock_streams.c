/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock: data and credit, one stream or many, and each way to end one.
 */
#include "tests/unit/runner.h"
#include "tests/unit/vsock_guest.h"

#include "virtio/vsock_private.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define OP(name)  VIRTIO_VSOCK_OP_##name
#define HELLO	  ((const uint8_t *)"hello")
#define HELLO_LEN 5u

static struct guest guest;
static uint8_t data[MIB(4)];

/* ---- many at once ---- */

struct echo {
	struct connection c;
	uint8_t *kept; /* what the guest has not sent back yet */
	uint32_t kept_len;
	bool host_ended, ended, done;
	int fd;
	uint32_t seed;
	pthread_t thread;
	const char *problem;
};

/* A host program: sends random data, reads it back, now and then slowly. */
static void *host_program(void *arg)
{
	struct echo *e = arg;
	uint8_t *out = malloc(MIB(1)), buffer[8192];
	size_t sent = 0, read = 0;

	fill_random(out, MIB(1), e->seed);
	for (unsigned round = 0;; round++) {
		struct pollfd pfd = {
			.fd = e->fd, .events = (short)(POLLIN | (sent < MIB(1) ? POLLOUT : 0))};
		ssize_t n;

		if (poll(&pfd, 1, 40000) != 1) {
			e->problem = "nothing moves";
			break;
		}
		if (pfd.revents & POLLOUT && sent < MIB(1)) {
			n = send(e->fd, out + sent, min_u64(MIB(1) - sent, 1 + round * 977 % 70000),
				MSG_DONTWAIT | MSG_NOSIGNAL);
			sent += n > 0 ? (size_t)n : 0;
			if (sent == MIB(1))
				shutdown(e->fd, SHUT_WR);
		}
		if (!(pfd.revents & POLLIN))
			continue;
		if (e->seed % 4 == 0 && round % 32 == 0)
			usleep(5000);
		n = recv(e->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (n <= 0 || read + (size_t)n > MIB(1) ||
			memcmp(buffer, out + read, (size_t)n) != 0) {
			if (n < 0 && errno == EAGAIN)
				continue;
			e->problem =
				n == 0 && read == MIB(1) ? NULL : "not the bytes that were sent";
			break;
		}
		read += (size_t)n;
	}
	free(out);
	return NULL;
}

#define ECHOES	 16u
#define ECHO_BUF 16384u

static void echo_packet(struct echo *echoes, const struct packet *p)
{
	struct echo *e = &echoes[p->hdr.dst_port - 100];

	ck_assert_uint_lt(p->hdr.dst_port - 100, ECHOES);
	e->c.peer_buf_alloc = p->hdr.buf_alloc;
	e->c.peer_forwarded = p->hdr.fwd_cnt;
	switch (p->hdr.op) {
	case OP(RW):
		ck_assert_msg(e->kept_len + p->hdr.len <= ECHO_BUF, "beyond the guest's credit");
		ck_assert(!e->host_ended);
		memcpy(e->kept + e->kept_len, p->data, p->hdr.len);
		e->kept_len += p->hdr.len;
		break;
	case OP(CREDIT_UPDATE):
		break;
	case OP(CREDIT_REQUEST):
		guest_send(&guest, &e->c, OP(CREDIT_UPDATE), 0, NULL, 0);
		break;
	case OP(SHUTDOWN):
		ck_assert_uint_eq(p->hdr.flags, VSOCK_SHUT_SEND);
		e->host_ended = true;
		break;
	case OP(RST):
		ck_assert(e->host_ended && !e->kept_len);
		e->done = true;
		break;
	default:
		ck_abort_msg("op %u", p->hdr.op);
	}
}

static void echo_back(struct echo *e)
{
	uint32_t credit = e->c.peer_buf_alloc - (e->c.sent - e->c.peer_forwarded);
	uint32_t n = (uint32_t)min_u64(credit, e->kept_len);

	if (n) {
		e->c.forwarded += n;
		e->c.sent += n;
		guest_send(&guest, &e->c, OP(RW), 0, e->kept, n);
		memmove(e->kept, e->kept + n, e->kept_len - n);
		e->kept_len -= n;
	}
	if (e->host_ended && !e->kept_len && !e->ended) {
		e->ended = true;
		guest_send(&guest, &e->c, OP(SHUTDOWN), VSOCK_SHUT_BOTH, NULL, 0);
	}
}

static void echo_all(struct echo *echoes)
{
	uint64_t limit = now_ns() + 40000000000ull;
	struct packet p;
	unsigned done;

	do {
		ck_assert_msg(now_ns() < limit, "the streams do not end");
		for (unsigned i = 0; i < 32 && guest_receive(&guest, &p, i ? 0 : 1); i++)
			echo_packet(echoes, &p);
		done = 0;
		for (unsigned i = 0; i < ECHOES; i++) {
			echo_back(&echoes[i]);
			done += echoes[i].done;
		}
	} while (done < ECHOES);
}

static void run_echoes(uint64_t features, uint32_t rx_payload)
{
	struct echo echoes[ECHOES] = {0};

	guest_create(&guest);
	guest.rx_payload = rx_payload;
	guest_start(&guest, features);
	for (unsigned i = 0; i < ECHOES; i++) {
		struct echo *e = &echoes[i];

		e->seed = i + 1;
		e->kept = malloc(ECHO_BUF);
		e->fd = i % 2 ? host_begin(&guest, &e->c, 100 + i)
			      : guest_begin(&guest, &e->c, 6000 + i, 100 + i);
		e->c.buf_alloc = ECHO_BUF;
		guest_send(&guest, &e->c, OP(CREDIT_UPDATE), 0, NULL, 0);
	}
	ck_assert(
		guest_sent(&guest, WAIT_MS)); /* the smaller buffers are known before data flows */
	for (unsigned i = 0; i < ECHOES; i++)
		pthread_create(&echoes[i].thread, NULL, host_program, &echoes[i]);
	echo_all(echoes);
	for (unsigned i = 0; i < ECHOES; i++) {
		pthread_join(echoes[i].thread, NULL);
		ck_assert_msg(!echoes[i].problem, "stream %u: %s", i, echoes[i].problem);
		close(echoes[i].fd);
		free(echoes[i].kept);
	}
	guest_close(&guest);
}

START_TEST(a_mebibyte_on_each_of_16_streams_at_once_arrives_bit_for_bit_both_ways)
{
	run_echoes(DRIVER_ALL_FEATURES, GUEST_RX_LEN);
}
END_TEST

START_TEST(the_same_without_event_indices)
{
	run_echoes(~(1ull << VIRTIO_RING_F_EVENT_IDX), GUEST_RX_LEN);
}
END_TEST

START_TEST(the_same_with_small_receive_buffers)
{
	run_echoes(DRIVER_ALL_FEATURES, 100);
}
END_TEST

START_TEST(two_thousand_connections_one_after_the_other_leave_nothing_behind)
{
	uint32_t last = 0;

	guest_open(&guest);
	for (unsigned i = 0; i < 2000; i++) {
		struct connection c;
		int fd = host_begin(&guest, &c, 7);

		ck_assert_uint_ne(c.host_port, last);
		last = c.host_port;
		host_write(fd, "hello", HELLO_LEN);
		guest_expect_data(&guest, &c, HELLO, HELLO_LEN);
		close(fd);
		guest_expect_shutdown(&guest, &c);
		guest_send(&guest, &c, OP(RST), 0, NULL, 0);
	}
	ck_assert(guest_sent(&guest, WAIT_MS));
	guest_expect_no_stream(&guest);
	guest_close(&guest);
}
END_TEST

START_TEST(one_stream_too_many_is_refused_on_both_sides)
{
	struct rlimit files = {.rlim_cur = 8192, .rlim_max = 8192};
	static int fds[VSOCK_STREAMS_MAX];
	struct connection c, first = {0};
	int fd;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < 2 * VSOCK_STREAMS_MAX + 64)
		return; /* this host does not let us try */
	guest_open(&guest);
	for (unsigned i = 0; i < VSOCK_STREAMS_MAX; i++)
		fds[i] = host_begin(&guest, i ? &c : &first, 7);
	fd = host_connect(&guest);
	host_expect_gone(fd);
	close(fd);
	c = (struct connection){.host_port = 5000, .guest_port = 7};
	close(host_listen(&guest, 5000, 1));
	guest_send(&guest, &c, OP(REQUEST), 0, NULL, 0);
	guest_expect(&guest, &c, OP(RST), NULL);
	/* One leaves: there is room again. */
	guest_send(&guest, &first, OP(RST), 0, NULL, 0);
	host_expect_gone(fds[0]);
	close(fds[0]);
	usleep(10000);
	fds[0] = host_begin(&guest, &c, 7);
	for (unsigned i = 0; i < VSOCK_STREAMS_MAX; i++)
		close(fds[i]);
	guest_close(&guest);
}
END_TEST

START_TEST(host_programs_that_all_fall_behind_catch_up_and_leave_no_memory_behind)
{
	const size_t len = VSOCK_BUFFER_LARGE;
	struct connection c[ECHOES];
	int fds[ECHOES];

	guest_open(&guest);
	fill_random(data, len, 9);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < ECHOES; i++) {
			fds[i] = guest_begin(&guest, &c[i], 5000 + ECHOES * round + i, 7);
			guest_send_data(&guest, &c[i], data, len);
		}
		ck_assert(guest_sent(&guest, WAIT_MS));
		for (unsigned i = 0; i < ECHOES; i++) {
			host_expect_data(fds[i], data, len);
			guest_send(&guest, &c[i], OP(RST), 0, NULL, 0);
			host_expect_end(fds[i]);
			close(fds[i]);
		}
		guest_expect_no_stream(&guest);
	}
	ck_assert_uint_eq(container_of(guest.driver.device, struct vsock, device)->spare_count, 0);
	guest_close(&guest);
}
END_TEST

/* ---- closing ---- */

START_TEST(the_hosts_half_close_follows_its_data_and_leaves_the_other_way_open)
{
	struct connection c;
	struct packet p;
	int fd;

	guest_open(&guest);
	fd = host_begin(&guest, &c, 7);
	fill_random(data, 200000, 1);
	host_write(fd, data, 100000);
	shutdown(fd, SHUT_WR);
	guest_expect_data(&guest, &c, data, 100000);
	guest_expect(&guest, &c, OP(SHUTDOWN), &p);
	ck_assert_uint_eq(p.hdr.flags, VSOCK_SHUT_SEND);
	guest_send_data(&guest, &c, data, 150000);
	host_expect_data(fd, data, 150000);
	guest_send(&guest, &c, OP(SHUTDOWN), VSOCK_SHUT_BOTH, NULL, 0);
	guest_expect(&guest, &c, OP(RST), NULL);
	host_expect_end(fd);
	close(fd);
	guest_close(&guest);
}
END_TEST

START_TEST(the_guests_half_close_follows_its_buffered_data_and_leaves_the_other_way_open)
{
	const size_t len = VSOCK_BUFFER_LARGE;
	struct connection c;
	int fd;

	guest_open(&guest);
	fd = guest_begin(&guest, &c, 5000, 7);
	fill_random(data, len, 2);
	/* More than a socket holds: the rest waits in the device. */
	guest_send_data(&guest, &c, data, len);
	guest_send(&guest, &c, OP(SHUTDOWN), VSOCK_SHUT_SEND, NULL, 0);
	host_write(fd, "hello", HELLO_LEN);
	guest_expect_data(&guest, &c, HELLO, HELLO_LEN);
	host_expect_data(fd, data, len);
	host_expect_end(fd);
	host_write(fd, "hello", HELLO_LEN);
	guest_expect_data(&guest, &c, HELLO, HELLO_LEN);
	guest_expect_silence(&guest);
	close(fd);
	guest_expect_shutdown(&guest, &c);
	guest_close(&guest);
}
END_TEST

START_TEST(a_stream_the_guest_closed_is_reset_only_when_the_host_has_its_data)
{
	const size_t len = VSOCK_BUFFER_LARGE;
	struct connection c;
	int fd;

	guest_open(&guest);
	fd = guest_begin(&guest, &c, 5000, 7);
	fill_random(data, MIB(1), 3);
	guest_send_data(&guest, &c, data, len);
	guest_send(&guest, &c, OP(SHUTDOWN), VSOCK_SHUT_BOTH, NULL, 0);
	guest_expect_silence(&guest);
	host_expect_data(fd, data, len);
	guest_expect(&guest, &c, OP(RST), NULL);
	host_expect_end(fd);
	close(fd);
	guest_close(&guest);
}
END_TEST

START_TEST(a_guest_that_loses_patience_with_a_slow_host_program_loses_no_data)
{
	const size_t len = VSOCK_BUFFER_LARGE;
	struct connection c, second = {.host_port = 5001, .guest_port = 7};
	int fd;

	guest_open(&guest);
	fd = guest_begin(&guest, &c, 5000, 7);
	fill_random(data, MIB(1), 4);
	guest_send_data(&guest, &c, data, len);
	guest_send(&guest, &c, OP(SHUTDOWN), VSOCK_SHUT_BOTH, NULL, 0);
	guest_send(&guest, &c, OP(RST), 0, NULL, 0);
	/* The port pair is free again at once: what it gets now is nobody's. */
	second.host_port = c.host_port;
	guest_send(&guest, &second, OP(RW), 0, HELLO, HELLO_LEN);
	guest_expect(&guest, &second, OP(RST), NULL);
	host_expect_data(fd, data, len);
	host_expect_end(fd);
	close(fd);
	guest_close(&guest);
}
END_TEST

START_TEST(a_host_program_that_leaves_is_heard_to_the_end)
{
	struct connection c;
	struct packet p;
	int fd;

	guest_open(&guest);
	fd = host_begin(&guest, &c, 7);
	c.buf_alloc = 10000;
	guest_send(&guest, &c, OP(CREDIT_UPDATE), 0, NULL, 0);
	ck_assert(guest_sent(&guest, WAIT_MS));
	fill_random(data, MIB(1), 5);
	host_write(fd, data, 150000); /* what the credit does not allow stays in its socket */
	close(fd);
	/* That it hears no more may be said at once, that it says no more only behind its data. */
	do {
		ck_assert(guest_receive(&guest, &p, WAIT_MS));
		if (p.hdr.op == OP(RW)) {
			ck_assert_int_eq(memcmp(p.data, data + c.forwarded, p.hdr.len), 0);
			c.forwarded += p.hdr.len;
			guest_send(&guest, &c, OP(CREDIT_UPDATE), 0, NULL, 0);
		}
	} while (p.hdr.op != OP(SHUTDOWN) || !(p.hdr.flags & VSOCK_SHUT_SEND));
	ck_assert_uint_eq(c.forwarded, 150000);
	ck_assert_uint_eq(p.hdr.flags, VSOCK_SHUT_BOTH);
	guest_close(&guest);
}
END_TEST

START_TEST(a_host_program_that_leaves_without_reading_resets_the_stream)
{
	struct connection c;
	int fd;

	guest_open(&guest);
	fd = guest_begin(&guest, &c, 5000, 7);
	guest_send_data(&guest, &c, HELLO, HELLO_LEN);
	ck_assert(guest_sent(&guest, WAIT_MS));
	close(fd);
	for (;;) {
		struct packet p;

		ck_assert(guest_receive(&guest, &p, WAIT_MS));
		if (p.hdr.op == OP(RST))
			break;
		ck_assert_uint_eq(p.hdr.op, OP(SHUTDOWN));
	}
	guest_close(&guest);
}
END_TEST

START_TEST(a_guest_that_receives_no_more_makes_the_hosts_writes_fail)
{
	struct connection c;
	int fd;

	guest_open(&guest);
	fd = host_begin(&guest, &c, 7);
	guest_send(&guest, &c, OP(SHUTDOWN), VSOCK_SHUT_RCV, NULL, 0);
	ck_assert(guest_sent(&guest, WAIT_MS));
	guest_send_data(&guest, &c, HELLO, HELLO_LEN);
	host_expect_data(fd, HELLO, HELLO_LEN);
	ck_assert_int_lt(send(fd, "x", 1, MSG_NOSIGNAL), 0);
	ck_assert_int_eq(errno, EPIPE);
	close(fd);
	guest_expect_shutdown(&guest, &c);
	guest_close(&guest);
}
END_TEST

START_TEST(a_guest_that_never_answers_the_hosts_close_is_reset_in_time)
{
	struct connection c;
	struct packet p;
	uint64_t begun;
	int fd;

	guest_open(&guest);
	fd = host_begin(&guest, &c, 7);
	close(fd);
	guest_expect_shutdown(&guest, &c);
	begun = now_ns();
	ck_assert(guest_receive(&guest, &p, 10000));
	ck_assert_uint_eq(p.hdr.op, OP(RST));
	ck_assert_uint_ge(now_ns() - begun, VSOCK_LINGER_NS - 100000000ull);
	guest_close(&guest);
}
END_TEST

/* ---- credit ---- */

START_TEST(the_guest_may_send_for_ever_because_its_credit_is_renewed)
{
	struct connection c;
	int fd;

	guest_open(&guest);
	fd = guest_begin(&guest, &c, 5000, 7);
	fill_random(data, sizeof(data), 6);
	for (size_t at = 0; at < sizeof(data); at += 65536) {
		guest_send_data(&guest, &c, data + at, 65536);
		host_expect_data(fd, data + at, 65536);
	}
	guest_send(&guest, &c, OP(SHUTDOWN), VSOCK_SHUT_BOTH, NULL, 0);
	host_expect_end(fd);
	close(fd);
	guest_close(&guest);
}
END_TEST

START_TEST(a_credit_request_is_answered)
{
	struct connection c;
	struct packet p;
	int fd;

	guest_open(&guest);
	fd = guest_begin(&guest, &c, 5000, 7);
	guest_send_data(&guest, &c, HELLO, HELLO_LEN);
	guest_send(&guest, &c, OP(CREDIT_REQUEST), 0, NULL, 0);
	guest_expect(&guest, &c, OP(CREDIT_UPDATE), &p);
	ck_assert_uint_eq(p.hdr.fwd_cnt, HELLO_LEN);
	ck_assert_uint_eq(p.hdr.buf_alloc, VSOCK_BUFFER_LARGE);
	close(fd);
	guest_close(&guest);
}
END_TEST

START_TEST(the_host_never_sends_more_than_the_guest_granted)
{
	struct connection c;
	struct packet p;
	uint32_t got = 0;
	int fd;

	guest_open(&guest);
	fd = guest_begin(&guest, &c, 5000, 7);
	c.buf_alloc = 5000;
	guest_send(&guest, &c, OP(CREDIT_UPDATE), 0, NULL, 0);
	ck_assert(guest_sent(&guest, WAIT_MS));
	host_write(fd, data, 20000);
	while (guest_receive(&guest, &p, 200))
		got += p.hdr.op == OP(RW) ? p.hdr.len : 0;
	ck_assert_uint_eq(got, 5000);
	/* A grant that goes back, even below what is on the way, is no grant at all. */
	c.buf_alloc = 100;
	guest_send(&guest, &c, OP(CREDIT_UPDATE), 0, NULL, 0);
	c.forwarded = 6000;
	guest_send(&guest, &c, OP(CREDIT_UPDATE), 0, NULL, 0);
	guest_expect_silence(&guest);
	c.forwarded = 5000;
	guest_send(&guest, &c, OP(CREDIT_UPDATE), 0, NULL, 0);
	guest_expect(&guest, &c, OP(RW), &p);
	ck_assert_uint_eq(p.hdr.len, 100);
	close(fd);
	guest_close(&guest);
}
END_TEST

static TCase *streams(void)
{
	TCase *tc = tcase_create("streams");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_mebibyte_on_each_of_16_streams_at_once_arrives_bit_for_bit_both_ways);
	tcase_add_test(tc, the_same_without_event_indices);
	tcase_add_test(tc, the_same_with_small_receive_buffers);
	tcase_add_test(tc, two_thousand_connections_one_after_the_other_leave_nothing_behind);
	tcase_add_test(tc, one_stream_too_many_is_refused_on_both_sides);
	tcase_add_test(tc, host_programs_that_all_fall_behind_catch_up_and_leave_no_memory_behind);
	tcase_add_test(tc, the_guest_may_send_for_ever_because_its_credit_is_renewed);
	tcase_add_test(tc, a_credit_request_is_answered);
	tcase_add_test(tc, the_host_never_sends_more_than_the_guest_granted);
	return tc;
}

static TCase *closing(void)
{
	TCase *tc = tcase_create("closing");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, the_hosts_half_close_follows_its_data_and_leaves_the_other_way_open);
	tcase_add_test(
		tc, the_guests_half_close_follows_its_buffered_data_and_leaves_the_other_way_open);
	tcase_add_test(tc, a_stream_the_guest_closed_is_reset_only_when_the_host_has_its_data);
	tcase_add_test(tc, a_guest_that_loses_patience_with_a_slow_host_program_loses_no_data);
	tcase_add_test(tc, a_host_program_that_leaves_is_heard_to_the_end);
	tcase_add_test(tc, a_host_program_that_leaves_without_reading_resets_the_stream);
	tcase_add_test(tc, a_guest_that_receives_no_more_makes_the_hosts_writes_fail);
	tcase_add_test(tc, a_guest_that_never_answers_the_hosts_close_is_reset_in_time);
	return tc;
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	return run_tests("vsock_streams", streams(), closing(), NULL);
}
