/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bitmap of pages that devices and the monitor have written. See dirty.h for the contract.
 *
 * It is mapped when writes are first followed and stays until the memory is destroyed, because a thread that is about to
 * mark may hold its address for ever; what it held is given back to the kernel when following ends.
 *
 * Ordering. To follow is to store `followed`, and then to read memory; a device's thread writes memory, and then loads
 * `followed`. Without a barrier on both sides each could miss the other's store. Devices write often and following begins
 * rarely, so the barrier is all on one side: membarrier() makes every thread of the process pass one.
 */
#include "vmm/memory/dirty.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/memory/dirty_logger.h"
#include "vmm/memory/pages.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>

struct memory_marks {
	uint64_t count; /* pages */
	size_t size;	/* of the mapping */
	_Atomic uint64_t words[];
};

static struct memory_marks *map_marks(const struct guest_memory *memory, struct error *err)
{
	uint64_t pages = guest_memory_pages(memory);
	size_t size = sizeof(struct memory_marks) + (pages + 63) / 64 * sizeof(uint64_t);
	struct memory_marks *marks =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (marks == MAP_FAILED) {
		error_errno(err, errno, "cannot follow what devices write to guest memory");
		return NULL;
	}
	marks->count = pages;
	marks->size = size;
	return marks;
}

/* Every thread of the process passes a full barrier before this returns. */
static int barrier_everywhere(struct error *err)
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 &&
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0)
		return 0;
	return error_errno(err, errno, "cannot follow what devices write to guest memory");
}

int guest_memory_follow(struct guest_memory *memory, struct error *err)
{
	bool fresh = false;
	int ret;

	BUG_ON(atomic_load(&memory->followed));
	if (!memory->marks) {
		memory->marks = map_marks(memory, err);
		fresh = true;
	}
	if (!memory->marks)
		return -err->code;
	/* Marks that came too late for the last time. */
	for (uint64_t i = 0; !fresh && i < (memory->marks->count + 63) / 64; i++)
		if (atomic_load_explicit(&memory->marks->words[i], memory_order_relaxed))
			atomic_store_explicit(&memory->marks->words[i], 0, memory_order_relaxed);
	atomic_store(&memory->followed, memory->marks);
	ret = barrier_everywhere(err);
	if (ret == 0)
		ret = memory_loggers_start(memory, err);
	if (ret < 0)
		guest_memory_unfollow(memory);
	return ret;
}

void guest_memory_unfollow(struct guest_memory *memory)
{
	uintptr_t page = 4095, from = ((uintptr_t)memory->marks->words + page) & ~page;
	uintptr_t end = (uintptr_t)memory->marks + memory->marks->size;

	memory_loggers_stop(memory);
	atomic_store(&memory->followed, NULL);
	if (end > from)
		madvise((void *)from, end - from, MADV_DONTNEED);
}

void guest_memory_forget_marks(struct guest_memory *memory)
{
	if (memory->marks)
		munmap(memory->marks, memory->marks->size);
	memory->marks = NULL;
}

void guest_memory_mark_now(const struct guest_memory *memory, const void *host, uint64_t len)
{
	struct memory_marks *marks = atomic_load(&memory->followed);
	uint64_t first = guest_memory_page_of(memory, host), last;

	if (!marks || !len || first == GUEST_PAGE_NONE)
		return;
	last = first + ((uintptr_t)host % GUEST_PAGE_SIZE + len - 1) / GUEST_PAGE_SIZE;
	last = min_u64(last, marks->count - 1);
	for (uint64_t at = first / 64; at <= last / 64; at++) {
		uint64_t mask = UINT64_MAX;

		if (at == first / 64)
			mask &= UINT64_MAX << first % 64;
		if (at == last / 64)
			mask &= UINT64_MAX >> (63 - last % 64);
		/* Always, even where the bit seems to be there: it may be being taken right now, with the page as it was. */
		atomic_fetch_or(&marks->words[at], mask);
	}
}

void guest_memory_marked(const struct guest_memory *memory, struct page_set *set)
{
	struct memory_marks *marks = memory->marks;

	if (!marks)
		return;
	BUG_ON(set->count != marks->count);
	memory_loggers_take(memory, marks->words);
	for (uint64_t at = 0; at < page_set_words(set); at++) {
		uint64_t word = atomic_load_explicit(&marks->words[at], memory_order_relaxed);

		if (word)
			set->words[at] |= word;
	}
}

void guest_memory_unmark(const struct guest_memory *memory, const struct page_set *set,
	uint64_t first, uint64_t count)
{
	struct memory_marks *marks = memory->marks;

	if (!marks)
		return;
	BUG_ON(set->count != marks->count || first % 64 || first + count > set->count);
	for (uint64_t at = first / 64; at < (first + count + 63) / 64; at++)
		if (set->words[at] && atomic_load_explicit(&marks->words[at], memory_order_relaxed))
			atomic_fetch_and(&marks->words[at], ~set->words[at]);
}
