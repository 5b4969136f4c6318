/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine from a snapshot, in the order in which it can be refused:
 *
 *   restore_open()     the folder and its parents: manifests, small files
 *   restore_configure() the configuration: what was saved, and what is given anew
 *   restore_prepare()  files that changed are verified; the devices become those of the VM that was saved; disks that
 *                      the snapshot holds are put where the configuration wants them. May take a while
 *   machine_create()
 *   restore_into()     guest memory is mapped from the snapshot, or filled from it as it is touched (restore_memory.h);
 *                      machine_run() begins with the state
 *   restore_close()    after machine_destroy(): memory may be read from the snapshot as long as the machine lives
 *
 * Threads: one at a time; from machine_create() on the main thread.
 */
#pragma once

#include "vmm/machine/machine.h"
#include "vmm/transfer/snapshot.h"

struct restore;

int restore_open(const char *dir, struct restore **out, struct error *err);
/* NULL is accepted. */
void restore_close(struct restore *restore);

/* `flags`: what is given anew (machine_restore_schema); changed here. Free the configuration after success only. */
int restore_configure(
	struct restore *restore, json_t *flags, struct machine_config *config, struct error *err);

int restore_prepare(struct restore *restore, struct machine_config *config, struct error *err);

int restore_into(struct restore *restore, struct machine *machine, struct error *err);

/* As they were given to restore_configure(); borrowed. */
const struct restore_options *restore_chosen(const struct restore *restore);

/* What the next incremental snapshot of the VM builds on. */
void restore_series(const struct restore *restore, struct snapshot_series *series);
