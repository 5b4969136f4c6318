/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Up to 64 numbered things that come and go while the guest runs (vCPUs, blocks of memory): the registers by which the methods
 * of their ACPI devices (hotplug.asl) learn what is there and say what became of it.
 *
 *   absent --insert--> wanted --the guest asks what is new--> told --_OST success--> here
 *      ^                  |withdraw                             |_OST failure          |remove
 *      +------------------+<------------------------------------+                      v
 *      +<--------------------------------------_EJ0------------------------------ told to let go --_OST failure--> here
 *
 * A slot is present (_STA) from the moment the guest learns of it: a guest that still boots does not find it by
 * looking, and so never lacks the event whose outcome we wait for. What it was told cannot be taken back.
 *
 * Registers, little-endian, each access for itself (no selector, so that methods cannot disturb each other):
 *   0  8 bytes  read: bit n: slot n is present
 *   8  4 bytes  read: the next event, slot | code << 8, which is taken by it; all ones: none. The code is that of Notify (ACPI
 *               6.4 §5.6.6): 1 device check, 3 eject request
 *               write: _OST (§6.3.5): slot | event << 8 | status << 16
 *   12 4 bytes  write: _EJ0 of that slot (§6.3.3)
 *   16 24 bytes read, where slots are pieces of an area of memory: its base, what lies between two slots, its size
 *
 * Threads: registers on vCPU threads; the functions below on one other thread.
 */
#pragma once

#include "devices/bus.h"
#include "devices/power.h"
#include "vmm/state/state.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define HOTPLUG_SLOTS_MAX   64
#define HOTPLUG_SLOTS_PORTS 16
#define HOTPLUG_AREA_PORTS  40

/* Called on a vCPU's thread: there is something for hotplug_slots_take(). It must not wait for that vCPU to stop. */
struct hotplug_slots_ops {
	void (*changed)(void *owner);
};

struct hotplug_slots {
	struct power *power;
	uint32_t event; /* POWER_EVENT_* of these slots */
	const struct hotplug_slots_ops *ops;
	void *owner;
	uint64_t area[3]; /* base, unit, size */
	_Atomic uint64_t present;
	_Atomic uint64_t wanted, unwanted;		 /* the guest has not read it yet */
	_Atomic uint64_t told, told_off;		 /* it has, and did not answer yet */
	_Atomic uint64_t taken, declined, ejected, kept; /* for hotplug_slots_take() */
};

/* What the guest did since the last look, a bit a slot. */
struct hotplug_outcome {
	uint64_t taken, declined; /* after an insertion */
	uint64_t ejected, kept;	  /* after a removal */
};

extern const struct bus_ops hotplug_slots_bus_ops;

void hotplug_slots_init(struct hotplug_slots *slots, struct power *power, uint32_t event,
	const struct hotplug_slots_ops *ops, void *owner);

/* Power-on: `present` are there, and nothing is asked. */
void hotplug_slots_reset(struct hotplug_slots *slots, uint64_t present);

/* Tell the guest of slots that came, or ask it to let go of slots. */
void hotplug_slots_insert(struct hotplug_slots *slots, uint64_t which);
void hotplug_slots_remove(struct hotplug_slots *slots, uint64_t which);

/* The guest may have missed the interrupt (its pin was masked). True while there is something it has not read. */
bool hotplug_slots_remind(struct hotplug_slots *slots);

/* Take insertions and requests back; returns those of which the guest had not learned, for which it is as if nothing had been. */
uint64_t hotplug_slots_withdraw(struct hotplug_slots *slots, uint64_t which);

struct hotplug_outcome hotplug_slots_take(struct hotplug_slots *slots);

struct hotplug_slots_state {
	uint64_t area[3]; /* must be that of the machine it is loaded into */
	uint64_t present, wanted, unwanted, told, told_off, taken, declined, ejected, kept;
};

extern const struct state_table hotplug_slots_state_table;

void hotplug_slots_save(const struct hotplug_slots *slots, struct hotplug_slots_state *state);
int hotplug_slots_load(
	struct hotplug_slots *slots, const struct hotplug_slots_state *state, struct error *err);
