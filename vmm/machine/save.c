/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's parts, saved and loaded in order. See save.h. */
#include "vmm/machine/save.h"

#include "vmm/arch/arch.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/machine/dirty.h"
#include "vmm/machine/machine_private.h"

#include <inttypes.h>
#include <stdio.h>

/* What the configuration must be for the rest of it to be loaded. What the guest has of it its slots say. */
struct machine_saved {
	uint32_t vcpus;	 /* that KVM has, those included which the guest let go of */
	uint64_t memory; /* at the start, bytes: its regions */
	uint64_t memory_max;
	uint64_t memory_present; /* slots of the area */
	uint32_t slots_late;	 /* see machine_plugs */
};

static int check_saved(const void *thing, struct error *err)
{
	const struct machine_saved *s = thing;

	if (!s->vcpus || s->memory_max < s->memory)
		return error_set(err, ERROR_CORRUPT, "its sizes make no sense");
	return 0;
}

static const struct state_field saved_fields[] = {
	STATE_UINT(struct machine_saved, vcpus, .max = VCPUS_MAX),
	STATE_UINT(struct machine_saved, memory),
	STATE_UINT(struct machine_saved, memory_max),
	STATE_UINT(struct machine_saved, memory_present),
	STATE_UINT(struct machine_saved, slots_late),
};
static const struct state_table saved_table =
	STATE_TABLE("machine", 1, struct machine_saved, saved_fields, .check = check_saved);

/* ---- saving ---- */

int machine_save(struct machine *m, struct state_writer *out, struct error *err)
{
	const struct machine_saved saved = {
		.vcpus = m->vcpus.count,
		.memory = m->memory.size,
		.memory_max = m->config->memory_max,
		.memory_present = atomic_load(&m->memory.area.present),
		.slots_late = m->plugs.late,
	};
	int ret = 0;

	BUG_ON(!m->hold);
	state_save(out, &saved_table, "", &saved);
	ret = arch_cpu_model_save(m->cpu_model, m->vcpus.vcpus[0], out, err);
	if (ret == 0)
		ret = arch_platform_save(m->platform, out, err);
	if (ret == 0)
		ret = arch_vm_save(&m->vcpus, out, err);
	for (unsigned i = 0; i < m->vcpus.count && ret == 0; i++)
		ret = arch_vcpu_save(m->vcpus.vcpus[i], out, err);
	if (ret == 0)
		machine_devices_save(&m->devices, out);
	return ret;
}

/* ---- making a machine for it ---- */

int machine_fit_config(struct machine_config *config, struct state_reader *state, struct error *err)
{
	struct machine_devices_state devices;
	struct machine_saved saved;
	int ret = state_load(state, &saved_table, "", &saved, err);

	if (ret == 0)
		ret = machine_devices_read(state, &devices, err);
	if (ret < 0)
		return ret;
	if (saved.vcpus > config->cpus_max || saved.memory_max != config->memory_max)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the VM had up to %u vCPUs and %" PRIu64
			" bytes of memory; the configuration has %u and %" PRIu64,
			saved.vcpus, saved.memory_max, config->cpus_max, config->memory_max);
	config->cpus = saved.vcpus;
	config->memory = saved.memory;
	return machine_devices_place(config, &devices, err);
}

int machine_plug_saved_memory(struct machine *m, struct state_reader *state, struct error *err)
{
	struct machine_saved saved;
	int ret = state_load(state, &saved_table, "", &saved, err);

	if (ret == 0 && (saved.memory_present & ~m->plugged.all))
		ret = error_set(err, ERROR_CORRUPT, "the state has memory where none can be");
	for (uint64_t left = saved.memory_present; left && ret == 0; left &= left - 1)
		ret = guest_memory_plug(&m->memory, (unsigned)__builtin_ctzll(left), err);
	return ret;
}

struct guest_memory *machine_memory_to_fill(struct machine *m)
{
	return &m->memory;
}

int machine_load_at_start(
	struct machine *m, struct state_reader *state, bool clone, bool track, struct error *err)
{
	struct arch_cpu_model *model;
	int ret = arch_cpu_model_load(m->kvm_fd, m->config->cpus_max, state, &model, err);

	if (ret < 0)
		return ret;
	arch_cpu_model_destroy(m->cpu_model);
	m->cpu_model = model;
	m->track = track;
	m->state = state;
	m->clone = clone;
	m->started = true; /* there is a guest from the first moment, if one that stands still */
	return 0;
}

/* ---- loading ---- */

static int load_vcpus(struct machine *m, const struct machine_saved *saved, struct error *err)
{
	int ret = 0;

	if (saved->vcpus != m->vcpus.count)
		return error_set(err, ERROR_INCOMPATIBLE, "the state has %u vCPUs, the VM has %u",
			saved->vcpus, m->vcpus.count);
	for (unsigned i = 0; i < m->vcpus.count && ret == 0; i++)
		ret = arch_vcpu_load(m->vcpus.vcpus[i], m->state, err);
	return ret;
}

int machine_load(struct machine *m, struct error *err)
{
	struct machine_saved saved;
	int ret = state_load(m->state, &saved_table, "", &saved, err);

	if (ret == 0)
		ret = machine_devices_load(&m->devices, m->state, err);
	if (ret == 0)
		ret = arch_vm_load(&m->vcpus, m->state, err);
	if (ret == 0)
		ret = load_vcpus(m, &saved, err);
	if (ret == 0)
		ret = arch_platform_load(m->platform, m->state, err);
	if (ret == 0)
		ret = hotplug_load(&m->cpus, arch_platform_cpus(m->platform), err);
	if (ret == 0)
		ret = hotplug_load(&m->plugged, arch_platform_memory(m->platform), err);
	if (ret == 0)
		ret = state_all_taken(m->state, err);
	if (ret < 0)
		return error_prefix(err, "cannot load the state");
	m->plugs.late = saved.slots_late;
	m->devices_quiet = true; /* until the guest is let go */
	m->state = NULL;
	return m->clone ? arch_platform_new_generation(m->platform, err) : 0;
}
