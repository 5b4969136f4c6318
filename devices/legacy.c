/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The old PC's ports, as far as a Linux guest touches them. What each answers follows from what
 * Linux (6.1; paths in its tree) does with the answer:
 *
 * 0x60, 0x64  No keyboard controller. The status reads 0xfd: "output full" for ever, so that
 *             i8042_flush() (drivers/input/serio/i8042.c) gives up after 16 reads with "No
 *             controller found"; a status of 0 would make it send commands and wait half a second
 *             for each. "Input full" is clear, unlike in 0xff, so that kb_wait() of `reboot=k`
 *             (arch/x86/kernel/reboot.c) does not poll 65,536 times before it writes 0xfe: reset.
 * 0x61        Bits 6 and 7 are 0: default_do_nmi() (arch/x86/kernel/nmi.c) takes them for memory and
 *             bus errors. Bit 4 toggles on each read, the refresh clock of old delay loops. Bit 5,
 *             timer 2's output, is 1: pit_calibrate_tsc() (arch/x86/kernel/tsc.c) loops until it is.
 * 0x92        Bit 0 written from 0 to 1 resets, bit 1 (A20) is always on.
 * 0xcf9       The reset control register, `reboot=p`: bit 2 written from 0 to 1 resets, bits 1 and 3
 *             say how (PIIX3 data sheet, "Reset control register").
 *
 * Deliberately not claimed, since all ones on reads and silence on writes is the right answer: 0x80
 * (POST codes and io_delay()) and 0xed. PIC and PIT belong to KVM or are absent. 0xcf9 lies inside
 * the range of devices/pci_ports.h, which hands its bytes on.
 */
#include "devices/legacy.h"

#include <stdbool.h>

#define I8042_NOTHING	0xfd
#define I8042_RESET	0xfe
#define PORT61_WRITABLE 0x0f
#define PORT61_REFRESH	0x10
#define PORT61_OUT2	0x20
#define PORT92_RESET	0x01
#define PORT92_A20	0x02
#define CF9_MODE	0x0a
#define CF9_RESET	0x04

static uint64_t i8042_read(void *device, uint64_t offset, unsigned size)
{
	(void)device;
	(void)offset;
	(void)size;
	return I8042_NOTHING;
}

static void i8042_data_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	(void)device;
	(void)offset;
	(void)size;
	(void)value;
}

static void i8042_command_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct legacy *legacy = device;

	(void)offset;
	(void)size;
	if ((uint8_t)value == I8042_RESET)
		legacy->reset_request(legacy->owner);
}

static uint64_t port61_read(void *device, uint64_t offset, unsigned size)
{
	struct legacy *legacy = device;

	(void)offset;
	(void)size;
	return (atomic_fetch_xor(&legacy->port61, PORT61_REFRESH) ^ PORT61_REFRESH) | PORT61_OUT2;
}

static void port61_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct legacy *legacy = device;

	(void)offset;
	(void)size;
	atomic_store(&legacy->port61, (uint8_t)(value & PORT61_WRITABLE));
}

static uint64_t port92_read(void *device, uint64_t offset, unsigned size)
{
	struct legacy *legacy = device;

	(void)offset;
	(void)size;
	return atomic_load(&legacy->port92) | PORT92_A20;
}

static void port92_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct legacy *legacy = device;
	uint8_t old = atomic_exchange(&legacy->port92, (uint8_t)value);

	(void)offset;
	(void)size;
	if (value & ~old & PORT92_RESET)
		legacy->reset_request(legacy->owner);
}

static uint64_t cf9_read(void *device, uint64_t offset, unsigned size)
{
	struct legacy *legacy = device;

	(void)offset;
	(void)size;
	return atomic_load(&legacy->reset_control);
}

static void cf9_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct legacy *legacy = device;
	uint8_t old =
		atomic_exchange(&legacy->reset_control, (uint8_t)(value & (CF9_MODE | CF9_RESET)));

	(void)offset;
	(void)size;
	if (value & ~old & CF9_RESET)
		legacy->reset_request(legacy->owner);
}

static const struct bus_ops i8042_data_ops = {.read = i8042_read, .write = i8042_data_write};
static const struct bus_ops i8042_command_ops = {.read = i8042_read, .write = i8042_command_write};
static const struct bus_ops port61_ops = {.read = port61_read, .write = port61_write};
static const struct bus_ops port92_ops = {.read = port92_read, .write = port92_write};
const struct bus_ops legacy_cf9_ops = {.read = cf9_read, .write = cf9_write};

void legacy_init(struct legacy *legacy, void (*reset_request)(void *owner), void *owner)
{
	legacy->reset_request = reset_request;
	legacy->owner = owner;
	legacy_reset(legacy);
}

void legacy_reset(struct legacy *legacy)
{
	atomic_store(&legacy->port61, 0);
	atomic_store(&legacy->port92, 0);
	atomic_store(&legacy->reset_control, 0);
}

void legacy_add(struct legacy *legacy, struct bus *ports)
{
	bus_add(ports, 0x60, 1, &i8042_data_ops, legacy);
	bus_add(ports, 0x61, 1, &port61_ops, legacy);
	bus_add(ports, 0x64, 1, &i8042_command_ops, legacy);
	bus_add(ports, 0x92, 1, &port92_ops, legacy);
}

static const struct state_field fields[] = {
	STATE_UINT(struct legacy_state, port61, .max = PORT61_WRITABLE | PORT61_REFRESH),
	STATE_UINT(struct legacy_state, port92),
	STATE_UINT(struct legacy_state, reset_control, .max = CF9_MODE | CF9_RESET),
};

const struct state_table legacy_state_table = STATE_TABLE("legacy", 1, struct legacy_state, fields);

void legacy_save(const struct legacy *legacy, struct legacy_state *state)
{
	state->port61 = atomic_load(&legacy->port61);
	state->port92 = atomic_load(&legacy->port92);
	state->reset_control = atomic_load(&legacy->reset_control);
}

int legacy_load(struct legacy *legacy, const struct legacy_state *state, struct error *err)
{
	(void)err;
	atomic_store(&legacy->port61, state->port61);
	atomic_store(&legacy->port92, state->port92);
	atomic_store(&legacy->reset_control, state->reset_control);
	return 0;
}
