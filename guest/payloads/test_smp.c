/* SPDX-License-Identifier: Apache-2.0 */
/* Every processor that was asked for starts by INIT and start-up IPI, runs at once with the others, and is interrupted. */
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/lapic.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/smp.h"
#include "guest/payloads/tests.h"

#define START_MS 20000
#define DONE_MS	 60000
#define VECTOR	 0x51

static unsigned cpus;
static uint64_t rounds, shared, finished;
static uint64_t counts[CPUS_MAX];
static volatile uint64_t interrupts[CPUS_MAX];

static void arrived(void *arg)
{
	(void)arg;
	__atomic_add_fetch(&interrupts[lapic_id()], 1, __ATOMIC_RELEASE);
}

static void start_all(void (*fn)(uint32_t id))
{
	cpus = (unsigned)boot_number("cpus", 4);
	check(cpus && cpus <= CPUS_MAX, "cpus=%u", cpus);
	interrupt_set(VECTOR, arrived, NULL);
	lapic_enable();
	smp_init();
	for (unsigned id = 1; id < cpus; id++)
		check(smp_start(id, fn, START_MS), "processor %u does not start", id);
}

static void interrupt_all(void)
{
	for (unsigned id = 1; id < cpus; id++)
		lapic_send(id, LAPIC_FIXED | VECTOR);
}

static void sleep_for_ever(uint32_t id)
{
	for (;;)
		interrupt_wait(&interrupts[id], interrupts[id]);
}

/* ---- all at work on one counter ---- */

static void work(uint32_t id)
{
	for (uint64_t i = 0; i < rounds; i++) {
		__atomic_add_fetch(&shared, 1, __ATOMIC_RELAXED);
		counts[id]++;
	}
	__atomic_add_fetch(&finished, 1, __ATOMIC_RELEASE);
}

/* Asleep until all are there, so that they work at the same time, and the host's processors are free to start them. */
static void work_when_told(uint32_t id)
{
	interrupt_wait(&interrupts[id], 0);
	work(id);
	sleep_for_ever(id);
}

void test_smp_start(void)
{
	rounds = boot_number("rounds", 100000);
	start_all(work_when_told);
	interrupt_all();
	work(0);
	check(wait_until(__atomic_load_n(&finished, __ATOMIC_ACQUIRE) == cpus, DONE_MS),
		"only %lu of %u finished", finished, cpus);
	for (unsigned id = 0; id < cpus; id++)
		check(counts[id] == rounds, "processor %u counted %lu of %lu", id, counts[id],
			rounds);
	check(shared == cpus * rounds, "%lu together instead of %lu", shared, cpus * rounds);
}

/* ---- interrupts from one to another ---- */

void test_smp_interrupts(void)
{
	start_all(sleep_for_ever);
	for (unsigned round = 1; round <= 20; round++) {
		interrupt_all();
		for (unsigned id = 1; id < cpus; id++)
			check(wait_until(interrupts[id] == round, 5000),
				"processor %u took %lu of %u interrupts", id, interrupts[id],
				round);
	}
	check(!interrupts[0], "an interrupt for another came here");
}
