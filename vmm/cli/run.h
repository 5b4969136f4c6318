/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead run`. */
#pragma once

/* The arguments behind "run". Returns the exit status. */
int run_main(int argc, char *const *argv);
