/* SPDX-License-Identifier: Apache-2.0 */
/* tests.elf: what the monitor promises to a driver that keeps the rules. tests/payload/run runs them. */
#include "guest/payloads/tests.h"

#include "guest/payloads/lib/main.h"

const struct payload_test payload_tests[] = {
	{"queue_wrap", test_queue_wrap},
	{"indirect_chains", test_indirect_chains},
	{"split_segments", test_split_segments},
	{"interrupt_event_index", test_interrupt_event_index},
	{"interrupt_flag", test_interrupt_flag},
	{"interrupt_masked", test_interrupt_masked},
	{"kick_event_index", test_kick_event_index},
	{"reset_in_flight", test_reset_in_flight},
	{"registers_frozen", test_registers_frozen},
	{"queue_outside_ram", test_queue_outside_ram},
	{"ram_across_hole", test_ram_across_hole},
	{"smp_start", test_smp_start},
	{"smp_interrupts", test_smp_interrupts},
	{"hotplug_cpus", test_hotplug_cpus},
	{"hotplug_memory", test_hotplug_memory},
	{"power_off", test_power_off},
	{"triple_fault", test_triple_fault},
	{"triple_fault_early", test_triple_fault_early},
	{"reboot", test_reboot},
	{"serial_registers", test_serial_registers},
	{"serial_output", test_serial_output},
	{"serial_echo", test_serial_echo},
	{"remember", test_remember},
	{"vsock_connect", test_vsock_connect},
	{"vsock_listen", test_vsock_listen},
	{"net_echo", test_net_echo},
	{"debug", test_debug},
	{"dirty", test_dirty},
	{0},
};
