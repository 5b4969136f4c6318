/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client of the control socket. See control.h.
 *
 * Its descriptor is watched edge-triggered: what was not read stays unread until something asks again.
 * So there is one place that moves bytes, pump(), and whatever may make room or work (readiness, an
 * answer, an event) only asks for a pump at the end of the loop's round. That is also where a connection
 * that broke is freed, once the kernel has let go of the poll: never under the feet of a callback.
 */
#include "vmm/base/log.h"
#include "vmm/control/control_private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define READS_ONCE 8	      /* of one client, before others have their turn ... */
#define TURN_NS	   2000000ull /* ... as after calls that took so long */

static void connection_free(struct connection *c)
{
	struct connection **at = &c->control->connections;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->control->connection_count--;
	close(c->fd);
	free(c->out);
	free(c);
}

static void poll_stopped(struct loop_poll *poll)
{
	struct connection *c = container_of(poll, struct connection, poll);

	c->dead = true;
	if (!c->pumping)
		loop_defer(c->control->loop, &c->pump);
}

static void connection_break(struct connection *c)
{
	if (c->broken)
		return;
	c->broken = true;
	c->events = 0;
	loop_timer_clear(c->control->loop, &c->again);
	rpc_peer_close(&c->peer); /* its open calls are cancelled; what they do goes on */
	loop_poll_stop(&c->poll, poll_stopped);
}

/* Returns false when the client has gone. */
static bool send_waiting(struct connection *c)
{
	while (c->sent < c->used) {
		ssize_t n = send(
			c->fd, c->out + c->sent, c->used - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		c->sent += (size_t)n;
	}
	free(c->out);
	c->out = NULL;
	c->used = c->sent = c->room = 0;
	return true;
}

/* The next bytes of the client. False: there are none for now, or it has gone. */
static bool receive_some(struct connection *c)
{
	char *bytes = c->control->bytes; /* a connection of its own is not worth 64 KiB */
	ssize_t n = recv(c->fd, bytes, CONTROL_READ_SIZE, MSG_DONTWAIT);

	if (n > 0)
		rpc_peer_receive(&c->peer, bytes, (size_t)n);
	else if (n == 0)
		c->eof = true;
	else if (errno != EAGAIN && errno != EINTR)
		connection_break(c);
	return n > 0 || (n < 0 && errno == EINTR);
}

static void pump_later(struct connection *c)
{
	/* Not from within the pump, which would run for ever in this one round: it sees to what is left itself. */
	if (!c->broken && !c->pumping)
		loop_defer(c->control->loop, &c->pump);
}

static void move_bytes(struct connection *c)
{
	unsigned reads = 0;

	c->turn_end_ns = now_ns() + TURN_NS;
	if (!send_waiting(c)) {
		connection_break(c);
		return;
	}
	if (c->peer.blocked && c->used == c->sent)
		rpc_peer_resume(&c->peer);
	while (!c->broken && !c->eof && rpc_peer_ready(&c->peer) && receive_some(c))
		if (++reads == READS_ONCE) {
			loop_timer_set(c->control->loop, &c->again, now_ns());
			break;
		}
	if (!c->broken && !send_waiting(c))
		connection_break(c);
	if (c->peer.blocked && c->used == c->sent && !c->broken)
		loop_timer_set(c->control->loop, &c->again,
			now_ns()); /* all of it is sent already, or its turn is over */
	if (!c->broken && c->gone && (c->eof || c->peer.call_count))
		connection_break(c);
	/* A half-closed client is served to the end: `echo … | socat` closes its side and waits for answers. */
	if (!c->broken && c->eof && !c->peer.call_count && c->sent == c->used && !c->events)
		connection_break(c);
}

static void pump(struct loop_job *job)
{
	struct connection *c = container_of(job, struct connection, pump);

	c->pumping = true;
	if (!c->broken)
		move_bytes(c);
	c->pumping = false;
	if (c->dead)
		connection_free(c);
}

static void again(struct loop_timer *timer)
{
	pump_later(container_of(timer, struct connection, again));
}

static void ready(struct loop_poll *poll, uint32_t revents)
{
	struct connection *c = container_of(poll, struct connection, poll);

	/* What it sent before it went is carried out still, unless it did not even take its answers. */
	if (revents & (POLLERR | POLLHUP))
		c->gone = true;
	if (c->gone && c->sent < c->used)
		connection_break(c);
	else
		pump_later(c);
}

static void connection_write(struct rpc_peer *peer, const char *bytes, size_t size)
{
	struct connection *c = peer->user;
	size_t room = c->room ? c->room : KIB(4);
	char *larger;

	if (c->broken || c->gone)
		return;
	if (c->sent) {
		memmove(c->out, c->out + c->sent, c->used - c->sent);
		c->used -= c->sent;
		c->sent = 0;
	}
	while (room < c->used + size)
		room *= 2;
	if (room > c->room) {
		larger = c->used + size <= CONTROL_OUT_MAX ? realloc(c->out, room) : NULL;
		if (!larger) {
			log_warn("control: a client is let go: it does not read what it is sent");
			/* Not here: the caller still uses it. */
			c->eof = true;
			c->used = c->sent = 0;
			shutdown(c->fd, SHUT_RDWR); /* the poll says so, and ends it */
			return;
		}
		c->out = larger;
		c->room = room;
	}
	memcpy(c->out + c->used, bytes, size);
	c->used += size;
	if (c->used >= CONTROL_OUT_HIGH)
		c->peer.blocked =
			true; /* until all of it is sent: only the pump goes on with what waits */
	pump_later(c);
}

static void answered(struct rpc_peer *peer)
{
	struct connection *c = peer->user;

	if (now_ns() >= c->turn_end_ns)
		peer->blocked = true; /* it has sent many requests at once: others first */
	pump_later(c);
}

void connection_open(struct control *control, int fd)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return;
	}
	c->control = control;
	c->fd = fd;
	c->pump.run = pump;
	c->again.fire = again;
	c->peer = (struct rpc_peer){.methods = control_methods,
		.calls_max = 1, /* answered in the order they came */
		.write = connection_write,
		.answered = answered,
		.user = c};
	rpc_peer_open(&c->peer);
	c->next = control->connections;
	control->connections = c;
	control->connection_count++;
	c->poll.fd = fd;
	c->poll.events = POLLIN | POLLOUT | POLLRDHUP;
	c->poll.ready = ready;
	loop_poll_start(control->loop, &c->poll);
}

void connection_finish(struct connection *c, uint64_t deadline_ns)
{
	uint64_t now = now_ns();

	while (!c->broken && send_waiting(c) && c->sent < c->used && now < deadline_ns) {
		struct pollfd wait = {.fd = c->fd, .events = POLLOUT};

		poll(&wait, 1, (int)((deadline_ns - now) / 1000000 + 1));
		now = now_ns();
	}
	connection_break(c);
}
