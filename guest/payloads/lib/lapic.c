/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC. See lapic.h. */
#include "guest/payloads/lib/lapic.h"

#include "guest/payloads/lib/cpu.h"

#define LAPIC_BASE 0xfee00000u

enum {
	REGISTER_ID = 0x20,
	REGISTER_TPR = 0x80,
	REGISTER_EOI = 0xb0,
	REGISTER_SPURIOUS = 0xf0,
	REGISTER_COMMAND_LOW = 0x300,
	REGISTER_COMMAND_HIGH = 0x310,
};

#define SPURIOUS_ENABLE 0x100
#define COMMAND_PENDING 0x1000

void lapic_enable(void)
{
	mmio_write32(LAPIC_BASE + REGISTER_TPR, 0);
	mmio_write32(LAPIC_BASE + REGISTER_SPURIOUS, SPURIOUS_ENABLE | LAPIC_SPURIOUS);
}

void lapic_disable(void)
{
	mmio_write32(LAPIC_BASE + REGISTER_SPURIOUS, LAPIC_SPURIOUS);
}

void lapic_end_of_interrupt(void)
{
	mmio_write32(LAPIC_BASE + REGISTER_EOI, 0);
}

uint32_t lapic_id(void)
{
	return mmio_read32(LAPIC_BASE + REGISTER_ID) >> 24;
}

void lapic_send(uint32_t id, uint32_t command)
{
	mmio_write32(LAPIC_BASE + REGISTER_COMMAND_HIGH, id << 24);
	mmio_write32(LAPIC_BASE + REGISTER_COMMAND_LOW, command);
	while (mmio_read32(LAPIC_BASE + REGISTER_COMMAND_LOW) & COMMAND_PENDING)
		cpu_relax();
}
