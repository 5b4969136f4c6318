/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines of options and plain words in any order. */
#pragma once

#include "vmm/schema/schema.h"

/*
 * Fills `options` by its table; the words that are no options go to `words`, which has room for `argc`. Behind "--" all are words.
 * *help: --help was asked for, and nothing else matters.
 */
int cli_arguments(const struct schema *table, int argc, char *const *argv, void *options,
	char **words, unsigned *count, bool *help, struct error *err);
