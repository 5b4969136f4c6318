/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM with all that belongs to it, in the order in which it is made and goes: the machine, its metrics file, its
 * debugger's socket, its control socket. `bulkhead run` and the library's in-process placement both run a VM by this, so that
 * neither can do what the other forgets.
 *
 * It changes nothing of the process: no signal's disposition, no limit, no name. The system-call filters are entered by
 * the threads that work for it, the calling one included, where the configuration says so.
 *
 * Threads: all functions on one thread, the VM's main thread. What others may do is in machine.h.
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/control/control.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/metrics.h"
#include "vmm/transfer/restore.h"

struct instance {
	struct machine *machine;
	struct metrics_file metrics;
	struct gdb *gdb;	 /* NULL: no debugger can */
	struct control *control; /* NULL: nobody can reach it */
};

/*
 * Make everything. `config` outlives it. `client`: the descriptor of a connected stream socket whose other end is a client
 * of the control API from the start, taken over in any case; -1: none. `restore`: what the VM begins from,
 * which outlives it too; NULL: its kernel. Nothing stays behind on failure.
 */
int instance_create(struct instance *instance, struct machine_config *config,
	struct restore *restore, int client, struct error *err);

/* To the VM's end, as machine_run(). */
int instance_run(struct instance *instance, enum machine_exit *how, struct error *err);

void instance_destroy(struct instance *instance);
