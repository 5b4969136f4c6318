/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Going on and stopping. See gdb.h.
 *
 *   stopped:  our pause holds all vCPUs at the gate; the client asks and changes
 *   running:  our pause is over; the client waits. What ends it: a vCPU that traps, Ctrl-C, a client that goes.
 *   crashed:  stopped; when the client lets the guest go on, or goes itself, the machine ends
 *
 * A vCPU that traps parks by itself and posts a job to this loop, which then stops the others. Several may have trapped by then: one is
 * told. Of the rest, a breakpoint needs no memory: its instruction was not carried out, and traps again. So does an unfinished step, in the
 * client's eyes. A watchpoint is told after the fact, and is kept until the next time that the client lets the guest go.
 */
#include "vmm/gdb/gdb_private.h"

#include "vmm/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct vcpu *gdb_vcpu(struct gdb *gdb, unsigned index)
{
	struct vcpu_group *group = machine_vcpus(gdb->machine);

	return group && index < group->count ? group->vcpus[index] : NULL;
}

/* ---- what traps ---- */

static void read_traps(const struct gdb *gdb, unsigned index, struct arch_gdb_traps *traps)
{
	*traps = (struct arch_gdb_traps){
		.on = gdb->attached,
		.step = gdb->stepping[index],
		.software = gdb->breakpoint_count,
	};
	memcpy(traps->slots, gdb->slots, sizeof(traps->slots));
}

static void set_traps(struct gdb *gdb, struct vcpu *vcpu, unsigned index, int inject)
{
	struct arch_gdb_traps traps;
	int ret;

	read_traps(gdb, index, &traps);
	traps.inject = inject;
	ret = arch_gdb_set_traps(vcpu, &traps);
	if (ret < 0)
		log_warn("gdb: KVM cannot set the breakpoints of vCPU %u: %s", index,
			strerrordesc_np(-ret));
}

void gdb_set_all_traps(struct gdb *gdb)
{
	struct vcpu *vcpu;

	for (unsigned i = 0; (vcpu = gdb_vcpu(gdb, i)); i++)
		set_traps(gdb, vcpu, i, ARCH_GDB_INJECT_NONE);
}

/* It must know of breakpoint instructions before it comes to one, or it takes them for its own. */
void gdb_vcpu_added(struct machine_debugger *debugger, struct vcpu *vcpu)
{
	struct gdb *gdb = container_of(debugger, struct gdb, debugger);

	gdb->stepping[vcpu->index] = false;
	set_traps(gdb, vcpu, vcpu->index, ARCH_GDB_INJECT_NONE);
}

/* ---- stopping ---- */

static void stop(struct gdb *gdb)
{
	gdb->running = false;
	memset(gdb->stepping, 0, sizeof(gdb->stepping));
	if (gdb->paused)
		return;
	gdb->paused = true;
	machine_pause(gdb->machine);
}

/* A stop reply (GDB manual §E.3): the signal, the thread, and the reason where it is known. */
static void tell_stop(struct gdb *gdb, unsigned index, const struct arch_gdb_trap *trap)
{
	static const char *const names[] = {[ARCH_GDB_WRITE] = "watch",
		[ARCH_GDB_READ] = "rwatch",
		[ARCH_GDB_ACCESS] = "awatch"};
	const struct arch_gdb_slot *slot = &gdb->slots[trap->slot];
	char reason[64] = "";

	if (trap->why == ARCH_GDB_TRAP_SOFTWARE && gdb->names_reasons)
		snprintf(reason, sizeof(reason), "swbreak:;");
	else if (trap->why == ARCH_GDB_TRAP_SLOT && names[slot->kind])
		snprintf(reason, sizeof(reason), "%s:%" PRIx64 ";", names[slot->kind],
			slot->address);
	else if (trap->why == ARCH_GDB_TRAP_SLOT && gdb->names_reasons)
		snprintf(reason, sizeof(reason), "hwbreak:;");
	gdb->vcpu = gdb->vcpu_to_run = index;
	gdb_sendf(gdb, "T05thread:%x;%s", index + 1, reason);
}

