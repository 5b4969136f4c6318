/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traps of an x86_64 vCPU: INT3, the debug registers, single steps (Intel SDM vol. 3 §17.2; KVM API §4.87).
 *
 * While KVM_GUESTDBG_USE_HW_BP is on, KVM loads our debug registers instead of the guest's; while USE_SW_BP is on every
 * INT3 comes to us, also those that the guest has put there for itself: they are given back to it as exceptions.
 */
#include "vmm/arch/gdb.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define SLOTS		     4 /* DR0 to DR3 */
#define DR6_SINGLE_STEP	     (1ull << 14)
#define DR7_ALWAYS	     (1ull << 10)
#define DR7_GLOBAL_EXACT     (1ull << 9)
#define DR7_ENABLE(slot)     (2ull << (2 * (slot))) /* global */
#define DR7_CONTROL(slot)    (16 + 4 * (slot))	    /* R/W, two bits, then LEN, two bits */
#define CR4_LA57	     (1ull << 12)
#define EFER_LMA	     (1ull << 10)
#define EXCEPTION_BREAKPOINT 3

static const uint8_t int3[] = {0xcc};

const uint8_t *arch_gdb_instruction(size_t *size)
{
	_Static_assert(sizeof(int3) <= ARCH_GDB_INSTRUCTION, "room for the instruction");
	*size = sizeof(int3);
	return int3;
}

unsigned arch_gdb_slot_count(void)
{
	return SLOTS;
}

int arch_gdb_check_slot(const struct arch_gdb_slot *slot)
{
	if (slot->kind == ARCH_GDB_READ)
		return -ENOTSUP; /* gdb takes an access watchpoint and compares, then */
	if (slot->kind == ARCH_GDB_EXECUTE)
		return slot->length == 1 ? 0 : -EINVAL;
	if (slot->length != 1 && slot->length != 2 && slot->length != 4 && slot->length != 8)
		return -EINVAL;
	return slot->address % slot->length ? -EINVAL : 0;
}

/* §17.2.4: R/W is 0 execute, 1 write, 3 read or write; LEN is 0 one byte, 1 two, 3 four, 2 eight. */
static uint64_t slot_control(const struct arch_gdb_slot *slot)
{
	static const uint8_t ways[] = {
		[ARCH_GDB_EXECUTE] = 0, [ARCH_GDB_WRITE] = 1, [ARCH_GDB_ACCESS] = 3};
	static const uint8_t lengths[] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};

	if (slot->kind == ARCH_GDB_EXECUTE)
		return 0;
	return (uint64_t)lengths[slot->length] << 2 | ways[slot->kind];
}

static void use_slots(const struct arch_gdb_traps *traps, struct kvm_guest_debug *debug)
{
	uint64_t dr7 = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		if (traps->slots[i].kind == ARCH_GDB_UNUSED)
			continue;
		debug->arch.debugreg[i] = traps->slots[i].address;
		dr7 |= DR7_ENABLE(i) | slot_control(&traps->slots[i]) << DR7_CONTROL(i);
	}
	if (!dr7)
		return;
	debug->control |= KVM_GUESTDBG_USE_HW_BP;
	debug->arch.debugreg[7] = dr7 | DR7_ALWAYS | DR7_GLOBAL_EXACT;
}

static unsigned mp_state(const struct vcpu *vcpu)
{
	struct kvm_mp_state state; /* §4.38 */

	return ioctl(vcpu->fd, KVM_GET_MP_STATE, &state) < 0 ? KVM_MP_STATE_RUNNABLE
							     : state.mp_state;
}

/*
 * A step that ends in the timer's interrupt, again and again, is of no use: keep interrupts away meanwhile, where KVM can. But for a
 * processor that is halted, which only an interrupt can make take a step.
 */
static uint32_t step_control(const struct vcpu *vcpu)
{
	int can = kvm_check(vcpu->vm->kvm_fd, KVM_CAP_SET_GUEST_DEBUG2);

	if (can & KVM_GUESTDBG_BLOCKIRQ && mp_state(vcpu) == KVM_MP_STATE_RUNNABLE)
		return KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ;
	return KVM_GUESTDBG_SINGLESTEP;
}

int arch_gdb_set_traps(struct vcpu *vcpu, const struct arch_gdb_traps *traps)
{
	struct kvm_guest_debug debug = {0};

	if (traps->on) {
		debug.control = KVM_GUESTDBG_ENABLE;
		if (traps->software)
			debug.control |= KVM_GUESTDBG_USE_SW_BP;
		if (traps->step)
			debug.control |= step_control(vcpu);
		use_slots(traps, &debug);
	}
	if (traps->inject == ARCH_GDB_INJECT_BREAKPOINT)
		debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_BP;
	else if (traps->inject == ARCH_GDB_INJECT_DEBUG)
		debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_DB;
	return ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug) < 0 ? -errno : 0;
}

void arch_gdb_read_trap(
	const struct vcpu *vcpu, const struct arch_gdb_traps *traps, struct arch_gdb_trap *trap)
{
	const struct kvm_debug_exit_arch *debug = &vcpu->run->debug.arch;

	*trap = (struct arch_gdb_trap){.why = ARCH_GDB_TRAP_FOREIGN, .pc = debug->pc};
	if (debug->exception == EXCEPTION_BREAKPOINT) {
		trap->why = ARCH_GDB_TRAP_SOFTWARE;
		return;
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		if (!(debug->dr6 >> i & 1) || traps->slots[i].kind == ARCH_GDB_UNUSED)
			continue;
		trap->why = ARCH_GDB_TRAP_SLOT;
		trap->slot = i;
		return;
	}
	if (debug->dr6 & DR6_SINGLE_STEP && traps->step)
		trap->why = ARCH_GDB_TRAP_STEP;
}

/* KVM_TRANSLATE looks at as many bits as the page tables do, whatever is above them. */
static bool can_be_mapped(const struct kvm_sregs *sregs, uint64_t address)
{
	unsigned unused = sregs->cr4 & CR4_LA57 ? 64 - 57 : 64 - 48;

	if (!(sregs->efer & EFER_LMA))
		return address <= UINT32_MAX;
	return (uint64_t)((int64_t)(address << unused) >> unused) == address;
}

bool arch_gdb_translate(struct vcpu *vcpu, uint64_t address, uint64_t *gpa)
{
	struct kvm_translation translation = {.linear_address = address}; /* §4.15 */
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0 || !can_be_mapped(&sregs, address))
		return false;
	if (ioctl(vcpu->fd, KVM_TRANSLATE, &translation) < 0 || !translation.valid)
		return false;
	*gpa = translation.physical_address;
	return true;
}

const char *arch_gdb_vcpu_state(struct vcpu *vcpu)
{
	switch (mp_state(vcpu)) {
	case KVM_MP_STATE_RUNNABLE:
		return "running";
	case KVM_MP_STATE_HALTED:
		return "halted";
	default:
		return "waiting for its start";
	}
}
