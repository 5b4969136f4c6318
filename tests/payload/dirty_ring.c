/* SPDX-License-Identifier: Apache-2.0 */
/* KVM's dirty rings. See dirty_ring.h. */
#include "tests/payload/dirty_ring.h"

#include "vmm/memory/pages.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

int dirty_ring_enable(const struct vm *vm, uint32_t entries, struct error *err)
{
	struct kvm_enable_cap cap = {.args[0] = entries * sizeof(struct kvm_dirty_gfn)};

	cap.cap = kvm_check(vm->kvm_fd, KVM_CAP_DIRTY_LOG_RING) > 0
			  ? KVM_CAP_DIRTY_LOG_RING
			  : KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
	if (kvm_check(vm->kvm_fd, cap.cap) <= 0)
		return error_set(err, ERROR_INCOMPATIBLE, "this KVM has no dirty rings");
	if (ioctl(vm->fd, KVM_ENABLE_CAP, &cap) < 0)
		return error_errno(err, errno, "KVM makes no dirty rings");
	return 0;
}

int dirty_ring_map(struct dirty_ring *ring, int vcpu_fd, uint32_t entries, struct error *err)
{
	void *map = mmap(NULL, entries * sizeof(struct kvm_dirty_gfn), PROT_READ | PROT_WRITE,
		MAP_SHARED, vcpu_fd, KVM_DIRTY_LOG_PAGE_OFFSET * (off_t)GUEST_PAGE_SIZE);

	if (map == MAP_FAILED)
		return error_errno(err, errno, "cannot map a dirty ring");
	*ring = (struct dirty_ring){.entries = map, .count = entries};
	return 0;
}

static uint64_t page_of(const struct guest_memory *memory, uint32_t slot, uint64_t offset)
{
	slot &= 0xffff;
	return guest_memory_piece(memory,
		       slot < MEMORY_REGIONS_MAX ? slot
						 : slot - MEMORY_REGIONS_MAX + memory->region_count)
		       .first +
	       offset;
}

uint32_t dirty_ring_harvest(
	struct dirty_ring *ring, const struct guest_memory *memory, struct page_set *into)
{
	uint32_t before = ring->next;

	for (;; ring->next++) {
		struct kvm_dirty_gfn *entry = &ring->entries[ring->next % ring->count];

		if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			return ring->next - before;
		page_set_add(into, page_of(memory, entry->slot, entry->offset), 1);
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
}

int dirty_ring_reset(const struct vm *vm, struct error *err)
{
	int ret = ioctl(vm->fd, KVM_RESET_DIRTY_RINGS, 0);

	return ret < 0 ? error_errno(err, errno, "KVM does not take its dirty rings back") : ret;
}
