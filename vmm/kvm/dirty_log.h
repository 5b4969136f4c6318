/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's log of the pages that vCPUs write: one bit a page and memory slot (KVM API §4.8 KVM_GET_DIRTY_LOG, §4.117
 * KVM_CLEAR_DIRTY_LOG, §7.18 KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2).
 *
 * With manual protection, to look at the log is only to copy it: nothing is cleared and no page is protected. That is done
 * page by page, by dirty_log_rearm(): it clears bits and write-protects the pages, so that the next write to each sets its bit
 * again. And with "initially all set" the log begins with every bit set and no page protected: switching it on costs the
 * guest nothing, whatever the size of its memory, and a page costs it a fault only after it was armed once.
 *
 * Why not KVM's dirty rings. tests/payload/dirty_cost.c measures both: a first write costs the guest the same, as does a
 * re-write; to protect a page again takes 25 ns by the bitmap and 32 by rings; to fetch takes 9 µs for each GiB of RAM, or
 * 10 ns for each dirty page. So rings win only where fewer than about 900 pages a GiB are dirty, and then at most those 9 µs, which
 * come near a pause's 5 ms above 500 GiB. For that each VM would pay for its whole life: rings must be there before the first
 * vCPU, hold up to a MiB for each, and stop it when they are full; what no vCPU writes is not in them. The rule: the bitmap.
 *
 * Threads: start and stop on the thread that maps and unmaps memory; the others on any, one at a time. vCPUs may run.
 */
#pragma once

#include "vmm/kvm/kvm.h"
#include "vmm/memory/page_set.h"

/*
 * Every page of every slot is dirty then, also of slots that come later. `clean`: none of the slots that there are; for a VM in which
 * no vCPU has run, else each page that it ever touched is protected now.
 */
int dirty_log_start(
	struct vm *vm, const struct guest_memory *memory, bool clean, struct error *err);
void dirty_log_stop(struct vm *vm, const struct guest_memory *memory);

/* Overwrite `set` with what is in the log. A slot that comes or goes meanwhile may have no bits in it. */
int dirty_log_look(const struct vm *vm, const struct guest_memory *memory, struct page_set *set,
	struct error *err);

/* Clear and protect what is in `set` among these pages: multiples of 64, but at the end of the set. */
int dirty_log_rearm(const struct vm *vm, const struct guest_memory *memory,
	const struct page_set *set, uint64_t first, uint64_t count, struct error *err);
