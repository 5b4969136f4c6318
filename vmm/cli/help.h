/* SPDX-License-Identifier: Apache-2.0 */
/* Words for people, all made from the tables: --help, and the texts that gendoc puts in man pages. */
#pragma once

#include "vmm/cli/commands.h"

#include <stdio.h>

/* `bulkhead --help`. */
void help_print(FILE *to);
/* `bulkhead COMMAND --help`. */
void help_print_command(FILE *to, const struct command *command);

/* "path=FILE[,id=ID][,readonly]…": what goes behind the flag; "" for a switch. Returns buf. */
const char *help_value(const struct schema *option, char *buf, size_t size);
/* "id=ID", "readonly", "cache=none|writeback": one member. Returns buf. */
const char *help_member(const struct schema *member, char *buf, size_t size);
/* The default in words, or NULL where there is nothing to say. */
const char *help_default(const struct schema *option);
