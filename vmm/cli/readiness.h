/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `run` tells the service manager (NOTIFY_SOCKET): READY=1 once the main loop turns, that is when the machine has been
 * powered on and the control socket is being served; STATUS= with every change of the state; STOPPING=1 at the end.
 * With --paused it is ready as soon as it can be started.
 */
#pragma once

#include "vmm/base/loop.h"
#include "vmm/base/service_manager.h"
#include "vmm/machine/machine.h"

struct readiness {
	struct service_manager manager;
	struct machine *machine;
	struct machine_observer observer;
	struct loop_job ready;
};

/* Before anything else is opened: an address that cannot be one is refused. Zero it, and close it in any case. */
int readiness_open(struct readiness *readiness, struct error *err);
/* After machine_create(), before machine_run(). */
void readiness_watch(struct readiness *readiness, struct machine *machine);
/* After machine_run(), before the loop turns again; and once more where it did not come so far. */
void readiness_close(struct readiness *readiness);
