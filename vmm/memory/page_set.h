/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of pages: one bit for each number from 0 to count - 1. Which page of a guest has which number is said in pages.h.
 *
 * page_set_next_range() is the one range builder: whoever copies, clears or counts pages walks a set with it.
 *
 * Threads: a set belongs to one thread at a time.
 */
#pragma once

#include "vmm/base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct page_set {
	uint64_t count;
	uint64_t *words; /* page n: bit n % 64 of word n / 64; no bit from `count` on is ever set */
};

/* An empty one. */
int page_set_create(struct page_set *set, uint64_t count, struct error *err);
void page_set_destroy(struct page_set *set);

static inline uint64_t page_set_words(const struct page_set *set)
{
	return (set->count + 63) / 64;
}

static inline bool page_set_has(const struct page_set *set, uint64_t page)
{
	return page < set->count && set->words[page / 64] >> page % 64 & 1;
}

/* Both within the set; `count` may be 0. */
void page_set_add(struct page_set *set, uint64_t first, uint64_t count);
void page_set_remove(struct page_set *set, uint64_t first, uint64_t count);

void page_set_clear(struct page_set *set);
bool page_set_is_empty(const struct page_set *set);
/* How many pages are in it; in this part of it. */
uint64_t page_set_size(const struct page_set *set);
uint64_t page_set_size_of(const struct page_set *set, uint64_t first, uint64_t count);

/*
 * Take the memory now that a new set gets when it is written, so that nobody who is in a hurry waits for it (1 ms for 16 GiB of pages, where
 * the host is slow at giving any). Others may use the set meanwhile.
 */
void page_set_touch(struct page_set *set);

/* Of sets with the same count. */
void page_set_copy(struct page_set *to, const struct page_set *from);
void page_set_union(struct page_set *set, const struct page_set *other);
void page_set_subtract(struct page_set *set, const struct page_set *other);

/* The first run of pages that are in the set, none before `from`, as long as it is. False: there is none. */
bool page_set_next_range(
	const struct page_set *set, uint64_t from, uint64_t *first, uint64_t *count);
