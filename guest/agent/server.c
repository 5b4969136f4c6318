/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections. See server.h.
 *
 * A connection that broke is not freed where that is noticed (deep in a callback that goes on using it) but by a
 * timer of zero milliseconds. Half-closed connections are served on: `echo … | socat` shuts its sending side
 * and then waits for the answer.
 */
#include "guest/agent/server.h"

#include "vmm/base/log.h"
#include "vmm/base/unix_listener.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define CONN_LIMIT MIB(24) /* answers that one connection's calls may add up to, at the most */
#define READ_SIZE  KIB(64)

static struct event listener = {.fd = -1};
static struct unix_listener unix_socket = {.fd = -1};
static const struct rpc_method *server_methods;
static struct conn *conns;
static unsigned conn_count;

unsigned server_conn_count(void)
{
	return conn_count;
}

void conn_join(struct conn *conn, struct conn_user *user)
{
	user->next = conn->users;
	conn->users = user;
}

void conn_leave(struct conn *conn, struct conn_user *user)
{
	struct conn_user **at = &conn->users;

	while (*at && *at != user)
		at = &(*at)->next;
	if (*at)
		*at = user->next;
}

static void conn_free(struct timer *timer)
{
	struct conn *conn = container_of(timer, struct conn, end);
	struct conn **at = &conns;
	struct conn_user *user;

	rpc_peer_close(
		&conn->peer); /* first: what its users answer now starts no further request */
	while ((user = conn->users)) {
		conn->users = user->next;
		user->closed(user);
	}
	event_watch(&conn->event, 0);
	close(conn->event.fd);
	while (*at != conn)
		at = &(*at)->next;
	*at = conn->next;
	conn_count--;
	free(conn->out);
	free(conn);
}

static void conn_break(struct conn *conn)
{
	if (conn->broken)
		return;
	conn->broken = true;
	event_watch(&conn->event, 0);
	timer_set(&conn->end, 0);
}

/* What to wait for, from what there is to do. A hang-up is always reported, and ends in a failing read or write. */
static void conn_update(struct conn *conn)
{
	uint32_t mask = conn->used ? EPOLLOUT : 0;

	if (conn->broken)
		return;
	if (conn->eof && !conn->used && !conn->peer.call_count) {
		conn_break(conn);
		return;
	}
	if (!conn->eof && !conn_is_full(conn) && rpc_peer_ready(&conn->peer))
		mask |= EPOLLIN;
	event_watch(&conn->event, mask ? mask : EPOLLERR);
}

static void conn_flush(struct conn *conn)
{
	size_t sent = 0;

	while (sent < conn->used) {
		ssize_t n = send(conn->event.fd, conn->out + sent, conn->used - sent,
			MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			conn_break(conn);
		if (n <= 0)
			break;
		sent += (size_t)n;
	}
	conn->used -= sent;
	if (sent)
		memmove(conn->out, conn->out + sent, conn->used);
	if (!conn->used && conn->room) {
		free(conn->out);
		conn->out = NULL;
		conn->room = 0;
	}
}

/* Tell the users that there is room again: once for each time that there was none. */
static void conn_drained(struct conn *conn)
{
	if (!conn->high || conn->used > CONN_HIGH / 2)
		return;
	conn->high = false;
	for (struct conn_user *user = conn->users, *next; user; user = next) {
		next = user->next;
		user->drained(user);
	}
}

static void conn_write(struct rpc_peer *peer, const char *bytes, size_t size)
{
	struct conn *conn = conn_of(peer);
	size_t room = conn->room ? conn->room : KIB(4);

	if (conn->broken)
		return;
	while (room < conn->used + size)
		room *= 2;
	if (room > conn->room) {
		char *larger = room <= CONN_LIMIT ? realloc(conn->out, room) : NULL;

		if (!larger) {
			log_warn("a connection is closed: its client does not read");
			conn_break(conn);
			return;
		}
		conn->out = larger;
		conn->room = room;
	}
	memcpy(conn->out + conn->used, bytes, size);
	conn->used += size;
	if (conn->used == size)
		conn_flush(conn);
	conn->high = conn->high || conn_is_full(conn);
	conn_update(conn);
}

static void conn_answered(struct rpc_peer *peer)
{
	conn_update(conn_of(peer));
}

static void conn_read(struct conn *conn)
{
	static char bytes[READ_SIZE];
	ssize_t n = recv(conn->event.fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0)
		rpc_peer_receive(&conn->peer, bytes, (size_t)n);
	else if (n == 0)
		conn->eof = true;
	else if (errno != EAGAIN && errno != EINTR)
		conn_break(conn);
}

static void conn_ready(struct event *event, uint32_t events)
{
	struct conn *conn = container_of(event, struct conn, event);

	if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN)) {
		conn_break(conn);
		return;
	}
	if (events & EPOLLOUT)
		conn_flush(conn);
	if (!conn->broken && events & EPOLLIN && event->mask & EPOLLIN)
		conn_read(conn);
	if (!conn->broken)
		conn_drained(conn);
	conn_update(conn);
}

