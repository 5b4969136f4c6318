/* SPDX-License-Identifier: Apache-2.0 */
/* Slots that are filled and emptied while the guest runs, for the files of this folder. See hotplug.c. */
#pragma once

#include "devices/hotplug_slots.h"
#include "vmm/base/loop.h"
#include "vmm/machine/hotplug.h"

struct hotplug_kind {
	/* Put into a slot what the guest will find there. */
	int (*fill)(struct machine *m, unsigned slot, struct error *err);
	/* The guest does not have it, or not any more. */
	void (*clear)(struct machine *m, unsigned slot);
	/* Which slots the guest has is another: enter it in the configuration. */
	void (*count)(struct machine *m);
	/* What the guest has now, in words: "2 vCPUs". Returns buf. */
	const char *(*say)(const struct machine *m, char *buf, size_t size);
	/* The slots that something is in, whether the guest has it or not. */
	uint64_t (*filled)(const struct machine *m);
};

struct hotplug {
	struct machine *machine;
	const struct hotplug_kind *kind; /* NULL: this machine has none of it */
	struct hotplug_slots *slots;
	uint64_t all;  /* the slots that there are */
	uint64_t here; /* the guest has them */
	uint64_t coming,
		going; /* asked of the guest, and not answered; beyond a time-out where it was told */
	uint64_t awaited; /* of these, by the change that is under way */
	bool busy, refused;
	struct machine_resize *resize; /* NULL: nobody wants to know */
	uint64_t deadline_ns;
	struct loop_timer timer;
	struct loop_job job;
	_Atomic bool posted;
};

void hotplug_init(struct hotplug *h, struct machine *m, const struct hotplug_kind *kind,
	struct hotplug_slots *slots, uint64_t all);
/* On a vCPU thread: the guest did something. */
void hotplug_post(struct hotplug *h);
/* Power-on: the guest begins with these slots. */
void hotplug_begin(struct hotplug *h, uint64_t here);
/*
 * After arch_platform_load(), where the vCPUs and the memory of the state are there: what the guest has and was asked for is what the
 * registers say. A change that was under way stays asked, with nobody who waits for it. Refuses what this machine has no place for.
 */
int hotplug_load(struct hotplug *h, const struct hotplug_slots *slots, struct error *err);
/* Power-off: what is under way fails. Only ever after hotplug_begin(), or it does nothing. */
void hotplug_end(struct hotplug *h);

/* Bring in `in` and take out `out` (one of them is 0), slots which are not so already. As machine_resize_cpus(). */
int hotplug_change(struct hotplug *h, uint64_t in, uint64_t out, unsigned timeout_ms,
	struct machine_resize *resize, struct error *err);

/* `count` slots to bring in, or to take out: first those that the guest was asked for before and did not answer yet. */
uint64_t hotplug_entering(const struct hotplug *h, unsigned count);
uint64_t hotplug_leaving(const struct hotplug *h, unsigned count);

extern const struct hotplug_kind hotplug_cpus, hotplug_memory;
