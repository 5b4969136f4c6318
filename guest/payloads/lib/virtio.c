/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices: finding, negotiation, interrupts. See virtio.h; the queues are in virtq.c.
 */
#include "guest/payloads/lib/virtio.h"

#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/lapic.h"
#include "guest/payloads/lib/report.h"

#include <linux/pci_regs.h>

#define VENDOR	      0x1af4
#define DEVICE_BASE   0x1040
#define RESET_MS      20000
#define ENTRY_SIZE    16
#define ENTRY_CONTROL 12

static uint64_t structure(const struct virtio *dev, unsigned cap)
{
	unsigned bar = mmio_read8(dev->pci.config + cap + 4);

	return dev->pci.bars[bar] + mmio_read32(dev->pci.config + cap + 8);
}

/* §4.1.4: the first capability of each type counts. */
static void find_structures(struct virtio *dev)
{
	unsigned cap = 0;

	dev->common = dev->isr = dev->config = dev->notify = 0;
	while ((cap = pci_capability(&dev->pci, PCI_CAP_ID_VNDR, cap))) {
		uint64_t *fields[] = {
			[VIRTIO_PCI_CAP_COMMON_CFG] = &dev->common,
			[VIRTIO_PCI_CAP_NOTIFY_CFG] = &dev->notify,
			[VIRTIO_PCI_CAP_ISR_CFG] = &dev->isr,
			[VIRTIO_PCI_CAP_DEVICE_CFG] = &dev->config,
		};
		uint8_t type = mmio_read8(dev->pci.config + cap + 3);

		if (!type || type > VIRTIO_PCI_CAP_DEVICE_CFG || *fields[type])
			continue;
		*fields[type] = structure(dev, cap);
		if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
			dev->notify_multiplier = mmio_read32(dev->pci.config + cap + 16);
	}
	check(dev->common && dev->isr && dev->notify, "slot %u: a structure is missing",
		dev->pci.slot);
}

static void find_msix(struct virtio *dev)
{
	uint64_t config = dev->pci.config;
	uint32_t table, pending;

	dev->msix = pci_capability(&dev->pci, PCI_CAP_ID_MSIX, 0);
	check(dev->msix, "slot %u: no MSI-X", dev->pci.slot);
	dev->vectors =
		(mmio_read16(config + dev->msix + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1u;
	table = mmio_read32(config + dev->msix + PCI_MSIX_TABLE);
	pending = mmio_read32(config + dev->msix + PCI_MSIX_PBA);
	dev->msix_table = dev->pci.bars[table & 7] + (table & ~7u);
	dev->msix_pending = dev->pci.bars[pending & 7] + (pending & ~7u);
}

bool virtio_find(struct virtio *dev, unsigned type, unsigned nth)
{
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		if (!pci_open(slot, &dev->pci) || dev->pci.vendor != VENDOR ||
			dev->pci.device != DEVICE_BASE + type || nth--)
			continue;
		pci_enable(&dev->pci, true);
		find_structures(dev);
		find_msix(dev);
		return true;
	}
	return false;
}

void virtio_open(struct virtio *dev, unsigned type, unsigned nth)
{
	check(virtio_find(dev, type, nth), "no device %u of type %u", nth, type);
}

uint8_t virtio_status(const struct virtio *dev)
{
	return mmio_read8(dev->common + VIRTIO_PCI_COMMON_STATUS);
}

static void add_status(struct virtio *dev, uint8_t bits)
{
	mmio_write8(dev->common + VIRTIO_PCI_COMMON_STATUS, virtio_status(dev) | bits);
}

void virtio_reset(struct virtio *dev)
{
	mmio_write8(dev->common + VIRTIO_PCI_COMMON_STATUS, 0);
	check(wait_until(virtio_status(dev) == 0, RESET_MS), "slot %u: no end of the reset",
		dev->pci.slot);
}

uint64_t virtio_offered(const struct virtio *dev)
{
	uint64_t features;

	mmio_write32(dev->common + VIRTIO_PCI_COMMON_DFSELECT, 0);
	features = mmio_read32(dev->common + VIRTIO_PCI_COMMON_DF);
	mmio_write32(dev->common + VIRTIO_PCI_COMMON_DFSELECT, 1);
	return features | (uint64_t)mmio_read32(dev->common + VIRTIO_PCI_COMMON_DF) << 32;
}

void virtio_negotiate(struct virtio *dev, uint64_t wanted)
{
	virtio_reset(dev);
	add_status(dev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(dev, VIRTIO_CONFIG_S_DRIVER);
	dev->features = virtio_offered(dev) & (wanted | FEATURE(VIRTIO_F_VERSION_1));
	for (unsigned word = 0; word < 2; word++) {
		mmio_write32(dev->common + VIRTIO_PCI_COMMON_GFSELECT, word);
		mmio_write32(
			dev->common + VIRTIO_PCI_COMMON_GF, (uint32_t)(dev->features >> 32 * word));
	}
	add_status(dev, VIRTIO_CONFIG_S_FEATURES_OK);
	check(virtio_status(dev) & VIRTIO_CONFIG_S_FEATURES_OK, "slot %u: features %lx refused",
		dev->pci.slot, dev->features);
}

void virtio_driver_ok(struct virtio *dev)
{
	add_status(dev, VIRTIO_CONFIG_S_DRIVER_OK);
}

void virtio_vector(struct virtio *dev, unsigned entry, unsigned vector)
{
	uint64_t at = dev->msix_table + ENTRY_SIZE * entry;
	uint64_t address = lapic_message_address(lapic_id());
	uint16_t flags = mmio_read16(dev->pci.config + dev->msix + PCI_MSIX_FLAGS);

	mmio_write32(at, (uint32_t)address);
	mmio_write32(at + 4, (uint32_t)(address >> 32));
	mmio_write32(at + 8, vector);
	mmio_write32(at + ENTRY_CONTROL, 0);
	mmio_write16(dev->pci.config + dev->msix + PCI_MSIX_FLAGS,
		(flags | PCI_MSIX_FLAGS_ENABLE) & (uint16_t)~PCI_MSIX_FLAGS_MASKALL);
}

void virtio_mask(struct virtio *dev, unsigned entry, bool masked)
{
	mmio_write32(dev->msix_table + ENTRY_SIZE * entry + ENTRY_CONTROL, masked);
}

bool virtio_pending(struct virtio *dev, unsigned entry)
{
	return mmio_read32(dev->msix_pending + entry / 32 * 4) >> entry % 32 & 1;
}

uint64_t virtio_config(const struct virtio *dev, unsigned offset, unsigned size)
{
	return mmio_read(dev->config + offset, size);
}
