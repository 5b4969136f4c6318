/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as it was at one moment, read while the guest goes on writing: what a background snapshot is made of.
 *
 *   background_create()   main thread     everything that can be refused; nothing is protected yet
 *   background_arm()      a worker        protects all pages while the guest runs
 *   background_begin()    inside a pause  from here on memory is as it is now
 *   background_run()      a worker        hands each page to the sink, once, as it was then
 *   background_end()      a worker        takes off what is left of it: the memory is then as if nothing had been
 *   background_destroy()  main thread     at any point
 *
 * A write to a protected page tells our own thread (by userfaultfd), which copies the 4 KiB aside and lets the writer go on: about
 * 10 us once a page, whoever writes: a vCPU, the kernel for an io_uring or for vhost, a thread of ours. Pages that nobody writes
 * are read where they are. Of a page that is not there the moment it is touched says that it was zero.
 *
 * Why it is armed before the pause: to protect memory is to walk its page tables, 26 ms a GiB in pages of 4 KiB (0.05 with huge
 * ones, which the kernel may not have given). So it is done while the guest runs, in rounds: what is written before the moment
 * is let go by 64 KiB and remembered, and the next round protects only that, which took less long than the round
 * before, so that less was written. What the last round left is protected in the pause: about 3 us each 64 KiB. Measured
 * with one thread that writes without end to random pages, on a busy host with two CPUs: background_begin() takes 1 to 5 us
 * with 256 MiB, 3 to 29 with 2 GiB, 40 to 61 with 8 GiB.
 *
 * Copies wait in a pool of fixed size until the sink took them. When it is full, who writes waits for the sink
 * (background_progress.waits): the guest is slowed down to the disk rather than the copy given up. That pages of 4 KiB are copied
 * even where the kernel has huge ones is because a database writes here and there: 2 MiB each (0.3 ms) would
 * fill any pool. The huge page is split by it.
 *
 * It is for anonymous memory in ordinary pages, huge ones of the kernel's own making included; hugetlb and memory that is a
 * file's (a guest that was restored) it refuses, in words: see precopy.h for those. While it exists memory that is unplugged keeps its pages
 * (guest_memory_hold()): the guest sees no difference. A guest that resets only writes: what is read stays as it was.
 *
 * A vCPU that waits in a fault can be kicked out of KVM_RUN from Linux 6.2 on; before, a pause during background_run() takes as
 * long as the sink needs for one page, where the pool is full. A reset would wait for the disk in any kernel, as the main
 * thread writes the guest's kernel then: background_widen() lets it, and who waits already, have a reserve of 128 MiB.
 * background_cancel() lets all go at once.
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/machine/config.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/page_set.h"

#include <stdbool.h>
#include <stdint.h>

struct background;

struct background_config {
	uint64_t pool;		   /* bytes for copies that wait for the sink; 0: 64 MiB */
	enum seccomp_mode seccomp; /* for the thread that answers faults */
	int device;		   /* what uffd_device_open() gave, or -1 */
};

/*
 * Takes pages [first, first + count), numbered as in vmm/memory/pages.h, all of one piece; NULL: they were zeros because
 * nobody had ever touched them. Pages come in no order. Less than 0 with *err ends background_run() with that.
 */
struct background_sink {
	int (*take)(
		void *owner, uint64_t first, uint64_t count, const void *data, struct error *err);
	void *owner;
};

/* Counts of pages, but for the last. */
struct background_progress {
	uint64_t total;	 /* what the sink is to get */
	uint64_t taken;	 /* what it got */
	uint64_t early;	 /* 64 KiB that were written while armed, and protected again */
	uint64_t copied; /* written before the sink had them */
	uint64_t filled; /* not there, and touched before the sink had heard of them */
	uint64_t waits;	 /* times that a writer found the pool full */
	uint64_t pool_pages, pool_peak;
	uint64_t begin_ns; /* what background_begin() took */
};

/* Whether this memory can be read so at all; what the host allows is known to background_create() only. */
bool background_supported(const struct guest_memory *memory, struct error *why);

/* The memory stays, and stays the caller's. No memory may be plugged from here to background_begin(). */
int background_create(struct background **bg, struct guest_memory *memory,
	const struct background_config *config, struct error *err);

/*
 * Takes 30 ms a GiB where pages are small, more where the guest writes much. To be called again right before the pause when
 * something else came between: a few rounds more, and what was written meanwhile is not the pause's work.
 */
int background_arm(struct background *bg, struct error *err);

/*
 * No vCPU runs, devices are quiet, and nobody else writes to guest memory. `wanted`: the pages that the sink shall get,
 * NULL: all. After an error only background_destroy() is left.
 */
int background_begin(struct background *bg, const struct page_set *wanted, struct error *err);

/* When it returns, with success or not, nobody waits for a page any more. */
int background_run(struct background *bg, const struct background_sink *sink, struct error *err);

/* From any thread, any time: background_arm() and background_run() fail soon, writers are let go at once. */
void background_cancel(struct background *bg);

/* From any thread, any time: while it is wide, who finds the pool full uses the reserve. What is in it stays until the sink has it. */
void background_widen(struct background *bg, bool wide);

void background_progress(struct background *bg, struct background_progress *progress);

/*
 * Takes off what is left of it, 30 ms a GiB at most in small steps, which no thread should do that must not wait. Neither
 * background_arm() nor background_run() may run, nor be called any more.
 */
void background_end(struct background *bg);

/* With background_end(), if that was not called: on the main thread, as memory is plugged there. NULL is allowed. */
void background_destroy(struct background *bg);
