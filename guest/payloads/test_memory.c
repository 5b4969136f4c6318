/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM on both sides of the hole below 4 GiB: all of it is there and is its own, devices reach it,
 * and nothing reaches across the hole.
 */
#include "guest/payloads/lib/blk.h"
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"
#include "guest/payloads/tests.h"

#define GIB	   (1ul << 30)
#define HIGH	   (4 * GIB)
#define STEP	   (64ul << 20)
#define PAGE	   4096ul
#define LENGTH	   8192
#define SECTORS	   (LENGTH / SECTOR)
#define PROBES_MAX 512

static struct blk blk;
static uint64_t probes[PROBES_MAX];
static unsigned probe_count;

static uint64_t map_high(void *arg)
{
	uint64_t end = *(uint64_t *)arg;

	for (uint64_t base = HIGH; base < end; base += GIB)
		cpu_map_gib(base);
	return 0;
}

/* Pages that tests need for themselves, low, are not probed. */
static void add_probe(uint64_t gpa)
{
	if (gpa < (64ul << 20) || !boot_is_ram(gpa, PAGE) || probe_count == PROBES_MAX)
		return;
	probes[probe_count++] = gpa;
}

/* The end of RAM below the hole: where a region ends under 4 GiB. */
static uint64_t low_end(void)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < boot.region_count; i++) {
		uint64_t here = boot.regions[i].base + boot.regions[i].size;

		if (boot.regions[i].type == BOOT_RAM && here <= HIGH && here > end)
			end = here;
	}
	return end;
}

/* One value a page, all written before any is read: two addresses for one page would show. */
static void probe_all(uint64_t low, uint64_t end)
{
	for (uint64_t gpa = 0; gpa < end; gpa += STEP)
		add_probe(gpa);
	add_probe(low - PAGE);
	add_probe(HIGH);
	add_probe(end - PAGE);
	for (unsigned i = 0; i < probe_count; i++) {
		*(volatile uint64_t *)probes[i] = probes[i] ^ 0x5555;
		*(volatile uint64_t *)(probes[i] + PAGE - 8) = ~probes[i];
	}
	for (unsigned i = 0; i < probe_count; i++) {
		uint64_t first = *(volatile uint64_t *)probes[i];
		uint64_t last = *(volatile uint64_t *)(probes[i] + PAGE - 8);

		check(first == (probes[i] ^ 0x5555) && last == ~probes[i],
			"page %lx holds %lx ... %lx", probes[i], first, last);
	}
}

/* Write the disk from one place, read it into another. */
static void transfer(uint64_t from, uint64_t to, uint64_t generation)
{
	pattern_fill((void *)from, 0, SECTORS, generation);
	blk_write(&blk, 0, (void *)from, LENGTH);
	memset((void *)to, 0, LENGTH);
	blk_read(&blk, 0, (void *)to, LENGTH);
	check(pattern_is((void *)to, 0, SECTORS, generation),
		"wrong data from %lx by the disk to %lx", from, to);
}

/* A buffer that begins in RAM and ends outside breaks the device, which a reset mends. */
static void refuse(uint64_t gpa, uint32_t len)
{
	static struct blk_request request;

	check(blk_add(&blk, &request, false, 0, (void *)gpa, len), "no descriptor free");
	virtq_kick(&blk.queue);
	check(wait_until(virtio_status(&blk.dev) & VIRTIO_CONFIG_S_NEEDS_RESET, 5000),
		"a buffer of %u bytes at %lx was not refused", len, gpa);
	check(request.status == 0xff, "the refused request has a status");
	blk_restart(&blk);
}

/* Queues too may lie above 4 GiB. */
static void move_queue(uint64_t gpa)
{
	blk.queue.desc = (void *)gpa;
	blk.queue.avail = (void *)(gpa + 0x2000);
	blk.queue.used = (void *)(gpa + 0x4000);
	blk_restart(&blk);
}

void test_ram_across_hole(void)
{
	uint64_t low = low_end(), end = boot_ram_end(),
		 scratch = (uint64_t)memory_alloc(LENGTH, PAGE);
	uint64_t places[] = {
		scratch, low - LENGTH, HIGH, HIGH + 1, HIGH + GIB / 2 + 512, end - LENGTH};
	unsigned generation = 1, n = sizeof(places) / sizeof(*places);

	check(end > HIGH, "RAM ends at %lx: start this with more than the hole's beginning", end);
	kernel_call(map_high, &end);
	probe_all(low, end);
	print("%u pages, RAM to %lx and from %lx to %lx", probe_count, low, HIGH, end);
	blk_open(&blk, 0, 256, 0);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < n; i++)
			for (unsigned j = 0; j < n; j++)
				transfer(places[i], places[j], ++generation);
		refuse(low - PAGE, LENGTH);
		refuse(low, LENGTH);
		refuse(HIGH - PAGE, LENGTH);
		refuse(end - PAGE, LENGTH);
		refuse(end, SECTOR);
		refuse(low - PAGE, (uint32_t)(HIGH - low + 2 * PAGE));
		transfer(low - LENGTH, HIGH, ++generation);
		move_queue(HIGH + GIB / 4);
	}
	print("DISK 0 %u %u", SECTORS, generation);
}
