/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's dirty log. See dirty_log.h for the contract.
 *
 * A slot of KVM is a piece of guest memory (vmm/memory/pages.h), and pieces begin at whole words of a page set: so KVM reads
 * and writes the words of the set in place.
 */
#include "vmm/kvm/dirty_log.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/memory/pages.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/ioctl.h>

#define MANUAL (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)

static int set_manual(struct vm *vm, uint64_t flags, struct error *err)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args[0] = flags};

	if (ioctl(vm->fd, KVM_ENABLE_CAP, &cap) < 0)
		return error_errno(err, errno, "KVM cannot track dirty pages");
	return 0;
}

int dirty_log_start(struct vm *vm, const struct guest_memory *memory, bool clean, struct error *err)
{
	int ret;

	if ((kvm_check(vm->kvm_fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & MANUAL) != MANUAL)
		return error_set(err, ERROR_INCOMPATIBLE,
			"this host's KVM cannot track dirty pages: it has no manual dirty log protection");
	ret = set_manual(vm, clean ? KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE : MANUAL, err);
	if (ret == 0)
		ret = vm_log_writes(vm, memory, true, err);
	if (ret == 0 && clean)
		ret = set_manual(vm, MANUAL, err); /* for slots to come */
	return ret;
}

void dirty_log_stop(struct vm *vm, const struct guest_memory *memory)
{
	struct error err;

	if (vm_log_writes(vm, memory, false, &err) < 0)
		log_warn("%s", err.text);
}

/* Slots of the area come and go on another thread: one that KVM does not know (any more, or yet) has nothing to tell. */
static bool may_be_gone(const struct guest_memory *memory, unsigned piece)
{
	return errno == ENOENT && piece >= memory->region_count;
}

int dirty_log_look(const struct vm *vm, const struct guest_memory *memory, struct page_set *set,
	struct error *err)
{
	page_set_clear(set);
	for (unsigned i = 0; i < guest_memory_piece_count(memory); i++) {
		struct page_range piece = guest_memory_piece(memory, i);
		struct kvm_dirty_log log = {
			.slot = vm_slot_of_piece(memory, i),
			.dirty_bitmap = &set->words[piece.first / 64],
		};

		if (guest_memory_piece_present(memory, i) &&
			ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log) < 0 && !may_be_gone(memory, i))
			return error_errno(err, errno,
				"KVM cannot tell the dirty pages of the memory at 0x%" PRIx64,
				piece.gpa);
	}
	return 0;
}

int dirty_log_rearm(const struct vm *vm, const struct guest_memory *memory,
	const struct page_set *set, uint64_t first, uint64_t count, struct error *err)
{
	BUG_ON(first % 64 || first + count > set->count ||
		(count % 64 && first + count != set->count));
	for (unsigned i = 0; i < guest_memory_piece_count(memory); i++) {
		struct page_range piece = guest_memory_piece(memory, i);
		uint64_t begin = max_u64(first, piece.first);
		uint64_t end = min_u64(first + count, piece.first + piece.count);
		struct kvm_clear_dirty_log log = {
			.slot = vm_slot_of_piece(memory, i),
			.first_page = begin - piece.first,
			.num_pages = (uint32_t)(end - begin),
			.dirty_bitmap = &set->words[begin / 64],
		};

		if (begin < end && guest_memory_piece_present(memory, i) &&
			ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &log) < 0 && !may_be_gone(memory, i))
			return error_errno(err, errno,
				"KVM cannot protect the memory at 0x%" PRIx64 " from writes unseen",
				piece.gpa);
	}
	return 0;
}
