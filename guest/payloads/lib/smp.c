/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting application processors (Intel SDM volume 3, §8.4). See smp.h.
 *
 * The start-up IPI names a page below 1 MiB: the trampoline of start.S is copied to 0x8000, which is
 * plain RAM by the time a test runs (whatever the loader put there has been copied).
 */
#include "guest/payloads/lib/smp.h"

#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/lapic.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"

#define TRAMPOLINE 0x8000
#define STACK_SIZE 16384

extern const uint8_t ap_trampoline[], ap_trampoline_end[];
uint64_t ap_stack; /* start.S takes it */
void ap_start(void);

static uint32_t ap_id;
static void (*ap_fn)(uint32_t id);
static volatile uint32_t ap_running; /* the id + 1 of the last one that came up */

void smp_init(void)
{
	check(boot_is_ram(TRAMPOLINE, 4096), "no RAM at %x", TRAMPOLINE);
	memcpy((void *)TRAMPOLINE, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
}

static void ap_user(void)
{
	void (*fn)(uint32_t id) = ap_fn;
	uint32_t id = ap_id;

	__atomic_store_n(&ap_running, id + 1, __ATOMIC_RELEASE);
	fn(id);
	fail("processor %u came back", id);
}

void ap_start(void)
{
	uint64_t gate_stack = (uint64_t)memory_alloc(STACK_SIZE, 16) + STACK_SIZE;

	cpu_init(ap_id, (void *)gate_stack);
	lapic_enable();
	if (lapic_id() != ap_id)
		fail("processor %u calls itself %u", ap_id, lapic_id());
	enter_user(ap_user, (void *)ap_stack);
}

bool smp_start(uint32_t id, void (*fn)(uint32_t id), unsigned ms)
{
	ap_stack = (uint64_t)memory_alloc(STACK_SIZE, 16) + STACK_SIZE;
	ap_id = id;
	ap_fn = fn;
	ap_running = 0; /* it may have been started before, and stopped */
	lapic_send(id, LAPIC_INIT);
	lapic_send(id, LAPIC_STARTUP | TRAMPOLINE >> 12);
	return wait_until(ap_running == id + 1, ms);
}
