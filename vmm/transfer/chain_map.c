/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chain as a guest's memory: see chain.h.
 *
 * The full snapshot's file is mapped over each piece of memory as a whole, and what the others have is put on top: long
 * runs are mapped as well, short ones read into place. A process may have only so many mappings (vm.max_map_count, 65,530 where
 * nobody changed it), and each run that is mapped makes two more: how long a long run is follows from how many there are.
 * So the time grows with what the children changed, not with the memory.
 */
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/transfer/chain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define RUNS_MAX 8192 /* mapped runs: a quarter of the usual limit */
#define LONG_MIN 32   /* pages that are at least as cheap to read as to map: 128 KiB */

struct mapping {
	const struct chain *chain;
	struct guest_memory *memory;
	uint32_t base;	   /* number of the full snapshot */
	uint64_t long_run; /* pages from which a run is mapped */
	bool reads;	   /* nothing is mapped */
};

static bool is_plain(const struct mapping *m, uint32_t link)
{
	return link != CHAIN_ZERO && m->chain->links[link].manifest.compression == SNAPSHOT_PLAIN;
}

/* The least length for which there are not too many runs. */
static uint64_t choose_long(const struct chain *chain)
{
	uint64_t length = LONG_MIN, runs;

	for (;; length *= 2) {
		runs = 0;
		for (uint64_t i = 0; i < chain->extent_count; i++)
			runs += chain->extents[i].count >= length;
		if (runs <= RUNS_MAX)
			return length;
	}
}

static int map_file(const struct mapping *m, uint32_t number, uint8_t *host, uint64_t first,
	uint64_t count, struct error *err)
{
	const struct chain_link *link = &m->chain->links[number];

	m->memory->of_files = true;
	if (mmap(host, count * GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
		    link->memory, (off_t)(first * GUEST_PAGE_SIZE)) != MAP_FAILED)
		return 0;
	return error_errno(err, errno, "cannot map %" PRIu64 " MiB of the snapshot '%s'",
		count * GUEST_PAGE_SIZE >> 20, link->path);
}

/* In place of a file's pages: fresh ones of the guest's own. */
static int map_fresh(const struct mapping *m, uint8_t *host, uint64_t count, struct error *err)
{
	size_t size = count * GUEST_PAGE_SIZE;

	if (mmap(host, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		    0) == MAP_FAILED)
		return error_errno(
			err, errno, "cannot get %zu MiB of guest memory from the host", size >> 20);
	madvise(host, size, m->memory->pages == MEMORY_PAGES_THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return 0;
}

/* Into fresh memory: what is zero anyway is not touched, so that the host need not give pages for it. */
static int fill_fresh(const struct mapping *m, const struct chain_extent *extent, uint8_t *host,
	uint64_t first, uint64_t count, struct error *err)
{
	const struct chain_link *link;
	int ret;

	if (extent->link == CHAIN_ZERO)
		return 0;
	if (is_plain(m, extent->link))
		return chain_read_pages(m->chain, first, count, host, err);
	link = &m->chain->links[extent->link];
	ret = chain_unpack(link, first, count, host, err);
	return ret < 0 ? error_prefix(err, "snapshot '%s'", link->path) : 0;
}

/* A run of one extent, over what the piece has been given as a whole. `mapped`: that is the full snapshot's file. */
static int map_run(const struct mapping *m, const struct chain_extent *extent, uint8_t *host,
	uint64_t first, uint64_t count, bool mapped, struct error *err)
{
	bool is_long = count >= m->long_run;
	int ret = 0;

	if (extent->link == m->base && mapped)
		return 0;
	if (is_long && is_plain(m, extent->link))
		return map_file(m, extent->link, host, first, count, err);
	if (mapped && !is_long)
		return chain_read_pages(m->chain, first, count, host, err);
	if (mapped)
		ret = map_fresh(m, host, count, err);
	return ret ?: fill_fresh(m, extent, host, first, count, err);
}

static int map_piece(const struct mapping *m, const struct page_range *piece, struct error *err)
{
	bool mapped = !m->reads && is_plain(m, m->base);
	const struct chain_extent *extent = chain_find(m->chain, piece->first);
	uint64_t end = piece->first + piece->count;
	int ret = 0;

	if (mapped)
		ret = map_file(m, m->base, piece->host, piece->first, piece->count, err);
	for (uint64_t first = piece->first; ret == 0 && first < end; extent++) {
		uint64_t count = min_u64(extent->first + extent->count, end) - first;
		uint8_t *host = piece->host + (first - piece->first) * GUEST_PAGE_SIZE;

		ret = m->reads ? fill_fresh(m, extent, host, first, count, err)
			       : map_run(m, extent, host, first, count, mapped, err);
		first += count;
	}
	return ret;
}

/* What the caller made must be what the snapshot is of. */
int chain_check_memory(
	const struct chain *chain, const struct guest_memory *memory, struct error *err)
{
	struct memory_layout layout;

	memory_layout_of(memory, &layout);
	if (!memory_layout_same_places(&layout, &chain->links->manifest.memory))
		return error_set(err, ERROR_INCOMPATIBLE,
			"snapshot '%s': its memory lies elsewhere than this machine's",
			chain->links->path);
	if (layout.area_present != chain->links->manifest.memory.area_present)
		return error_set(err, ERROR_INCOMPATIBLE,
			"snapshot '%s': other memory was plugged than this machine has",
			chain->links->path);
	BUG_ON(guest_memory_pages(memory) != chain->pages);
	return 0;
}

bool chain_is_compressed(const struct chain *chain)
{
	for (unsigned i = 0; i < chain->count; i++)
		if (chain->links[i].manifest.compression != SNAPSHOT_PLAIN)
			return true;
	return false;
}

static int make(
	const struct chain *chain, struct guest_memory *memory, bool reads, struct error *err)
{
	const struct mapping m = {.chain = chain,
		.memory = memory,
		.base = chain->count - 1,
		.long_run = choose_long(chain),
		.reads = reads};
	int ret = chain_check_memory(chain, memory, err);

	for (unsigned i = 0; ret == 0 && i < guest_memory_piece_count(memory); i++) {
		struct page_range piece = guest_memory_piece(memory, i);

		if (guest_memory_piece_present(memory, i))
			ret = map_piece(&m, &piece, err);
	}
	return ret;
}

int chain_map(const struct chain *chain, struct guest_memory *memory, struct error *err)
{
	bool huge = memory->pages == MEMORY_PAGES_2M || memory->pages == MEMORY_PAGES_1G;

	return make(chain, memory, huge, err);
}

int chain_fill(const struct chain *chain, struct guest_memory *memory, struct error *err)
{
	return make(chain, memory, true, err);
}
