/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that comes and goes: slot n is that of the guest memory's area (vmm/memory/guest_memory.h).
 *
 * What has been plugged is RAM like any other after a reset: the memory map names it. What the guest has let go of is taken
 * from KVM first, so that no vCPU reaches it any more, and from view then.
 */
#include "vmm/base/util.h"
#include "vmm/machine/hotplug_private.h"
#include "vmm/machine/machine_private.h"

#include <inttypes.h>
#include <stdio.h>

static int fill(struct machine *m, unsigned slot, struct error *err)
{
	int ret;

	if (m->memory.holds)
		return error_set(err, ERROR_WRONG_STATE,
			"a snapshot is being written, or read: memory can come when that is done");
	ret = guest_memory_plug(&m->memory, slot, err);

	if (ret < 0)
		return ret;
	ret = vm_map_slot(&m->vm, &m->memory, slot, err);
	if (ret < 0)
		guest_memory_unplug(&m->memory, slot);
	return ret;
}

static void clear(struct machine *m, unsigned slot)
{
	vm_unmap_slot(&m->vm, &m->memory, slot);
	guest_memory_unplug(&m->memory, slot);
}

static void count(struct machine *m)
{
	m->config->memory = m->memory.size + guest_memory_slots_size(&m->memory, m->plugged.here);
}

static const char *say(const struct machine *m, char *buf, size_t size)
{
	snprintf(buf, size, "%" PRIu64 " MiB", m->config->memory >> 20);
	return buf;
}

static uint64_t filled(const struct machine *m)
{
	return atomic_load(&m->memory.area.present);
}

const struct hotplug_kind hotplug_memory = {
	.fill = fill, .clear = clear, .count = count, .say = say, .filled = filled};

/* Slots of `size` bytes together: each time the one that `next` gives, until they are enough. 0: there are no such. */
static uint64_t choose(const struct hotplug *h, uint64_t size,
	uint64_t (*first)(const struct hotplug *h, unsigned count))
{
	const struct guest_memory *memory = &h->machine->memory;

	for (unsigned n = 1; n <= guest_memory_slot_count(memory); n++) {
		uint64_t slots = first(h, n), have = guest_memory_slots_size(memory, slots);

		if (have >= size)
			return have == size ? slots : 0;
	}
	return 0;
}

static int refuse_size(const struct machine *m, uint64_t wanted, struct error *err)
{
	if (wanted > m->config->memory_max) {
		error_set(err, ERROR_BAD_REQUEST,
			"%" PRIu64 " bytes are more than memory.max, %" PRIu64, wanted,
			m->config->memory_max);
		return error_hint(err, "start the VM with --memory SIZE,max=SIZE");
	}
	if (wanted < m->memory.size)
		return error_set(err, ERROR_BAD_REQUEST,
			"%" PRIu64 " bytes are less than what the VM was started with, %" PRIu64
			", which stays",
			wanted, m->memory.size);
	return error_set(err, ERROR_BAD_REQUEST,
		"memory comes and goes in steps of %" PRIu64 " MiB, from %" PRIu64
		" MiB to %" PRIu64 ": %" PRIu64 " bytes is none of them",
		m->memory.area.unit >> 20, m->memory.size >> 20, m->config->memory_max >> 20,
		wanted);
}

int machine_resize_memory(struct machine *m, uint64_t wanted, unsigned timeout_ms,
	struct machine_resize *resize, struct error *err)
{
	struct hotplug *h = &m->plugged;
	uint64_t have = m->config->memory, slots;

	if (wanted > m->config->memory_max || wanted < m->memory.size)
		return refuse_size(m, wanted, err);
	if (!h->kind)
		return 1; /* it has one size */
	if (wanted == have)
		return hotplug_change(h, 0, 0, timeout_ms, resize, err);
	slots = wanted > have ? choose(h, wanted - have, hotplug_entering)
			      : choose(h, have - wanted, hotplug_leaving);
	if (!slots)
		return refuse_size(m, wanted, err);
	return wanted > have ? hotplug_change(h, slots, 0, timeout_ms, resize, err)
			     : hotplug_change(h, 0, slots, timeout_ms, resize, err);
}
