/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead run` and `bulkhead restore`. */
#pragma once

/* The arguments behind the command. Returns the exit status. */
int run_main(int argc, char *const *argv);
int restore_main(int argc, char *const *argv);
