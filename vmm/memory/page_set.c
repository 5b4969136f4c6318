/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of pages, word by word. See page_set.h for the contract. */
#include "vmm/memory/page_set.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int page_set_create(struct page_set *set, uint64_t count, struct error *err)
{
	set->count = count;
	/* Large ones come from the kernel as zeros that take no memory until they are written. */
	set->words = calloc(page_set_words(set) ?: 1, sizeof(*set->words));
	return set->words ? 0
			  : error_errno(err, ENOMEM,
				    "cannot keep a list of %" PRIu64 " guest pages", count);
}

void page_set_destroy(struct page_set *set)
{
	free(steal_ptr(&set->words));
	set->count = 0;
}

void page_set_touch(struct page_set *set)
{
	for (uint64_t at = 0; at < page_set_words(set); at += 4096 / sizeof(*set->words))
		__atomic_fetch_or(&set->words[at], 0, __ATOMIC_RELAXED);
}

/* The bits of word `at` that belong to the pages from `first` up to, not including, `end`. */
static uint64_t mask_of(uint64_t at, uint64_t first, uint64_t end)
{
	uint64_t from = at * 64 < first ? first - at * 64 : 0;
	uint64_t to = min_u64(end - at * 64, 64);

	return UINT64_MAX << from & UINT64_MAX >> (64 - to);
}

static void check_range(const struct page_set *set, uint64_t first, uint64_t count)
{
	BUG_ON(first > set->count || count > set->count - first);
}

void page_set_add(struct page_set *set, uint64_t first, uint64_t count)
{
	uint64_t end = first + count;

	check_range(set, first, count);
	for (uint64_t at = first / 64; count && at <= (end - 1) / 64; at++)
		set->words[at] |= mask_of(at, first, end);
}

void page_set_remove(struct page_set *set, uint64_t first, uint64_t count)
{
	uint64_t end = first + count;

	check_range(set, first, count);
	for (uint64_t at = first / 64; count && at <= (end - 1) / 64; at++)
		set->words[at] &= ~mask_of(at, first, end);
}

void page_set_clear(struct page_set *set)
{
	memset(set->words, 0, page_set_words(set) * sizeof(*set->words));
}

bool page_set_is_empty(const struct page_set *set)
{
	uint64_t first, count;

	return !page_set_next_range(set, 0, &first, &count);
}

uint64_t page_set_size_of(const struct page_set *set, uint64_t first, uint64_t count)
{
	uint64_t end = first + count, size = 0;

	check_range(set, first, count);
	for (uint64_t at = first / 64; count && at <= (end - 1) / 64; at++)
		size += (uint64_t)__builtin_popcountll(set->words[at] & mask_of(at, first, end));
	return size;
}

uint64_t page_set_size(const struct page_set *set)
{
	return page_set_size_of(set, 0, set->count);
}

void page_set_copy(struct page_set *to, const struct page_set *from)
{
	BUG_ON(to->count != from->count);
	memcpy(to->words, from->words, page_set_words(to) * sizeof(*to->words));
}

void page_set_union(struct page_set *set, const struct page_set *other)
{
	BUG_ON(set->count != other->count);
	for (uint64_t at = 0; at < page_set_words(set); at++)
		set->words[at] |= other->words[at];
}

void page_set_subtract(struct page_set *set, const struct page_set *other)
{
	BUG_ON(set->count != other->count);
	for (uint64_t at = 0; at < page_set_words(set); at++)
		set->words[at] &= ~other->words[at];
}

/* The first page from `from` on that is in the set (`flip` 0) or is not (all ones); the count where there is none. */
static uint64_t find(const struct page_set *set, uint64_t from, uint64_t flip)
{
	uint64_t words = page_set_words(set), at = from / 64, word;

	if (from >= set->count)
		return set->count;
	word = (set->words[at] ^ flip) & UINT64_MAX << from % 64;
	while (!word && ++at < words)
		word = set->words[at] ^ flip;
	return word ? min_u64(at * 64 + (uint64_t)__builtin_ctzll(word), set->count) : set->count;
}

bool page_set_next_range(
	const struct page_set *set, uint64_t from, uint64_t *first, uint64_t *count)
{
	*first = find(set, from, 0);
	*count = find(set, *first, UINT64_MAX) - *first;
	return *count;
}
