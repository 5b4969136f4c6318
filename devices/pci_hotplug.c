/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI hot-plug of PCI slots (ACPI 6.4 §5.6.6, §6.3). See pci_hotplug.h for the registers.
 *
 * A request sets a slot's bit and raises the event device's interrupt. The guest's event method reads
 * both registers, which takes all bits at once, and notifies each slot: Bus Check (0) or Ejection
 * Request (3). Its hot-plug code then scans the slot, or removes the device from its drivers, calls _EJ0 and, in
 * both cases, _OST with how it went. What a hostile guest writes here at will is only a claim: the machine
 * compares it with what it has asked (vmm/machine/plug.c).
 *
 * A Bus Check has the guest look at what is below the object notified, a Device Check (1) at its parent (§5.6.6, table 5.175):
 * for that, Linux reads each empty slot's vendor twice, before it says how it went.
 */
#include "devices/pci_hotplug.h"

enum { OFFSET_UP = 0, OFFSET_DOWN = 4, OFFSET_EJECT = 8, OFFSET_OUTCOME = 12 };

static uint64_t hotplug_read(void *device, uint64_t offset, unsigned size)
{
	struct pci_hotplug *hotplug = device;

	if (size != 4)
		return 0;
	if (offset == OFFSET_UP)
		return atomic_exchange(&hotplug->up, 0);
	if (offset == OFFSET_DOWN)
		return atomic_exchange(&hotplug->down, 0);
	return 0;
}

static void hotplug_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_hotplug *hotplug = device;
	unsigned slot = value & 0xff;

	if (size != 4)
		return;
	if (offset == OFFSET_EJECT)
		hotplug->ops->ejected(hotplug->owner, (uint32_t)value);
	else if (offset == OFFSET_OUTCOME && slot < PCI_SLOTS)
		hotplug->ops->outcome(
			hotplug->owner, slot, value >> 8 & 0xff, value >> 16 & 0xffff);
}

const struct bus_ops pci_hotplug_bus_ops = {.read = hotplug_read, .write = hotplug_write};

void pci_hotplug_init(struct pci_hotplug *hotplug, struct power *power,
	const struct pci_hotplug_ops *ops, void *owner)
{
	hotplug->power = power;
	hotplug->ops = ops;
	hotplug->owner = owner;
	pci_hotplug_reset(hotplug);
}

void pci_hotplug_reset(struct pci_hotplug *hotplug)
{
	atomic_store(&hotplug->up, 0);
	atomic_store(&hotplug->down, 0);
}

void pci_hotplug_ask(struct pci_hotplug *hotplug, unsigned slot, bool up)
{
	atomic_fetch_and(up ? &hotplug->down : &hotplug->up, ~(1u << slot));
	atomic_fetch_or(up ? &hotplug->up : &hotplug->down, 1u << slot);
	power_raise(hotplug->power, POWER_EVENT_PCI);
}

bool pci_hotplug_remind(struct pci_hotplug *hotplug, unsigned slot)
{
	uint32_t asked = atomic_load(&hotplug->up) | atomic_load(&hotplug->down);

	if (!(asked >> slot & 1))
		return false;
	power_raise(hotplug->power, POWER_EVENT_PCI);
	return true;
}

bool pci_hotplug_withdraw(struct pci_hotplug *hotplug, unsigned slot)
{
	uint32_t bit = 1u << slot;
	uint32_t up = atomic_fetch_and(&hotplug->up, ~bit);
	uint32_t down = atomic_fetch_and(&hotplug->down, ~bit);

	return (up | down) & bit;
}

static int check(const void *thing, struct error *err)
{
	const struct pci_hotplug_state *state = thing;

	if (state->up & state->down)
		return error_set(err, ERROR_CORRUPT, "a slot is to be filled and emptied at once");
	return 0;
}

static const struct state_field fields[] = {
	STATE_UINT(struct pci_hotplug_state, up),
	STATE_UINT(struct pci_hotplug_state, down),
};

const struct state_table pci_hotplug_state_table =
	STATE_TABLE("pci_hotplug", 1, struct pci_hotplug_state, fields, .check = check);

void pci_hotplug_save(const struct pci_hotplug *hotplug, struct pci_hotplug_state *state)
{
	state->up = atomic_load(&hotplug->up);
	state->down = atomic_load(&hotplug->down);
}

int pci_hotplug_load(
	struct pci_hotplug *hotplug, const struct pci_hotplug_state *state, struct error *err)
{
	(void)err;
	atomic_store(&hotplug->up, state->up);
	atomic_store(&hotplug->down, state->down);
	return 0;
}
