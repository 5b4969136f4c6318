/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's insides, for the files of this folder. */
#pragma once

#include "vmm/arch/arch.h"
#include "vmm/kvm/dirty_engine.h"
#include "vmm/machine/filler.h"
#include "vmm/machine/hold.h"
#include "vmm/machine/hotplug_private.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/machine_devices.h"
#include "vmm/machine/plug_private.h"
#include "vmm/state/state.h"

#include "devices/console.h"

#include <stdatomic.h>

/* How long vCPUs stood still, by whose wish. */
struct machine_pauses {
	uint64_t count, total_ns, longest_ns;
};

enum machine_pauser { PAUSER_USER, PAUSER_MONITOR, PAUSERS };

struct machine {
	struct machine_config *config;
	char *cmdline;
	struct arch_address_map map;
	struct loop *loop;
	struct guest_memory memory;
	struct dirty_engine dirty; /* attached to `vm` while there is one */
	struct dirty_user dirty_user;
	bool follows_dirty; /* dirty_user is one of its users */
	int kvm_fd;
	struct arch_cpu_model *cpu_model;
	struct arch_platform *platform;
	struct console *console;
	struct machine_devices devices;
	bool devices_made;
	struct bus ports, mmio;

	/* What power_on() makes and power_off() throws away. */
	struct vm vm;
	struct vcpu_group vcpus;
	struct hotplug cpus, plugged; /* vCPUs; memory beside what there is from the start */
	bool powered;
	bool ran;		    /* some guest has run in this RAM */
	unsigned pauses;	    /* nested; vCPUs run at 0 */
	uint64_t pause_began_ns;    /* 0: they run, or there is nothing yet that could */
	enum machine_pauser pauser; /* of the pause under way: the user's wish outweighs ours */
	struct machine_pauses pause_times[PAUSERS];

	_Atomic int request; /* shared: raised by any thread, acted on by the main loop */
	struct loop_job request_job;
	_Atomic bool request_posted;
	bool resetting, ended;
	bool paused;  /* the user's wish; one of `pauses` */
	bool started; /* the user has let it go at least once */
	uint64_t started_ns;
	enum machine_exit how;
	struct error failure; /* there when `failed` is */
	_Atomic bool failing, failed;
	struct machine_filler *filler; /* NULL: memory was all there from the start */
	int uffd_device;
	struct machine_observer *observers;
	struct machine_guest guest;
	int statm_fd; /* /proc/self/statm: there may be no descriptor left when it is wanted */

	struct machine_debugger *debugger;
	struct loop_job trap_job;
	_Atomic bool trap_posted;
	struct machine_plugs plugs;
	bool copied; /* machine_was_copied() */

	struct machine_hold *hold;  /* NULL: it is not held */
	bool devices_quiet;	    /* they do nothing until machine_wake_devices() */
	struct state_reader *state; /* what the next power-on begins with; NULL: the kernel */
	bool track;		    /* its dirty pages, from there on */
	bool clone;		    /* which is then another VM than that of the state */
};

/* A vCPU is in a debug exit. Its thread. */
void machine_vcpu_trapped(struct machine *m);
/* The job that this posts. */
void machine_take_traps(struct loop_job *job);

/* A pause begins; or ends, or its guest does. Main thread. */
void machine_pause_begins(struct machine *m);
void machine_pause_ends(struct machine *m);

/* Let the devices go on, where they are quiet. */
void machine_wake_devices(struct machine *m);
/* 0, or what machine_fail() was told. */
int machine_failed(struct machine *m, struct error *err);
/* m->state becomes the machine that was just powered on. */
int machine_load(struct machine *m, struct error *err);

/* One more, initialised, without a thread. */
int machine_add_vcpu(struct machine *m, struct error *err);

/* Tell the observers what the state is now. Main thread. */
void machine_tell_state(struct machine *m);
