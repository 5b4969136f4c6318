/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed wrappers of the KVM ioctls that concern the host (/dev/kvm) and one virtual machine.
 *
 * What KVM can do is asked of /dev/kvm (KVM_CHECK_EXTENSION, KVM_GET_SUPPORTED_CPUID), never of
 * CPUID: a KVM may emulate or withhold what the processor has. Section numbers refer to the Linux
 * document "The Definitive KVM API".
 *
 * Threads: a struct vm may be used from any thread; interrupt routes are guarded by its lock.
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/memory/guest_memory.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Interrupt routes: the IOAPIC's pins come first, MSI routes are allocated above. */
#define VM_IOAPIC_PINS 24
#define VM_ROUTES_MAX  1024

struct vm {
	int fd;
	int kvm_fd; /* /dev/kvm; the caller's, open as long as the VM lives */
	int vcpu_mmap_size;
	uint32_t slot_flags;  /* of each memory slot */
	bool fast_kicks;      /* ioeventfds of any length: the address alone decides (§4.59) */
	pthread_mutex_t lock; /* guards the routes below */
	bool route_used[VM_ROUTES_MAX];	      /* by GSI */
	struct kvm_irq_routing *table;	      /* what KVM_SET_GSI_ROUTING gets */
	struct kvm_irq_routing_entry *routes; /* its entries, packed, in use */
	unsigned route_count;
};

/* Opens /dev/kvm and checks its version and the capabilities Bulkhead cannot live without. */
int kvm_open(int *fd, struct error *err);

/* KVM_CHECK_EXTENSION on /dev/kvm; 0 when absent (§4.4). */
int kvm_check(int kvm_fd, unsigned cap);

/* Creates the VM; kvm_fd stays the caller's. */
int vm_create(struct vm *vm, int kvm_fd, struct error *err);
void vm_destroy(struct vm *vm);

/* KVM_SET_USER_MEMORY_REGION for each region and each slot that is plugged (§4.35). */
int vm_map_memory(struct vm *vm, const struct guest_memory *memory, struct error *err);

/* The same for one slot of the area in which memory comes and goes, also while vCPUs run. */
int vm_map_slot(struct vm *vm, const struct guest_memory *memory, unsigned slot, struct error *err);
void vm_unmap_slot(struct vm *vm, const struct guest_memory *memory, unsigned slot);

/* What KVM calls the slot that holds this piece of memory (vmm/memory/pages.h). */
unsigned vm_slot_of_piece(const struct guest_memory *memory, unsigned piece);

/* Log what vCPUs write (KVM_MEM_LOG_DIRTY_PAGES), in each slot that there is and in those that come, or no more. */
int vm_log_writes(struct vm *vm, const struct guest_memory *memory, bool on, struct error *err);

/*
 * Eventfd `fd` is signalled, without an exit to us, when the guest writes to the address. `len` 0
 * means any write to exactly that address (the fastest), where fast_kicks says it is possible; MMIO only.
 * Returns 0 or a negative errno (-EEXIST: the address is taken).
 */
int vm_ioeventfd_add(struct vm *vm, uint64_t gpa, unsigned len, int fd);
int vm_ioeventfd_remove(struct vm *vm, uint64_t gpa, unsigned len, int fd);

/* A free GSI above the IOAPIC pins, or -ENOSPC. */
int vm_route_alloc(struct vm *vm);
void vm_route_free(struct vm *vm, unsigned gsi);

/* Point a GSI at an MSI message; live at once (§4.52). */
int vm_route_msi(struct vm *vm, unsigned gsi, uint64_t address, uint32_t data);

/* Writing to eventfd `fd` injects GSI `gsi` as an edge (§4.75). */
int vm_irqfd_add(struct vm *vm, unsigned gsi, int fd);
int vm_irqfd_remove(struct vm *vm, unsigned gsi, int fd);
