/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying ahead: see precopy.h for what and why.
 *
 * A page that has a place in the pool goes there from then on, whoever copies it, and the pool goes to the sink last: so
 * nothing older ever overwrites it. A window of pages is rearmed right before it is copied: what is written from then on is dirty
 * when we look next, and copied again.
 */
#include "vmm/transfer/precopy.h"

#include "vmm/base/util.h"
#include "vmm/memory/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define POOL_MIN     MIB(64)
#define WINDOW_PAGES 2048u /* rearmed at once: 8 MiB */
#define FEW_PAGES    512u  /* that may be left for the pause: half a millisecond */
#define PASSES_MAX   16u
#define ROUNDS_MAX   16u
#define AGAIN_PASSES 2u /* when a guest's file systems may be frozen */

struct precopy {
	struct precopy_config config;
	uint64_t slots;	       /* guest_memory.area.present, as it was */
	struct page_set dirty; /* as of the last look */
	struct page_set pooled;
	uint8_t *pool;
	unsigned level;	  /* how much the guest had to be slowed down */
	uint32_t *places; /* of each page: its slot in the pool plus one; 0: none */
	struct precopy_report report;
};

int precopy_create(struct precopy **out, const struct precopy_config *config, struct error *err)
{
	struct precopy *p = calloc(1, sizeof(*p));
	uint64_t pages = guest_memory_pages(config->memory), size = config->pool;
	int ret;

	if (!p)
		return error_errno(err, ENOMEM, "cannot copy memory ahead");
	p->config = *config;
	p->slots = atomic_load(&config->memory->area.present);
	if (!size)
		size = max_u64(POOL_MIN, pages / 32 * GUEST_PAGE_SIZE);
	p->report.pool_pages = min_u64(size / GUEST_PAGE_SIZE, UINT32_MAX - 1);
	p->places = calloc(pages + 1, sizeof(*p->places));
	/* Pages of it come when they are used. */
	p->pool = mmap(NULL, p->report.pool_pages * GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p->pool == MAP_FAILED)
		p->pool = NULL;
	ret = p->places && p->pool ? 0 : error_errno(err, ENOMEM, "cannot copy memory ahead");
	if (ret == 0)
		ret = page_set_create(&p->dirty, pages, err);
	if (ret == 0)
		ret = page_set_create(&p->pooled, pages, err);
	if (ret < 0)
		precopy_destroy(p);
	else
		*out = p;
	return ret;
}

void precopy_destroy(struct precopy *p)
{
	if (!p)
		return;
	if (p->pool)
		munmap(p->pool, p->report.pool_pages * GUEST_PAGE_SIZE);
	free(p->places);
	page_set_destroy(&p->dirty);
	page_set_destroy(&p->pooled);
	free(p);
}

struct precopy_report precopy_report(const struct precopy *p)
{
	return p->report;
}

/* ---- pages ---- */

static uint8_t *place_of(const struct precopy *p, uint64_t page)
{
	return p->pool + (uint64_t)(p->places[page] - 1) * GUEST_PAGE_SIZE;
}

/* Whether the page goes into the pool. */
static bool find_place(struct precopy *p, uint64_t page, bool to_pool)
{
	if (p->places[page])
		return true;
	if (!to_pool || p->report.pooled == p->report.pool_pages)
		return false;
	p->places[page] = (uint32_t)++p->report.pooled;
	page_set_add(&p->pooled, page, 1);
	return true;
}

/* Each where it belongs; those that go to the sink in runs. *handed: how many did. */
static int copy_range(struct precopy *p, const struct page_range *r, bool to_pool, uint64_t *handed,
	struct error *err)
{
	uint64_t run = 0; /* pages before `i` that are to be handed over */
	int ret = 0;

	for (uint64_t i = 0; ret == 0 && i <= r->count; i++) {
		bool here = i < r->count && find_place(p, r->first + i, to_pool);

		if (here)
			memcpy(place_of(p, r->first + i), r->host + i * GUEST_PAGE_SIZE,
				GUEST_PAGE_SIZE);
		if (i < r->count && !here) {
			run++;
			continue;
		}
		if (run)
			ret = p->config.put(p->config.owner, r->first + i - run,
				r->host + (i - run) * GUEST_PAGE_SIZE, run, err);
		*handed += run;
		run = 0;
	}
	return ret;
}

static int copy_set(struct precopy *p, const struct page_set *set, uint64_t from, uint64_t to,
	bool to_pool, uint64_t *handed, struct error *err)
{
	struct page_range r;
	int ret = 0;

	for (; ret == 0 && guest_memory_next_range(p->config.memory, set, from, WINDOW_PAGES, &r) &&
		r.first < to;
		from = r.first + r.count) {
		r.count = min_u64(r.count, to - r.first);
		ret = copy_range(p, &r, to_pool, handed, err);
	}
	return ret;
}

/* ---- passes ---- */

static int look(struct precopy *p, uint64_t *left, struct error *err)
{
	int ret = dirty_engine_look(p->config.engine, p->config.user, &p->dirty, err);

	*left = ret == 0 ? page_set_size(&p->dirty) : 0;
	return ret;
}

static int check_cancel(const struct precopy *p, struct error *err)
{
	return p->config.cancel && atomic_load(p->config.cancel)
		       ? error_set(err, ERROR_CANCELLED, "cancelled")
		       : 0;
}

