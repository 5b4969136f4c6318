/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A point in time: the machine stands still, as a whole.
 *
 * No vCPU runs and each has completed its last exit; nothing that a device has taken from its queues is in flight, what was
 * is completed in the rings and its interrupt raised; the devices touch neither guest memory nor what is behind them. So
 * memory, the machine's state and its disks belong to each other. Then all goes on as if nothing had been.
 *
 * Holding takes as long as the slowest request in flight; what a limit delays is not waited for. While the machine is held
 * nothing is plugged, and a reset that the guest asked for just before waits.
 *
 * Threads: the main thread, the callback too.
 */
#pragma once

#include "vmm/machine/machine.h"

struct machine_hold {
	/* It stands still. Comes once, also from within machine_hold(). */
	void (*held)(struct machine_hold *hold);
	uint64_t began_ns; /* CLOCK_MONOTONIC, when vCPUs were asked to stop */
	bool were_quiet;   /* the devices, before: the machine was loaded, and not let go yet */
};

/*
 * From now on until machine_let_devices_go() no device comes or goes: what is copied of them, and the configuration that is
 * kept, stays that of the moment to come. A guest that lets go of one that it was once asked for is heard at the end. Refuses, as `wrong_state`,
 * while one is on its way. Nests.
 */
int machine_keep_devices(struct machine *machine, struct error *err);
void machine_let_devices_go(struct machine *machine);
/* They were kept once: somebody may have read all of memory. */
bool machine_was_copied(const struct machine *machine);

/* Refuses, as `wrong_state`, a machine that is not at rest with itself: being reset, ended, in the midst of a hot-plug, held already. */
int machine_hold(struct machine *machine, struct machine_hold *hold, struct error *err);

/* After held(), or when the machine has ended: all goes on, where it has not. Returns the nanoseconds for which vCPUs that would have run stood still; 0 where they did not run before. */
uint64_t machine_release(struct machine *machine, struct machine_hold *hold);