void gdb_interrupt(struct gdb *gdb)
{
	if (!gdb->running)
		return;
	stop(gdb);
	if (!gdb_vcpu(gdb, gdb->vcpu))
		gdb->vcpu = 0;
	gdb_sendf(gdb, "T02thread:%x;", gdb->vcpu + 1);
}

/* ---- a vCPU has trapped ---- */

static bool is_watchpoint(const struct gdb *gdb, const struct arch_gdb_trap *trap)
{
	return trap->why == ARCH_GDB_TRAP_SLOT && gdb->slots[trap->slot].kind != ARCH_GDB_EXECUTE &&
	       gdb->slots[trap->slot].kind != ARCH_GDB_UNUSED;
}

/* What the guest has done to itself is not ours: it gets its exception. True: that was so. */
static bool give_back(
	struct gdb *gdb, struct vcpu *vcpu, unsigned index, const struct arch_gdb_trap *trap)
{
	uint64_t gpa;

	switch (trap->why) {
	case ARCH_GDB_TRAP_SOFTWARE:
		/* One of ours that the client has removed by now is executed as it was before. */
		if (arch_gdb_translate(vcpu, trap->pc, &gpa)) {
			uint8_t now[ARCH_GDB_INSTRUCTION];
			size_t size;
			const uint8_t *instruction = arch_gdb_instruction(&size);

			if (gdb_breakpoint_is_at(gdb, gpa))
				return false;
			if (!guest_memory_read(machine_memory(gdb->machine), gpa, now, size) ||
				memcmp(now, instruction, size) != 0)
				return true;
		}
		set_traps(gdb, vcpu, index, ARCH_GDB_INJECT_BREAKPOINT);
		return true;
	case ARCH_GDB_TRAP_FOREIGN:
		set_traps(gdb, vcpu, index, ARCH_GDB_INJECT_DEBUG);
		return true;
	default:
		return false;
	}
}

static void look_at_trap(struct gdb *gdb, struct vcpu *vcpu, unsigned index)
{
	struct arch_gdb_traps traps;
	struct arch_gdb_trap trap;

	read_traps(gdb, index, &traps);
	arch_gdb_read_trap(vcpu, &traps, &trap);
	if (give_back(gdb, vcpu, index, &trap)) {
		vcpu_hold(vcpu, false);
		return;
	}
	if (gdb->running) {
		stop(gdb);
		tell_stop(gdb, index, &trap);
	} else if (is_watchpoint(gdb, &trap)) {
		gdb->pending[index].is = true;
		gdb->pending[index].trap = trap;
	}
}

void gdb_vcpu_trapped(struct machine_debugger *debugger)
{
	struct gdb *gdb = container_of(debugger, struct gdb, debugger);
	struct vcpu *vcpu;

	for (unsigned i = 0; (vcpu = gdb_vcpu(gdb, i)); i++)
		if (atomic_exchange(&vcpu->trapped, false))
			look_at_trap(gdb, vcpu, i);
}

/* ---- a crash ---- */

/* The last stop: what the debugger lets go of then is the end. */
static void tell_crash(struct gdb *gdb)
{
	gdb->guest = GDB_CRASH_TOLD;
	gdb_sendf(gdb, "T06thread:%x;", gdb->vcpu + 1);
}

bool gdb_guest_crashed(struct machine_debugger *debugger)
{
	struct gdb *gdb = container_of(debugger, struct gdb, debugger);

	if (gdb->guest == GDB_CRASH_TOLD)
		return !gdb->running;
	gdb->guest = GDB_CRASHED;
	if (gdb->running) {
		stop(gdb);
		tell_crash(gdb);
	}
	return gdb->attached;
}

/* There is no way on from a crash. True: that is where the guest is. */
static bool end_crashed(struct gdb *gdb)
{
	if (gdb->guest == GDB_ALIVE)
		return false;
	if (gdb->guest == GDB_CRASHED) {
		tell_crash(gdb);
	} else {
		gdb->running = true;
		machine_request(gdb->machine, MACHINE_REQUEST_CRASH);
	}
	return true;
}

/* ---- going on ---- */