/* Of this set, in which all is that is dirty. */
static int pass(struct precopy *p, const struct page_set *set, bool to_pool, struct error *err)
{
	uint64_t handed = 0, first, count;
	int ret = 0;

	for (uint64_t at = 0; ret == 0 && page_set_next_range(set, at, &first, &count);) {
		at = align_down(first, WINDOW_PAGES);
		count = min_u64(WINDOW_PAGES, set->count - at);
		ret = check_cancel(p, err);
		if (ret == 0)
			ret = dirty_engine_rearm(
				p->config.engine, p->config.user, &p->dirty, at, count, err);
		if (ret == 0)
			ret = copy_set(p, set, at, at + count, to_pool, &handed, err);
		at += count;
	}
	return ret;
}

static int pass_of_all(struct precopy *p, struct error *err)
{
	struct page_set set;
	int ret = page_set_create(&set, p->dirty.count, err);

	if (ret < 0)
		return ret;
	page_set_copy(&set, &p->dirty);
	guest_memory_add_present(p->config.memory, &set);
	p->config.expect(p->config.owner, page_set_size(&set));
	ret = pass(p, &set, false, err);
	page_set_destroy(&set);
	return ret;
}

/* False: it can be no slower. */
static bool slow_down(struct precopy *p)
{
	if (p->level == PRECOPY_SLOWEST)
		return false;
	p->config.slow(p->config.owner, ++p->level);
	return true;
}

/* To the sink, until what is left would fit into half of the pool, or does not become less whatever is done. */
static int run_passes(struct precopy *p, unsigned max, struct error *err)
{
	uint64_t room = p->report.pool_pages / 2, last = UINT64_MAX, left;
	int ret = look(p, &left, err);

	for (unsigned i = 0; ret == 0 && i < max && left > room; i++) {
		if (left >= last - last / 4 && !slow_down(p))
			break;
		last = left;
		p->config.expect(p->config.owner, left);
		ret = pass(p, &p->dirty, false, err);
		p->report.passes++;
		if (ret == 0)
			ret = look(p, &left, err);
	}
	return ret;
}

/* What is left would not need more places than there are. */
static bool fits(struct precopy *p, uint64_t left)
{
	uint64_t first, count, placed = 0;

	if (left <= p->report.pool_pages - p->report.pooled)
		return true;
	for (uint64_t from = 0; page_set_next_range(&p->dirty, from, &first, &count);
		from = first + count)
		placed += page_set_size_of(&p->pooled, first, count);
	return left - placed <= p->report.pool_pages - p->report.pooled;
}

/* Into the pool, until few are left, or not less than before, twice, whatever is done. */
static int run_rounds(struct precopy *p, struct error *err)
{
	uint64_t last = UINT64_MAX, left;
	unsigned stubborn = 0;
	int ret = look(p, &left, err);

	for (unsigned i = 0; ret == 0 && i < ROUNDS_MAX && left > FEW_PAGES && fits(p, left); i++) {
		stubborn = left < last - last / 4 ? 0 : stubborn + 1;
		if (stubborn == 2) {
			if (!slow_down(p))
				break;
			stubborn = 0;
		}
		last = left;
		ret = pass(p, &p->dirty, true, err);
		p->report.rounds++;
		if (ret == 0)
			ret = look(p, &left, err);
	}
	return ret;
}

/* The kernel makes a page when it is first written: not in the pause, for those that are likely to be taken then. */
static void ready_places(struct precopy *p)
{
	uint64_t end = min_u64(p->report.pooled + 2 * FEW_PAGES, p->report.pool_pages);

	for (uint64_t slot = p->report.pooled; slot < end; slot++)
		*(volatile uint8_t *)(p->pool + slot * GUEST_PAGE_SIZE) = 0;
}

static int settle(struct precopy *p, unsigned passes, struct error *err)
{
	int ret = run_passes(p, passes, err);

	if (ret == 0)
		ret = run_rounds(p, err);
	ready_places(p);
	return ret;
}

int precopy_run(struct precopy *p, struct error *err)
{
	uint64_t left;
	int ret = 0;

	if (p->config.all) {
		ret = look(p, &left, err);
		if (ret == 0)
			ret = pass_of_all(p, err);
		p->report.passes++;
	}
	if (ret == 0)
		ret = settle(p, PASSES_MAX, err);
	p->config.slow(p->config.owner, 0);
	return ret;
}

int precopy_again(struct precopy *p, struct error *err)
{
	p->config.slow(p->config.owner, p->level);
	return settle(p, AGAIN_PASSES, err);
}

/* ---- the moment ---- */

int precopy_collect(struct precopy *p, struct error *err)
{
	if (atomic_load(&p->config.memory->area.present) != p->slots)
		return error_set(err, ERROR_WRONG_STATE,
			"memory was plugged or unplugged while its copy was being prepared");
	return dirty_engine_collect(p->config.engine, p->config.user, &p->dirty, err);
}

int precopy_hold(struct precopy *p, struct error *err)
{
	p->report.paused = page_set_size(&p->dirty);
	return copy_set(p, &p->dirty, 0, p->dirty.count, true, &p->report.held, err);
}

/* Neighbours in memory that are neighbours in the pool as well. */
static uint64_t run_at(const struct precopy *p, uint64_t page, uint64_t max)
{
	uint64_t count = 1;

	while (count < max && p->places[page + count] == p->places[page] + count)
		count++;
	return count;
}

int precopy_finish(struct precopy *p, struct error *err)
{
	uint64_t first, count;
	int ret = 0;

	p->config.expect(p->config.owner, p->report.pooled);
	for (uint64_t from = 0; ret == 0 && page_set_next_range(&p->pooled, from, &first, &count);
		from = first + count) {
		count = run_at(p, first, count);
		ret = p->config.put(p->config.owner, first, place_of(p, first), count, err);
	}
	return ret;
}
