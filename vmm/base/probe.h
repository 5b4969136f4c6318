/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes: places in the running program where a tracer (bpftrace, perf, SystemTap) may look, with a few values. See
 * docs/tracing.md for the list.
 *
 * Each is one nop and a note in the file (section .note.stapsdt) that says where it is and in which registers or memory
 * its values lie. Nothing is asked, loaded or called for one that nobody watches; a tracer puts a breakpoint on the nop. So arguments must be
 * values that are at hand: nothing is to be computed for a probe. Without <sys/sdt.h> at the build there are none.
 */
#pragma once

#ifdef BULKHEAD_PROBES

#define SDT_USE_VARIADIC
#include <sys/sdt.h>

#define PROBE(name, ...) STAP_PROBEV(bulkhead, name, __VA_ARGS__)

#else

/* Never called, and never defined: the arguments are checked all the same. */
void probe_absent(int zero, ...);

#define PROBE(name, ...)                                                                           \
	do {                                                                                       \
		if (0)                                                                             \
			probe_absent(0, __VA_ARGS__);                                              \
	} while (0)

#endif
