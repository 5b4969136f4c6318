/* SPDX-License-Identifier: Apache-2.0 */
/* PCI Local Bus 3.0 §6, PCI Express Base 4.0 §7.2.2. See pci.h. */
#include "guest/payloads/lib/pci.h"

#include "guest/payloads/lib/cpu.h"

#include <linux/pci_regs.h>

#define CAPABILITIES_MAX 48 /* so many fit: a longer list loops */

static void read_bars(struct pci_function *fn)
{
	for (unsigned i = 0; i < 6; i++) {
		uint32_t low = mmio_read32(fn->config + PCI_BASE_ADDRESS_0 + 4 * i);

		fn->bars[i] = 0;
		if (low & PCI_BASE_ADDRESS_SPACE_IO)
			continue;
		fn->bars[i] = low & PCI_BASE_ADDRESS_MEM_MASK;
		if (low & PCI_BASE_ADDRESS_MEM_TYPE_64 && i < 5) {
			fn->bars[i] |=
				(uint64_t)mmio_read32(fn->config + PCI_BASE_ADDRESS_0 + 4 * i + 4)
				<< 32;
			fn->bars[++i] = 0;
		}
	}
}

bool pci_open(unsigned slot, struct pci_function *fn)
{
	fn->slot = slot;
	fn->config = ECAM_BASE + (slot << 15);
	fn->vendor = mmio_read16(fn->config + PCI_VENDOR_ID);
	fn->device = mmio_read16(fn->config + PCI_DEVICE_ID);
	if (fn->vendor == 0xffff)
		return false;
	read_bars(fn);
	return true;
}

void pci_enable(const struct pci_function *fn, bool on)
{
	uint16_t command = mmio_read16(fn->config + PCI_COMMAND);
	uint16_t bits = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

	mmio_write16(fn->config + PCI_COMMAND, on ? command | bits : command & (uint16_t)~bits);
}

unsigned pci_capability(const struct pci_function *fn, uint8_t id, unsigned after)
{
	unsigned at = mmio_read8(fn->config + (after ? after + 1 : PCI_CAPABILITY_LIST));

	if (!(mmio_read16(fn->config + PCI_STATUS) & PCI_STATUS_CAP_LIST))
		return 0;
	for (unsigned i = 0; at && i < CAPABILITIES_MAX; i++) {
		at &= 0xfc;
		if (mmio_read8(fn->config + at) == id)
			return at;
		at = mmio_read8(fn->config + at + 1);
	}
	return 0;
}

uint32_t pci_bar_size(const struct pci_function *fn, unsigned bar)
{
	uint64_t at = fn->config + PCI_BASE_ADDRESS_0 + 4 * bar;
	uint32_t old = mmio_read32(at), mask;

	mmio_write32(at, 0xffffffff);
	mask = mmio_read32(at) & (uint32_t)PCI_BASE_ADDRESS_MEM_MASK;
	mmio_write32(at, old);
	return ~mask + 1;
}
