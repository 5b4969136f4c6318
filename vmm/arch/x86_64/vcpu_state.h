/* SPDX-License-Identifier: Apache-2.0 */
/* What a vCPU is between two instructions, for vcpu_state.c and its neighbours. */
#pragma once

#include "vmm/kvm/vcpu.h"
#include "vmm/state/state.h"

#define VCPU_XSAVE_ROOM 16384 /* AMX would take 11,008, and no guest gets it */
#define VCPU_MSRS_MAX	1024

struct vcpu_state {
	uint32_t mp_state; /* KVM_MP_STATE_* */
	bool out;	   /* the guest has let go of it */
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	uint64_t xcr0; /* 0: this KVM has no XSAVE */
	uint8_t lapic[KVM_APIC_REG_SIZE];
	uint32_t xsave_size, msr_count;
	uint8_t xsave[VCPU_XSAVE_ROOM]; /* standard format */
	struct kvm_msr_entry msrs[VCPU_MSRS_MAX];
};

extern const struct state_table vcpu_state_table;

/* Of their own files' structures, for tests that know a thing by its table alone. */
extern const struct state_table clock_state_table, irqchips_state_table, cpu_model_state_table;

#define MSR_TSC		 0x10
#define MSR_TSC_DEADLINE 0x6e0

/* vcpu_msrs.c: all that KVM lists and a guest of ours can have, but for the TSC (clock_state.c). */
int vcpu_msrs_get(struct vcpu *vcpu, struct vcpu_state *state, struct error *err);
/* Those that need the others and the local APIC to be there come last by `late`. */
int vcpu_msrs_set(struct vcpu *vcpu, const struct vcpu_state *state, bool late, struct error *err);

/* One register; false: this KVM has it not, or not this value. */
bool vcpu_msr_read(const struct vcpu *vcpu, uint32_t index, uint64_t *value);
bool vcpu_msr_write(const struct vcpu *vcpu, uint32_t index, uint64_t value);

/* clock_state.c: a vCPU's TSC; to set it refuses what KVM cannot scale. */
int clock_frequency(const struct vcpu *vcpu, uint32_t *khz, struct error *err);
int clock_set_frequency(const struct vcpu *vcpu, uint32_t khz, struct error *err);

/* The guest's clocks, of all vCPUs. */
int clock_save(struct vcpu_group *vcpus, struct state_writer *out, struct error *err);
int clock_load(struct vcpu_group *vcpus, struct state_reader *in, struct error *err);
