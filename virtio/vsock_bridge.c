/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How connections begin on the host: the listening socket at PATH, the greeting of who connects to
 * it, and connecting to PATH_PORT for the guest.
 *
 * A greeting is one line, "CONNECT PORT\n". It is looked at in the socket (MSG_PEEK) until it is whole,
 * and then taken exactly, so that what follows it is the stream's. A line that is anything else, or
 * too long to be one, is answered by closing, and so is a port on which the guest does not listen.
 * The number of unfinished greetings is bounded and each has a time limit; who comes then waits in
 * the listen queue.
 *
 * While the guest has no driver, whoever connects is closed at once, by the main thread: a client
 * that retries learns more than one that hangs.
 */
#include "virtio/vsock_private.h"

#include "vmm/base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define GREETING_MAX (sizeof("CONNECT 4294967295\n") - 1)

/* ---- PATH ---- */

static void listener_ready(struct loop_poll *poll, uint32_t revents)
{
	struct vsock *v = container_of(poll, struct vsock, listen);

	(void)revents;
	v->accept_waits = true;
	vsock_schedule(v);
}

static void listener_stopped(struct loop_poll *poll)
{
	struct vsock *v = container_of(poll, struct vsock, listen);

	v->listening = false;
	vsock_check_stopped(v);
}

void vsock_bridge_start(struct vsock *v)
{
	v->listening = true;
	v->accept_waits = true;
	v->listen =
		(struct loop_poll){.fd = v->listener.fd, .events = POLLIN, .ready = listener_ready};
	loop_poll_start(v->loop, &v->listen);
}

void vsock_bridge_stop(struct vsock *v)
{
	v->accept_waits = false;
	loop_poll_stop(&v->listen, listener_stopped);
	/* The main thread left to us who came until `open` was withdrawn. */
	vsock_bridge_refuse(v);
}

void vsock_bridge_refuse(struct vsock *v)
{
	for (unsigned i = 0; i < 4 * VSOCK_BACKLOG; i++) {
		int fd = accept4(v->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			break;
		close(fd);
	}
}

static void welcome(struct vsock *v, int fd)
{
	struct vsock_stream *s = vsock_stream_create(v, VSOCK_GREETING);

	if (!s) {
		close(fd);
		return;
	}
	s->fd = fd;
	vsock_stream_timeout(s, VSOCK_GREETING_NS);
	vsock_socket_start(s);
	vsock_bridge_greet(s, false);
}

bool vsock_bridge_accept(struct vsock *v)
{
	static struct log_limit limit;
	unsigned taken = 0;

	while (v->accept_waits && v->greeting_count < VSOCK_GREETINGS_MAX &&
		taken < VSOCK_TURN_PACKETS) {
		int fd = accept4(v->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			welcome(v, fd);
			taken++;
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		v->accept_waits = false;
		if (errno != EAGAIN) { /* no descriptors, no memory */
			log_write_limited(&limit, LOG_WARN,
				"vsock: cannot accept a host program's connection: %s",
				strerror(errno));
			loop_timer_set(v->loop, &v->accept_again, now_ns() + VSOCK_ACCEPT_NS);
		}
	}
	return taken;
}

/* ---- the greeting ---- */

static bool parse_greeting(const char *line, size_t len, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	const size_t skip = sizeof(word) - 1;
	uint64_t value = 0;

	if (len < skip + 2 || memcmp(line, word, skip) != 0)
		return false;
	for (size_t i = skip; i < len - 1; i++) {
		if (line[i] < '0' || line[i] > '9')
			return false;
		value = value * 10 +
			(uint64_t)(line[i] - '0'); /* ten digits at most: no overflow */
	}
	*port = (uint32_t)value;
	return value <= UINT32_MAX;
}

static void turn_away(struct vsock_stream *s)
{
	char rest[256];
	ssize_t ignored = recv(s->fd, rest, sizeof(rest), MSG_DONTWAIT);

	/* Read, so that the host program finds the end of the stream and not ECONNRESET. */
	(void)ignored;
	vsock_stream_drop(s);
}

void vsock_bridge_greet(struct vsock_stream *s, bool ended)
{
	char line[GREETING_MAX];
	ssize_t n = recv(s->fd, line, sizeof(line), MSG_PEEK | MSG_DONTWAIT);
	const char *end = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;
	uint32_t port;
	size_t len;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && !end && (size_t)n < sizeof(line) && !ended)
		return;
	if (!end) { /* it left, or its line is too long */
		turn_away(s);
		return;
	}
	len = (size_t)(end - line) + 1;
	if (!parse_greeting(line, len, &port) ||
		recv(s->fd, line, len, MSG_DONTWAIT) != (ssize_t)len) {
		turn_away(s);
		return;
	}
	vsock_stream_request(s, port);
}

void vsock_bridge_accepted(struct vsock_stream *s)
{
	char answer[32];
	int len = snprintf(answer, sizeof(answer), "OK %u\n", s->host_port);

	/* The socket is empty, so it takes the line whole, unless nobody reads any more. */
	if (send(s->fd, answer, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len) {
		vsock_stream_reset(s);
		return;
	}
	vsock_stream_open(s);
}

/* ---- PATH_PORT ---- */

/* 0: connected, s->fd is set. */
static int dial(struct vsock_stream *s)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int len;

	if (fd < 0)
		return -errno;
	len = snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u",
		s->vsock->listener.address.sun_path, s->host_port);
	BUG_ON(len < 0 || (size_t)len >= sizeof(address.sun_path));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	s->fd = steal_fd(&fd);
	return 0;
}

void vsock_bridge_dial(struct vsock_stream *s)
{
	int ret = dial(s);

	if (ret == 0) {
		vsock_socket_start(s);
		vsock_stream_owe(s, VSOCK_OWES_RESPONSE);
		vsock_stream_open(s);
	} else if (ret == -EAGAIN && now_ns() < s->dial_deadline) {
		vsock_stream_timeout(s, VSOCK_REDIAL_NS);
	} else {
		vsock_stream_reset(s);
	}
}
