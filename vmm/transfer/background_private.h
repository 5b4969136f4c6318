/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of a background copy share: background.c (its life), background_fault.c (the thread that answers faults), and
 * background_read.c (what hands pages to the sink). See background.h.
 *
 * A page is `done` when its content at the moment is safe: handed over, in the pool, or known to be zero. Protection is taken
 * from a page only after it is done, so a page that is not done has the content of the moment. All pages of a
 * chunk of 2 MiB are read together; `passed` says of which chunks that is over.
 */
#pragma once

#include "vmm/memory/pages.h"
#include "vmm/memory/uffd.h"
#include "vmm/transfer/background.h"
#include "vmm/transfer/pieces.h"

#include <pthread.h>
#include <stdatomic.h>

#define CHUNK_PAGES 512u /* pieces begin at a multiple of it: see pages.h */
#define CHUNK_SIZE  (CHUNK_PAGES * GUEST_PAGE_SIZE)
#define LOOSE_PAGES 16u
#define WINDOW_PAGES                                                                               \
	4096u /* of page tables walked in one call: 0.4 ms at most, in which the guest cannot map there */
#define NO_SLOT UINT32_MAX

enum background_phase {
	BACKGROUND_ARMED, /* from the start: what is written is let go, and remembered in `loose` */
	BACKGROUND_TAKING, /* what is written is copied first */
	BACKGROUND_OVER,   /* what is written is let go */
};

/* A page in the pool; where the bytes are follows from its number. */
struct background_slot {
	uint64_t page;
	uint32_t next; /* of the same chunk, or the next free one */
};

struct background {
	struct guest_memory *memory;
	struct uffd uffd;
	int pagemap; /* /proc/self/pagemap; -1: there is none, then what is not there is found by touching it */
	int stop; /* an eventfd, for the fault thread */
	pthread_t thread;
	bool threaded, held;
	enum seccomp_mode seccomp;
	const void *log;
	uint64_t registered; /* pieces of which registration has begun */

	struct pieces pieces;
	uint64_t chunks;
	bool swept; /* the first round is over */
	bool begun; /* background_begin() has succeeded */

	pthread_mutex_t lock; /* all below */
	enum background_phase phase;
	bool cancelled;
	bool starved; /* somebody waits for a slot */
	struct page_set loose, done, zero, passed;
	uint8_t *pool;
	struct background_slot *slots;
	uint32_t *copies; /* of each chunk: its first slot */
	uint32_t slot_count, slots_used, free;
	bool wide; /* the reserve behind the pool may be used */
	uint32_t slots_made,
		slots_max; /* slots that have ever been free to take; with the reserve */
	struct background_progress progress;

	uint8_t *bounce; /* the reader's: one chunk */
	uint64_t cursor; /* the reader's: where it looks for copies next */
};

/* Nothing is copied any more, and everyone who waits goes on. */
void background_let_go(struct background *bg);

/* What background.c has the fault thread do. */
void *background_faults(void *bg);
