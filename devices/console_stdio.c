/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard input and output as the console.
 *
 * They are shared with other processes, so O_NONBLOCK must not be set on them: it belongs to the
 * open file description, and the shell would find its terminal changed. Terminals and pipes are
 * opened once more through /proc/self/fd, which gives a description of our own; where that is not
 * possible (no /proc in a jail, another user's terminal) the flag is set and put back at the end.
 * Regular files do not block, and opening one again would lose the shared offset of `>>`.
 *
 * A terminal on standard input is put into raw mode, so that the guest gets every key, ^C included,
 * and Ctrl-A x is the way out. In the background ("bulkhead run &") the terminal is left alone:
 * reading it would stop the process (SIGTTIN).
 */
#include "devices/console_internal.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>

#define ESCAPE 0x01 /* Ctrl-A */

/* A descriptor made non-blocking, and how to undo it. */
struct end {
	int fd;	     /* what is used */
	int shared;  /* the standard descriptor whose flags were changed, or -1 */
	int flags;   /* what they were */
	bool opened; /* fd is ours to close */
	bool pollable, socket;
};

struct stdio {
	struct console console;
	struct end in, out;
	bool raw;
	struct termios saved;
	bool escaped; /* the last key was Ctrl-A */
	bool quit;
};

static bool reopen(struct end *end, int fd, int mode)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	end->fd = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	end->opened = end->fd >= 0;
	return end->opened;
}

static int open_end(struct end *end, int fd, int mode, struct error *err)
{
	struct stat st;

	*end = (struct end){.fd = fd, .shared = -1};
	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "cannot use standard %s as the console",
			mode == O_RDONLY ? "input" : "output");
	end->socket = S_ISSOCK(st.st_mode);
	end->pollable = end->socket || S_ISFIFO(st.st_mode) || isatty(fd);
	if (!end->pollable || end->socket || reopen(end, fd, mode))
		return 0;
	end->fd = fd;
	end->flags = fcntl(fd, F_GETFL);
	if (end->flags >= 0 && fcntl(fd, F_SETFL, end->flags | O_NONBLOCK) == 0)
		end->shared = fd;
	else
		return error_errno(err, errno, "cannot make standard %s non-blocking",
			mode == O_RDONLY ? "input" : "output");
	return 0;
}

static void close_end(struct end *end)
{
	if (end->opened)
		close(end->fd);
	else if (end->shared >= 0)
		fcntl(end->shared, F_SETFL, end->flags);
}

static int make_raw(struct stdio *stdio, struct error *err)
{
	struct termios raw;

	if (tcgetattr(stdio->in.fd, &stdio->saved) < 0)
		return error_errno(err, errno, "cannot read the terminal's settings");
	raw = stdio->saved;
	cfmakeraw(&raw);
	if (tcsetattr(stdio->in.fd, TCSANOW, &raw) < 0)
		return error_errno(err, errno, "cannot put the terminal into raw mode");
	stdio->raw = true;
	return 0;
}

static size_t escape_filter(struct console *console, uint8_t *data, size_t len)
{
	struct stdio *stdio = container_of(console, struct stdio, console);
	uint8_t keys[CONSOLE_INPUT];
	size_t kept = 0;

	memcpy(keys, data, len);
	for (size_t i = 0; i < len; i++) {
		uint8_t key = keys[i];

		if (!stdio->escaped && key == ESCAPE) {
			stdio->escaped = true;
			continue;
		}
		if (stdio->escaped && (key == 'x' || key == 'X')) {
			if (!stdio->quit && console->wiring.quit)
				console->wiring.quit(console->wiring.owner);
			stdio->quit = true;
			stdio->escaped = false;
			continue;
		}
		/* Ctrl-A before any other key is meant for the guest, and so is that key. */
		if (stdio->escaped)
			data[kept++] = ESCAPE;
		if (!stdio->escaped || (key != ESCAPE && key != 'a'))
			data[kept++] = key;
		stdio->escaped = false;
	}
	return kept;
}

static void stdio_input_ended(struct console *console, int errnum)
{
	struct stdio *stdio = container_of(console, struct stdio, console);

	if (stdio->in.pollable)
		loop_poll_stop(&console->readable, NULL);
	if (errnum)
		log_warn("cannot read the console's input any more: %s", strerror(errnum));
}

/* The VM does not end because nobody watches it. A full disk may be mended; a closed pipe stays closed. */
static void stdio_output_failed(struct console *console, int errnum)
{
	struct stdio *stdio = container_of(console, struct stdio, console);
	static struct log_limit limit;

	log_write_limited(
		&limit, LOG_WARN, "cannot write the console's output: %s", strerror(errnum));
	if (stdio->out.pollable)
		serial_set_discard(console->wiring.serial, true);
}

static void stdio_destroy(struct console *console)
{
	struct stdio *stdio = container_of(console, struct stdio, console);

	if (stdio->raw)
		tcsetattr(stdio->in.fd, TCSANOW, &stdio->saved);
	/* In the reverse order of opening: both may have found the flags of one description. */
	close_end(&stdio->in);
	close_end(&stdio->out);
	free(stdio);
}

/* Only a terminal has an escape key: a pipe's bytes go through as they are. */
static const struct console_ops terminal_ops = {
	.filter = escape_filter,
	.input_ended = stdio_input_ended,
	.output_failed = stdio_output_failed,
	.destroy = stdio_destroy,
};

static const struct console_ops plain_ops = {
	.input_ended = stdio_input_ended,
	.output_failed = stdio_output_failed,
	.destroy = stdio_destroy,
};

static bool in_background(int fd)
{
	pid_t foreground = tcgetpgrp(fd);

	return foreground >= 0 && foreground != getpgrp();
}

static int open_ends(struct stdio *stdio, bool *input, struct error *err)
{
	bool terminal = isatty(STDIN_FILENO);
	int ret = open_end(&stdio->out, STDOUT_FILENO, O_WRONLY, err);

	if (ret < 0)
		return ret;
	*input = !(terminal && in_background(STDIN_FILENO));
	if (!*input)
		log_info("in the background: the console does not read the terminal");
	/* A closed standard input is no input, not a mistake: daemons are started so. */
	if (*input && fcntl(STDIN_FILENO, F_GETFL) < 0)
		*input = false;
	if (!*input)
		return 0;
	ret = open_end(&stdio->in, STDIN_FILENO, O_RDONLY, err);
	return ret < 0 || !terminal ? ret : make_raw(stdio, err);
}

int console_stdio_create(
	struct console **out, const struct console_wiring *wiring, struct error *err)
{
	struct stdio *stdio = calloc(1, sizeof(*stdio));
	struct console *console;
	bool input;
	int ret;

	if (!stdio)
		return error_errno(err, ENOMEM, "cannot create the console");
	stdio->in.shared = stdio->out.shared = -1;
	console = &stdio->console;
	ret = open_ends(stdio, &input, err);
	if (ret < 0) {
		stdio_destroy(console);
		return ret;
	}
	console->keep_reading = stdio->raw;
	console->in_socket = stdio->in.socket;
	console->out_socket = stdio->out.socket;
	console_start(console, stdio->raw ? &terminal_ops : &plain_ops, wiring,
		input ? stdio->in.fd : -1, stdio->out.fd);
	if (input && stdio->in.pollable)
		console_watch_input(console);
	else
		console_pump_input(console);
	*out = console;
	return 0;
}
