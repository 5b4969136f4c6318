/* SPDX-License-Identifier: Apache-2.0 */
/* The ways out: power-off, a crash, and each of the resets that a PC has. */
#include "guest/payloads/lib/blk.h"
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/lapic.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"
#include "guest/payloads/tests.h"

#define RESET_MS 10000

/* Passing is powering off: the monitor ends with status 0. */
void test_power_off(void)
{
}

/* ---- the I/O APIC: whether its pins are masked tells an orderly shutdown from a crash ---- */

#define IOAPIC	       0xfec00000ul
#define IOAPIC_DATA    (IOAPIC + 0x10)
#define IOAPIC_VERSION 1
#define IOAPIC_PIN(n)  (0x10 + 2 * (n))
#define IOAPIC_MASKED  0x10000
#define EVENT_PIN      9
#define EVENT_VECTOR   0x60

static void ioapic_write(uint32_t index, uint32_t value)
{
	mmio_write32(IOAPIC, index);
	mmio_write32(IOAPIC_DATA, value);
}

static unsigned ioapic_pins(void)
{
	mmio_write32(IOAPIC, IOAPIC_VERSION);
	return (mmio_read32(IOAPIC_DATA) >> 16 & 0xff) + 1;
}

static void mask_all_pins(void)
{
	for (unsigned pin = 0; pin < ioapic_pins(); pin++)
		ioapic_write(IOAPIC_PIN(pin), IOAPIC_MASKED);
}

/* An operating system at work that faults three times has crashed: status 3. */
void test_triple_fault(void)
{
	lapic_enable();
	mask_all_pins();
	ioapic_write(IOAPIC_PIN(EVENT_PIN), EVENT_VECTOR);
	print("about to crash");
	cpu_triple_fault();
}

/* So has one that faults before it has opened a pin, or driven the disk that is there. */
void test_triple_fault_early(void)
{
	mask_all_pins();
	lapic_disable();
	print("about to crash");
	cpu_triple_fault();
}

/* ---- resets: the boots are counted on the disk ---- */

static struct blk blk;
static uint64_t in_data = 1; /* 1 again at each boot, if the image is loaded anew */
static uint64_t in_bss;	     /* 0 again */

static void reset_by_port(void)
{
	if (boot_option_is("how", "acpi"))
		port_out(0x602, 1, 1);
	else if (boot_option_is("how", "keyboard"))
		port_out(0x64, 1, 0xfe);
	else if (boot_option_is("how", "port92"))
		port_out(0x92, 1, 1);
	else if (boot_option_is("how", "cf9")) {
		port_out(0xcf9, 1, 0x02);
		port_out(0xcf9, 1, 0x06);
	} else {
		fail("how?");
	}
}

/* Linux's reboot=t: interrupt controllers off, then a triple fault. That is no crash. */
static void reset_by_triple_fault(void)
{
	mask_all_pins();
	lapic_disable();
	cpu_triple_fault();
}

/* With requests in flight, an interrupt vector set, and memory changed: none of it may live on. */
static void make_a_mess(void)
{
	static struct blk_request requests[16];
	static uint8_t data[16][SECTOR];

	in_data = in_bss = 77;
	virtio_vector(&blk.dev, 1, 0x41);
	for (unsigned i = 0; i < 16; i++)
		check(blk_add(&blk, &requests[i], false, i, data[i], SECTOR), "no descriptor free");
	virtq_kick(&blk.queue);
}

void test_reboot(void)
{
	uint64_t boots = boot_number("boots", 3);
	uint64_t *sector = memory_alloc(SECTOR, SECTOR);

	check(in_data == 1 && in_bss == 0, "the image was not loaded anew: %lu, %lu", in_data,
		in_bss);
	virtio_open(&blk.dev, VIRTIO_ID_BLOCK, 0);
	check(virtio_status(&blk.dev) == 0, "the disk was not reset: status %x",
		virtio_status(&blk.dev));
	check(mmio_read32(blk.dev.msix_table + 16) == 0, "the interrupt vectors were not reset");
	blk_open(&blk, 0, 64, 0);
	blk_read(&blk, 0, sector, SECTOR);
	print("boot %lu", ++sector[0]);
	blk_write(&blk, 0, sector, SECTOR);
	blk_flush(&blk);
	if (sector[0] == boots)
		return;
	check(sector[0] < boots, "boot %lu of %lu", sector[0], boots);
	make_a_mess();
	if (boot_option_is("how", "triple"))
		reset_by_triple_fault();
	else
		reset_by_port();
	clock_wait_ms(RESET_MS);
	fail("still here after the reset");
}
