/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of guest RAM devices and the monitor have written: the half of dirty tracking that KVM cannot see, since it
 * logs only what vCPUs write. One bit a page, by the numbers of pages.h.
 *
 * Whoever writes guest memory through a pointer calls guest_memory_mark() after it has written (guest_memory_write()
 * and guest_memory_zero() do so themselves). After, not before: who collects takes the bit first and reads the page then, so
 * either it sees the bytes, or the bit is there the next time. While nobody follows that is one load.
 *
 * Threads: marks come from any thread at any time, also while following begins and ends. Begin, end, look and take
 * belong to one thread at a time.
 */
#pragma once

#include "vmm/memory/guest_memory.h"
#include "vmm/memory/page_set.h"

#include <stdatomic.h>
#include <sys/uio.h>

/* Follow writes from now on: what was written before is in memory for all to see. No page is marked. */
int guest_memory_follow(struct guest_memory *memory, struct error *err);
void guest_memory_unfollow(struct guest_memory *memory);

/* What guest_memory_mark() does while writes are followed. */
void guest_memory_mark_now(const struct guest_memory *memory, const void *host, uint64_t len);

/* `len` bytes at a host address were written. What is not the guest's RAM is nobody's concern. */
static inline void guest_memory_mark(
	const struct guest_memory *memory, const void *host, uint64_t len)
{
	if (__builtin_expect(
		    !!atomic_load_explicit(&memory->followed, memory_order_relaxed), false))
		guest_memory_mark_now(memory, host, len);
}

/* The first `len` bytes of these segments were. */
static inline void guest_memory_mark_segments(const struct guest_memory *memory,
	const struct iovec *segments, unsigned count, uint64_t len)
{
	if (__builtin_expect(!atomic_load_explicit(&memory->followed, memory_order_relaxed), true))
		return;
	for (unsigned i = 0; i < count && len; i++) {
		uint64_t here = segments[i].iov_len < len ? segments[i].iov_len : len;

		guest_memory_mark_now(memory, segments[i].iov_base, here);
		len -= here;
	}
}

/* Add the pages that are marked to `set`; they stay marked. */
void guest_memory_marked(const struct guest_memory *memory, struct page_set *set);

/* Those of `set` from `first` on are marked no more. `first` and `count` are multiples of 64, but at the end. */
void guest_memory_unmark(const struct guest_memory *memory, const struct page_set *set,
	uint64_t first, uint64_t count);

/* For guest_memory_destroy(). */
void guest_memory_forget_marks(struct guest_memory *memory);
