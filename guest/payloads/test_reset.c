/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reset with requests in flight (virtio 1.2 §2.1.2, §2.4), and registers that are frozen from
 * DRIVER_OK on (§4.1.4.3.2) or name memory that is none.
 */
#include "guest/payloads/lib/blk.h"
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"
#include "guest/payloads/tests.h"

#define DEPTH	64
#define LENGTH	4096
#define SECTORS (LENGTH / SECTOR)
#define CANARY	0x5a

static struct blk blk;

struct flight {
	struct blk_request request;
	uint8_t *data;
	bool writing;
	uint64_t
		generation; /* of what the disk holds: `generation` or, after a reset, maybe the one before */
};

static struct flight flights[DEPTH];

static uint64_t sector_of(unsigned i)
{
	return i * SECTORS;
}

static void launch(unsigned round)
{
	for (unsigned i = 0; i < DEPTH; i++) {
		struct flight *f = &flights[i];

		f->writing = (i + round) & 1;
		if (f->writing)
			pattern_fill(f->data, sector_of(i), SECTORS, round + 1);
		else
			memset(f->data, 0, LENGTH);
		check(blk_add(&blk, &f->request, f->writing, sector_of(i), f->data, LENGTH),
			"no descriptor free");
	}
	virtq_kick(&blk.queue);
}

/* Once the status reads 0 the device must not touch memory any more: look for it in all it ever knew. */
static void check_silence(unsigned round)
{
	static struct vring_used_elem used[256];
	uint16_t index = blk.queue.used->idx;

	memcpy(used, (void *)blk.queue.used->ring, sizeof(used));
	for (unsigned i = 0; i < DEPTH; i++) {
		memset(flights[i].data, CANARY, LENGTH);
		flights[i].request.status = CANARY;
	}
	if (round % 20 == 0)
		clock_wait_ms(20);
	check(blk.queue.used->idx == index &&
			!memcmp(used, (void *)blk.queue.used->ring, sizeof(used)),
		"round %u: the used ring changed after the reset", round);
	for (unsigned i = 0; i < DEPTH; i++) {
		check(flights[i].request.status == CANARY,
			"round %u: a status was written after the reset", round);
		for (unsigned b = 0; b < LENGTH; b += 8)
			check(*(volatile uint64_t *)(flights[i].data + b) == 0x5a5a5a5a5a5a5a5a,
				"round %u: data was written after the reset", round);
	}
}

/* Each block is whole: as it was before the round, or as the round wrote it. */
static void verify(unsigned round)
{
	for (unsigned i = 0; i < DEPTH; i++) {
		struct flight *f = &flights[i];

		blk_read(&blk, sector_of(i), f->data, LENGTH);
		if (f->writing && pattern_is(f->data, sector_of(i), SECTORS, round + 1))
			f->generation = round + 1;
		else
			check(pattern_is(f->data, sector_of(i), SECTORS, f->generation),
				"round %u: block %u is torn", round, i);
	}
}

void test_reset_in_flight(void)
{
	unsigned rounds = (unsigned)boot_number("rounds", 200);

	blk_open(&blk, 0, 256, FEATURE(VIRTIO_RING_F_EVENT_IDX));
	for (unsigned i = 0; i < DEPTH; i++) {
		flights[i].data = memory_alloc(LENGTH, 4096);
		pattern_fill(flights[i].data, sector_of(i), SECTORS, 0);
		blk_write(&blk, sector_of(i), flights[i].data, LENGTH);
	}
	for (unsigned round = 0; round < rounds; round++) {
		launch(round);
		virtio_reset(&blk.dev);
		check_silence(round);
		blk_restart(&blk);
		verify(round);
	}
	for (unsigned i = 0; i < DEPTH; i++) {
		pattern_fill(flights[i].data, sector_of(i), SECTORS, 9);
		blk_write(&blk, sector_of(i), flights[i].data, LENGTH);
	}
	blk_flush(&blk);
	print("DISK 0 %u 9", DEPTH * SECTORS);
}

/* ---- registers ---- */

static const struct {
	unsigned offset, size;
} queue_registers[] = {
	{VIRTIO_PCI_COMMON_Q_SIZE, 2},
	{VIRTIO_PCI_COMMON_Q_MSIX, 2},
	{VIRTIO_PCI_COMMON_Q_ENABLE, 2},
	{VIRTIO_PCI_COMMON_Q_DESCLO, 4},
	{VIRTIO_PCI_COMMON_Q_DESCHI, 4},
	{VIRTIO_PCI_COMMON_Q_AVAILLO, 4},
	{VIRTIO_PCI_COMMON_Q_AVAILHI, 4},
	{VIRTIO_PCI_COMMON_Q_USEDLO, 4},
	{VIRTIO_PCI_COMMON_Q_USEDHI, 4},
};

#define REGISTERS (sizeof(queue_registers) / sizeof(*queue_registers))

