/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual machine, from configuration to end.
 *
 *   machine_create()  devices opened and locked, RAM mapped, buses built: everything that can be
 *                     refused is refused here, before anything runs
 *   machine_run()     power on (VM, vCPUs, kernel loaded), the main loop, until the guest ends
 *   machine_destroy()
 *
 * A guest reset is a power-off and a power-on by the same code: the KVM side is thrown away and
 * built anew, the host side (open disks, sockets, RAM) stays.
 *
 * Threads: all functions on the main thread, but for machine_request().
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/base/loop.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/config.h"

struct machine;

enum machine_state {
	MACHINE_CREATED, /* not started yet: --paused */
	MACHINE_RUNNING,
	MACHINE_PAUSED,
	MACHINE_RESETTING,
	MACHINE_ENDED, /* the main loop is about to end */
};

enum machine_exit {
	MACHINE_EXIT_POWEROFF, /* the guest shut down */
	MACHINE_EXIT_CRASH,    /* triple fault, KVM internal error */
	MACHINE_EXIT_STOPPED,  /* ended from outside */
	MACHINE_EXIT_FAILED,   /* the host failed it: *err says how */
};

/* What may be asked of a running machine, weakest first: a stronger request overtakes a weaker one. */
enum machine_request {
	MACHINE_REQUEST_NONE,
	MACHINE_REQUEST_RESET,
	MACHINE_REQUEST_POWEROFF,
	MACHINE_REQUEST_CRASH,
	MACHINE_REQUEST_STOP,
	MACHINE_REQUEST_FAIL,
};

/* Whether the guest's agent was there when it was last asked for. */
enum machine_agent {
	MACHINE_AGENT_UNKNOWN, /* nobody has asked since the guest began */
	MACHINE_AGENT_ABSENT,
	MACHINE_AGENT_SILENT, /* there was no answer in time */
	MACHINE_AGENT_ANSWERS,
};

/* What the guest says of itself, hence hostile: for people to look at, never to compute with. */
struct machine_guest {
	enum machine_agent agent;
	uint64_t agent_ns;  /* CLOCK_MONOTONIC of that */
	uint64_t memory_ns; /* and of what follows; 0: it was never told */
	uint64_t memory_available;
	uint64_t some_us, full_us; /* that some of its tasks, all of them, waited for memory */
};

/* Told of every change of state, on the main thread. Embed it. */
struct machine_observer {
	struct machine_observer *next;
	/* `how` says more where the state is MACHINE_ENDED. */
	void (*state_changed)(
		struct machine_observer *observer, enum machine_state state, enum machine_exit how);
};

/* A debugger of the guest (vmm/gdb). Embed it. */
struct machine_debugger {
	/* A vCPU is `trapped`: take that back, and let it go when it may. Main thread; a vCPU may run meanwhile. */
	void (*vcpu_trapped)(struct machine_debugger *debugger);
	/* A new one, which has not run yet. */
	void (*vcpu_added)(struct machine_debugger *debugger, struct vcpu *vcpu);
	/* The guest has crashed. True: it is to be looked at before the machine ends; machine_request() asks again. */
	bool (*crashed)(struct machine_debugger *debugger);
};

/* The configuration must outlive the machine; what is plugged in later is entered in it. */
int machine_create(struct machine_config *config, struct machine **out, struct error *err);
void machine_destroy(struct machine *machine);

/* Run to the end. Returns 0 with *how, or a negative errno (also in MACHINE_EXIT_FAILED) with *err. */
int machine_run(struct machine *machine, enum machine_exit *how, struct error *err);

/* Any thread, vCPUs included; carried out by the main loop. */
void machine_request(struct machine *machine, enum machine_request request);

/* Presses the ACPI power button. */
void machine_press_power_button(struct machine *machine);

/* Stop all vCPUs / let them go on, for the monitor's own purposes. Pausing returns when none runs. Pauses nest. */
void machine_pause(struct machine *machine);
void machine_resume(struct machine *machine);

/* The same as the user's wish, which is one: pausing what is paused changes nothing. Letting go starts a created machine. */
void machine_set_paused(struct machine *machine, bool paused);

enum machine_state machine_state(const struct machine *machine);
const char *machine_state_name(enum machine_state state);
const char *machine_exit_name(enum machine_exit how);
void machine_observe(struct machine *machine, struct machine_observer *observer);
void machine_unobserve(struct machine *machine, struct machine_observer *observer);

/* As it is now: what was changed since the start is in it. */
struct machine_config *machine_config(const struct machine *machine);
struct machine_devices *machine_devices(struct machine *machine);
/* CLOCK_MONOTONIC, when machine_run() began; 0 before. */
uint64_t machine_started_ns(const struct machine *machine);

/* As it was last told by whoever asks the agent; a new guest is unknown. Main thread. */
struct machine_guest *machine_guest(struct machine *machine);
void machine_note_agent(struct machine *machine, enum machine_agent agent);
const char *machine_agent_name(enum machine_agent agent);

/* One at a time; NULL for none. Without one a trapped vCPU goes on. */
void machine_set_debugger(struct machine *machine, struct machine_debugger *debugger);
/* NULL while there are none. A reset makes new ones. */
struct vcpu_group *machine_vcpus(struct machine *machine);
const struct guest_memory *machine_memory(const struct machine *machine);

/* The main loop, for the caller's own descriptors (signals). */
struct loop *machine_loop(struct machine *machine);
