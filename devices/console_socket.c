/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listening Unix stream socket as the console, for one client at a time.
 *
 * Without a client output is discarded, so the guest never waits for one. A second client is told
 * so and closed: a console that changes hands unseen would be worse than one that is taken. A client
 * that has hung up, but whose last input the guest has not read yet, makes way for the next.
 *
 * What a client sent before it left is still delivered, as the guest reads.
 *
 * A client is in one of three states. NONE: accepting. ACTIVE. CLOSING: shut down, waiting until the ring
 * has let go of both polls; only then is the descriptor closed, and the next client accepted (until
 * then it waits in the listen queue).
 */
#include "devices/console_internal.h"

#include "vmm/base/log.h"
#include "vmm/base/unix_listener.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum client_state { CLIENT_NONE, CLIENT_ACTIVE, CLIENT_CLOSING };

struct socket_console {
	struct console console;
	struct unix_listener listener;
	struct loop_poll listening;
	enum client_state state;
	int client_fd;
	bool hung_up;	    /* the client is gone, what it sent may not be read yet */
	bool read_stopped;  /* while closing: the ring has let go of the input poll ... */
	bool write_stopped; /* ... and of the output poll */
};

static struct socket_console *socket_of(struct console *console)
{
	return container_of(console, struct socket_console, console);
}

static void accept_clients(struct socket_console *sc);

static void client_closed(struct socket_console *sc)
{
	if (!sc->read_stopped || !sc->write_stopped)
		return;
	close(sc->client_fd);
	sc->client_fd = -1;
	sc->state = CLIENT_NONE;
	accept_clients(sc);
}

static void input_poll_stopped(struct loop_poll *poll)
{
	struct socket_console *sc = socket_of(container_of(poll, struct console, readable));

	sc->read_stopped = true;
	client_closed(sc);
}

static void socket_output_cancelled(struct console *console)
{
	struct socket_console *sc = socket_of(console);

	if (sc->state != CLIENT_CLOSING)
		return;
	sc->write_stopped = true;
	client_closed(sc);
}

static void client_drop(struct socket_console *sc)
{
	struct console *console = &sc->console;

	if (sc->state != CLIENT_ACTIVE)
		return;
	sc->state = CLIENT_CLOSING;
	sc->read_stopped = sc->write_stopped = false;
	serial_set_discard(console->wiring.serial, true);
	console->in_fd = -1;
	shutdown(sc->client_fd, SHUT_RDWR); /* ends both polls */
	console_output_cancel(console);
	loop_poll_stop(&console->readable, input_poll_stopped);
}

/* End of file alone is a client that has said all it will say, and may still listen. */
static void socket_input_ended(struct console *console, int errnum)
{
	struct socket_console *sc = socket_of(console);

	if (errnum || sc->hung_up)
		client_drop(sc);
}

static void socket_output_failed(struct console *console, int errnum)
{
	(void)errnum; /* EPIPE, ECONNRESET: the client has gone */
	client_drop(socket_of(console));
}

static void client_ready(struct loop_poll *poll, uint32_t revents)
{
	struct console *console = container_of(poll, struct console, readable);
	struct socket_console *sc = socket_of(console);

	if (revents & (POLLHUP | POLLERR)) {
		sc->hung_up = true;
		serial_set_discard(console->wiring.serial, true);
		if (console->in_fd < 0)
			client_drop(sc);
	}
	console_pump_input(console);
}

static void client_start(struct socket_console *sc, int fd)
{
	struct console *console = &sc->console;

	sc->state = CLIENT_ACTIVE;
	sc->client_fd = fd;
	sc->hung_up = false;
	console->in_fd = console->out_fd = fd;
	console->readable = (struct loop_poll){.ready = client_ready};
	serial_set_discard(console->wiring.serial, false);
	console_watch_input(console);
}

static void client_refuse(int fd)
{
	static const char text[] = "bulkhead: this console has a client already\r\n";
	ssize_t ignored = send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);

	(void)ignored;
	close(fd);
}

static void accept_clients(struct socket_console *sc)
{
	while (sc->state != CLIENT_CLOSING) {
		int fd;

		if (sc->state == CLIENT_ACTIVE && sc->hung_up) {
			struct pollfd pfd = {.fd = sc->listener.fd, .events = POLLIN};

			if (poll(&pfd, 1, 0) > 0)
				client_drop(sc);
			return;
		}
		fd = accept4(sc->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0) {
			if (errno != EAGAIN)
				log_warn("cannot accept a client of the console: %s",
					strerror(errno));
			return;
		}
		if (sc->state == CLIENT_NONE)
			client_start(sc, fd);
		else
			client_refuse(fd);
	}
}

static void listen_ready(struct loop_poll *poll, uint32_t revents)
{
	(void)revents;
	accept_clients(container_of(poll, struct socket_console, listening));
}

static void socket_destroy(struct console *console)
{
	struct socket_console *sc = socket_of(console);

	cleanup_close(&sc->client_fd);
	unix_listener_close(&sc->listener);
	free(sc);
}

static const struct console_ops socket_ops = {
	.input_ended = socket_input_ended,
	.output_failed = socket_output_failed,
	.output_cancelled = socket_output_cancelled,
	.destroy = socket_destroy,
};

int console_socket_create(struct console **out, const struct console_wiring *wiring,
	const char *path, struct error *err)
{
	struct socket_console *sc = calloc(1, sizeof(*sc));
	int ret;

	if (!sc)
		return error_errno(err, ENOMEM, "cannot create the console");
	sc->client_fd = -1;
	ret = unix_listener_open(&sc->listener, "the console socket", path, UNIX_PATH_MAX, 4, err);
	if (ret < 0) {
		free(sc);
		return ret;
	}
	sc->console.in_socket = sc->console.out_socket = true;
	console_start(&sc->console, &socket_ops, wiring, -1, -1);
	serial_set_discard(wiring->serial, true);
	sc->listening =
		(struct loop_poll){.fd = sc->listener.fd, .events = POLLIN, .ready = listen_ready};
	loop_poll_start(wiring->loop, &sc->listening);
	*out = &sc->console;
	return 0;
}
