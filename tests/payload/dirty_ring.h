/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's dirty rings (KVM API §8.29, KVM_CAP_DIRTY_LOG_RING): instead of a bitmap a slot, a ring a vCPU in which KVM writes the
 * number of each page that this vCPU makes dirty. What dirty_cost.c measures against the bitmap; the monitor does not use it.
 */
#pragma once

#include "vmm/kvm/kvm.h"
#include "vmm/memory/page_set.h"

struct dirty_ring {
	struct kvm_dirty_gfn *entries;
	uint32_t count, next; /* entries; the next to look at, free-running */
};

/* Before any vCPU exists, and for good: there is no bitmap then. `entries` is a power of two. */
int dirty_ring_enable(const struct vm *vm, uint32_t entries, struct error *err);
int dirty_ring_map(struct dirty_ring *ring, int vcpu_fd, uint32_t entries, struct error *err);

/* Take what is there: how many entries. They can be used again, and their pages are protected again, after the reset. */
uint32_t dirty_ring_harvest(
	struct dirty_ring *ring, const struct guest_memory *memory, struct page_set *into);
int dirty_ring_reset(const struct vm *vm, struct error *err);
