/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of PCI bus 0 through ECAM, their capabilities and BARs. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#ifndef ECAM_BASE
#define ECAM_BASE 0xe0000000ull
#endif
#define PCI_WINDOW_BASE 0xc0000000ull
#define PCI_WINDOW_END	0xe0000000ull
#define PCI_SLOTS	32

struct pci_function {
	unsigned slot;
	uint64_t config; /* its configuration space */
	uint16_t vendor, device;
	uint64_t bars[6]; /* addresses; 0: none, or ports */
};

/* Function 0 in this slot; false when there is none. */
bool pci_open(unsigned slot, struct pci_function *fn);

/* Memory decoding and bus mastering on or off. */
void pci_enable(const struct pci_function *fn, bool on);

/* The offset of the first capability with this id behind `after` (0: from the start); 0 when there is none. */
unsigned pci_capability(const struct pci_function *fn, uint8_t id, unsigned after);

/* The size that a BAR asks for. Memory decoding must be off. */
uint32_t pci_bar_size(const struct pci_function *fn, unsigned bar);
