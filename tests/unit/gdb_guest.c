/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine and a processor for tests of the debugger: see gdb_guest.h. What vmm/gdb calls of the machine's and the
 * architecture's floors is here, so that the library's own is not linked.
 */
#include "tests/unit/gdb_guest.h"

#include "vmm/base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

struct gdb_guest gdb_guest;

/* ---- the machine ---- */

void machine_pause(struct machine *m)
{
	(void)m;
	gdb_guest.pauses++;
}

void machine_resume(struct machine *m)
{
	(void)m;
	BUG_ON(!gdb_guest.pauses);
	gdb_guest.pauses--;
}

struct vcpu_group *machine_vcpus(struct machine *m)
{
	(void)m;
	return &gdb_guest.group;
}

const struct guest_memory *machine_memory(const struct machine *m)
{
	(void)m;
	return &gdb_guest.memory;
}

void machine_set_debugger(struct machine *m, struct machine_debugger *d)
{
	(void)m;
	gdb_guest.debugger = d;
}

void machine_request(struct machine *m, enum machine_request request)
{
	(void)m;
	BUG_ON(request != MACHINE_REQUEST_STOP && request != MACHINE_REQUEST_CRASH);
	gdb_guest.request = request;
}

enum machine_state machine_state(const struct machine *m)
{
	(void)m;
	return MACHINE_RUNNING;
}

void machine_observe(struct machine *m, struct machine_observer *observer)
{
	(void)m;
	(void)observer;
}

void machine_unobserve(struct machine *m, struct machine_observer *observer)
{
	(void)m;
	(void)observer;
}

struct loop *machine_loop(struct machine *m)
{
	(void)m;
	return gdb_guest.loop;
}

void vcpu_hold(struct vcpu *vcpu, bool held)
{
	vcpu->held = held;
}

/* ---- the processor ---- */

char *arch_gdb_describe(void)
{
	return strdup("<target>$#}*</target>");
}

size_t arch_gdb_registers_size(void)
{
	return GDB_GUEST_REGISTERS;
}

bool arch_gdb_register(unsigned number, size_t *offset, size_t *size)
{
	*offset = 4 * (size_t)number;
	*size = 4;
	return number < GDB_GUEST_REGISTERS / 4;
}

int arch_gdb_get_registers(struct vcpu *vcpu, uint8_t *bytes)
{
	memcpy(bytes, gdb_guest.registers[vcpu->index], GDB_GUEST_REGISTERS);
	return 0;
}

int arch_gdb_set_registers(struct vcpu *vcpu, const uint8_t *bytes)
{
	memcpy(gdb_guest.registers[vcpu->index], bytes, GDB_GUEST_REGISTERS);
	return bytes[0] == 7 ? -EINVAL : 0;
}

/* Every other page; two addresses for each place; the last page behind the end of RAM. */
bool arch_gdb_translate(struct vcpu *vcpu, uint64_t address, uint64_t *gpa)
{
	(void)vcpu;
	*gpa = ((address & 0xffff) ^ 0x3000) + (address & 0x40000 ? 0x8000 : 0);
	return !(address >> 20);
}

const char *arch_gdb_vcpu_state(struct vcpu *vcpu)
{
	(void)vcpu;
	return "running";
}

const uint8_t *arch_gdb_instruction(size_t *size)
{
	static const uint8_t instruction[] = {0xcc, 0xdd};

	*size = sizeof(instruction);
	return instruction;
}

unsigned arch_gdb_slot_count(void)
{
	return 3;
}

int arch_gdb_check_slot(const struct arch_gdb_slot *slot)
{
	return slot->kind == ARCH_GDB_READ ? -ENOTSUP : slot->length > 8 ? -EINVAL : 0;
}

int arch_gdb_set_traps(struct vcpu *vcpu, const struct arch_gdb_traps *traps)
{
	for (unsigned i = 0; i < ARCH_GDB_SLOTS_MAX; i++)
		BUG_ON(traps->slots[i].kind != ARCH_GDB_UNUSED &&
			(i >= arch_gdb_slot_count() || arch_gdb_check_slot(&traps->slots[i])));
	gdb_guest.traps[vcpu->index] = *traps;
	gdb_guest.injected[vcpu->index][traps->inject]++;
	return 0;
}

