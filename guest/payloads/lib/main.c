/* SPDX-License-Identifier: Apache-2.0 */
/* From the first C function to the test that the command line names. See main.h. */
#include "guest/payloads/lib/main.h"

#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/serial.h"

void payload_start(const void *start_info);

static uint8_t gate_stack[16384] __attribute__((aligned(16)));
static uint8_t user_stack[65536] __attribute__((aligned(16)));

static void user_main(void)
{
	for (const struct payload_test *t = payload_tests; t->name; t++) {
		if (!boot_test_is(t->name))
			continue;
		report_name = t->name;
		t->run();
		pass();
	}
	fail("no test of this name: '%s'", boot.cmdline);
}

/* Whoever booted us may have left the old interrupt controllers on. */
static void mask_pic(void)
{
	port_out(0x21, 1, 0xff);
	port_out(0xa1, 1, 0xff);
}

void payload_start(const void *start_info)
{
	cpu_init(0, gate_stack + sizeof(gate_stack));
	mask_pic();
	serial_init();
	boot_read(start_info);
	memory_init();
	clock_init();
	enter_user(user_main, user_stack + sizeof(user_stack));
}
