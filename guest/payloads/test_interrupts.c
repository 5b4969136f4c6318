/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the device interrupts and when the driver has to kick (virtio 1.2 §2.7.7, §2.7.10; MSI-X in
 * PCI Local Bus 3.0 §6.8). Interrupts are counted by a handler; the processor waits for them with HLT.
 */
#include "guest/payloads/lib/blk.h"
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/lapic.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/tests.h"

#define VECTOR	 0x41
#define ENTRY	 1
#define QUIET_MS 30 /* long enough for an interrupt that should not come */

static struct blk blk;
static struct blk_request requests[64];
static uint8_t data[64][SECTOR];
static volatile uint64_t interrupts;

static void count(void *arg)
{
	(void)arg;
	interrupts++;
}

static void open_with_interrupts(uint64_t features)
{
	lapic_enable();
	interrupt_set(VECTOR, count, NULL);
	virtio_open(&blk.dev, VIRTIO_ID_BLOCK, 0);
	virtio_vector(&blk.dev, ENTRY, VECTOR);
	blk_open(&blk, 0, 256, features);
	blk.queue.vector = ENTRY;
	blk_restart(&blk);
}

/* Submit n reads and take them all, without sleeping. */
static void run_requests(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		check(blk_add(&blk, &requests[i], false, i, data[i], SECTOR), "no descriptor free");
	virtq_kick(&blk.queue);
	for (unsigned i = 0; i < n; i++) {
		struct blk_request *r = (void *)virtq_wait(&blk.queue, NULL);

		check(r->status == VIRTIO_BLK_S_OK, "status %u", r->status);
	}
}

static void expect(uint64_t from, uint64_t most, uint64_t least, const char *when)
{
	wait_until(interrupts - from > most, QUIET_MS);
	check(interrupts - from <= most, "%lu interrupts %s", interrupts - from, when);
	check(interrupts - from >= least, "only %lu interrupts %s", interrupts - from, when);
}

void test_interrupt_event_index(void)
{
	uint64_t before;

	open_with_interrupts(FEATURE(VIRTIO_RING_F_EVENT_IDX));
	check(blk.queue.event_idx, "EVENT_IDX is not offered");

	/* The event lies far ahead: none. */
	virtq_set_used_event(&blk.queue, (uint16_t)(blk.queue.taken + 1000));
	before = interrupts;
	run_requests(64);
	expect(before, 0, 0, "with the event 1000 completions ahead");

	/* Exactly at the 32nd completion: one, and not before it. */
	virtq_set_used_event(&blk.queue, (uint16_t)(blk.queue.taken + 31));
	before = interrupts;
	run_requests(31);
	expect(before, 0, 0, "one completion before the event");
	run_requests(1);
	expect(before, 1, 1, "at the event");
	run_requests(32);
	expect(before, 1, 1, "behind the event");

	/* The next one, each time: asleep in HLT until it is there. */
	for (unsigned i = 0; i < 500; i++) {
		virtq_set_used_event(&blk.queue, blk.queue.taken);
		before = interrupts;
		check(blk_add(&blk, &requests[0], false, i, data[0], SECTOR), "no descriptor free");
		virtq_kick(&blk.queue);
		interrupt_wait(&interrupts, before);
		virtq_wait(&blk.queue, NULL);
		check(interrupts == before + 1, "%lu interrupts for request %u",
			interrupts - before, i);
	}

	/* The same across the wrap of the 16-bit index. */
	while (blk.queue.taken < 0xffe0)
		run_requests(32);
	before = interrupts;
	virtq_set_used_event(&blk.queue, 0x0010);
	run_requests(64);
	expect(before, 1, 1, "with an event behind the wrap");
}

/* Without EVENT_IDX the flag in the available ring is the word. */
void test_interrupt_flag(void)
{
	uint64_t before;

	open_with_interrupts(0);
	blk.queue.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	cpu_fence();
	before = interrupts;
	run_requests(64);
	expect(before, 0, 0, "with NO_INTERRUPT set");
	blk.queue.avail->flags = 0;
	cpu_fence();
	for (unsigned i = 0; i < 200; i++) {
		before = interrupts;
		check(blk_add(&blk, &requests[0], false, i, data[0], SECTOR), "no descriptor free");
		virtq_kick(&blk.queue);
		interrupt_wait(&interrupts, before);
		virtq_wait(&blk.queue, NULL);
	}
	expect(before, 1, 1, "for one request");
}

/* A masked vector holds its interrupt as pending, and unmasking delivers it, once. */
void test_interrupt_masked(void)
{
	uint64_t before;

	open_with_interrupts(0);
	for (unsigned i = 0; i < 50; i++) {
		virtio_mask(&blk.dev, ENTRY, true);
		before = interrupts;
		run_requests(1 + i % 3);
		check(wait_until(virtio_pending(&blk.dev, ENTRY), 1000),
			"no pending bit while masked");
		check(interrupts == before, "%lu interrupts while masked", interrupts - before);
		virtio_mask(&blk.dev, ENTRY, false);
		check(wait_until(interrupts == before + 1, 1000), "%lu interrupts after unmasking",
			interrupts - before);
		check(!virtio_pending(&blk.dev, ENTRY), "still pending after the interrupt");
	}
	before = interrupts;
	expect(before, 0, 0, "after the last");
}

/* A driver that kicks only when the event says so loses nothing, and an idle device always says so. */
void test_kick_event_index(void)
{
	uint64_t total = boot_number("requests", 20000), done = 0, seed = 1;

	blk_open(&blk, 0, 256, FEATURE(VIRTIO_RING_F_EVENT_IDX));
	check(blk.queue.event_idx, "EVENT_IDX is not offered");
	while (done < total) {
		unsigned burst = 1 + random_next(&seed) % 64;

		check(wait_until(virtq_avail_event(&blk.queue) == blk.queue.added, 1000),
			"idle at %u, but a kick is wanted at %u", blk.queue.added,
			virtq_avail_event(&blk.queue));
		for (unsigned i = 0; i < burst; i++) {
			check(blk_add(&blk, &requests[i], false, i, data[i], SECTOR),
				"no descriptor free");
			virtq_kick(&blk.queue);
		}
		for (unsigned i = 0; i < burst; i++)
			virtq_wait(&blk.queue, NULL);
		done += burst;
	}
	check(blk.queue.kicks < done, "%lu kicks for %lu requests: none was spared",
		blk.queue.kicks, done);
	print("%lu kicks for %lu requests", blk.queue.kicks, done);
}
