/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a machine grows and shrinks while its guest runs: vCPUs and memory.
 *
 * A change is done when the guest has taken or let go of what it was asked to. What it refuses, or does not do in time, is an
 * answer of its own, and the configuration says what the guest has at every moment. Main thread.
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/machine/machine.h"

/* Who is told of the outcome. Embed it. */
struct machine_resize {
	/* Once; NULL: it is as was wished. */
	void (*done)(struct machine_resize *resize, const struct error *err);
};

/*
 * To `count` vCPUs. Returns 1 where that is so already, 0 where `resize` will be told, or a negative errno. What the guest
 * does not do within `timeout_ms` is taken back as far as it has not been told of it.
 */
int machine_resize_cpus(struct machine *machine, unsigned count, unsigned timeout_ms,
	struct machine_resize *resize, struct error *err);

/* To `size` bytes of memory: what the machine was made with, and whole slots (see guest_memory.h). */
int machine_resize_memory(struct machine *machine, uint64_t size, unsigned timeout_ms,
	struct machine_resize *resize, struct error *err);

/*
 * End it before its time, with the kind `cancelled`, as if its time were up. Nothing happens where it has ended.
 */
void machine_resize_cancel(struct machine *machine, const struct machine_resize *resize);

/* Nobody wants to be told any more; what was asked of the guest stays asked. */
void machine_resize_forget(struct machine *machine, const struct machine_resize *resize);
