/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The debugger's socket and its one client. See gdb.h.
 *
 * The next packet is looked at only when the answer to the one before has been sent, so what waits is bounded; and a client
 * has its turn for so long at a time, since the control socket and the devices' registers live on the same loop.
 */
#include "vmm/gdb/gdb_private.h"

#include "vmm/base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BACKLOG		4
#define TURN_NS		2000000ull
#define ACCEPT_PAUSE_NS 200000000ull

static void poll_stopped(struct loop_poll *poll)
{
	struct gdb *gdb = container_of(poll, struct gdb, poll);

	close(steal_fd(&gdb->fd));
	if (!gdb->left)
		loop_timer_set(gdb->loop, &gdb->accept_again, now_ns());
}

void gdb_let_client_go(struct gdb *gdb)
{
	if (!gdb->attached)
		return;
	gdb->attached = false;
	loop_timer_clear(gdb->loop, &gdb->again);
	gdb_detach(gdb);
	log_info("gdb: the debugger has gone, the guest runs on");
	shutdown(gdb->fd, SHUT_RDWR);
	loop_poll_stop(&gdb->poll, poll_stopped);
}

/* ---- out ---- */

/* False: the client has gone. */
static bool send_waiting(struct gdb *gdb)
{
	while (gdb->sent < gdb->used) {
		ssize_t n = send(gdb->fd, gdb->out + gdb->sent, gdb->used - gdb->sent,
			MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		gdb->sent += (size_t)n;
	}
	return true;
}

/* Room for so many bytes behind what waits; what was sent makes room. */
static char *make_room(struct gdb *gdb, size_t size)
{
	if (gdb->sent == gdb->used)
		gdb->sent = gdb->used = 0;
	return size <= sizeof(gdb->out) - gdb->used ? gdb->out + gdb->used : NULL;
}

static void send_byte(struct gdb *gdb, char byte)
{
	char *room = make_room(gdb, 1);

	if (!room)
		return; /* it will ask again */
	*room = byte;
	gdb->used++;
}

void gdb_send(struct gdb *gdb, const char *data, size_t size)
{
	char *room = make_room(gdb, GDB_PACKET_MADE(size));

	if (!gdb->attached)
		return;
	if (!room) {
		log_warn("gdb: the debugger is let go: it does not read what it is sent");
		gdb_let_client_go(gdb);
		return;
	}
	gdb->last_at = gdb->used;
	gdb->last_size = gdb_packet_make(data, size, room);
	gdb->used += gdb->last_size;
	if (!send_waiting(gdb))
		gdb_let_client_go(gdb);
}

void gdb_sendf(struct gdb *gdb, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	gdb_send(gdb, text, strlen(text));
}

void gdb_say(struct gdb *gdb, const char *text)
{
	char packet[512] = "O";
	size_t size = min_u64(strlen(text), (sizeof(packet) - 1) / 2);

	if (gdb->attached && gdb->running && gdb->sent == gdb->used)
		gdb_send(gdb, packet, 1 + gdb_to_hex(text, size, packet + 1));
}

/* As long as nothing was sent behind it, it still stands where it was. */
static void send_again(struct gdb *gdb)
{
	if (!gdb->acks || !gdb->last_size || gdb->sent != gdb->used)
		return;
	gdb->sent = gdb->last_at;
	gdb->used = gdb->last_at + gdb->last_size;
}

/* ---- in ---- */

static void take_byte(struct gdb *gdb, uint8_t byte)
{
	switch (gdb_packet_take(&gdb->in, byte)) {
	case GDB_INPUT_PACKET:
		if (gdb->acks)
			send_byte(gdb, '+');
		gdb_serve(gdb);
		return;
	case GDB_INPUT_BAD_SUM:
		if (gdb->acks)
			send_byte(gdb, '-');
		return;
	case GDB_INPUT_INTERRUPT:
		gdb_interrupt(gdb);
		return;
	case GDB_INPUT_RESEND:
		send_again(gdb);
		return;
	case GDB_INPUT_TOO_LONG:
		log_warn("gdb: the debugger is let go: a packet of more than %u bytes",
			GDB_PACKET_MAX);
		gdb_let_client_go(gdb);
		return;
	case GDB_INPUT_NONE:
		return;
	}
}

/* True: there are bytes to take. */
static bool receive_some(struct gdb *gdb)
{
	ssize_t n;

	do
		n = recv(gdb->fd, gdb->bytes, sizeof(gdb->bytes), MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	gdb->bytes_at = 0;
	gdb->bytes_used = n > 0 ? (size_t)n : 0;
	if (n == 0 || (n < 0 && errno != EAGAIN))
		gdb_let_client_go(gdb);
	return n > 0;
}

static void move_bytes(struct gdb *gdb)
{
	uint64_t turn_end_ns = now_ns() + TURN_NS;

	while (gdb->attached) {
		if (!send_waiting(gdb)) {
			gdb_let_client_go(gdb);
			return;
		}
		if (gdb->sent < gdb->used)
			return; /* the poll says when there is room */
		if (gdb->bytes_at == gdb->bytes_used) {
			if (!receive_some(gdb))
				return;
			if (now_ns() >= turn_end_ns) {
				loop_timer_set(gdb->loop, &gdb->again, now_ns());
				return;
			}
		}
		take_byte(gdb, gdb->bytes[gdb->bytes_at++]);
		if (gdb->in.state == GDB_BETWEEN && now_ns() >= turn_end_ns) {
			loop_timer_set(gdb->loop, &gdb->again, now_ns());
			return;
		}
	}
}

static void ready(struct loop_poll *poll, uint32_t revents)
{
	(void)revents;
	move_bytes(container_of(poll, struct gdb, poll));
}

static void again(struct loop_timer *timer)
{
	move_bytes(container_of(timer, struct gdb, again));
}

/* ---- coming ---- */

static bool may_enter(const struct gdb *gdb, int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
	       (peer.uid == 0 || peer.uid == gdb->uid);
}

static void client_open(struct gdb *gdb, int fd)
{
	gdb->fd = fd;
	gdb->attached = true;
	gdb->acks = true;
	gdb->names_reasons = false;
	gdb->bytes_at = gdb->bytes_used = 0;
	gdb->used = gdb->sent = gdb->last_size = 0;
	gdb->in.state = GDB_BETWEEN;
	gdb->poll = (struct loop_poll){
		.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP, .ready = ready};
	log_info("gdb: a debugger has come, the guest stands");
	gdb_attach(gdb);
	loop_poll_start(gdb->loop, &gdb->poll);
}

/* A second debugger is turned away; one that comes while the last is still going waits in the backlog. */
static void accept_ready(struct loop_poll *poll, uint32_t revents)
{
	struct gdb *gdb = container_of(poll, struct gdb, accepting);

	(void)revents;
	while (gdb->attached || gdb->fd < 0) {
		int fd = accept4(gdb->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0) {
			/* Out of descriptors: the poll is edge-triggered and would not say it again. */
			if (errno != EAGAIN)
				loop_timer_set(
					gdb->loop, &gdb->accept_again, now_ns() + ACCEPT_PAUSE_NS);
			return;
		}
		if (gdb->attached || !may_enter(gdb, fd) ||
			machine_state(gdb->machine) == MACHINE_ENDED)
			close(fd);
		else
			client_open(gdb, fd);
	}
}

static void accept_again(struct loop_timer *timer)
{
	accept_ready(&container_of(timer, struct gdb, accept_again)->accepting, POLLIN);
}

int gdb_create(struct machine *machine, const char *path, struct gdb **out, struct error *err)
{
	struct gdb *gdb = calloc(1, sizeof(*gdb));
	int ret;

	if (!gdb)
		return error_errno(err, ENOMEM, "cannot make the debugger's socket");
	ret = unix_listener_open(
		&gdb->listener, "the debugger's socket", path, UNIX_PATH_MAX, BACKLOG, err);
	if (ret < 0) {
		free(gdb);
		return ret;
	}
	gdb->machine = machine;
	gdb->loop = machine_loop(machine);
	gdb->uid = geteuid(); /* the filters forbid to ask later */
	gdb->fd = -1;
	gdb->again.fire = again;
	gdb->accept_again.fire = accept_again;
	gdb->debugger.vcpu_trapped = gdb_vcpu_trapped;
	gdb->debugger.vcpu_added = gdb_vcpu_added;
	gdb->debugger.crashed = gdb_guest_crashed;
	gdb->observer.state_changed = gdb_state_changed;
	machine_observe(machine, &gdb->observer);
	gdb->accepting =
		(struct loop_poll){.fd = gdb->listener.fd, .events = POLLIN, .ready = accept_ready};
	loop_poll_start(gdb->loop, &gdb->accepting);
	*out = gdb;
	return 0;
}

void gdb_leave(struct gdb *gdb)
{
	if (!gdb)
		return;
	machine_unobserve(gdb->machine, &gdb->observer);
	machine_set_debugger(gdb->machine, NULL);
	loop_timer_clear(gdb->loop, &gdb->again);
	loop_timer_clear(gdb->loop, &gdb->accept_again);
	loop_poll_stop(&gdb->accepting, NULL);
	gdb->left = true;
	if (gdb->attached)
		loop_poll_stop(&gdb->poll, NULL);
	gdb->attached = false;
}

void gdb_destroy(struct gdb *gdb)
{
	if (!gdb)
		return;
	cleanup_close(&gdb->fd);
	unix_listener_close(&gdb->listener);
	free(gdb);
}