/* A write through the window in configuration space (§4.1.4.9), another way to the same registers. */
static void window_write(unsigned offset, unsigned size, uint32_t value)
{
	uint64_t config = blk.dev.pci.config;
	unsigned cap = 0;

	do {
		cap = pci_capability(&blk.dev.pci, 9, cap);
		check(cap, "no configuration window");
	} while (mmio_read8(config + cap + 3) != VIRTIO_PCI_CAP_PCI_CFG);
	mmio_write8(config + cap + 4, 0);
	mmio_write32(config + cap + 8, (uint32_t)(blk.dev.common - blk.dev.pci.bars[0]) + offset);
	mmio_write32(config + cap + 12, size);
	mmio_write32(config + cap + 16, value);
}

static void write_read_verify(unsigned generation)
{
	static uint8_t data[LENGTH];

	pattern_fill(data, 0, SECTORS, generation);
	blk_write(&blk, 0, data, LENGTH);
	memset(data, 0, LENGTH);
	blk_read(&blk, 0, data, LENGTH);
	check(pattern_is(data, 0, SECTORS, generation), "wrong data");
}

/* Nothing the driver writes to a live queue's registers has an effect, on the registers or the queue. */
void test_registers_frozen(void)
{
	static const uint32_t values[] = {0, 1, 2, 0x1000, 0x8000, 0xffff, 0x7ffff000, 0xffffffff};
	uint64_t decoy = (uint64_t)memory_alloc(65536, 4096);
	unsigned generation = 1;

	blk_open(&blk, 0, 128, 0);
	mmio_write16(blk.dev.common + VIRTIO_PCI_COMMON_Q_SELECT, 0);
	for (unsigned r = 0; r < REGISTERS; r++) {
		uint64_t at = blk.dev.common + queue_registers[r].offset;
		unsigned size = queue_registers[r].size;
		uint64_t before = mmio_read(at, size);

		for (unsigned v = 0; v < sizeof(values) / sizeof(*values); v++) {
			uint32_t value = v == 3 ? (uint32_t)decoy : values[v];

			if (v & 1)
				window_write(queue_registers[r].offset, size, value);
			else
				mmio_write(at, size, value);
			check(mmio_read(at, size) == before, "register %x changed from %lx to %lx",
				queue_registers[r].offset, before, mmio_read(at, size));
			write_read_verify(generation++);
		}
	}
	/* All of them at once, as an attacker would, with a kick after it. */
	virtq_write_registers(&blk.dev, 0, 256, decoy, decoy + 0x4000, decoy + 0x8000);
	write_read_verify(generation);
	for (unsigned i = 0; i < 65536; i++)
		check(!((volatile uint8_t *)decoy)[i], "the decoy queue was written to");
	print("DISK 0 %u %u", SECTORS, generation);
}

/* ---- queues that are not in RAM ---- */

static void try_queue(uint16_t size, uint64_t desc, uint64_t avail, uint64_t used, const char *what)
{
	virtio_negotiate(&blk.dev, blk.dev.features);
	virtq_write_registers(&blk.dev, 0, size, desc, avail, used);
	mmio_write16(blk.dev.common + VIRTIO_PCI_COMMON_Q_ENABLE, 1);
	virtio_driver_ok(&blk.dev);
	check(virtio_status(&blk.dev) & VIRTIO_CONFIG_S_NEEDS_RESET, "no NEEDS_RESET with %s",
		what);
	virtq_notify(&blk.queue);
	blk_restart(&blk);
}

void test_queue_outside_ram(void)
{
	uint64_t good, end = boot_ram_end(), generation = 1;
	static const uint16_t sizes[] = {0, 3, 6, 255, 512 + 1, 2048, 32768, 65535};

	blk_open(&blk, 0, 256, 0);
	good = (uint64_t)memory_alloc(65536, 4096);
	const uint64_t bad[] = {end, end - 64, end + 0x100000000, PCI_WINDOW_BASE, ECAM_BASE,
		0xfee00000, blk.dev.pci.bars[0], 0xfffffffffffff000, 0xfffffffffffffff0, 1ull << 63,
		1ull << 52};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		try_queue(256, bad[i], good, good + 0x4000, "descriptors outside RAM");
		try_queue(256, good, bad[i], good + 0x4000, "the available ring outside RAM");
		try_queue(256, good, good + 0x4000, bad[i], "the used ring outside RAM");
		write_read_verify((unsigned)generation++);
	}
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		try_queue(sizes[i], good, good + 0x4000, good + 0x8000, "a size that is none");
	try_queue(256, good + 8, good + 0x4000, good + 0x8000, "misaligned descriptors");
	try_queue(256, good, good + 0x4001, good + 0x8000, "a misaligned available ring");
	try_queue(256, good, good + 0x4000, good + 0x8002, "a misaligned used ring");
	write_read_verify((unsigned)generation);
	print("DISK 0 %u %lu", SECTORS, generation);
}
