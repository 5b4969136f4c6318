/* SPDX-License-Identifier: Apache-2.0 */
/* The tests of tests.elf, by the file they are in. What each keeps is said there. */
#pragma once

/* test_queues.c */
void test_queue_wrap(void);
void test_indirect_chains(void);
void test_split_segments(void);

/* test_interrupts.c */
void test_interrupt_event_index(void);
void test_interrupt_flag(void);
void test_interrupt_masked(void);
void test_kick_event_index(void);

/* test_reset.c */
void test_reset_in_flight(void);
void test_registers_frozen(void);
void test_queue_outside_ram(void);

/* test_memory.c */
void test_ram_across_hole(void);

/* test_smp.c */
void test_smp_start(void);
void test_smp_interrupts(void);

/* test_hotplug.c */
void test_hotplug_cpus(void);
void test_hotplug_memory(void);

/* test_power.c */
void test_power_off(void);
void test_triple_fault(void);
void test_triple_fault_early(void);
void test_reboot(void);

/* test_serial.c */
void test_serial_registers(void);
void test_serial_output(void);
void test_serial_echo(void);

/* test_remember.c */
void test_remember(void);

/* test_vsock.c */
void test_vsock_connect(void);
void test_vsock_listen(void);

/* test_dirty.c */
void test_dirty(void);

/* test_debug.c */
void test_debug(void);

/* test_net.c */
void test_net_echo(void);
