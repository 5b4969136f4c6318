/* SPDX-License-Identifier: Apache-2.0 */
/* The end of each test program's main(): one suite of a few cases, run as CK_* in the environment says. */
#pragma once

#include <check.h>

/* The cases, then NULL. Returns the program's exit status. */
int run_tests(const char *suite, TCase *first, ...) __attribute__((sentinel));
