/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long to look before sleeping.
 *
 * To sleep and be woken costs a thread tens of microseconds (in a virtual machine more), which is as much as a fast disk
 * takes for a request. A thread whose next event comes sooner than that had better look for it. Whether it does is
 * learned: a moving average of how long the last waits took. While it is short the thread looks, up to
 * SPIN_MAX_NS; a few long waits end that, and an idle thread costs nothing.
 *
 * A wait that was slept through includes the waking, so that sleeping would justify itself for ever: every
 * SPIN_PROBE-th wait looks whatever the average says, and one that was short by looking is believed at once.
 *
 * One struct for each kind of wait (for the disk, for the guest), else each would teach the other. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SPIN_MAX_NS 50000u
#define SPIN_PROBE  64u

struct spin {
	uint32_t average_ns;
	uint32_t sleeps; /* since the last look */
};

/* Zeroed is a valid start: the first waits look. */
static inline bool spin_worthwhile(struct spin *spin)
{
	if (spin->average_ns < SPIN_MAX_NS)
		return true;
	if (++spin->sleeps < SPIN_PROBE)
		return false;
	spin->sleeps = 0;
	return true;
}

/* A wait took this long; `seen`: the event was seen by looking, without a sleep. */
static inline void spin_learn(struct spin *spin, uint64_t waited_ns, bool seen)
{
	/* Three long waits in a row outweigh any number of short ones. */
	uint32_t ns = waited_ns < 4 * SPIN_MAX_NS ? (uint32_t)waited_ns : 4 * SPIN_MAX_NS;

	if (seen && spin->average_ns >= SPIN_MAX_NS)
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
