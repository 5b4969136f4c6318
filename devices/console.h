/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of the serial port: standard input and output, a file, a Unix socket, or nothing.
 *
 * A console lives on one loop (the main thread's). Create it before the loop runs or on the loop's
 * thread. Destroy it when no vCPU runs any more and the loop will not run again (before or after
 * loop_destroy()), and before serial_destroy(): what the guest wrote last is flushed then, for at
 * most a second, and a terminal gets its settings back.
 */
#pragma once

#include "devices/serial.h"
#include "vmm/base/error.h"
#include "vmm/base/loop.h"

struct console;

/* What every back end is wired to. Copied. */
struct console_wiring {
	struct loop *loop;
	struct serial *serial;
	/* The user ended the VM with Ctrl-A x. On the loop's thread, at most once. May be NULL. */
	void (*quit)(void *owner);
	void *owner;
};

/*
 * Standard input and output. On a terminal: raw mode, Ctrl-A x ends the VM, Ctrl-A a (or Ctrl-A
 * twice) sends a Ctrl-A. Otherwise every byte goes through as it is, and end of file ends input only.
 */
int console_stdio_create(
	struct console **out, const struct console_wiring *wiring, struct error *err);

/* Output is appended to the file `path`, made with mode 0640 where it is missing; no input. */
int console_file_create(struct console **out, const struct console_wiring *wiring, const char *path,
	struct error *err);

/*
 * A listening Unix socket at `path` (mode 0600), one client at a time: a later one gets one line of
 * explanation and is closed. Output is discarded while there is no client.
 */
int console_socket_create(struct console **out, const struct console_wiring *wiring,
	const char *path, struct error *err);

/* NULL is accepted: `--console off` is no console at all. */
void console_destroy(struct console *console);
