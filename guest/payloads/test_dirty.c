/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that writes its memory as it is told, from user mode and by a disk: for tests of dirty tracking. */
#include "guest/payloads/dirty.h"
#include "guest/payloads/lib/blk.h"
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/tests.h"

#define GIB (1ul << 30)

static volatile struct dirty_mailbox *mailbox;
static struct blk blk;

static uint64_t map_high(void *arg)
{
	uint64_t end = *(uint64_t *)arg;

	for (uint64_t base = 4 * GIB; base < end; base += GIB)
		cpu_map_gib(base);
	return 0;
}

static void write_pages(uint64_t first, uint64_t pages, uint64_t stride)
{
	for (uint64_t i = 0; i < pages; i++) {
		volatile uint64_t *word = (volatile uint64_t *)(first + i * stride);

		*word = *word + 1;
	}
}

static void storm(uint64_t first, uint64_t pages, uint64_t number)
{
	uint64_t seed = number;

	while (mailbox->number == number) {
		volatile uint64_t *word = (volatile uint64_t *)first +
					  random_next(&seed) % pages * 512 +
					  random_next(&seed) % 512;

		*word = *word + 1;
	}
}

static void obey(uint64_t number)
{
	uint64_t a = mailbox->args[0], b = mailbox->args[1], c = mailbox->args[2];
	uint64_t began = clock_ns();

	if (mailbox->order == DIRTY_RESET) {
		port_out(0x602, 1, 1);
		clock_wait_ms(60000);
	} else if (mailbox->order == DIRTY_WRITE) {
		write_pages(a, b, c);
	} else if (mailbox->order == DIRTY_READ_DISK) {
		blk_read(&blk, 0, (void *)a, (uint32_t)b * SECTOR);
	}
	mailbox->ns = clock_ns() - began;
	mailbox->done = number;
	if (mailbox->order == DIRTY_STORM)
		storm(a, b, number);
}

void test_dirty(void)
{
	uint64_t end = boot_ram_end();

	kernel_call(map_high, &end);
	mailbox = (volatile struct dirty_mailbox *)boot_number("mailbox", 0);
	if (boot_number("disk", 1))
		blk_open(&blk, 0, 64, 0);
	mailbox->done = mailbox->number;
	do {
		while (mailbox->number == mailbox->done)
			cpu_relax();
		obey(mailbox->number);
	} while (mailbox->order != DIRTY_END);
}
