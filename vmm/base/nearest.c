/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edit distance with swaps of neighbours (optimal string alignment), on words of at most 31
 * letters: what is longer is nobody's slip of the finger. Three rows of the usual table suffice.
 */
#include "vmm/base/nearest.h"

#include <string.h>

#define WORD_MAX 31

static unsigned smallest(unsigned a, unsigned b, unsigned c)
{
	unsigned least = a < b ? a : b;

	return least < c ? least : c;
}

static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned rows[3][WORD_MAX + 1];
	unsigned *before = rows[0], *above = rows[1], *row = rows[2];

	for (size_t j = 0; j <= b_len; j++)
		above[j] = (unsigned)j;
	for (size_t i = 1; i <= a_len; i++) {
		unsigned *oldest = before;

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b_len; j++) {
			unsigned change = a[i - 1] == b[j - 1] ? 0 : 1;

			row[j] = smallest(above[j] + 1, row[j - 1] + 1, above[j - 1] + change);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		before = above;
		above = row;
		row = oldest;
	}
	return above[b_len];
}

const char *nearest_word(const char *typed, const char *const *words, size_t count)
{
	size_t typed_len = strlen(typed);
	const char *best = NULL;
	unsigned best_distance;

	if (typed_len < 2 || typed_len > WORD_MAX)
		return NULL;
	best_distance = typed_len < 6 ? 2 : (unsigned)typed_len / 3 + 1; /* must stay below this */
	for (size_t i = 0; i < count; i++) {
		size_t len = words[i] ? strlen(words[i]) : 0;
		unsigned found;

		if (len == 0 || len > WORD_MAX)
			continue;
		found = distance(typed, typed_len, words[i], len);
		if (found < best_distance && found < len) {
			best = words[i];
			best_distance = found;
		}
	}
	return best;
}
