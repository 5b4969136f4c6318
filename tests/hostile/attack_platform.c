/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every port, and memory accesses where nothing is. What would end or restart the machine on purpose
 * is spared, and so are the interrupt controllers, which are KVM's.
 */
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/serial.h"
#include "tests/hostile/attack.h"

struct spared {
	uint16_t first, last;
};

static const struct spared spared[] = {
	{0x20, 0x21}, {0xa0, 0xa1}, {0x4d0, 0x4d1}, /* PICs */
	{0x40, 0x43},				    /* a PIT, if there is one */
};

/* Would this access be obeyed? */
static bool is_spared(unsigned port, unsigned size)
{
	for (unsigned i = 0; i < sizeof(spared) / sizeof(*spared); i++)
		if (port + size > spared[i].first && port <= spared[i].last)
			return true;
	return false;
}

static bool covers(unsigned port, unsigned size, unsigned which)
{
	return port <= which && which < port + size;
}

/* The byte of a write that lands on `which`. */
static uint8_t byte_for(unsigned port, uint32_t value, unsigned which)
{
	return (uint8_t)(value >> 8 * (which - port));
}

/* Whether the guest asked for its end or its restart with this. */
static bool is_request(unsigned port, unsigned size, uint32_t value)
{
	if (covers(port, size, 0x64) && byte_for(port, value, 0x64) == 0xfe)
		return true;
	if (covers(port, size, 0x92) && byte_for(port, value, 0x92) & 1)
		return true;
	if (covers(port, size, 0xcf9) && byte_for(port, value, 0xcf9) & 4)
		return true;
	if (covers(port, size, 0x600) && (byte_for(port, value, 0x600) & 0x3c) == 0x34)
		return true;
	return covers(port, size, 0x602) && byte_for(port, value, 0x602) == 1;
}

/* In kernel mode as a whole: a change of mode for each port would cost more than the port. */
static uint64_t try_ports(void *arg)
{
	uint64_t first = *(uint64_t *)arg, last = first + 0x400;

	for (uint64_t port = first; port < last; port++) {
		unsigned size = 1u << attack_below(3);
		uint32_t value = (uint32_t)attack_random();

		if (is_spared((unsigned)port, size))
			continue;
		port_in((uint16_t)port, size);
		if (!is_request((unsigned)port, size, value))
			port_out((uint16_t)port, size, value);
	}
	return 0;
}

void attack_ports(void)
{
	attack_open(64, 0);
	for (uint64_t first = 0; first < 0x10000; first += 0x400)
		kernel_call(try_ports, &first);
	/* Once more where the devices are, with all sizes. */
	for (unsigned round = 0; round < 20; round++) {
		static const uint16_t places[] = {
			0x60, 0x64, 0x70, 0x80, 0x92, 0x3f8, 0x3fc, 0x5fe, 0x600, 0x604, 0xcf8};

		for (unsigned i = 0; i < sizeof(places) / sizeof(*places); i++) {
			unsigned port = places[i] + (unsigned)attack_below(8),
				 size = 1u << attack_below(3);
			uint32_t value = (uint32_t)attack_random();

			port_in((uint16_t)port, size);
			if (!is_request(port, size, value))
				port_out((uint16_t)port, size, value);
		}
	}
	serial_init();
	print("\n");
	attack_recover("garbage on every port");
}

/* ---- memory ---- */

/* KVM's own: interrupt controllers, and on Intel's processors some pages of memory (KVM API §4.34, §4.41). */
#define KVM_BEGIN	0xfec00000ull
#define KVM_END		0xfef00000ull
#define KVM_PAGES_BEGIN 0xfffbc000ull
#define KVM_PAGES_END	0xfffc0000ull
#define HOLE_END	0x100000000ull
#define FAR		(256ull << 30) /* beyond all RAM */

static uint64_t map_far(void *arg)
{
	(void)arg;
	cpu_map_gib(FAR);
	return 0;
}

static uint64_t bars[PCI_SLOTS];

static void note_bars(void)
{
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		struct pci_function fn;

		if (pci_open(slot, &fn))
			bars[slot] = fn.bars[0];
	}
}

static bool near_a_bar(uint64_t gpa)
{
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		if (bars[slot] && gpa + 8 > bars[slot] && gpa < bars[slot] + 0x10000)
			return true;
	return false;
}

static void expect_nothing(uint64_t gpa)
{
	unsigned width = 1u << attack_below(4);
	uint64_t ones = width == 8 ? -1ull : (1ull << 8 * width) - 1, got;

	got = mmio_read(gpa, width);
	check(got == ones, "something answers at %lx: %lx", gpa, got);
	mmio_write(gpa, width, attack_random());
}

void attack_mmio(void)
{
	attack_open(64, 0);
	kernel_call(map_far, NULL);
	note_bars();
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t gpa = PCI_WINDOW_BASE + attack_below(HOLE_END - 8 - PCI_WINDOW_BASE);

		if ((gpa + 8 > KVM_BEGIN && gpa < KVM_END) ||
			(gpa + 8 > KVM_PAGES_BEGIN && gpa < KVM_PAGES_END))
			continue;
		if (gpa + 8 > ECAM_BASE && gpa < ECAM_BASE + (1 << 20)) {
			mmio_read(gpa, 4);
			continue;
		}
		if (!near_a_bar(gpa))
			expect_nothing(gpa);
	}
	for (unsigned i = 0; i < 300; i++)
		expect_nothing(FAR + attack_below((1ull << 30) - 8));
	/* Across pages and across the borders of what is there. */
	for (unsigned i = 0; i < 8; i++) {
		mmio_read(ECAM_BASE - 8 + i, 8);
		mmio_write(ECAM_BASE - 4 + i, 8, attack_random());
		mmio_read(PCI_WINDOW_BASE - 8 + i, 8);
		mmio_read(attack.victim_bar + 0x1000 - 8 + i, 8);
		mmio_write(attack.victim_bar + 0x8000 - 8 + i, 8, attack_random());
	}
	attack_recover("memory accesses where nothing is");
}
