/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A debugger's session with a guest that is played (gdb_guest.h): what no KVM of the machines that test us can do, breakpoint
 * instructions and watchpoints above all; and which stop is told when several vCPUs trap at once.
 */
#include "tests/unit/gdb_guest.h"
#include "tests/unit/runner.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static struct gdb gdb;
static struct gdb_packet packet;
static int far_end;

static void setup(void)
{
	far_end = gdb_guest_start(&gdb);
	gdb.names_reasons = true;
}

static void teardown(void)
{
	gdb_guest_end(&gdb);
	close(far_end);
}

/* What came, all of it; "" when nothing has. */
static const char *received(void)
{
	uint8_t byte;

	while (recv(far_end, &byte, 1, MSG_DONTWAIT) == 1)
		if (gdb_packet_take(&packet, byte) == GDB_INPUT_PACKET)
			return packet.data;
	return "";
}

static const char *ask(const char *request)
{
	char made[GDB_PACKET_MADE(200)];

	ck_assert_uint_le(strlen(request), 200);
	gdb_guest_feed(&gdb, made, gdb_packet_make(request, strlen(request), made));
	return received();
}

#define expect(request, answer) ck_assert_str_eq(ask(request), answer)

static void go(const char *request)
{
	expect(request, "");
	ck_assert(gdb.running && !gdb_guest.pauses);
}

static bool traps(unsigned index, int why, uint64_t pc, unsigned slot)
{
	struct arch_gdb_trap trap = {.why = why, .pc = pc, .slot = slot};

	return gdb_guest_traps(index, &trap);
}

static uint8_t *ram(uint64_t address)
{
	return guest_memory_view(&gdb_guest.memory, GDB_GUEST_GPA(address), 1);
}

START_TEST(a_breakpoint_is_in_memory_but_not_seen)
{
	expect("M5000,4:01020304", "OK");
	expect("Z0,5001,1", "OK");
	ck_assert_mem_eq(ram(0x5000), "\x01\xcc\xdd\x04", 4);
	expect("m5000,4", "01020304");
	expect("m5002,1", "03");
	expect("Z0,5001,1", "OK");
	expect("z0,5001,1", "OK");
	expect("z0,5001,1", "OK");
	ck_assert_mem_eq(ram(0x5000), "\x01\x02\x03\x04", 4);
}
END_TEST

START_TEST(writing_over_a_breakpoint_changes_what_is_below_it)
{
	expect("Z0,5001,1", "OK");
	expect("M5000,3:0a0b0c", "OK");
	ck_assert_mem_eq(ram(0x5000), "\x0a\xcc\xdd", 3);
	expect("m5000,3", "0a0b0c");
	expect("z0,5001,1", "OK");
	ck_assert_mem_eq(ram(0x5000), "\x0a\x0b\x0c", 3);
}
END_TEST

START_TEST(two_addresses_of_one_place_are_one_breakpoint_there)
{
	expect("M5000,2:1122", "OK");
	expect("Z0,5000,1", "OK");
	expect("Z0,15000,1", "OK");
	expect("m15000,2", "1122");
	expect("z0,5000,1", "OK");
	ck_assert_mem_eq(ram(0x5000), "\xcc\xdd", 2);
	expect("z0,15000,1", "OK");
	ck_assert_mem_eq(ram(0x5000), "\x11\x22", 2);
}
END_TEST

START_TEST(what_the_guest_puts_over_a_breakpoint_stays)
{
	expect("Z0,5000,1", "OK");
	memcpy(ram(0x5000), "\x77\x88", 2);
	expect("z0,5000,1", "OK");
	ck_assert_mem_eq(ram(0x5000), "\x77\x88", 2);
}
END_TEST

