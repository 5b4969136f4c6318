/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of hot-plug, as the methods of devices/hotplug.asl.h would do it, by the registers alone. It goes on for ever,
 * and prints a line for each thing done; who runs it asks the monitor for changes. Of what it is told, "does=":
 *   take    takes and lets go, and looks that it can use what it has
 *   refuse  takes nothing
 *   keep    takes, and lets nothing go
 */
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/lapic.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/smp.h"
#include "guest/payloads/tests.h"

#define CPUS	 0x620
#define PRESENT	 0
#define NEXT	 8
#define EJECT	 12
#define NOTHING	 0xffffffffu
#define CHECK	 1
#define LET_GO	 3
#define FAILED	 1
#define START_MS 20000

static volatile uint64_t counts[CPUS_MAX];

static bool is_present(uint16_t base, unsigned slot)
{
	return port_in((uint16_t)(base + PRESENT + slot / 32 * 4), 4) >> slot % 32 & 1;
}

static void say(uint16_t base, unsigned slot, unsigned event, unsigned status)
{
	port_out((uint16_t)(base + NEXT), 4, slot | event << 8 | status << 16);
}

/* ---- processors ---- */

static void count(uint32_t id)
{
	for (;;) {
		counts[id]++;
		cpu_relax();
	}
}

static void cpu_came(unsigned id)
{
	check(is_present(CPUS, id), "processor %u is announced and not there", id);
	check(smp_start(id, count, START_MS), "processor %u does not start", id);
	say(CPUS, id, CHECK, 0);
	print("processor %u came", id);
}

/* It stands still, though it was not told to. */
static void cpu_goes(unsigned id)
{
	uint64_t seen;

	port_out(CPUS + EJECT, 4, id);
	check(!is_present(CPUS, id), "processor %u was ejected and is there", id);
	do {
		seen = counts[id];
		clock_wait_ms(50);
	} while (counts[id] != seen);
	print("processor %u went", id);
}

void test_hotplug_cpus(void)
{
	bool refuse = boot_option_is("does", "refuse"), keep = boot_option_is("does", "keep");
	bool before = is_present(CPUS, 1);

	lapic_enable();
	smp_init();
	/* What nobody asked for. */
	port_out(CPUS + EJECT, 4, 0);
	say(CPUS, 1, CHECK, 0);
	port_out(CPUS + EJECT, 4, NOTHING);
	check(is_present(CPUS, 0) && is_present(CPUS, 1) == before,
		"the wrong processors are there");
	print("ready");
	for (;;) {
		uint32_t event = port_in(CPUS + NEXT, 4);
		unsigned id = event & 0xff, code = event >> 8;

		if (event == NOTHING) {
			clock_wait_ms(5);
		} else if (code == CHECK && refuse) {
			say(CPUS, id, CHECK, FAILED);
			print("processor %u is not wanted", id);
		} else if (code == CHECK) {
			cpu_came(id);
		} else if (keep) {
			say(CPUS, id, LET_GO, FAILED);
			print("processor %u stays", id);
		} else {
			cpu_goes(id);
		}
	}
}
