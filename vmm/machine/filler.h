/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is not all there yet: a restored guest's, which comes while it runs. The machine knows of it so that whoever
 * needs all of it can wait, and so that it is let go of at the one moment when it may be.
 *
 * Threads: the main thread, but for machine_fail().
 */
#pragma once

#include "vmm/machine/machine.h"

/* Who fills it. Embed it. */
struct machine_filler {
	/* False: all is there, and nobody waits for a page any more. Else how many bytes of all are. */
	bool (*filling)(struct machine_filler *filler, uint64_t *done, uint64_t *total);
	/* No vCPU runs and no device works any more; memory is still there. Once, whether it was filled or not. */
	void (*release)(struct machine_filler *filler);
};

/* Before machine_run(); one a machine. */
void machine_set_filler(struct machine *machine, struct machine_filler *filler);
bool machine_memory_filling(struct machine *machine, uint64_t *done, uint64_t *total);

/* The host can no more give the guest what is its: the machine ends, as soon as it can, with this. The first one counts. */
void machine_fail(struct machine *machine, const struct error *why);

/* What uffd_device_open() gave when the machine was made, while that could still be opened; -1: nothing. */
int machine_uffd_device(const struct machine *machine);
