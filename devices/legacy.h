/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few old PC ports that a Linux guest touches and that nothing else answers: the keyboard
 * controller's (there is none, but it is asked to reset the machine), the NMI status and refresh
 * toggle at 0x61, "fast reset" at 0x92, and the reset control register at 0xcf9.
 *
 * Wiring: legacy_init(), legacy_add(). Port 0x61 belongs to KVM where it has an in-kernel PIT.
 */
#pragma once

#include "devices/bus.h"
#include "vmm/state/state.h"

#include <stdatomic.h>
#include <stdint.h>

struct legacy {
	void (*reset_request)(void *owner); /* on the vCPU's thread; must not wait for it */
	void *owner;
	_Atomic uint8_t port61, port92, reset_control;
};

void legacy_init(struct legacy *legacy, void (*reset_request)(void *owner), void *owner);
void legacy_reset(struct legacy *legacy);

/* The reset control register, for who owns the ports around 0xcf9. The device is the struct legacy. */
extern const struct bus_ops legacy_cf9_ops;

/* Claim all the other ports on the port bus. */
void legacy_add(struct legacy *legacy, struct bus *ports);

struct legacy_state {
	uint8_t port61, port92, reset_control;
};

extern const struct state_table legacy_state_table;

void legacy_save(const struct legacy *legacy, struct legacy_state *state);
int legacy_load(struct legacy *legacy, const struct legacy_state *state, struct error *err);