START_TEST(no_breakpoint_outside_ram_or_across_pages_or_others)
{
	char request[32];

	snprintf(request, sizeof(request), "Z0,%x,1", GDB_GUEST_NOT_RAM + 0x3000);
	expect(request, "E0e");
	snprintf(request, sizeof(request), "Z0,%x,1", GDB_GUEST_UNMAPPED);
	expect(request, "E0e");
	expect("Z0,5fff,1", "E0e");
	expect("Z0,5001,1", "OK");
	expect("Z0,5000,1", "E10"); /* half in the other */
	expect("Z0,5002,1", "E10");
	expect("z0,5001,1", "OK");
	ck_assert_uint_eq(gdb.breakpoint_count, 0);
}
END_TEST

START_TEST(a_breakpoint_stops_all_and_is_told_by_its_thread)
{
	expect("Z0,5000,1", "OK");
	go("vCont;c");
	ck_assert(gdb_guest.traps[0].software && gdb_guest.traps[2].software);
	ck_assert(traps(1, ARCH_GDB_TRAP_SOFTWARE, 0x5000, 0));
	ck_assert_str_eq(received(), "T05thread:2;swbreak:;");
	ck_assert_uint_eq(gdb_guest.pauses, 1);
	expect("qC", "QC2");
	go("vCont;s:2");
	ck_assert(gdb_guest.traps[1].step && !gdb_guest.traps[0].step);
	ck_assert(gdb_guest.vcpus[0].held && !gdb_guest.vcpus[1].held && gdb_guest.vcpus[2].held);
	ck_assert(traps(1, ARCH_GDB_TRAP_STEP, 0x5002, 0));
	ck_assert_str_eq(received(), "T05thread:2;");
	go("vCont;c");
	ck_assert(!gdb_guest.vcpus[0].held && !gdb_guest.traps[1].step);
}
END_TEST

START_TEST(the_guests_own_breakpoint_instruction_is_given_back)
{
	expect("Z0,5000,1", "OK");
	expect("M6000,2:ccdd", "OK");
	go("vCont;c");
	ck_assert(traps(2, ARCH_GDB_TRAP_SOFTWARE, 0x6000, 0));
	ck_assert_str_eq(received(), "");
	ck_assert_uint_eq(gdb_guest.injected[2][ARCH_GDB_INJECT_BREAKPOINT], 1);
	ck_assert(!gdb_guest.vcpus[2].held && !gdb_guest.pauses);
	ck_assert(traps(2, ARCH_GDB_TRAP_FOREIGN, 0x6000, 0));
	ck_assert_uint_eq(gdb_guest.injected[2][ARCH_GDB_INJECT_DEBUG], 1);
	ck_assert_str_eq(received(), "");
}
END_TEST

START_TEST(a_breakpoint_that_was_removed_meanwhile_is_executed_as_it_was)
{
	expect("Z0,5000,1", "OK");
	go("vCont;c");
	ck_assert(traps(0, ARCH_GDB_TRAP_SOFTWARE, 0x5000, 0));
	ck_assert_str_eq(received(), "T05thread:1;swbreak:;");
	expect("z0,5000,1", "OK");
	/* This one had come to it too, and its exit is looked at only now. */
	ck_assert(traps(1, ARCH_GDB_TRAP_SOFTWARE, 0x5000, 0));
	ck_assert_uint_eq(gdb_guest.injected[1][ARCH_GDB_INJECT_BREAKPOINT], 0);
	ck_assert(!gdb_guest.vcpus[1].held);
	go("vCont;c");
}
END_TEST

START_TEST(a_watchpoint_passed_during_another_stop_is_told_at_the_next)
{
	expect("Z2,7000,8", "OK");
	expect("Z1,5000,1", "OK");
	go("vCont;c");
	ck_assert(traps(0, ARCH_GDB_TRAP_SLOT, 0x5000, 1));
	ck_assert_str_eq(received(), "T05thread:1;hwbreak:;");
	ck_assert(traps(2, ARCH_GDB_TRAP_SLOT, 0x5500, 0));
	ck_assert_str_eq(received(), "");
	/* not when that vCPU is to stay */
	go("vCont;c:1");
	ck_assert(traps(0, ARCH_GDB_TRAP_SLOT, 0x5000, 1));
	ck_assert_str_eq(received(), "T05thread:1;hwbreak:;");
	expect("vCont;c", "T05thread:3;watch:7000;");
	ck_assert_uint_eq(gdb_guest.pauses, 1);
	go("vCont;c");
}
END_TEST

