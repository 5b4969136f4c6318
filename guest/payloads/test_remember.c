/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that knows what its memory and its disk must hold, for whoever saves and restores it.
 *
 * Each generation writes some pages, chosen by a hash of page and generation, each with its own address and the generation; and
 * one sector of the disk. So what a page must hold follows from its address and the generation, which are the only
 * things that it trusts. Bytes on the serial port tell it what to do, and each is answered by a line:
 *
 *   +	a generation more	"GENERATION n"
 *   ?	look at everything	"REMEMBERS n", or FAIL
 *   l	a generation after the other until the next byte comes	"LOAD"
 *   t	what time it is		"TIME nanoseconds since the start"
 *
 * every=N: a generation writes a page out of N. disk=1: the disk too.
 */
#include "guest/payloads/lib/blk.h"
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/serial.h"
#include "guest/payloads/tests.h"

#define PAGE	  4096ul
#define GIB	  (1ul << 30)
#define HIGH	  (4 * GIB)
#define OWN	  (16ul << 20) /* below is the payload itself */
#define SPANS_MAX 4
#define SECTORS	  64 /* a ring of them on the disk */

static struct span {
	uint64_t begin, end;
} spans[SPANS_MAX];
static unsigned span_count;
static uint64_t generation, every;
static bool has_disk;
static struct blk blk;
static uint8_t sector_bytes[SECTOR] __attribute__((aligned(512)));

static uint64_t map_high(void *arg)
{
	uint64_t end = *(uint64_t *)arg;

	for (uint64_t base = HIGH; base < end; base += GIB)
		cpu_map_gib(base);
	return 0;
}

static void find_spans(void)
{
	uint64_t end = boot_ram_end();

	kernel_call(map_high, &end);
	for (unsigned i = 0; i < boot.region_count && span_count < SPANS_MAX; i++) {
		const struct boot_region *r = &boot.regions[i];
		uint64_t begin = r->base < OWN ? OWN : r->base;

		if (r->type == BOOT_RAM && begin < r->base + r->size)
			spans[span_count++] = (struct span){begin, r->base + r->size};
	}
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 31;
	x *= 0x9e3779b97f4a7c15;
	return x ^ x >> 29;
}

static bool is_written(uint64_t page, uint64_t in)
{
	return mix(page / PAGE * 0x10001 + in) % every == 0;
}

/* The last generation that wrote the page; 0: none did. */
static uint64_t last_written(uint64_t page)
{
	uint64_t in = generation;

	while (in && !is_written(page, in))
		in--;
	return in;
}

static void write_page(uint64_t page, uint64_t in)
{
	volatile uint64_t *words = (volatile uint64_t *)page;

	/* Every fourth generation gives a page back as it was: zeros. */
	for (unsigned i = 0; i < PAGE / 8; i += 73)
		words[i] = in % 4 ? mix(page + i) ^ in : 0;
}

static void check_page(uint64_t page)
{
	const volatile uint64_t *words = (const volatile uint64_t *)page;
	uint64_t in = last_written(page);

	for (unsigned i = 0; i < PAGE / 8; i += 73) {
		uint64_t expected = in % 4 ? mix(page + i) ^ in : 0;

		check(words[i] == expected, "page %lx, word %u: %lx, not %lx of generation %lu",
			page, i, words[i], expected, in);
	}
}

static void next_generation(void)
{
	generation++;
	for (unsigned s = 0; s < span_count; s++)
		for (uint64_t page = spans[s].begin; page < spans[s].end; page += PAGE)
			if (is_written(page, generation))
				write_page(page, generation);
	if (!has_disk)
		return;
	pattern_fill(sector_bytes, generation % SECTORS, 1, generation);
	blk_write(&blk, generation % SECTORS, sector_bytes, SECTOR);
}

static void check_all(void)
{
	uint64_t oldest = generation < SECTORS ? 1 : generation - SECTORS + 1;

	for (unsigned s = 0; s < span_count; s++)
		for (uint64_t page = spans[s].begin; page < spans[s].end; page += PAGE)
			check_page(page);
	for (uint64_t in = oldest; has_disk && in <= generation; in++) {
		blk_read(&blk, in % SECTORS, sector_bytes, SECTOR);
		check(pattern_is(sector_bytes, in % SECTORS, 1, in),
			"the disk's sector of generation %lu", in);
	}
}

static bool has_input(void)
{
	return port_in(SERIAL_LSR, 1) & SERIAL_LSR_DATA;
}

static void obey(uint8_t command)
{
	switch (command) {
	case '+':
		next_generation();
		print("GENERATION %lu", generation);
		break;
	case '?':
		check_all();
		print("REMEMBERS %lu", generation);
		break;
	case 'l':
		print("LOAD");
		while (!has_input())
			next_generation();
		break;
	case 't':
		print("TIME %lu", clock_ns());
		break;
	}
}

void test_remember(void)
{
	uint8_t command;

	every = boot_number("every", 16);
	has_disk = boot_number("disk", 0);
	find_spans();
	if (has_disk)
		blk_open(&blk, 0, 64, 0);
	print("READY");
	for (;;) {
		serial_read(&command, 1);
		obey(command);
	}
}
