/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A restored guest's memory, by the way that suits where it comes from:
 *
 *   map       its files are mapped, and read when they are touched. Nothing is copied, and VMs share what none has written; but a vCPU
 *             that waits for slow storage waits where nobody can end it.
 *   ondemand  fresh memory is filled while the guest runs (ondemand.h): what is touched first, and all else behind it. Compressed
 *             memory comes so. Where it cannot be, because the host refuses userfaultfd or the memory is not of the kind, the log
 *             says so and it is as if nobody had asked.
 *   read      all is read before the guest starts.
 *
 * The first two read the snapshot's working set ahead, or note it (restore_working.h), unless that is switched off.
 *
 * What cannot be read later ends the machine, with the reason (machine_fail()). Embed it in what outlives the machine.
 *
 * Threads: the main thread.
 */
#pragma once

#include "vmm/machine/filler.h"
#include "vmm/transfer/chain.h"
#include "vmm/transfer/ondemand.h"
#include "vmm/transfer/restore_working.h"

struct restore_memory {
	struct machine_filler filler;
	struct machine *machine;
	const struct chain *chain;
	struct ondemand *ondemand; /* NULL: all is there, or comes by itself */
	struct loop_timer look;
	struct restore_working working;
	bool all;	/* is there, though it may still be watched */
	unsigned looks; /* at one that is */
};

/* `memory` is zeroed, and the machine's memory fresh. The chain outlives the machine. */
int restore_memory_begin(struct restore_memory *memory, const struct chain *chain,
	struct machine *machine, const struct restore_options *options, struct error *err);
