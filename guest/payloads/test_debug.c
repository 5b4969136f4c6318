/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Something for a debugger to look at (tests/gdb): processors that go round and round through functions and variables with names,
 * until the debugger sets debug_end. Processor 0 also takes the payload's way into kernel mode, which is a breakpoint
 * instruction of the guest's own: a debugger must leave it to it.
 */
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/lapic.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/smp.h"
#include "guest/payloads/tests.h"

#define START_MS 20000

struct debug_state {
	volatile uint64_t rounds, calls, finished;
} __attribute__((aligned(64)));

struct debug_state debug_states[CPUS_MAX];
volatile uint64_t debug_end;
volatile uint64_t debug_shared = 0x1122334455667788;

void debug_inner(uint32_t id);
void debug_outer(uint32_t id);

__attribute__((noinline)) void debug_inner(uint32_t id)
{
	debug_states[id].rounds++;
}

__attribute__((noinline)) void debug_outer(uint32_t id)
{
	debug_inner(id);
	debug_states[id].calls++;
}

uint64_t debug_in_kernel(void *arg);

__attribute__((noinline)) uint64_t debug_in_kernel(void *arg)
{
	(void)arg;
	return debug_shared;
}

static void go_round(uint32_t id)
{
	while (!debug_end)
		debug_outer(id);
	debug_states[id].finished = 1;
	for (;;)
		cpu_relax();
}

void test_debug(void)
{
	unsigned cpus = (unsigned)boot_number("cpus", 2);

	check(cpus && cpus <= CPUS_MAX, "cpus=%u", cpus);
	lapic_enable();
	smp_init();
	for (unsigned id = 1; id < cpus; id++)
		check(smp_start(id, go_round, START_MS), "processor %u does not start", id);
	while (!debug_end) {
		check(kernel_call(debug_in_kernel, NULL) == debug_shared,
			"the way into kernel mode was lost");
		debug_outer(0);
	}
	for (unsigned id = 1; id < cpus; id++)
		while (!debug_states[id].finished)
			cpu_relax();
}
