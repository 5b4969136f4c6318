/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of hot-plug, as the methods of devices/hotplug.asl would do it, by the registers alone. It goes on for ever,
 * and prints a line for each thing done; who runs it asks the monitor for changes. Of what it is told, "does=":
 *   take    takes and lets go, and looks that it can use what it has
 *   refuse  takes nothing
 *   keep    takes, and lets nothing go
 *   late    as take, but only after a second and more
 */
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/lapic.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/smp.h"
#include "guest/payloads/tests.h"

#define CPUS	 0x620
#define MEMORY	 0x640
#define PRESENT	 0
#define NEXT	 8
#define EJECT	 12
#define AREA	 16 /* base, unit, size */
#define STEP	 0x200000
#define PATTERN	 0x5a5ab7b7c3c31e1eul
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
	bool late = boot_option_is("does", "late");
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

		if (event != NOTHING && late)
			clock_wait_ms(1500);
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

/* ---- memory ---- */

struct piece {
	uint64_t base, size;
};

static uint64_t area(unsigned figure)
{
	return port_in((uint16_t)(MEMORY + AREA + 8 * figure), 4) |
	       (uint64_t)port_in((uint16_t)(MEMORY + AREA + 8 * figure + 4), 4) << 32;
}

static uint64_t map_gib(void *arg)
{
	cpu_map_gib(*(uint64_t *)arg);
	return 0;
}

/* As _CRS has it. It can be reached from then on. */
static struct piece piece_of(unsigned slot)
{
	uint64_t unit = area(1), offset = slot * unit, left = area(2) - offset;
	uint64_t gib = (area(0) + offset) & ~((1ul << 30) - 1);

	kernel_call(map_gib, &gib);

	return (struct piece){.base = area(0) + offset, .size = left < unit ? left : unit};
}

static void memory_came(unsigned slot)
{
	struct piece p = piece_of(slot);

	check(is_present(MEMORY, slot), "slot %u is announced and not there", slot);
	for (uint64_t at = p.base; at < p.base + p.size; at += STEP) {
		volatile uint64_t *word = (volatile uint64_t *)at;

		check(!*word, "new memory at %lx holds %lx", at, *word);
		*word = at ^ PATTERN;
	}
	for (uint64_t at = p.base; at < p.base + p.size; at += STEP)
		check(*(volatile uint64_t *)at == (at ^ PATTERN), "memory at %lx does not keep",
			at);
	say(MEMORY, slot, CHECK, 0);
	print("slot %u came", slot);
}

/* Where it was there is no memory: nothing that is written is kept. */
static void memory_goes(unsigned slot)
{
	volatile uint64_t *word = (volatile uint64_t *)piece_of(slot).base;

	port_out(MEMORY + EJECT, 4, slot);
	check(!is_present(MEMORY, slot), "slot %u was ejected and is there", slot);
	check(wait_until((*word = PATTERN, *word != PATTERN), START_MS), "slot %u keeps", slot);
	print("slot %u went", slot);
}

void test_hotplug_memory(void)
{
	bool keep = boot_option_is("does", "keep");

	print("ready with %lx", boot_ram_end());
	for (;;) {
		uint32_t event = port_in(MEMORY + NEXT, 4);
		unsigned slot = event & 0xff, code = event >> 8;

		if (event == NOTHING) {
			clock_wait_ms(5);
		} else if (code == CHECK) {
			memory_came(slot);
		} else if (keep) {
			say(MEMORY, slot, LET_GO, FAILED);
			print("slot %u stays", slot);
		} else {
			memory_goes(slot);
		}
	}
}
