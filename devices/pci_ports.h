/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration mechanism 1 (PCI Local Bus 3.0 §3.2.2.3.2): an address at port 0xcf8, data at 0xcfc.
 *
 * Linux does not trust ECAM before ACPI has told it that the range is reserved, and complains of
 * having no access to configuration space at all when this mechanism is missing until then.
 * The reset control register (port 0xcf9) lies among the address bytes and is handed on.
 */
#pragma once

#include "devices/pci.h"
#include "vmm/state/state.h"

#include <stdatomic.h>
#include <stdint.h>

#define PCI_PORTS_BASE 0xcf8
#define PCI_PORTS      8

struct pci_ports {
	struct pci_host *host;
	_Atomic uint32_t address;
	const struct bus_ops *reset_ops; /* byte accesses to 0xcf9 */
	void *reset_device;
};

extern const struct bus_ops pci_ports_ops;

struct pci_ports_state {
	uint32_t address;
};

extern const struct state_table pci_ports_state_table;

void pci_ports_save(const struct pci_ports *ports, struct pci_ports_state *state);
int pci_ports_load(struct pci_ports *ports, const struct pci_ports_state *state, struct error *err);
