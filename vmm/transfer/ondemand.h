/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that is filled while the guest runs on it, from a source that cannot be mapped: compressed files, or bytes that are
 * far away. A guest that is restored so runs at once, whatever its size.
 *
 *   ondemand_start()      main thread, before any vCPU runs: the memory is fresh (nothing was ever written to it)
 *   ...                   the guest runs; pages come when they are touched, and in the background, until all are there
 *   ondemand_destroy()    main thread: when all are there, or when no vCPU runs and no device works any more
 *
 * The first touch of a page, by whomever, tells a thread of ours (userfaultfd), which reads the window around it, puts the page there
 * and lets go who waits, and then the rest of the window. A second thread reads window after window. Pages of zeros are put nowhere:
 * what was never touched when all is read is zero by itself. A page that is there is never replaced: whatever came first,
 * it is the source's content or what the guest has made of it since.
 *
 * When the source fails, `failed` is told once, and the window can be touched no more: a vCPU that does leaves KVM_RUN with EFAULT, a
 * system call fails with it. Never does anybody read zeros instead. The guest cannot go on: stop it.
 *
 * As long as it exists unplugged memory keeps its pages (guest_memory_hold()), and background_create() refuses.
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/machine/config.h"
#include "vmm/memory/guest_memory.h"

#include <stdbool.h>
#include <stdint.h>

struct ondemand;

struct ondemand_config {
	/* Pages [first, first + count), numbered as in vmm/memory/pages.h. By two threads at once. */
	int (*read)(void *owner, uint64_t first, uint64_t count, uint8_t *to, struct error *err);
	/* On one of these threads. */
	void (*failed)(void *owner, const struct error *err);
	/* Somebody waits for this page, whose window is not there yet; on the thread that answers. May be NULL. */
	void (*touched)(void *owner, uint64_t page);
	void *owner;
	unsigned window;	   /* pages to read at once: 16 to 512, a power of two; 0: 256 */
	enum seccomp_mode seccomp; /* for both threads: read() may use what POLICY_FAULTS allows */
	int device;		   /* what uffd_device_open() gave, or -1 */
};

struct ondemand_progress {
	uint64_t windows, filled;
	uint64_t faults;
	bool complete; /* all is there; nothing waits and nothing is watched any more */
	bool failed;
};

int ondemand_start(struct ondemand **od, struct guest_memory *memory,
	const struct ondemand_config *config, struct error *err);
/* From any thread. */
void ondemand_progress(struct ondemand *od, struct ondemand_progress *progress);
/* NULL is allowed. */
void ondemand_destroy(struct ondemand *od);
