/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the console: what console.c (the two pumps) and the back ends share. Everything here
 * belongs to the loop's thread, but for the atomics.
 */
#pragma once

#include "devices/console.h"

#include <stdatomic.h>

struct console_ops {
	/* Bytes from the host, before the guest gets them: filter them in place (room for one more
	 * than `len`), return how many remain. May be NULL. */
	size_t (*filter)(struct console *console, uint8_t *data, size_t len);
	/* Reading has ended: end of file (0) or an errno. in_fd is not read again. */
	void (*input_ended)(struct console *console, int errnum);
	/* Writing failed with an errno; the bytes in hand are given up. */
	void (*output_failed)(struct console *console, int errnum);
	/* The output pump has let go of out_fd after console_output_cancel(). May be NULL. */
	void (*output_cancelled)(struct console *console);
	/* Close descriptors, free the console. The output is flushed. */
	void (*destroy)(struct console *console);
};

#define CONSOLE_INPUT 1024
#define CONSOLE_CHUNK 4096

struct console {
	const struct console_ops *ops;
	struct console_wiring wiring;
	int in_fd, out_fd; /* -1: none; both non-blocking, or of a kind that does not block */
	bool in_socket, out_socket;

	/* Output: awake from the first byte until a tick finds nothing to write. */
	_Atomic bool awake, wake_posted;
	struct loop_job wake_job;
	struct loop_timer tick;
	uint64_t tick_ns;	 /* the length of the present one */
	struct loop_op writable; /* a one-shot poll, in flight while `blocked` */
	bool blocked;
	uint8_t chunk[CONSOLE_CHUNK];
	size_t chunk_len, chunk_at;

	/* Input: bytes read but not yet accepted by the serial port. */
	_Atomic bool room_posted;
	struct loop_job room_job;
	struct loop_poll readable;
	struct loop_timer deaf; /* the guest does not read; only on terminals */
	bool keep_reading;	/* a terminal: keys must be seen even if the guest takes none */
	bool dropping;
	uint8_t input[CONSOLE_INPUT + 1];
	size_t input_len, input_at;
};

/* Fill in a zeroed console and connect it to the serial port. */
void console_start(struct console *console, const struct console_ops *ops,
	const struct console_wiring *wiring, int in_fd, int out_fd);

/* Read and hand over what can be. */
void console_pump_input(struct console *console);

/* Watch in_fd for input from now on. */
void console_watch_input(struct console *console);

/* Forget the bytes in hand; if a poll is in flight, output_cancelled follows (now, if not). */
void console_output_cancel(struct console *console);
