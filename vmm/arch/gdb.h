/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an architecture is to a debugger: the registers in gdb's order, breakpoints, and why a vCPU came out of KVM_RUN
 * with KVM_EXIT_DEBUG. One file of the architecture's folder implements it; vmm/gdb uses it and knows no register.
 *
 * All calls are for a vCPU whose thread is not in KVM_RUN (a paused machine, or a trapped vCPU), on the main thread. Those that
 * return int return 0 or a negative errno.
 */
#pragma once

#include "vmm/kvm/vcpu.h"

#include <stddef.h>

#define ARCH_GDB_REGISTERS_MAX 1024 /* bytes of all registers */
#define ARCH_GDB_SLOTS_MAX     16   /* hardware breakpoints and watchpoints of one vCPU */
#define ARCH_GDB_INSTRUCTION   4    /* the longest breakpoint instruction */

/* The target description (GDB manual, appendix G), for the caller to free; NULL when memory is short. */
char *arch_gdb_describe(void);

/* All registers as the description orders them, little-endian, without gaps. */
size_t arch_gdb_registers_size(void);
int arch_gdb_get_registers(struct vcpu *vcpu, uint8_t *bytes);
/* What is unlike the present state is set. */
int arch_gdb_set_registers(struct vcpu *vcpu, const uint8_t *bytes);
/* Where register `number` of the description is in them. False: there is no such register. */
bool arch_gdb_register(unsigned number, size_t *offset, size_t *size);

/* The page tables that the vCPU uses now. False: not mapped. */
bool arch_gdb_translate(struct vcpu *vcpu, uint64_t address, uint64_t *gpa);

/* "running", "halted", "waiting for its start": what a person wants to know of it. */
const char *arch_gdb_vcpu_state(struct vcpu *vcpu);

/* The instruction that traps; its size in *size. */
const uint8_t *arch_gdb_instruction(size_t *size);

enum arch_gdb_kind {
	ARCH_GDB_UNUSED,
	ARCH_GDB_EXECUTE,
	ARCH_GDB_WRITE,
	ARCH_GDB_READ,
	ARCH_GDB_ACCESS, /* read or write */
};

struct arch_gdb_slot {
	enum arch_gdb_kind kind;
	uint64_t address;
	uint64_t length;
};

/* What is to trap, of one vCPU. */
struct arch_gdb_traps {
	bool on;       /* else none of the rest */
	bool step;     /* after one instruction */
	bool software; /* arch_gdb_instruction() */
	enum {
		ARCH_GDB_INJECT_NONE,
		ARCH_GDB_INJECT_BREAKPOINT,
		ARCH_GDB_INJECT_DEBUG
	} inject; /* the guest gets this exception now */
	struct arch_gdb_slot slots[ARCH_GDB_SLOTS_MAX];
};

/* How many slots there are. */
unsigned arch_gdb_slot_count(void);
/* Whether a slot can do it. -ENOTSUP: no slot of this processor watches in this way; -EINVAL: not this address or length. */
int arch_gdb_check_slot(const struct arch_gdb_slot *slot);
/* KVM_SET_GUEST_DEBUG (KVM API §4.87). */
int arch_gdb_set_traps(struct vcpu *vcpu, const struct arch_gdb_traps *traps);

/* Why it trapped. */
struct arch_gdb_trap {
	enum {
		ARCH_GDB_TRAP_SOFTWARE, /* a breakpoint instruction, perhaps the guest's own */
		ARCH_GDB_TRAP_SLOT,
		ARCH_GDB_TRAP_STEP,
		ARCH_GDB_TRAP_FOREIGN, /* a debug exception that nobody here asked for */
	} why;
	uint64_t pc;
	unsigned slot;
};

/* From run->debug. `traps` as they were set. */
void arch_gdb_read_trap(
	const struct vcpu *vcpu, const struct arch_gdb_traps *traps, struct arch_gdb_trap *trap);
