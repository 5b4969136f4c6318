/* SPDX-License-Identifier: Apache-2.0 */
/* A VM of this machine's own KVM with vCPUs and 2 MiB of RAM, and its state as a file. Each call ends the test where it fails. */
#pragma once

#include "vmm/arch/arch.h"
#include "vmm/state/state.h"

#include <check.h>

struct kvm_guest {
	struct vm vm;
	struct vcpu_group vcpus;
	struct arch_cpu_model *model;
};

/* /dev/kvm, or -1 where there is none, which is said. */
int kvm_guest_open(void);

struct guest_memory kvm_guest_memory(void);

/* Model "host"; `ops` and `owner` as for vcpu_add(), NULL for a guest that never runs. */
void kvm_guest_make(struct kvm_guest *guest, int kvm_fd, const struct guest_memory *memory,
	unsigned cpus, const struct vcpu_ops *ops, void *owner);
/* With this model, which becomes the guest's. */
void kvm_guest_make_with(struct kvm_guest *guest, int kvm_fd, const struct guest_memory *memory,
	unsigned cpus, const struct vcpu_ops *ops, void *owner, struct arch_cpu_model *model);
void kvm_guest_end(struct kvm_guest *guest);

/* All but the platform's devices. The caller's to state_release(). */
struct state_writer kvm_guest_save(struct kvm_guest *guest);
void kvm_guest_load(struct kvm_guest *guest, const struct state_writer *saved);
