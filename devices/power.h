/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hardware-reduced ACPI registers: sleep control and status, reset, and the Generic Event Device
 * with its events: power button, VMGENID change, PCI hot-plug. The ACPI tables name the same ports: the
 * constants below are the one place for them.
 *
 * Wiring: power_init(), bus_add(ports, POWER_BASE, POWER_PORTS, &power_bus_ops, power).
 */
#pragma once

#include "devices/bus.h"
#include "devices/irq_line.h"
#include "vmm/state/state.h"

#include <stdatomic.h>
#include <stdint.h>

#define POWER_BASE	    0x600
#define POWER_PORTS	    8
#define POWER_SLEEP_CONTROL 0x600 /* ACPI 6.4 §4.8.3.7: bits 2..4 SLP_TYP, bit 5 SLP_EN */
#define POWER_SLEEP_STATUS  0x601 /* bit 7 WAK_STS, cleared by writing it */
#define POWER_RESET	    0x602 /* FADT RESET_REG */
#define POWER_RESET_VALUE   1	  /* FADT RESET_VALUE */
#define POWER_EVENTS	    0x604 /* 32 bits: a 32-bit read returns and clears what is pending */
#define POWER_S5_TYPE	    5	  /* the value in \_S5 */

#define POWER_EVENT_BUTTON  (1u << 0)
#define POWER_EVENT_VMGENID (1u << 1)
#define POWER_EVENT_CPUS    (1u << 3) /* see hotplug_slots.h */
#define POWER_EVENT_MEMORY  (1u << 4)
#define POWER_EVENT_PCI	    (1u << 2) /* see pci_hotplug.h */
#define POWER_EVENTS_ALL    0x1fu

/* Called on the vCPU's thread that wrote the register: must not wait for that vCPU to stop. */
struct power_ops {
	void (*off)(void *owner);   /* the guest entered S5 */
	void (*reset)(void *owner); /* the guest asked for a reset */
};

struct power {
	struct irq_line irq; /* the event device's pin */
	const struct power_ops *ops;
	void *owner;
	_Atomic uint32_t pending;
	_Atomic uint8_t status;
};

extern const struct bus_ops power_bus_ops;

void power_init(struct power *power, struct irq_line irq, const struct power_ops *ops, void *owner);
void power_reset(struct power *power); /* nothing pending */

/* Make events (POWER_EVENT_*) pending and tell the guest. Any thread. */
void power_raise(struct power *power, uint32_t events);
void power_press_button(struct power *power);

/* What the guest can see. The edge of what is pending is the interrupt controller's. */
struct power_state {
	uint32_t pending;
	uint8_t status;
};

extern const struct state_table power_state_table;

void power_save(const struct power *power, struct power_state *state);
int power_load(struct power *power, const struct power_state *state, struct error *err);
