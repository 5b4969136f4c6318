/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's dirty pages, for a chain of snapshots: which changed since the last one that was committed. See
 * vmm/kvm/dirty_engine.h, of which this is one user; what moves the guest elsewhere joins as another.
 *
 * All functions on the main thread, but machine_dirty_arm().
 */
#pragma once

#include "vmm/kvm/dirty_engine.h"
#include "vmm/machine/machine.h"

/* Begin to track; the guest may run. The first collect finds every page. 0 also where it is on already. Quick, whatever the memory's size. */
int machine_dirty_start(struct machine *machine, struct error *err);
/* Before the first collect, on any thread, while vCPUs run: else that is done in the pause. Some ms a GiB. */
int machine_dirty_arm(struct machine *machine, struct error *err);
/* Before vCPUs run: no page is dirty, the last committed snapshot being what the machine is made of. */
int machine_dirty_start_clean(struct machine *machine, struct error *err);
/* Not in a pause: KVM takes its time. */
void machine_dirty_stop(struct machine *machine);
bool machine_dirty_active(struct machine *machine);
/* Where it is on: so that the next collect takes less of a pause. From any thread. */
void machine_dirty_touch(struct machine *machine);

/*
 * What changed since the last commit, in place of what `into` held (a set of guest_memory_pages() of the machine's memory).
 * The machine is paused and its devices are quiet. Then one of the two, when the sink has it or has failed;
 * neither means that it is pending still, and a further collect adds to that.
 */
int machine_dirty_collect(struct machine *machine, struct page_set *into, struct error *err);
void machine_dirty_commit(struct machine *machine);
void machine_dirty_rollback(struct machine *machine);

/* For other users. */
struct dirty_engine *machine_dirty_engine(struct machine *machine);
/* The one of all above, for who copies in passes. */
struct dirty_user *machine_dirty_user(struct machine *machine);
