/* SPDX-License-Identifier: Apache-2.0 */
/* What can be asked of a machine as it runs, and who is told of it. See machine.h. */
#include "vmm/base/probe.h"
#include "vmm/base/util.h"
#include "vmm/machine/machine_private.h"

enum machine_state machine_state(const struct machine *m)
{
	if (m->ended)
		return MACHINE_ENDED;
	if (m->resetting)
		return MACHINE_RESETTING;
	if (m->paused)
		return m->started ? MACHINE_PAUSED : MACHINE_CREATED;
	return MACHINE_RUNNING;
}

const char *machine_state_name(enum machine_state state)
{
	static const char *const names[] = {
		[MACHINE_CREATED] = "created",
		[MACHINE_RUNNING] = "running",
		[MACHINE_PAUSED] = "paused",
		[MACHINE_RESETTING] = "resetting",
		[MACHINE_ENDED] = "ended",
	};

	return names[state];
}

const char *machine_exit_name(enum machine_exit how)
{
	static const char *const names[] = {
		[MACHINE_EXIT_POWEROFF] = "poweroff",
		[MACHINE_EXIT_CRASH] = "crash",
		[MACHINE_EXIT_STOPPED] = "killed",
		[MACHINE_EXIT_FAILED] = "failed",
	};

	return names[how];
}

void machine_observe(struct machine *m, struct machine_observer *observer)
{
	observer->next = m->observers;
	m->observers = observer;
}

void machine_unobserve(struct machine *m, struct machine_observer *observer)
{
	struct machine_observer **at = &m->observers;

	while (*at != observer)
		at = &(*at)->next;
	*at = observer->next;
}

void machine_tell_state(struct machine *m)
{
	for (struct machine_observer *o = m->observers; o; o = o->next)
		o->state_changed(o, machine_state(m), m->how);
}

void machine_pause_begins(struct machine *m)
{
	/* A guest that has not been let go yet does not stand still: it has not begun. */
	m->pause_began_ns = m->started ? now_ns() : 0;
	m->pauser = m->paused ? PAUSER_USER : PAUSER_MONITOR;
}

void machine_pause_ends(struct machine *m)
{
	struct machine_pauses *times = &m->pause_times[m->pauser];
	uint64_t ns;

	if (!m->pause_began_ns)
		return;
	ns = now_ns() - m->pause_began_ns;
	m->pause_began_ns = 0;
	times->count++;
	times->total_ns += ns;
	times->longest_ns = max_u64(times->longest_ns, ns);
	PROBE(pause__end, m->pauser, ns);
}

void machine_pause(struct machine *m)
{
	if (m->pauses++ == 0 && m->powered) {
		machine_pause_begins(m);
		vcpus_pause(&m->vcpus);
		PROBE(pause__begin, m->pauser);
	}
}

void machine_resume(struct machine *m)
{
	BUG_ON(!m->pauses);
	if (--m->pauses == 0 && m->powered) {
		machine_wake_devices(m);
		vcpus_resume(&m->vcpus);
		machine_pause_ends(m);
	}
}

void machine_set_paused(struct machine *m, bool paused)
{
	if (m->paused == paused)
		return;
	m->paused = paused;
	if (paused) {
		machine_pause(m);
		m->pauser = PAUSER_USER;
	} else {
		m->started = true;
		machine_resume(m);
	}
	if (!m->resetting) /* else the reset's end tells it, as it is then */
		machine_tell_state(m);
}

/* ---- debugging ---- */

void machine_set_debugger(struct machine *m, struct machine_debugger *debugger)
{
	m->debugger = debugger;
}

void machine_vcpu_trapped(struct machine *m)
{
	if (!atomic_exchange(&m->trap_posted, true))
		loop_post(m->loop, &m->trap_job);
}

void machine_take_traps(struct loop_job *job)
{
	struct machine *m = container_of(job, struct machine, trap_job);

	atomic_store(&m->trap_posted, false);
	if (m->debugger) {
		m->debugger->vcpu_trapped(m->debugger);
		return;
	}
	/* It went just now, and took its breakpoints with it: what is there now is executed again. */
	for (unsigned i = 0; m->powered && i < m->vcpus.count; i++)
		if (atomic_exchange(&m->vcpus.vcpus[i]->trapped, false))
			vcpu_hold(m->vcpus.vcpus[i], false);
}

struct vcpu_group *machine_vcpus(struct machine *m)
{
	return m->powered ? &m->vcpus : NULL;
}

const struct guest_memory *machine_memory(const struct machine *m)
{
	return &m->memory;
}

void machine_press_power_button(struct machine *m)
{
	arch_platform_press_power_button(m->platform);
}

struct machine_guest *machine_guest(struct machine *m)
{
	return &m->guest;
}

void machine_note_agent(struct machine *m, enum machine_agent agent)
{
	m->guest.agent = agent;
	m->guest.agent_ns = now_ns();
}

const char *machine_agent_name(enum machine_agent agent)
{
	static const char *const names[] = {
		[MACHINE_AGENT_UNKNOWN] = "unknown",
		[MACHINE_AGENT_ABSENT] = "absent",
		[MACHINE_AGENT_SILENT] = "silent",
		[MACHINE_AGENT_ANSWERS] = "answers",
	};

	return names[agent];
}

struct machine_config *machine_config(const struct machine *m)
{
	return m->config;
}

struct machine_devices *machine_devices(struct machine *m)
{
	return &m->devices;
}

uint64_t machine_started_ns(const struct machine *m)
{
	return m->started_ns;
}

struct loop *machine_loop(struct machine *m)
{
	return m->loop;
}