void arch_gdb_read_trap(
	const struct vcpu *vcpu, const struct arch_gdb_traps *traps, struct arch_gdb_trap *trap)
{
	(void)vcpu;
	*trap = gdb_guest.next_trap;
	if (trap->why == ARCH_GDB_TRAP_SLOT && traps->slots[trap->slot].kind == ARCH_GDB_UNUSED)
		trap->why = ARCH_GDB_TRAP_FOREIGN;
}

/* ---- the debugger ---- */

static void make(void)
{
	struct guest_memory_config config = {.region_count = 1,
		.regions = {{.gpa = 0, .size = GDB_GUEST_RAM}},
		.pages = MEMORY_PAGES_OFF};
	struct error err;

	BUG_ON(loop_create(&gdb_guest.loop, 8, &err) < 0 ||
		guest_memory_create(&config, &gdb_guest.memory, &err) < 0);
}

int gdb_guest_start(struct gdb *gdb)
{
	int pair[2];

	if (!gdb_guest.loop)
		make();
	memset(gdb_guest.memory.regions[0].host, 0, GDB_GUEST_RAM);
	gdb_guest.pauses = 0;
	gdb_guest.request = MACHINE_REQUEST_NONE;
	gdb_guest.group.count = GDB_GUEST_VCPUS;
	memset(gdb_guest.injected, 0, sizeof(gdb_guest.injected));
	for (unsigned i = 0; i < GDB_GUEST_VCPUS; i++) {
		gdb_guest.vcpus[i] = (struct vcpu){.index = i, .group = &gdb_guest.group};
		gdb_guest.group.vcpus[i] = &gdb_guest.vcpus[i];
	}
	BUG_ON(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
	memset(gdb, 0, sizeof(*gdb));
	gdb->loop = gdb->poll.loop = gdb_guest.loop;
	gdb->fd = gdb->poll.fd = pair[0];
	gdb->debugger.vcpu_trapped = gdb_vcpu_trapped;
	gdb->debugger.vcpu_added = gdb_vcpu_added;
	gdb->debugger.crashed = gdb_guest_crashed;
	gdb->attached = true;
	gdb_attach(gdb);
	return pair[1];
}

void gdb_guest_feed(struct gdb *gdb, const char *bytes, size_t size)
{
	for (size_t i = 0; i < size && gdb->attached; i++) {
		switch (gdb_packet_take(&gdb->in, (uint8_t)bytes[i])) {
		case GDB_INPUT_PACKET:
			gdb_serve(gdb);
			break;
		case GDB_INPUT_INTERRUPT:
			gdb_interrupt(gdb);
			break;
		default:
			BUG_ON(gdb->in.size > GDB_PACKET_MAX);
		}
	}
}

bool gdb_guest_traps(unsigned index, const struct arch_gdb_trap *trap)
{
	struct vcpu *vcpu = &gdb_guest.vcpus[index];

	if (!gdb_guest.debugger || vcpu->held || vcpu->trapped)
		return false;
	gdb_guest.next_trap = *trap;
	vcpu->held = true;
	vcpu->trapped = true;
	gdb_guest.debugger->vcpu_trapped(gdb_guest.debugger);
	BUG_ON(vcpu->trapped);
	return true;
}

void gdb_guest_end(struct gdb *gdb)
{
	gdb_let_client_go(gdb);
	loop_timer_clear(gdb_guest.loop, &gdb->accept_again);
	BUG_ON(gdb_guest.pauses || gdb_guest.debugger || gdb->breakpoint_count);
	for (unsigned i = 0; i < GDB_GUEST_VCPUS; i++)
		BUG_ON(gdb_guest.vcpus[i].held || gdb_guest.vcpus[i].trapped ||
			gdb_guest.traps[i].on);
}
