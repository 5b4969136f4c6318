/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.elf: what an exit, a kick, an interrupt and a disk request cost, from user mode, where a
 * software KVM runs at full speed too. Each prints "BENCH name COUNT NANOSECONDS", by the guest's clock.
 *
 *   mmio_read, mmio_write   count=   an exit to the monitor: a register of the first disk
 *   port_read               count=   the same by a port, from kernel mode
 *   kick                    count=   an ioeventfd: notifications of a queue that has nothing to do
 *   blk                     count= size= write=0|1 depth= sleep=0|1
 *                                    requests of `size` bytes all over the disk; with sleep=1 the
 *                                    processor halts until the interrupt, else it turns
 *   touch                   count=   pages of RAM written for the first time
 *   compute                 count=   iterations without an exit: how fast user mode is
 *   snapshot                         is saved and restored by others: see bench_snapshot.c
 */
#include "guest/payloads/bench.h"
#include "guest/payloads/lib/blk.h"
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/lapic.h"
#include "guest/payloads/lib/main.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/serial.h"

#define DEPTH_MAX 64
#define PAGE	  4096
#define VECTOR	  0x41

static struct blk blk;

static uint64_t count(uint64_t otherwise)
{
	return boot_number("count", otherwise);
}

static void result(uint64_t n, uint64_t started)
{
	uint64_t ns = clock_ns() - started;

	print("BENCH %s %lu %lu", report_name, n, ns);
}

static void mmio_reads(void)
{
	uint64_t n = count(20000), started;

	virtio_open(&blk.dev, VIRTIO_ID_BLOCK, 0);
	started = clock_ns();
	for (uint64_t i = 0; i < n; i++)
		mmio_read8(blk.dev.common + VIRTIO_PCI_COMMON_STATUS);
	result(n, started);
}

static void mmio_writes(void)
{
	uint64_t n = count(20000), started;

	virtio_open(&blk.dev, VIRTIO_ID_BLOCK, 0);
	started = clock_ns();
	for (uint64_t i = 0; i < n; i++)
		mmio_write16(blk.dev.common + VIRTIO_PCI_COMMON_Q_SELECT, 0);
	result(n, started);
}

static uint64_t read_ports(void *arg)
{
	for (uint64_t i = *(uint64_t *)arg; i; i--)
		__asm__ volatile("inb %w0, %%al" ::"d"(SERIAL_SCR) : "rax");
	return 0;
}

static void port_reads(void)
{
	uint64_t n = count(20000), started = clock_ns();

	kernel_call(read_ports, &n);
	result(n, started);
}

static void kicks(void)
{
	uint64_t n = count(100000), started;

	blk_open(&blk, 0, 64, 0);
	blk_flush(&blk); /* after this the queue's ioeventfd is there */
	started = clock_ns();
	for (uint64_t i = 0; i < n; i++)
		virtq_notify(&blk.queue);
	result(n, started);
}

/* ---- disk requests ---- */

static volatile uint64_t interrupts;
static struct blk_request requests[DEPTH_MAX];
static uint8_t *buffers[DEPTH_MAX];
static uint64_t seed = 1;

static void interrupted(void *arg)
{
	(void)arg;
	interrupts++;
}

static void submit(unsigned i, bool write, uint32_t size)
{
	uint64_t blocks = blk.capacity / (size / SECTOR);

	check(blk_add(&blk, &requests[i], write, random_next(&seed) % blocks * (size / SECTOR),
		      buffers[i], size),
		"no descriptor free");
}

static void open_for(unsigned depth, uint32_t size, bool sleep)
{
	check(depth && depth <= DEPTH_MAX && size >= SECTOR && size % SECTOR == 0,
		"depth=%u size=%u", depth, size);
	blk_open(&blk, 0, 256, FEATURE(VIRTIO_RING_F_EVENT_IDX));
	if (sleep) {
		lapic_enable();
		interrupt_set(VECTOR, interrupted, NULL);
		virtio_vector(&blk.dev, 1, VECTOR);
		blk.queue.vector = 1;
		blk_restart(&blk);
	}
	for (unsigned i = 0; i < depth; i++)
		buffers[i] = memory_alloc(size, PAGE);
}

/* The next completion. The driver asks for an interrupt only when it is going to sleep. */
static struct blk_request *completion(bool sleep)
{
	uint64_t token;

	while (sleep) {
		uint64_t seen = interrupts;

		virtq_set_used_event(&blk.queue, blk.queue.taken);
		if (virtq_take(&blk.queue, &token, NULL))
			return (struct blk_request *)token;
		interrupt_wait(&interrupts, seen);
	}
	return (struct blk_request *)virtq_wait(&blk.queue, NULL);
}

static void blk_requests(void)
{
	uint64_t n = count(20000), started;
	unsigned depth = (unsigned)boot_number("depth", 1);
	uint32_t size = (uint32_t)boot_number("size", PAGE);
	bool write = boot_number("write", 0), sleep = boot_number("sleep", 0);

	open_for(depth, size, sleep);
	started = clock_ns();
	for (unsigned i = 0; i < depth; i++)
		submit(i, write, size);
	virtq_kick(&blk.queue);
	for (uint64_t i = 0; i < n; i++) {
		struct blk_request *r = completion(sleep);

		check(r->status == VIRTIO_BLK_S_OK, "status %u", r->status);
		submit((unsigned)(r - requests), write, size);
		virtq_kick(&blk.queue);
	}
	result(n, started);
	virtio_reset(&blk.dev);
}

/* ---- memory and plain work ---- */

static void touches(void)
{
	uint64_t n = count(8192), started;
	volatile uint8_t *at;
	uint64_t first = 16ul << 20;

	check(boot_is_ram(first, n * PAGE), "less RAM than %lu pages", n);
	at = (uint8_t *)first;
	started = clock_ns();
	for (uint64_t i = 0; i < n; i++)
		at[i * PAGE] = 1;
	result(n, started);
}

static void compute(void)
{
	uint64_t n = count(100000000), started = clock_ns();

	for (volatile uint64_t i = 0; i < n;)
		i++;
	result(n, started);
}

const struct payload_test payload_tests[] = {
	{"mmio_read", mmio_reads},
	{"mmio_write", mmio_writes},
	{"port_read", port_reads},
	{"kick", kicks},
	{"blk", blk_requests},
	{"touch", touches},
	{"compute", compute},
	{"snapshot", bench_snapshot},
	{0},
};
