/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a disk have changed. See blk_dirty.h for when bits are set and taken.
 *
 * The marks are words of an atomic bitmap. Setting a bit releases, taking a word acquires: whoever has taken a bit sees
 * the bytes that it stands for. The map is published whole, and replaced only while no request is in flight.
 */
#include "virtio/blk_dirty.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>

#define BITS 64u

struct blk_dirty_map {
	uint64_t count; /* blocks */
	_Atomic uint64_t words[];
};

static uint64_t word_count(uint64_t blocks)
{
	return (blocks + BITS - 1) / BITS;
}

/* Bits [from, to) of a word, 0 <= from < to <= 64. */
static uint64_t mask(unsigned from, unsigned to)
{
	return (~0ull >> (BITS - (to - from))) << from;
}

int block_set_grow(struct page_set *set, uint64_t count, struct error *err)
{
	struct page_set grown;
	int ret;

	if (count <= set->count && set->words)
		return 0;
	ret = page_set_create(&grown, max_u64(count, set->count), err);
	if (ret < 0)
		return ret;
	if (set->words)
		memcpy(grown.words, set->words, page_set_words(set) * sizeof(*set->words));
	page_set_destroy(set);
	*set = grown;
	return 0;
}

int blk_dirty_start(struct blk_dirty *dirty, uint64_t size)
{
	uint64_t count = block_count(size);
	struct blk_dirty_map *map =
		calloc(1, sizeof(*map) + word_count(count) * sizeof(map->words[0]));

	if (!map)
		return -ENOMEM;
	map->count = count;
	atomic_store_explicit(&dirty->map, map, memory_order_release);
	return 0;
}

struct blk_dirty_map *blk_dirty_stop(struct blk_dirty *dirty)
{
	dirty->since[0] = '\0';
	return atomic_exchange(&dirty->map, NULL);
}

static void mark_blocks(struct blk_dirty_map *map, uint64_t at, uint64_t end)
{
	while (at < end) {
		uint64_t to = min_u64(end, (at / BITS + 1) * BITS);

		atomic_fetch_or_explicit(&map->words[at / BITS],
			mask(at % BITS, (unsigned)(to - 1) % BITS + 1), memory_order_release);
		at = to;
	}
}

void blk_dirty_mark_map(struct blk_dirty_map *map, uint64_t offset, uint64_t len)
{
	/* A disk that has grown since: what is beyond needs no bit. */
	if (len)
		mark_blocks(map, offset >> BLK_DIRTY_SHIFT,
			min_u64(block_count(offset + len), map->count));
}

uint64_t blk_dirty_pending(const struct blk_dirty *dirty, uint64_t size)
{
	const struct blk_dirty_map *map = atomic_load_explicit(&dirty->map, memory_order_acquire);
	uint64_t sum = 0;

	if (!map)
		return 0;
	for (uint64_t i = 0; i < word_count(map->count); i++)
		sum += (unsigned)__builtin_popcountll(
			atomic_load_explicit(&map->words[i], memory_order_relaxed));
	return sum + (block_count(size) - min_u64(map->count, block_count(size)));
}

void blk_dirty_take(struct blk_dirty *dirty, struct page_set *set)
{
	struct blk_dirty_map *map = atomic_load_explicit(&dirty->map, memory_order_acquire);

	if (!map)
		return;
	for (uint64_t i = 0; i < word_count(map->count) && i < word_count(set->count); i++)
		if (atomic_load_explicit(&map->words[i], memory_order_relaxed))
			set->words[i] |=
				atomic_exchange_explicit(&map->words[i], 0, memory_order_acq_rel);
	if (set->count > map->count)
		page_set_add(set, map->count, set->count - map->count);
}

void blk_dirty_give_back(struct blk_dirty *dirty, const struct page_set *set)
{
	struct blk_dirty_map *map = atomic_load_explicit(&dirty->map, memory_order_acquire);
	uint64_t first, count;

	if (!map)
		return;
	for (uint64_t at = 0; page_set_next_range(set, at, &first, &count); at = first + count)
		mark_blocks(map, first, min_u64(first + count, map->count));
}
