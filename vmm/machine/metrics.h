/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's figures in Prometheus' text format. See metrics.c. */
#pragma once

#include "vmm/base/error.h"
#include "vmm/base/loop.h"
#include "vmm/machine/machine.h"

/* The text, for the caller to free; NULL when memory is short. Main thread. */
char *metrics_text(struct machine *machine);

/* A file that holds the text, written anew every ten seconds; it is whole at every moment. */
struct metrics_file {
	struct machine *machine;
	struct loop_timer timer;
	const char *path;
};

/* Writes it once, so that what is wrong with the path is said at the start. `path` must outlive it. */
int metrics_file_start(
	struct metrics_file *file, struct machine *machine, const char *path, struct error *err);
/* Writes it a last time. After machine_run(). */
void metrics_file_finish(struct metrics_file *file);
