/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest for who times snapshots and restores, of whatever monitor: it touches all its RAM, says READY, and does what bytes on
 * the serial port tell it. It looks at its clock without end, so that it knows for how long it stood still.
 *
 *   w	a word into each page of the first dirty= MiB		"WRITTEN nanoseconds"
 *   ?	a word out of 256 pages, all over memory		"ANSWER"
 *   g	the longest time between two looks since the last g	"GAP nanoseconds"
 *   p	a '.' at each look from now on, until the next byte: who is restored says so with its first instructions
 *
 * fill= MiB hold something, the rest zeros: the host's memory and page tables are those of a full guest, its disk need
 * not take all that.
 */
#include "guest/payloads/bench.h"
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/serial.h"

#define PAGE	 4096ul
#define MIB	 (1ul << 20)
#define GIB	 (1ul << 30)
#define OWN	 (16 * MIB) /* below is the payload itself */
#define ANSWERED 256

static uint64_t last_look, longest, written;

static uint64_t map_high(void *arg)
{
	uint64_t end = *(uint64_t *)arg;

	for (uint64_t base = 4 * GIB; base < end; base += GIB)
		cpu_map_gib(base);
	return 0;
}

/* Of RAM above our own, counted as if there were no holes in it: the address of the byte `at`, 0 behind the end. */
static uint64_t ram_at(uint64_t at)
{
	for (unsigned i = 0; i < boot.region_count; i++) {
		const struct boot_region *r = &boot.regions[i];
		uint64_t begin = r->base < OWN ? OWN : r->base, end = r->base + r->size;

		if (r->type != BOOT_RAM || begin >= end)
			continue;
		if (at < end - begin)
			return begin + at;
		at -= end - begin;
	}
	return 0;
}

static uint64_t ram_size(void)
{
	uint64_t size = 0;

	for (unsigned i = 0; i < boot.region_count; i++) {
		const struct boot_region *r = &boot.regions[i];
		uint64_t begin = r->base < OWN ? OWN : r->base, end = r->base + r->size;

		if (r->type == BOOT_RAM && begin < end)
			size += end - begin;
	}
	return size / PAGE * PAGE;
}

static void write_pages(uint64_t from, uint64_t to, uint64_t word)
{
	for (uint64_t at = from; at < to; at += PAGE)
		*(volatile uint64_t *)ram_at(at) = word;
}

static void answer(uint64_t size)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < ANSWERED; i++)
		sum += *(volatile uint64_t *)ram_at(size / ANSWERED * i / PAGE * PAGE);
	print("ANSWER %lu", sum);
}

static uint64_t look(void *arg)
{
	uint8_t *byte = arg;

	if (*byte)
		port_out(SERIAL_DATA, 1, *byte);
	if (!(port_in(SERIAL_LSR, 1) & SERIAL_LSR_DATA))
		return 0;
	*byte = (uint8_t)port_in(SERIAL_DATA, 1);
	return 1;
}

/* The next byte. Half a millisecond between looks at the port, which are exits; the clock is looked at all the time. */
static uint8_t command(uint8_t pulse)
{
	uint8_t byte;
	uint64_t now;

	do {
		uint64_t until = clock_ns() + (pulse ? 0 : 500000);

		do {
			now = clock_ns();
			if (now - last_look > longest)
				longest = now - last_look;
			last_look = now;
		} while (now < until);
		byte = pulse;
	} while (!kernel_call(look, &byte));
	return byte;
}

void bench_snapshot(void)
{
	uint64_t end = boot_ram_end(), size = ram_size();
	uint64_t fill = boot_number("fill", 0) * MIB, dirty = boot_number("dirty", 0) * MIB;
	uint8_t pulse = 0;

	check(fill <= size && dirty <= size, "fill, dirty: there is less RAM");
	kernel_call(map_high, &end);
	write_pages(0, fill, 1);
	write_pages(fill, size, 0);
	print("READY");
	last_look = clock_ns();
	for (;;) {
		uint8_t byte = command(pulse);

		pulse = byte == 'p' ? '.' : 0;
		if (byte == 'w') {
			uint64_t began = clock_ns();

			write_pages(0, dirty, ++written);
			print("WRITTEN %lu", clock_ns() - began);
			last_look = clock_ns();
		} else if (byte == '?') {
			answer(size);
		} else if (byte == 'g') {
			print("GAP %lu", longest);
			longest = 0;
			last_look = clock_ns();
		}
	}
}