/* A watchpoint of a vCPU that is to go now, which was passed before: the guest does not go at all. */
static bool tell_pending(struct gdb *gdb, const enum gdb_action *actions)
{
	for (unsigned i = 0; gdb_vcpu(gdb, i); i++) {
		if (!gdb->pending[i].is || actions[i] == GDB_STAY)
			continue;
		gdb->pending[i].is = false;
		if (!is_watchpoint(gdb, &gdb->pending[i].trap))
			continue; /* it has been removed since */
		tell_stop(gdb, i, &gdb->pending[i].trap);
		return true;
	}
	return false;
}

void gdb_run(struct gdb *gdb, const enum gdb_action *actions)
{
	struct vcpu *vcpu;

	if (tell_pending(gdb, actions) || end_crashed(gdb))
		return;
	for (unsigned i = 0; (vcpu = gdb_vcpu(gdb, i)); i++) {
		gdb->stepping[i] = actions[i] == GDB_STEP;
		set_traps(gdb, vcpu, i, ARCH_GDB_INJECT_NONE);
		vcpu_hold(vcpu, actions[i] == GDB_STAY);
	}
	gdb->running = true;
	gdb->paused = false;
	machine_resume(gdb->machine);
}

void gdb_attach(struct gdb *gdb)
{
	gdb->guest = GDB_ALIVE;
	gdb->vcpu = gdb->vcpu_to_run = 0;
	memset(gdb->pending, 0, sizeof(gdb->pending));
	memset(gdb->slots, 0, sizeof(gdb->slots));
	machine_set_debugger(gdb->machine, &gdb->debugger);
	stop(gdb);
}

void gdb_detach(struct gdb *gdb)
{
	struct vcpu *vcpu;

	stop(gdb);
	gdb_remove_all_breakpoints(gdb);
	memset(gdb->slots, 0, sizeof(gdb->slots));
	gdb_set_all_traps(gdb);
	for (unsigned i = 0; (vcpu = gdb_vcpu(gdb, i)); i++) {
		atomic_store(&vcpu->trapped, false);
		vcpu_hold(vcpu, false);
	}
	machine_set_debugger(gdb->machine, NULL);
	if (gdb->guest != GDB_ALIVE)
		machine_request(gdb->machine, MACHINE_REQUEST_CRASH);
	gdb->paused = false;
	machine_resume(gdb->machine);
}

/* ---- the machine's life ---- */

/*
 * A reset loads the kernel again and makes new vCPUs. Instructions of ours are taken out of the guest's memory before: what is not
 * loaded again would keep them. What the processor watches is set again before the first instruction.
 */
static void reset_begins(struct gdb *gdb)
{
	gdb->resetting = true;
	machine_pause(gdb->machine);
	if (gdb->breakpoint_count)
		gdb_say(gdb, "The guest is reset; software breakpoints are removed.\n");
	else
		gdb_say(gdb, "The guest is reset.\n");
	gdb_remove_all_breakpoints(gdb);
	memset(gdb->pending, 0, sizeof(gdb->pending));
}

static void reset_ends(struct gdb *gdb)
{
	gdb->resetting = false;
	memset(gdb->stepping, 0, sizeof(gdb->stepping));
	if (gdb->attached)
		gdb_set_all_traps(gdb);
	machine_resume(gdb->machine);
}

static void ended(struct gdb *gdb, enum machine_exit how)
{
	if (gdb->running)
		gdb_sendf(gdb, "%s",
			how == MACHINE_EXIT_POWEROFF ? "W00"
			: how == MACHINE_EXIT_CRASH  ? "X06"
						     : "X09");
	gdb_let_client_go(gdb);
}

void gdb_state_changed(
	struct machine_observer *observer, enum machine_state state, enum machine_exit how)
{
	struct gdb *gdb = container_of(observer, struct gdb, observer);

	if (state == MACHINE_ENDED)
		ended(gdb, how);
	else if (state == MACHINE_RESETTING && gdb->attached && !gdb->resetting)
		reset_begins(gdb);
	else if (state != MACHINE_RESETTING && gdb->resetting)
		reset_ends(gdb);
}