static void refuse_conn(int fd)
{
	struct error err;
	json_t *object;
	char *text;

	error_set(
		&err, ERROR_NO_RESOURCE, "%u connections are open, which is the most", conn_count);
	object =
		json_pack("{s:s, s:n, s:o}", "jsonrpc", "2.0", "id", "error", rpc_error_json(&err));
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	if (text) {
		send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
		send(fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	free(text);
	json_decref(object);
	close(fd);
}

static void accept_again(struct timer *timer)
{
	(void)timer;
	event_watch(&listener, EPOLLIN);
}

static struct timer accept_timer = {.fire = accept_again};

static void accept_ready(struct event *event, uint32_t events)
{
	int fd = accept4(event->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct conn *conn;

	(void)events;
	if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
		/* Out of descriptors or memory: whoever waits to be let in must not keep the loop busy. */
		event_watch(&listener, 0);
		timer_set(&accept_timer, 200);
	}
	if (fd < 0)
		return;
	conn = conn_count < CONNS_MAX ? calloc(1, sizeof(*conn)) : NULL;
	if (!conn) {
		refuse_conn(fd);
		return;
	}
	conn->peer = (struct rpc_peer){.methods = server_methods,
		.calls_max = CONN_CALLS,
		.write = conn_write,
		.answered = conn_answered,
		.user = conn};
	rpc_peer_open(&conn->peer);
	conn->end.fire = conn_free;
	conn->event = (struct event){.fd = fd, .ready = conn_ready};
	conn->next = conns;
	conns = conn;
	conn_count++;
	conn_update(conn);
}

static int listen_vsock(const char *port_text, struct error *err)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
	char *end;
	unsigned long port = strtoul(port_text, &end, 10);

	if (!*port_text || *end || port > UINT32_MAX)
		return error_set(err, ERROR_BAD_REQUEST, "'%s' is no vsock port", port_text);
	address.svm_port = (unsigned)port;
	listener.fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener.fd < 0) {
		error_errno(err, errno, "cannot make a vsock socket");
		return error_hint(
			err, "the kernel needs vsock: modprobe vmw_vsock_virtio_transport");
	}
	if (bind(listener.fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(listener.fd, SOMAXCONN) < 0)
		return error_errno(err, errno, "cannot listen on vsock port %lu", port);
	return 0;
}

int server_open(const char *where, const struct rpc_method *methods, struct error *err)
{
	int ret;

	server_methods = methods;
	if (!strncmp(where, "vsock:", 6)) {
		ret = listen_vsock(where + 6, err);
	} else if (!strncmp(where, "unix:", 5)) {
		ret = unix_listener_open(&unix_socket, "the agent's socket", where + 5,
			UNIX_PATH_MAX, SOMAXCONN, err);
		listener.fd = unix_socket.fd;
	} else {
		return error_set(err, ERROR_BAD_REQUEST,
			"--listen: '%.128s' is neither vsock:PORT nor unix:PATH", where);
	}
	if (ret) {
		server_close();
		return ret;
	}
	listener.ready = accept_ready;
	event_watch(&listener, EPOLLIN);
	return 0;
}

void server_close(void)
{
	for (struct conn *conn = conns, *next; conn; conn = next) {
		next = conn->next;
		timer_clear(&conn->end);
		conn_free(&conn->end);
	}
	if (listener.fd < 0)
		return;
	event_watch(&listener, 0);
	timer_clear(&accept_timer);
	if (unix_socket.fd >= 0)
		unix_listener_close(&unix_socket);
	else
		close(listener.fd);
	listener.fd = -1;
}
