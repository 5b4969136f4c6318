/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers behind ACPI hot-plug of PCI slots: how the guest learns that a slot was filled or is to
 * be emptied, and how it answers. The methods in dsdt.asl are their only driver.
 *
 *   offset  read                                   write
 *   0       slots with a new device; read clears   -
 *   4       slots to let go of; read clears        -
 *   8       0                                      a bit for each slot that was let go of (_EJ0)
 *   12      0                                      an outcome (_OST): bits 0..7 slot, 8..15 event, 16..31 status
 *
 * All are 32 bits wide; bit n of the first three stands for slot n.
 */
#pragma once

#include "devices/bus.h"
#include "devices/pci.h"
#include "devices/power.h"
#include "vmm/state/state.h"

#include <stdatomic.h>

#define PCI_HOTPLUG_BASE  0x610
#define PCI_HOTPLUG_PORTS 16

/* The event of an outcome, and its status where all went well (ACPI 6.4 §6.3.5). */
#define PCI_HOTPLUG_CHECK     0 /* Bus Check, of the slot */
#define PCI_HOTPLUG_EJECT     3
#define PCI_HOTPLUG_STATUS_OK 0

/* Called on the vCPU's thread that wrote the register: must not wait for that vCPU to stop. */
struct pci_hotplug_ops {
	void (*ejected)(void *owner, uint32_t slots);
	void (*outcome)(void *owner, unsigned slot, unsigned event, unsigned status);
};

struct pci_hotplug {
	struct power *power; /* the event device is its */
	const struct pci_hotplug_ops *ops;
	void *owner;
	_Atomic uint32_t up, down;
};

extern const struct bus_ops pci_hotplug_bus_ops;

void pci_hotplug_init(struct pci_hotplug *hotplug, struct power *power,
	const struct pci_hotplug_ops *ops, void *owner);
void pci_hotplug_reset(struct pci_hotplug *hotplug); /* nothing asked */

/* Ask the guest to look at a slot that was filled, or to let go of one. Any thread. */
void pci_hotplug_ask(struct pci_hotplug *hotplug, unsigned slot, bool up);

/* Tell it once more that there is something to read, where it has not read it. Returns whether that was so. */
bool pci_hotplug_remind(struct pci_hotplug *hotplug, unsigned slot);

/* Take back what was asked of a slot. Returns true when the guest had not read it: then it will not hear of it. */
bool pci_hotplug_withdraw(struct pci_hotplug *hotplug, unsigned slot);

struct pci_hotplug_state {
	uint32_t up, down; /* asked and not read */
};

extern const struct state_table pci_hotplug_state_table;

void pci_hotplug_save(const struct pci_hotplug *hotplug, struct pci_hotplug_state *state);
int pci_hotplug_load(
	struct pci_hotplug *hotplug, const struct pci_hotplug_state *state, struct error *err);
