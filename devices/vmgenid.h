/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual machine generation id: 16 random bytes in guest RAM that change whenever the guest
 * becomes a copy of itself (restored snapshot, clone), so that it reseeds what must be unique.
 *
 * Wiring: vmgenid_init(), and vmgenid_place() after each (re)load of guest memory.
 */
#pragma once

#include "devices/power.h"
#include "vmm/base/error.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/state/state.h"

#include <stdint.h>

struct vmgenid {
	uint8_t id[16];
	const struct guest_memory *memory;
	uint64_t gpa;
	struct power *power; /* whose event tells the guest */
};

/* Draws the first id; does not write it to memory yet. */
int vmgenid_init(struct vmgenid *vmgenid, const struct guest_memory *memory, uint64_t gpa,
	struct power *power, struct error *err);

/* Write the id to its place in guest memory. */
int vmgenid_place(struct vmgenid *vmgenid, struct error *err);

/* Draw another id, write it and raise the event. vCPUs may run. */
int vmgenid_change(struct vmgenid *vmgenid, struct error *err);

struct vmgenid_state {
	uint8_t id[16];
	uint64_t gpa; /* where the guest was told that it is */
};

extern const struct state_table vmgenid_state_table;

void vmgenid_save(const struct vmgenid *vmgenid, struct vmgenid_state *state);
/* Nothing is written to memory, which has it. */
int vmgenid_load(struct vmgenid *vmgenid, const struct vmgenid_state *state, struct error *err);
