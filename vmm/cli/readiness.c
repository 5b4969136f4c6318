/* SPDX-License-Identifier: Apache-2.0 */
/* Telling the service manager what becomes of the VM. See readiness.h. */
#include "vmm/cli/readiness.h"

#include "vmm/base/util.h"

static void tell_ready(struct loop_job *job)
{
	struct readiness *r = container_of(job, struct readiness, ready);

	if (r->machine) /* else it could not be powered on, and the loop turns for its end only */
		service_manager_tell(&r->manager, "READY=1\nSTATUS=%s",
			machine_state_name(machine_state(r->machine)));
}

static void state_changed(
	struct machine_observer *observer, enum machine_state state, enum machine_exit how)
{
	struct readiness *r = container_of(observer, struct readiness, observer);

	if (state == MACHINE_ENDED)
		service_manager_tell(&r->manager, "STOPPING=1\nSTATUS=%s: %s",
			machine_state_name(state), machine_exit_name(how));
	else
		service_manager_tell(&r->manager, "STATUS=%s", machine_state_name(state));
}

int readiness_open(struct readiness *r, struct error *err)
{
	return service_manager_open(&r->manager, err);
}

void readiness_watch(struct readiness *r, struct machine *machine)
{
	r->machine = machine;
	r->observer.state_changed = state_changed;
	machine_observe(machine, &r->observer);
	r->ready.run = tell_ready;
	loop_post(machine_loop(machine), &r->ready);
}

void readiness_close(struct readiness *r)
{
	if (r->machine)
		machine_unobserve(r->machine, &r->observer);
	r->machine = NULL;
	service_manager_close(&r->manager);
}
