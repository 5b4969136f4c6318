/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine from a snapshot, in the order in which it can be refused:
 *
 *   restore_open()     the folder and its parents: manifests, small files
 *   machine_config_from_saved(restore_config(), ...)
 *   restore_prepare()  files that changed are verified; the configuration becomes that of the VM that was saved; disks that
 *                      the snapshot holds are put where the configuration wants them
 *   machine_create()
 *   restore_into()     guest memory is mapped from the snapshot, or filled from it as it is touched (restore_memory.h);
 *                      machine_run() begins with the state
 *   restore_close()    after machine_destroy(): memory may be read from the snapshot as long as the machine lives
 *
 * Threads: the main thread.
 */
#pragma once

#include "vmm/machine/machine.h"
#include "vmm/transfer/snapshot.h"

struct restore;

int restore_open(const char *dir, struct restore **out, struct error *err);
/* NULL is accepted. */
void restore_close(struct restore *restore);

/* The configuration that was saved; borrowed. */
const json_t *restore_config(const struct restore *restore);

/* Takes the options' texts, also when it fails. */
int restore_prepare(struct restore *restore, const struct restore_options *options,
	struct machine_config *config, struct error *err);

int restore_into(struct restore *restore, struct machine *machine, struct error *err);

/* As they were given to restore_prepare(); borrowed. */
const struct restore_options *restore_chosen(const struct restore *restore);

/* What the next incremental snapshot of the VM builds on. */
void restore_series(const struct restore *restore, struct snapshot_series *series);
