/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's state as bytes, and a machine made from them: everything but its memory and its disks' content.
 *
 * To load: machine_fit_config() makes a configuration into that of the VM that was saved (its number of vCPUs, the memory that
 * it began with, where its devices sit); machine_create(); machine_plug_saved_memory(), after which guest memory has the shape
 * that it had, to be filled or mapped; machine_load_at_start(), and machine_run() loads the state in place of a kernel.
 *
 * The order of loading is that of dependence: CPU model, devices, interrupt controllers and clocks, vCPUs, platform. What cannot
 * be is refused before anything runs. A guest that is reset later begins with the configuration's kernel, as ever.
 *
 * Threads: the main thread.
 */
#pragma once

#include "vmm/machine/machine.h"
#include "vmm/state/state.h"

/* The machine is held. */
int machine_save(struct machine *machine, struct state_writer *out, struct error *err);

/* Before machine_create(). */
int machine_fit_config(
	struct machine_config *config, struct state_reader *state, struct error *err);
/* Before memory is filled, by machine_memory_to_fill(). */
int machine_plug_saved_memory(
	struct machine *machine, struct state_reader *state, struct error *err);
/*
 * machine_run() begins with this state, which must stay until then. A CPU that the guest could not go on with is refused here. `clone`: it is to be another VM than the one that was
 * saved, so its generation id is a new one. `track`: its dirty pages are tracked, from none on.
 */
int machine_load_at_start(struct machine *machine, struct state_reader *state, bool clone,
	bool track, struct error *err);
struct guest_memory *machine_memory_to_fill(struct machine *machine);
