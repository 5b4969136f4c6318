/* SPDX-License-Identifier: Apache-2.0 */
/* Anything that a table (vmm/state/state.h) allows, for tests of what a thing is after a save and a load. */
#pragma once

#include "vmm/state/state.h"

/* The next of a row of numbers that `seed` stands for; it must not be 0. */
uint64_t random_next(uint64_t *seed);

/* Fill `thing`, zeroed before, within the table's bounds and as its check wants it. Aborts where no try will do. */
void state_random(const struct state_table *table, void *thing, uint64_t *seed);

/* A complete file with one section. The caller's to state_release(). */
struct state_writer state_file(
	const struct state_table *table, const char *instance, const void *thing);

/* Change some bytes behind the header, and make the checksum right again. */
void state_damage(struct state_writer *file, uint64_t *seed);
