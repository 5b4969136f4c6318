/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fields of a vCPU's state: those of KVM's own structures (linux/kvm.h, asm/kvm.h), which never change, by their names.
 * What a field may hold, KVM checks when it is given it; here is only what we use ourselves.
 */
#include "vmm/arch/x86_64/vcpu_state.h"

/* A structure in the structure: a list of one. */
#define PART(type, member, elements)                                                               \
	{                                                                                          \
		.name = #member, .kind = STATE_KIND_LIST, .offset = offsetof(type, member),        \
		.size = STATE_MEMBER_SIZE(type, member), .count = 1, .used = STATE_ALL,            \
		.table = (elements)                                                                \
	}

#define REG(member) STATE_UINT(struct kvm_regs, member)
static const struct state_field regs_fields[] = {
	REG(rax),
	REG(rbx),
	REG(rcx),
	REG(rdx),
	REG(rsi),
	REG(rdi),
	REG(rsp),
	REG(rbp),
	REG(r8),
	REG(r9),
	REG(r10),
	REG(r11),
	REG(r12),
	REG(r13),
	REG(r14),
	REG(r15),
	REG(rip),
	REG(rflags),
};
static const struct state_table regs_table = STATE_TABLE("regs", 1, struct kvm_regs, regs_fields);

#define SEGMENT(member, ...) STATE_UINT(struct kvm_segment, member, __VA_ARGS__)
static const struct state_field segment_fields[] = {
	SEGMENT(base),
	SEGMENT(limit),
	SEGMENT(selector),
	SEGMENT(type, .max = 15),
	SEGMENT(present, .max = 1),
	SEGMENT(dpl, .max = 3),
	SEGMENT(db, .max = 1),
	SEGMENT(s, .max = 1),
	SEGMENT(l, .max = 1),
	SEGMENT(g, .max = 1),
	SEGMENT(avl, .max = 1),
	SEGMENT(unusable, .max = 1),
};
static const struct state_table segment_table =
	STATE_TABLE("segment", 1, struct kvm_segment, segment_fields);

static const struct state_field dtable_fields[] = {
	STATE_UINT(struct kvm_dtable, base),
	STATE_UINT(struct kvm_dtable, limit),
};
static const struct state_table dtable_table =
	STATE_TABLE("dtable", 1, struct kvm_dtable, dtable_fields);

#define SEGMENTS(member)  PART(struct kvm_sregs2, member, &segment_table)
#define SREG(member, ...) STATE_UINT(struct kvm_sregs2, member, __VA_ARGS__)
static const struct state_field sregs_fields[] = {
	SEGMENTS(cs),
	SEGMENTS(ds),
	SEGMENTS(es),
	SEGMENTS(fs),
	SEGMENTS(gs),
	SEGMENTS(ss),
	SEGMENTS(tr),
	SEGMENTS(ldt),
	PART(struct kvm_sregs2, gdt, &dtable_table),
	PART(struct kvm_sregs2, idt, &dtable_table),
	SREG(cr0),
	SREG(cr2),
	SREG(cr3),
	SREG(cr4),
	SREG(cr8, .max = 15),
	SREG(efer),
	SREG(apic_base),
	SREG(flags, .max = KVM_SREGS2_FLAGS_PDPTRS_VALID),
	STATE_UINTS(struct kvm_sregs2, pdptrs),
};
static const struct state_table sregs_table =
	STATE_TABLE("sregs", 1, struct kvm_sregs2, sregs_fields);

static const struct state_field debug_fields[] = {
	STATE_UINTS(struct kvm_debugregs, db),
	STATE_UINT(struct kvm_debugregs, dr6),
	STATE_UINT(struct kvm_debugregs, dr7),
};
static const struct state_table debug_table =
	STATE_TABLE("debug", 1, struct kvm_debugregs, debug_fields);

#define EVENT(member, ...) STATE_UINT(struct kvm_vcpu_events, member, __VA_ARGS__)
#define EVENT_BOOL(member) EVENT(member, .max = 1)
static const struct state_field events_fields[] = {
	EVENT(flags),
	EVENT_BOOL(exception.injected),
	EVENT(exception.nr, .max = 31),
	EVENT_BOOL(exception.has_error_code),
	EVENT_BOOL(exception.pending),
	EVENT(exception.error_code),
	EVENT_BOOL(exception_has_payload),
	EVENT(exception_payload),
	EVENT_BOOL(interrupt.injected),
	EVENT(interrupt.nr),
	EVENT_BOOL(interrupt.soft),
	EVENT(interrupt.shadow, .max = 3),
	EVENT_BOOL(nmi.injected),
	EVENT(nmi.pending),
	EVENT_BOOL(nmi.masked),
	EVENT(sipi_vector, .max = 255),
	EVENT_BOOL(smi.smm),
	EVENT_BOOL(smi.pending),
	EVENT_BOOL(smi.smm_inside_nmi),
	EVENT_BOOL(smi.latched_init),
	EVENT_BOOL(triple_fault.pending),
};
static const struct state_table events_table =
	STATE_TABLE("events", 1, struct kvm_vcpu_events, events_fields);

static const struct state_field msr_fields[] = {
	STATE_UINT(struct kvm_msr_entry, index),
	STATE_UINT(struct kvm_msr_entry, data),
};
static const struct state_table msr_table = STATE_TABLE("msr", 1, struct kvm_msr_entry, msr_fields);

static const struct state_field fields[] = {
	STATE_UINT(struct vcpu_state, mp_state, .max = KVM_MP_STATE_AP_RESET_HOLD),
	STATE_BOOL(struct vcpu_state, out),
	PART(struct vcpu_state, regs, &regs_table),
	PART(struct vcpu_state, sregs, &sregs_table),
	PART(struct vcpu_state, debug, &debug_table),
	PART(struct vcpu_state, events, &events_table),
	STATE_UINT(struct vcpu_state, xcr0),
	STATE_BYTES(struct vcpu_state, lapic),
	STATE_BLOB(struct vcpu_state, xsave, xsave_size),
	STATE_LIST(struct vcpu_state, msrs, msr_count, &msr_table),
};

const struct state_table vcpu_state_table = STATE_TABLE("vcpu", 1, struct vcpu_state, fields);
