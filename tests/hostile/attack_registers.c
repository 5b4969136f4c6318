/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Garbage in every register of the victim: its BAR, its configuration space, its status, its
 * interrupt table; and its BAR in places where no BAR belongs.
 *
 * MSI-X stays off while the table holds garbage that it would send: a message can carry INIT or
 * NMI, and a guest that sends itself those has got what it asked for.
 */
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/lapic.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"
#include "tests/hostile/attack.h"

#include <linux/pci_regs.h>

#define BAR_SIZE_MAX   0x8000u
#define CONFIG_SIZE    4096u
#define FREE_BAR       0xd8000000u /* in the window, far from what the machine assigns */
#define VECTOR_FIRST   0x30
#define VECTORS_TO_TRY 0xc0

static struct virtio *victim(void)
{
	return &attack.victim.dev;
}

/* Every offset once with every size, then random ones; what is read means nothing here. */
static void garbage(uint64_t base, uint32_t size, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned width = 1u << attack_below(4);
		uint64_t offset = attack_below(size);

		if (offset + width > size)
			continue;
		if (attack_random() & 1)
			mmio_write(base + offset, width, attack_random());
		else
			mmio_read(base + offset, width);
	}
}

/* The victim is given back as it was assigned; the reset is the driver's. */
static void mend(const char *what)
{
	attack_restore(victim(), attack.victim_bar);
	attack_recover(what);
}

void attack_bar_garbage(void)
{
	uint64_t base;
	uint32_t size;

	attack_open(64, 0);
	pci_enable(&victim()->pci, false);
	size = pci_bar_size(&victim()->pci, 0);
	pci_enable(&victim()->pci, true);
	check(size && size <= BAR_SIZE_MAX, "a BAR of %u bytes", size);
	base = victim()->pci.bars[0];
	for (unsigned round = 0; round < 20; round++) {
		garbage(base, size, 1000);
		mend("garbage in the BAR");
		garbage(victim()->common, 64, 500);
		mend("garbage in the common registers");
		garbage(victim()->config, 64, 100);
		mend("garbage in the device's configuration");
		garbage(victim()->notify, 4096, 200);
		mend("garbage kicks");
	}
}

void attack_config_garbage(void)
{
	attack_open(64, 0);
	for (unsigned round = 0; round < 20; round++) {
		garbage(victim()->pci.config, PCI_CFG_SPACE_SIZE, 500);
		mend("garbage in configuration space");
		garbage(victim()->pci.config, CONFIG_SIZE, 500);
		mend("garbage in extended configuration space");
	}
	/* Slots without a device, functions beyond the first, the host bridge. */
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		struct pci_function fn;

		for (unsigned function = slot ? 1 : 0; function < 8; function++)
			garbage(ECAM_BASE + (slot << 15) + function * CONFIG_SIZE, CONFIG_SIZE, 20);
		if (!pci_open(slot, &fn))
			garbage(fn.config, CONFIG_SIZE, 20);
	}
	mend("garbage where no device is");
}

/* ---- negotiation in every wrong order ---- */

