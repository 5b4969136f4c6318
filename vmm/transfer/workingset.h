/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages that a restored guest touches first, kept beside the snapshot in the file `workingset`, so that the next restore
 * reads them ahead.
 *
 * A guest whose memory is a mapped file waits for the disk at each first touch of a page, one page after the other. What it
 * touched in its first seconds last time it will touch this time, and the kernel reads that at the disk's full rate when
 * it is told. What was touched is what is mapped: the kernel's page tables tell, at no cost to the guest.
 *
 * It is a hint: the file is of no part of the snapshot and has no checksum. One that is not well-formed is refused, one that lies
 * costs some reading. The format is that of page_ranges.h.
 */
#pragma once

#include "vmm/memory/guest_memory.h"
#include "vmm/memory/page_set.h"

#include <stdatomic.h>

#define WORKINGSET_FILE "workingset"

/* Add the pages that are mapped now, of memory that was fresh from its file. 10 ms a GiB; on a worker. */
int workingset_note(const struct guest_memory *memory, struct page_set *set, struct error *err);

/* In place of what was there before, if anything. `dir`: the snapshot's folder. */
int workingset_save(int dir, const struct page_set *set, struct error *err);
/* Into an empty set of guest_memory_pages(). ERROR_NOT_FOUND: there is none. */
int workingset_load(int dir, struct page_set *set, struct error *err);

/*
 * Have these pages read and mapped, in ascending order. Waits for the disk: on a worker, while the guest runs. Returns how many
 * could be; what cannot be read here is found out when the guest touches it. `cancel`: NULL: never.
 */
uint64_t workingset_ahead(
	const struct guest_memory *memory, const struct page_set *set, const atomic_bool *cancel);