START_TEST(a_watchpoint_that_was_removed_is_not_told)
{
	expect("Z4,7000,8", "OK");
	go("c");
	gdb_interrupt(&gdb);
	ck_assert_str_eq(received(), "T02thread:1;");
	ck_assert(traps(2, ARCH_GDB_TRAP_SLOT, 0x5500, 0));
	expect("z4,7000,8", "OK");
	go("c");
}
END_TEST

START_TEST(two_breakpoints_at_once_are_one_stop_and_then_the_other)
{
	expect("Z1,5000,1", "OK");
	go("c");
	ck_assert(traps(0, ARCH_GDB_TRAP_SLOT, 0x5000, 0));
	ck_assert_str_eq(received(), "T05thread:1;hwbreak:;");
	ck_assert(traps(1, ARCH_GDB_TRAP_SLOT, 0x5000, 0));
	ck_assert_str_eq(received(), "");
	ck_assert(gdb_guest.vcpus[1].held);
	go("c");
	/* it is before its instruction still, and comes there again */
	ck_assert(traps(1, ARCH_GDB_TRAP_SLOT, 0x5000, 0));
	ck_assert_str_eq(received(), "T05thread:2;hwbreak:;");
}
END_TEST

START_TEST(step_and_continue_choose_by_thread)
{
	expect("Hc3", "OK");
	go("s");
	ck_assert(gdb_guest.traps[2].step && !gdb_guest.traps[0].step && !gdb_guest.traps[1].step);
	for (unsigned i = 0; i < GDB_GUEST_VCPUS; i++)
		ck_assert(!gdb_guest.vcpus[i].held);
	gdb_interrupt(&gdb);
	ck_assert_str_eq(received(), "T02thread:1;");
	/* the first action that is for a thread counts */
	go("vCont;s:2;C05:1;c");
	ck_assert(!gdb_guest.traps[0].step && gdb_guest.traps[1].step && !gdb_guest.traps[2].step);
}
END_TEST

START_TEST(who_waits_for_a_stop_gets_no_other_answer)
{
	go("c");
	expect("g", "E10");
	expect("m5000,1", "E10");
	expect("c", "E10");
	ck_assert(gdb.running && !gdb_guest.pauses);
}
END_TEST

START_TEST(a_reset_takes_instructions_out_and_keeps_what_the_processor_watches)
{
	expect("M5000,2:1122", "OK");
	expect("Z0,5000,1", "OK");
	expect("Z1,6000,1", "OK");
	go("c");
	gdb_state_changed(&gdb.observer, MACHINE_RESETTING, MACHINE_EXIT_FAILED);
	ck_assert_uint_eq(gdb_guest.pauses, 1);
	ck_assert_mem_eq(ram(0x5000), "\x11\x22", 2);
	ck_assert_int_eq(*received(), 'O');
	memset(gdb_guest.traps, 0, sizeof(gdb_guest.traps));
	gdb_state_changed(&gdb.observer, MACHINE_RUNNING, MACHINE_EXIT_FAILED);
	ck_assert_uint_eq(gdb_guest.pauses, 0);
	ck_assert(gdb_guest.traps[0].on && !gdb_guest.traps[0].software);
	ck_assert_int_eq(gdb_guest.traps[1].slots[0].kind, ARCH_GDB_EXECUTE);
	expect("z0,5000,1", "E10"); /* it runs: the debugger waits */
	gdb_interrupt(&gdb);
	ck_assert_str_eq(received(), "T02thread:1;");
	expect("z0,5000,1", "OK");
}
END_TEST

