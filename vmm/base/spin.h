/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long to look before sleeping.
 *
 * To sleep and be woken costs a thread some microseconds of its own CPU time and the guest an exit for the kick, as
 * much as a fast disk takes for a request. A thread whose next event comes soon had better look for it. Whether it does
 * is learned: a moving average of how long the last waits took. While it is short the thread looks, up to a limit; a few
 * long waits end that, and an idle thread costs nothing.
 *
 * The limit follows from what a sleep costs here, which differs by more than ten times between a bare host and a
 * nested one: SPIN_WORTH times the CPU time of a sleep, measured now and then around one. The smallest sample counts,
 * for the others hold other work too; a larger one is believed little by little.
 *
 * A wait that was slept through includes the waking, so that sleeping would justify itself for ever: every
 * SPIN_PROBE-th wait looks whatever the average says, and one that was short by looking is believed at once.
 *
 * One struct for each kind of wait (for the disk, for the guest), else each would teach the other. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SPIN_MIN_NS 50000u
#define SPIN_MAX_NS 500000u
#define SPIN_WORTH  16u
#define SPIN_PROBE  64u /* waits, or sleeps, from one trial to the next */

struct spin {
	uint32_t average_ns;
	uint32_t sleeps; /* since the last look */
};

/* What a sleep costs, and the sleeps since that was measured. Zeroed: the first one is measured. */
struct spin_cost {
	uint32_t ns;
	uint32_t sleeps;
};

static inline bool spin_cost_due(struct spin_cost *cost)
{
	return cost->sleeps++ % SPIN_PROBE == 0;
}

static inline void spin_cost_learn(struct spin_cost *cost, uint64_t sample_ns)
{
	uint32_t ns = sample_ns < SPIN_MAX_NS ? (uint32_t)sample_ns : SPIN_MAX_NS;

	if (!cost->ns || ns < cost->ns)
		cost->ns = ns;
	else
		cost->ns += (ns - cost->ns) / 16;
}

/* How long to look at most, in ns. */
static inline uint32_t spin_limit(const struct spin_cost *cost)
{
	uint32_t ns = SPIN_WORTH * cost->ns;

	return ns < SPIN_MIN_NS ? SPIN_MIN_NS : ns > SPIN_MAX_NS ? SPIN_MAX_NS : ns;
}

/* Zeroed is a valid start: the first waits look. */
static inline bool spin_worthwhile(struct spin *spin, uint32_t limit_ns)
{
	if (spin->average_ns < limit_ns)
		return true;
	if (++spin->sleeps < SPIN_PROBE)
		return false;
	spin->sleeps = 0;
	return true;
}

/* A wait took this long; `seen`: the event was seen by looking, without a sleep. */
static inline void spin_learn(struct spin *spin, uint64_t waited_ns, bool seen, uint32_t limit_ns)
{
	/* Three long waits in a row outweigh any number of short ones. */
	uint32_t ns = waited_ns < 4 * limit_ns ? (uint32_t)waited_ns : 4 * limit_ns;

	if (seen && spin->average_ns >= limit_ns)
		spin->average_ns = ns;
	else
		spin->average_ns = spin->average_ns - spin->average_ns / 8 + ns / 8;
}

/* Tell the CPU that this is a wait: it saves power, and the sibling thread runs faster. */
static inline void spin_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb"); /* as long as x86's pause; yield is a no-op on most */
#endif
}
