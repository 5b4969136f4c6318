/* SPDX-License-Identifier: Apache-2.0 */
/* See attack.h. */
#include "tests/hostile/attack.h"

#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"

#include <linux/pci_regs.h>

#define LENGTH	  4096
#define SECTORS	  (LENGTH / SECTOR)
#define BROKEN_MS 10000

struct attack attack;

uint64_t attack_random(void)
{
	return random_next(&attack.seed);
}

void attack_open(uint16_t size, uint64_t features)
{
	attack.seed = boot_number("seed", 1);
	blk_open(&attack.victim, 0, size, features);
	blk_open(&attack.bystander, 1, 16, 0);
	attack.victim_bar = (uint32_t)attack.victim.dev.pci.bars[0];
}

static void write_and_read_back(struct blk *blk, const char *whose, const char *what)
{
	static uint8_t data[LENGTH];
	uint64_t sector = ++attack.generation % (blk->capacity / SECTORS) * SECTORS;
	uint8_t status;

	pattern_fill(data, sector, SECTORS, attack.generation);
	status = blk_do(blk, VIRTIO_BLK_T_OUT, sector, data, LENGTH);
	check(status == VIRTIO_BLK_S_OK, "%s after %s: write status %u", whose, what, status);
	memset(data, 0, LENGTH);
	status = blk_do(blk, VIRTIO_BLK_T_IN, sector, data, LENGTH);
	check(status == VIRTIO_BLK_S_OK, "%s after %s: read status %u", whose, what, status);
	check(pattern_is(data, sector, SECTORS, attack.generation), "%s after %s: wrong data",
		whose, what);
}

void attack_check_bystander(const char *what)
{
	write_and_read_back(&attack.bystander, "the bystander", what);
}

void attack_recover(const char *what)
{
	attack_check_bystander(what);
	blk_restart(&attack.victim);
	write_and_read_back(&attack.victim, "the victim", what);
}

void attack_expect_broken(const char *what)
{
	check(wait_until(
		      virtio_status(&attack.victim.dev) & VIRTIO_CONFIG_S_NEEDS_RESET, BROKEN_MS),
		"%s: no NEEDS_RESET, status %x", what, virtio_status(&attack.victim.dev));
	attack_recover(what);
}

void attack_restore(struct virtio *dev, uint32_t bar)
{
	pci_enable(&dev->pci, false);
	mmio_write32(dev->pci.config + PCI_BASE_ADDRESS_0, bar);
	mmio_write16(dev->pci.config + dev->msix + PCI_MSIX_FLAGS, 0);
	pci_enable(&dev->pci, true);
}