START_TEST(a_vcpu_that_comes_later_traps_too)
{
	expect("Z0,5000,1", "OK");
	expect("Z1,6000,1", "OK");
	go("vCont;s:3;c");
	gdb_guest.traps[2] = (struct arch_gdb_traps){0};
	gdb_guest.debugger->vcpu_added(gdb_guest.debugger, &gdb_guest.vcpus[2]);
	ck_assert(gdb_guest.traps[2].on && gdb_guest.traps[2].software && !gdb_guest.traps[2].step);
	ck_assert_int_eq(gdb_guest.traps[2].slots[0].kind, ARCH_GDB_EXECUTE);
}
END_TEST

START_TEST(a_crash_is_the_last_stop)
{
	go("c");
	ck_assert(gdb_guest.debugger->crashed(gdb_guest.debugger));
	ck_assert_str_eq(received(), "T06thread:1;");
	ck_assert_uint_eq(gdb_guest.pauses, 1);
	expect("m5000,1", "00");
	ck_assert(gdb_guest.debugger->crashed(gdb_guest.debugger)); /* another vCPU has too */
	expect("vCont;s:1", "");
	ck_assert_int_eq(gdb_guest.request, MACHINE_REQUEST_CRASH);
	ck_assert(!gdb_guest.debugger->crashed(gdb_guest.debugger));
	gdb_state_changed(&gdb.observer, MACHINE_ENDED, MACHINE_EXIT_CRASH);
	ck_assert_str_eq(received(), "X06");
	ck_assert(!gdb.attached);
}
END_TEST

START_TEST(a_crash_while_it_stands_is_told_when_it_is_to_go)
{
	ck_assert(gdb_guest.debugger->crashed(gdb_guest.debugger));
	ck_assert_str_eq(received(), "");
	expect("c", "T06thread:1;");
	ck_assert_int_eq(gdb_guest.request, MACHINE_REQUEST_NONE);
	gdb_guest_end(&gdb); /* the debugger goes: so does the machine */
	ck_assert_int_eq(gdb_guest.request, MACHINE_REQUEST_CRASH);
}
END_TEST

START_TEST(a_debugger_that_is_lost_leaves_nothing)
{
	expect("M5000,2:1122", "OK");
	expect("Z0,5000,1", "OK");
	expect("Z2,6000,8", "OK");
	go("vCont;c:1"); /* the others stay */
	ck_assert(traps(0, ARCH_GDB_TRAP_SOFTWARE, 0x5000, 0));
	gdb_guest_end(&gdb); /* checks the rest */
	ck_assert_mem_eq(ram(0x5000), "\x11\x22", 2);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("gdb_session");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_breakpoint_is_in_memory_but_not_seen);
	tcase_add_test(tc, writing_over_a_breakpoint_changes_what_is_below_it);
	tcase_add_test(tc, two_addresses_of_one_place_are_one_breakpoint_there);
	tcase_add_test(tc, what_the_guest_puts_over_a_breakpoint_stays);
	tcase_add_test(tc, no_breakpoint_outside_ram_or_across_pages_or_others);
	tcase_add_test(tc, a_breakpoint_stops_all_and_is_told_by_its_thread);
	tcase_add_test(tc, the_guests_own_breakpoint_instruction_is_given_back);
	tcase_add_test(tc, a_breakpoint_that_was_removed_meanwhile_is_executed_as_it_was);
	tcase_add_test(tc, a_watchpoint_passed_during_another_stop_is_told_at_the_next);
	tcase_add_test(tc, a_watchpoint_that_was_removed_is_not_told);
	tcase_add_test(tc, two_breakpoints_at_once_are_one_stop_and_then_the_other);
	tcase_add_test(tc, step_and_continue_choose_by_thread);
	tcase_add_test(tc, who_waits_for_a_stop_gets_no_other_answer);
	tcase_add_test(tc, a_reset_takes_instructions_out_and_keeps_what_the_processor_watches);
	tcase_add_test(tc, a_vcpu_that_comes_later_traps_too);
	tcase_add_test(tc, a_crash_is_the_last_stop);
	tcase_add_test(tc, a_crash_while_it_stands_is_told_when_it_is_to_go);
	tcase_add_test(tc, a_debugger_that_is_lost_leaves_nothing);
	return run_tests("gdb_session", tc, NULL);
}
