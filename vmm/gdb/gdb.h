/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A debugger's way to the guest's kernel: gdb's remote serial protocol on a Unix socket (GDB manual, appendix E).
 *
 *   gdb.c           the socket and its one client, bytes in and out
 *   packet.c        their packets
 *   commands.c      what the client may ask
 *   memory.c        guest memory by virtual address, breakpoints in it and in the processor
 *   run.c           going on and stopping
 *
 * A thread of gdb's is a vCPU, numbered from 1. All vCPUs stop together: when a client connects, when one of them comes to
 * a breakpoint, and at Ctrl-C. That is a pause of its own beside the user's (machine_pause() nests): the guest runs when
 * both are over. When the client goes, however it does, its breakpoints go and the guest runs on.
 *
 * All of it lives on the machine's main loop. A vCPU that comes to a breakpoint waits at its gate until this loop has looked.
 * The client is this user or root and may do anything to its guest, but nothing to the host: what it
 * sends is bounded and checked, and memory outside the guest's RAM cannot be reached.
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/machine/machine.h"

struct gdb;

/* Listen on `path`. Main thread, before machine_run(); the machine outlives gdb_leave(). */
int gdb_create(struct machine *machine, const char *path, struct gdb **out, struct error *err);

/* After machine_run(), before machine_destroy(): let go of the machine. NULL is accepted. */
void gdb_leave(struct gdb *gdb);

/* After machine_destroy(): the loop's end has to come first. NULL is accepted. */
void gdb_destroy(struct gdb *gdb);
