/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers of hot-plug, and the configuration space of all slots, without end: slots are ejected that nobody asked
 * for, outcomes told of what never was, and whatever the host plugs in meanwhile is switched on and off and moved. The host
 * (tests/control/plugging.py) attaches and detaches beside it, and ends the machine.
 */
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/cpu.h"
#include "tests/hostile/attack.h"

#define HOTPLUG	       0x610
#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA    0xcfc

static void write_configuration(void)
{
	uint32_t slot = (uint32_t)attack_below(32), offset = (uint32_t)attack_below(64) * 4;

	port_out(CONFIG_ADDRESS, 4, 0x80000000u | slot << 11 | (attack_below(2) ? 4 : offset));
	port_out(CONFIG_DATA, 4, (uint32_t)attack_random());
}

/* In kernel mode as a whole, as in attack_platform.c. */
static uint64_t storm(void *arg)
{
	(void)arg;
	for (unsigned round = 0; round < 1000; round++) {
		switch (attack_below(6)) {
		case 0:
			port_out(HOTPLUG + 8, 4, (uint32_t)attack_random());
			break;
		case 1:
			port_out(HOTPLUG + 12, 4, (uint32_t)attack_random() & 0x00ff031f);
			break;
		case 2:
			port_in(HOTPLUG + 4 * (uint16_t)attack_below(2), 4);
			break;
		case 3:
			port_out(HOTPLUG + (uint16_t)attack_below(16), 1u << attack_below(3),
				(uint32_t)attack_random());
			break;
		default:
			write_configuration();
			break;
		}
	}
	return 0;
}

void attack_hotplug(void)
{
	attack.seed = boot_number("seed", 1);
	for (;;)
		kernel_call(storm, NULL);
}