static void wrong_features(void)
{
	struct virtio *dev = victim();

	virtio_reset(dev);
	mmio_write8(dev->common + VIRTIO_PCI_COMMON_STATUS, 3);
	for (unsigned word = 0; word < 4; word++) {
		mmio_write32(dev->common + VIRTIO_PCI_COMMON_GFSELECT, word);
		mmio_write32(dev->common + VIRTIO_PCI_COMMON_GF, 0xffffffff);
	}
	mmio_write8(dev->common + VIRTIO_PCI_COMMON_STATUS, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
	check(!(virtio_status(dev) & VIRTIO_CONFIG_S_FEATURES_OK),
		"features that are not offered were accepted");
	attack_recover("features that are not offered");
	virtio_reset(dev);
	mmio_write8(dev->common + VIRTIO_PCI_COMMON_STATUS, 3 | VIRTIO_CONFIG_S_DRIVER_OK);
	virtq_notify(&attack.victim.queue);
	attack_recover("DRIVER_OK without features");
	virtio_negotiate(dev, 0);
	virtio_driver_ok(dev);
	virtq_notify(&attack.victim.queue);
	attack_recover("DRIVER_OK without a queue");
}

void attack_status_garbage(void)
{
	struct virtio *dev = victim();

	attack_open(64, 0);
	wrong_features();
	for (unsigned status = 1; status < 256; status++) {
		virtio_reset(dev);
		mmio_write8(dev->common + VIRTIO_PCI_COMMON_STATUS, (uint8_t)status);
		virtq_notify(&attack.victim.queue);
	}
	attack_recover("every status");
	/* Activation and reset in quick succession, without waiting for either. */
	for (unsigned round = 0; round < 200; round++) {
		virtio_negotiate(dev, 0);
		virtq_attach(&attack.victim.queue, dev, 0);
		for (uint64_t i = attack_below(6); i; i--)
			mmio_write8(dev->common + VIRTIO_PCI_COMMON_STATUS,
				attack_random() & 1 ? 0x0f : 0);
		virtq_notify(&attack.victim.queue);
	}
	attack_recover("activations and resets");
	/* Queues beyond the last. */
	for (unsigned i = 0; i < 300; i++) {
		uint16_t select = (uint16_t)(i < 50 ? i + 1 : attack_random());

		virtq_write_registers(dev, select, 64, 0x1000, 0x2000, 0x3000);
		mmio_write16(dev->common + VIRTIO_PCI_COMMON_Q_ENABLE, 1);
		mmio_write16(dev->common + VIRTIO_PCI_COMMON_Q_MSIX, select);
	}
	attack_recover("queues that do not exist");
}

/* ---- the BAR in the wrong place ---- */

static void move(uint32_t bar)
{
	mmio_write32(victim()->pci.config + PCI_BASE_ADDRESS_0, bar);
}

/* RAM stays RAM, whatever is laid over it: the payload itself lies there. */
static void over_ram(void)
{
	static volatile uint64_t canary = 0x123456789abcdef0;
	uint32_t places[] = {0x100000, (uint32_t)(uint64_t)&canary & ~0x7fffu, 0, 0x2000000};

	for (unsigned i = 0; i < sizeof(places) / sizeof(*places); i++) {
		move(places[i]);
		canary++;
		check(canary == 0x123456789abcdef1ul + i, "a BAR hides RAM");
		check(mmio_read32(attack.victim_bar + VIRTIO_PCI_COMMON_STATUS) == 0xffffffff,
			"the old place still answers");
		virtq_notify(&attack.victim.queue);
		mend("a BAR over RAM");
	}
}

static void over_others(void)
{
	const uint32_t places[] = {(uint32_t)attack.bystander.dev.pci.bars[0], (uint32_t)ECAM_BASE,
		0xfee00000, 0xfec00000, 0xffff8000, 0xbfff8000, 0xdfff8000, 0xe00f8000};

	for (unsigned i = 0; i < sizeof(places) / sizeof(*places); i++) {
		move(places[i]);
		garbage(FREE_BAR, BAR_SIZE_MAX, 10);
		/* Over the bystander's either may answer: it is looked at once they are apart again. */
		mend("a BAR over something else");
	}
}

static void move_along(uint32_t to)
{
	struct virtio *dev = victim();
	int64_t by = (int64_t)to - (int64_t)dev->pci.bars[0];

	move(to);
	dev->pci.bars[0] = to;
	dev->common += (uint64_t)by;
	dev->notify += (uint64_t)by;
	dev->config += (uint64_t)by;
	attack.victim.queue.notify += (uint64_t)by;
}

/* Moved with memory decoding on and kicks connected, it works where it is, and only there. */
static void move_and_work(void)
{
	for (unsigned i = 0; i < 50; i++) {
		uint32_t old = (uint32_t)victim()->pci.bars[0];
		uint32_t now = FREE_BAR + (uint32_t)attack_below(1000) * BAR_SIZE_MAX;

		move_along(now);
		check(now == old || mmio_read32(old) == 0xffffffff, "the old place still answers");
		blk_flush(&attack.victim);
	}
	move_along(attack.victim_bar);
	blk_flush(&attack.victim);
}

void attack_bar_moves(void)
{
	attack_open(64, 0);
	over_ram();
	over_others();
	move_and_work();
	for (unsigned i = 0; i < 100; i++) {
		pci_enable(&victim()->pci, false);
		check(mmio_read32(attack.victim_bar) == 0xffffffff, "a BAR that is off answers");
		virtq_notify(&attack.victim.queue);
		pci_enable(&victim()->pci, true);
		blk_flush(&attack.victim);
	}
	for (unsigned i = 0; i < 300; i++) {
		move((uint32_t)attack_random());
		if (i % 16 == 0)
			pci_enable(&victim()->pci, i & 1);
	}
	mend("a BAR that jumps");
}

/* ---- interrupts to nowhere ---- */

static volatile uint64_t interrupts;

static void count(void *arg)
{
	(void)arg;
	interrupts++;
}

/* Any address and vector, but delivered as a fixed interrupt that we have a gate for. */
static void random_entry(unsigned entry)
{
	uint64_t at = victim()->msix_table + 16 * entry;
	uint32_t high = attack_random() % 4 ? 0 : (uint32_t)attack_random();

	mmio_write32(at, attack_random() & 1 ? 0xfee00000u | (uint32_t)attack_below(0x100000)
					     : (uint32_t)attack_random());
	mmio_write32(at + 4, high);
	mmio_write32(at + 8, (uint32_t)(VECTOR_FIRST + attack_below(VECTORS_TO_TRY)));
	mmio_write32(at + 12, attack_random() % 4 == 0);
}

static void run_one_request(void)
{
	static uint8_t data[SECTOR];

	blk_read(&attack.victim, 0, data, SECTOR);
}

void attack_msix_garbage(void)
{
	uint64_t flags_at;

	attack_open(64, 0);
	lapic_enable();
	for (unsigned v = VECTOR_FIRST; v < VECTOR_FIRST + VECTORS_TO_TRY; v++)
		interrupt_set(v, count, NULL);
	attack.victim.queue.vector = 1;
	attack_recover("a vector");
	flags_at = victim()->pci.config + victim()->msix + PCI_MSIX_FLAGS;
	for (unsigned i = 0; i < 400; i++) {
		random_entry((unsigned)attack_below(victim()->vectors));
		mmio_write16(
			flags_at, (uint16_t)(attack_random() &
					     (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)));
		run_one_request();
		if (i % 50 == 0)
			attack_check_bystander("garbage in the interrupt table");
	}
	/* Entries beyond the last, and pending bits, which are not the guest's to write. */
	mmio_write16(flags_at, 0);
	garbage(victim()->msix_table, 4096, 500);
	garbage(victim()->msix_pending, 4096, 200);
	for (unsigned entry = 0; entry < victim()->vectors; entry++)
		mmio_write32(victim()->msix_table + 16 * entry + 12, 1);
	/* And then one that is right. */
	mend("garbage in the interrupt table");
	virtio_vector(victim(), 1, VECTOR_FIRST);
	interrupts = 0;
	run_one_request();
	check(wait_until(interrupts == 1, 5000), "%lu interrupts for one request", interrupts);
}
