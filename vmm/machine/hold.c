/* SPDX-License-Identifier: Apache-2.0 */
/* The machine stands still: see hold.h. */
#include "vmm/machine/hold.h"

#include "vmm/base/util.h"
#include "vmm/machine/machine_private.h"

static void devices_quiet(void *owner)
{
	struct machine *m = owner;

	m->devices_quiet = true;
	if (m->hold)
		m->hold->held(m->hold);
	/* else the machine has ended meanwhile */
}

static int check_plugs(const struct machine *m, struct error *err)
{
	if (m->plugs.first || m->plugs.draining)
		return error_set(err, ERROR_WRONG_STATE, "a device is being attached or detached");
	return 0;
}

int machine_keep_devices(struct machine *m, struct error *err)
{
	int ret = check_plugs(m, err);

	if (ret < 0)
		return ret;
	m->plugs.kept++;
	m->copied = true;
	return 0;
}

void machine_let_devices_go(struct machine *m)
{
	BUG_ON(!m->plugs.kept);
	if (--m->plugs.kept == 0)
		plugs_ejected(m, 0); /* what was left lying */
}

bool machine_was_copied(const struct machine *m)
{
	return m->copied;
}

static int check(const struct machine *m, struct error *err)
{
	if (!m->powered || m->ended || m->resetting)
		return error_set(err, ERROR_WRONG_STATE, "the VM is %s",
			m->powered ? machine_state_name(machine_state(m)) : "not there yet");
	if (m->hold)
		return error_set(err, ERROR_WRONG_STATE, "the VM is held already");
	if (m->cpus.busy || m->plugged.busy)
		return error_set(err, ERROR_WRONG_STATE, "vCPUs or memory are being resized");
	return check_plugs(m, err);
}

int machine_hold(struct machine *m, struct machine_hold *hold, struct error *err)
{
	int ret = check(m, err);

	if (ret < 0)
		return ret;
	m->hold = hold;
	hold->began_ns = now_ns();
	hold->were_quiet = m->devices_quiet;
	machine_pause(m);
	if (m->devices_quiet)
		hold->held(hold);
	else
		machine_devices_quiesce(&m->devices, devices_quiet, m);
	return 0;
}

uint64_t machine_release(struct machine *m, struct machine_hold *hold)
{
	uint64_t ns;

	BUG_ON(m->hold != hold);
	m->hold = NULL;
	if (m->ended)
		return 0; /* nothing of it goes on */
	machine_resume(m);
	if (!hold->were_quiet) /* a user's pause has nothing to do with the devices */
		machine_wake_devices(m);
	ns = m->pauses ? 0 : now_ns() - hold->began_ns;
	if (atomic_load(&m->request)) /* it waited */
		machine_request(m, (enum machine_request)atomic_load(&m->request));
	return ns;
}

void machine_wake_devices(struct machine *m)
{
	if (!m->devices_quiet)
		return;
	m->devices_quiet = false;
	machine_devices_unquiesce(&m->devices);
}
