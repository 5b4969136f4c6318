/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers of a hardware-reduced ACPI platform (ACPI 6.4 §4.1, §4.8.3.7, §4.8.3.6, §5.6.9).
 *
 * Sleep control: a write with SLP_EN set and \_S5's SLP_TYP turns the machine off; other sleep types
 * are not offered, so a guest that asks for one is not obeyed. Reset: the value the FADT names.
 * Events: the Generic Event Device's method reads the 32-bit event register once for each interrupt,
 * which takes all pending bits at once, and notifies what each bit stands for. The interrupt is an
 * edge: a bit that comes after the read brings an edge of its own, so none is lost.
 */
#include "devices/power.h"

#include "vmm/base/log.h"

#define SLP_TYP_SHIFT 2
#define SLP_TYP_MASK  7
#define SLP_EN	      0x20
#define WAK_STS	      0x80

enum {
	OFFSET_CONTROL = POWER_SLEEP_CONTROL - POWER_BASE,
	OFFSET_STATUS = POWER_SLEEP_STATUS - POWER_BASE,
	OFFSET_RESET = POWER_RESET - POWER_BASE,
	OFFSET_EVENTS = POWER_EVENTS - POWER_BASE,
};

static uint64_t power_read(void *device, uint64_t offset, unsigned size)
{
	struct power *power = device;

	if (offset == OFFSET_EVENTS && size == 4)
		return atomic_exchange(&power->pending, 0);
	if (offset == OFFSET_STATUS)
		return atomic_load(&power->status);
	return 0; /* SLP_EN and SLP_TYP need not read back (§4.8.3.7) */
}

static void sleep_control(struct power *power, uint8_t value)
{
	unsigned type = value >> SLP_TYP_SHIFT & SLP_TYP_MASK;

	if (!(value & SLP_EN))
		return;
	if (type == POWER_S5_TYPE)
		power->ops->off(power->owner);
	else
		log_guest("the guest asked for sleep type %u, which does not exist: ignored", type);
}

static void power_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *power = device;

	(void)size;
	switch (offset) {
	case OFFSET_CONTROL:
		sleep_control(power, (uint8_t)value);
		break;
	case OFFSET_STATUS:
		atomic_fetch_and(&power->status, (uint8_t) ~(value & WAK_STS));
		break;
	case OFFSET_RESET:
		if ((uint8_t)value == POWER_RESET_VALUE)
			power->ops->reset(power->owner);
		break;
	default:
		break;
	}
}

const struct bus_ops power_bus_ops = {.read = power_read, .write = power_write};

void power_init(struct power *power, struct irq_line irq, const struct power_ops *ops, void *owner)
{
	power->irq = irq;
	power->ops = ops;
	power->owner = owner;
	power_reset(power);
}

void power_reset(struct power *power)
{
	atomic_store(&power->pending, 0);
	atomic_store(&power->status, 0);
}

void power_raise(struct power *power, uint32_t events)
{
	atomic_fetch_or(&power->pending, events);
	irq_line_raise(&power->irq);
}

void power_press_button(struct power *power)
{
	power_raise(power, POWER_EVENT_BUTTON);
}

static const struct state_field fields[] = {
	STATE_UINT(struct power_state, pending, .max = POWER_EVENTS_ALL),
	STATE_UINT(struct power_state, status, .max = WAK_STS),
};

const struct state_table power_state_table = STATE_TABLE("power", 1, struct power_state, fields);

void power_save(const struct power *power, struct power_state *state)
{
	state->pending = atomic_load(&power->pending);
	state->status = atomic_load(&power->status);
}

int power_load(struct power *power, const struct power_state *state, struct error *err)
{
	(void)err;
	atomic_store(&power->pending, state->pending);
	atomic_store(&power->status, state->status);
	return 0;
}
