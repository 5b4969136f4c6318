/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean …": the known word that a mistyped one is closest to. */
#pragma once

#include <stddef.h>

/*
 * The best of `count` words for `typed`, or NULL when none is close: one slip (a letter too many,
 * too few, wrong or swapped with its neighbour) for each three letters. Words may be NULL: skipped.
 */
const char *nearest_word(const char *typed, const char *const *words, size_t count);
