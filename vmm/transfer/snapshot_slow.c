/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that writes its memory faster than it can be copied ahead is slowed down: its vCPUs stand still for 4 ms, run for a
 * while, and so on. The more, the shorter that while is; they never stand for longer, which a guest's timers and
 * connections hardly notice. Devices go on.
 *
 * It is a timer on the main loop, which looks at the level that the worker sets.
 */
#include "vmm/transfer/snapshot_private.h"

#include "vmm/base/util.h"

#define STAND_NS 4000000u
#define LOOK_NS	 5000000u /* while nothing is to be slowed */

static const uint32_t run_ns[PRECOPY_SLOWEST + 1] = {LOOK_NS, 4000000, 1000000, 250000};

static void let_run(struct snapshot *s)
{
	if (!s->slow.stands)
		return;
	s->slow.stands = false;
	s->report.slowed_ns += now_ns() - s->slow.since_ns;
	if (!s->ended) /* nothing of it goes on */
		machine_resume(s->machine);
}

static void turn(struct loop_timer *timer)
{
	struct snapshot *s = container_of(timer, struct snapshot, slow.timer);
	unsigned level = atomic_load(&s->slow.level);
	bool ran = !s->slow.stands;

	let_run(s);
	if (ran && level && machine_state(s->machine) == MACHINE_RUNNING) {
		machine_pause(s->machine);
		s->slow.stands = true;
		s->slow.since_ns = now_ns();
	}
	loop_timer_set(machine_loop(s->machine), timer,
		now_ns() + (s->slow.stands ? STAND_NS : run_ns[level]));
}

void snapshot_slow_begin(struct snapshot *s)
{
	s->slow.timer.fire = turn;
	loop_timer_set(machine_loop(s->machine), &s->slow.timer, now_ns() + LOOK_NS);
}

void snapshot_slow_set(struct snapshot *s, unsigned level)
{
	atomic_store(&s->slow.level, level);
}

void snapshot_slow_end(struct snapshot *s)
{
	loop_timer_clear(machine_loop(s->machine), &s->slow.timer);
	let_run(s);
}
