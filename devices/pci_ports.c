/* SPDX-License-Identifier: Apache-2.0 */
/* PCI configuration mechanism 1, as another way into the host's ECAM: see pci_ports.h. */
#include "devices/pci_ports.h"

#define ADDRESS_ENABLE	 0x80000000u
#define ADDRESS_BUS	 0x00ff0000u
#define ADDRESS_FUNCTION 0x0000ff00u
#define ADDRESS_REGISTER 0x000000fcu
#define DATA		 4 /* the data port's offset */
#define RESET		 1 /* the reset control register's */

/* Where in ECAM the data port leads now; false: nowhere (disabled, or a bus that is not there). */
static bool decode(const struct pci_ports *ports, uint64_t offset, uint64_t *ecam)
{
	uint32_t address = atomic_load(&ports->address);

	if (!(address & ADDRESS_ENABLE) || address & ADDRESS_BUS)
		return false;
	*ecam = (uint64_t)(address & ADDRESS_FUNCTION) << 4 | (address & ADDRESS_REGISTER) |
		(offset - DATA);
	return true;
}

static uint64_t ports_read(void *device, uint64_t offset, unsigned size)
{
	struct pci_ports *ports = device;
	uint64_t ecam;

	if (offset == 0 && size == 4)
		return atomic_load(&ports->address);
	if (offset == RESET && size == 1)
		return ports->reset_ops->read(ports->reset_device, 0, 1);
	if (offset >= DATA && decode(ports, offset, &ecam))
		return pci_ecam_ops.read(ports->host, ecam, size);
	return UINT64_MAX;
}

static void ports_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_ports *ports = device;
	uint64_t ecam;

	if (offset == 0 && size == 4)
		atomic_store(&ports->address, (uint32_t)value);
	else if (offset == RESET && size == 1)
		ports->reset_ops->write(ports->reset_device, 0, 1, value);
	else if (offset >= DATA && decode(ports, offset, &ecam))
		pci_ecam_ops.write(ports->host, ecam, size, value);
}

const struct bus_ops pci_ports_ops = {.read = ports_read, .write = ports_write};

static const struct state_field fields[] = {
	STATE_UINT(struct pci_ports_state, address),
};

const struct state_table pci_ports_state_table =
	STATE_TABLE("pci_ports", 1, struct pci_ports_state, fields);

void pci_ports_save(const struct pci_ports *ports, struct pci_ports_state *state)
{
	state->address = atomic_load(&ports->address);
}

int pci_ports_load(struct pci_ports *ports, const struct pci_ports_state *state, struct error *err)
{
	(void)err;
	atomic_store(&ports->address, state->address);
	return 0;
}
