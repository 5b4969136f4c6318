/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPUs that come and go: slot n is vCPU n, whose APIC id is n.
 *
 * A vCPU is made in KVM when it is first wanted. KVM cannot unmake one: when the guest has let go of it, its thread stays at the
 * gate, whatever the guest sends it; when it comes again, it waits for INIT and SIPI as at first. A reset makes
 * those that the guest has.
 */
#include "vmm/base/log.h"
#include "vmm/machine/hotplug_private.h"
#include "vmm/machine/machine_private.h"

#include <stdio.h>

static int make_vcpu(struct machine *m, struct error *err)
{
	int ret = machine_add_vcpu(m, err);

	if (ret < 0)
		return ret;
	ret = arch_vcpu_announce(m->vcpus.vcpus[m->vcpus.count - 1], err);
	if (ret == 0)
		ret = vcpus_start(&m->vcpus, err);
	if (ret < 0)
		vcpu_drop_last(&m->vcpus);
	return ret;
}

static int fill(struct machine *m, unsigned slot, struct error *err)
{
	BUG_ON(slot > m->vcpus.count); /* slots are filled from below: there is no gap */
	if (slot == m->vcpus.count)
		return make_vcpu(m, err);
	vcpu_set_out(m->vcpus.vcpus[slot], false);
	return 0;
}

static void clear(struct machine *m, unsigned slot)
{
	vcpu_set_out(m->vcpus.vcpus[slot], true);
}

static void count(struct machine *m)
{
	m->config->cpus = (unsigned)__builtin_popcountll(m->cpus.here);
	machine_devices_set_vcpus(&m->devices, m->config->cpus);
}

static const char *say(const struct machine *m, char *buf, size_t size)
{
	snprintf(buf, size, "%u vCPU%s", m->config->cpus, m->config->cpus == 1 ? "" : "s");
	return buf;
}

static uint64_t filled(const struct machine *m)
{
	return m->vcpus.count < 64 ? (1ull << m->vcpus.count) - 1 : UINT64_MAX;
}

const struct hotplug_kind hotplug_cpus = {
	.fill = fill, .clear = clear, .count = count, .say = say, .filled = filled};

int machine_resize_cpus(struct machine *m, unsigned wanted, unsigned timeout_ms,
	struct machine_resize *resize, struct error *err)
{
	struct hotplug *h = &m->cpus;
	unsigned have = m->config->cpus;

	if (wanted > m->config->cpus_max) {
		error_set(err, ERROR_BAD_REQUEST, "%u vCPUs are more than cpus.max, %u", wanted,
			m->config->cpus_max);
		return error_hint(err, "start the VM with --cpus N,max=M");
	}
	if (!h->kind && wanted == have)
		return 1;
	if (!h->kind) {
		error_set(err, ERROR_WRONG_STATE,
			"this VM was started with as many vCPUs as it can have: they stay");
		return error_hint(err, "start the VM with --cpus N,max=M");
	}
	if (wanted <= have)
		return hotplug_change(
			h, 0, hotplug_leaving(h, have - wanted), timeout_ms, resize, err);
	return hotplug_change(h, hotplug_entering(h, wanted - have), 0, timeout_ms, resize, err);
}
