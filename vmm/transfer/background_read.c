/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of a background copy: goes over memory once, chunk by chunk, and hands everything to the sink. See background.h.
 *
 * A chunk is first copied, then let go, then handed over: a write in it waits for the copy (0.1 ms) at most, not for the
 * sink. Copies that the fault thread made are put in among the others when the reader comes by; when half of the pool is used it
 * goes to where they are first.
 */
#include "vmm/transfer/background_private.h"

#include "vmm/base/util.h"

#include <string.h>
#include <unistd.h>

enum page_kind {
	PAGE_PRESENT, /* as it is in the bounce buffer */
	PAGE_ZERO,
	PAGE_GIVEN, /* the sink has it, or does not want it */
};

#define PAGEMAP_THERE                                                                              \
	(3ull << 62) /* present, or in swap: Documentation/admin-guide/mm/pagemap.rst */

/* Which pages of it are not there: to read them would only make them be. */
static void find_holes(const struct background *bg, const struct page_range *r, uint8_t *kinds)
{
	uint64_t entries[CHUNK_PAGES];
	ssize_t len = 0;

	if (bg->pagemap >= 0)
		len = pread(bg->pagemap, entries, r->count * sizeof(entries[0]),
			(off_t)((uintptr_t)r->host / GUEST_PAGE_SIZE * sizeof(entries[0])));
	for (uint64_t i = 0; len > 0 && i < (uint64_t)len / sizeof(entries[0]); i++)
		if (kinds[i] == PAGE_PRESENT && !(entries[i] & PAGEMAP_THERE))
			kinds[i] = PAGE_ZERO;
}

/* With the lock held. What the fault thread did to this chunk's pages. */
static void look_up(const struct background *bg, const struct page_range *r, uint8_t *kinds)
{
	for (uint64_t i = 0; i < r->count; i++)
		if (page_set_has(&bg->done, r->first + i))
			kinds[i] = page_set_has(&bg->zero, r->first + i) ? PAGE_ZERO : PAGE_GIVEN;
}

/* With the lock held: the chunk's copies go to where they belong in the bounce buffer, and their slots are free. */
static void take_copies(struct background *bg, const struct page_range *r, uint8_t *kinds)
{
	uint32_t slot = bg->copies[r->first / CHUNK_PAGES], next;

	for (; slot != NO_SLOT; slot = next) {
		uint64_t i = bg->slots[slot].page - r->first;

		memcpy(bg->bounce + i * GUEST_PAGE_SIZE,
			bg->pool + (uint64_t)slot * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE);
		kinds[i] = PAGE_PRESENT;
		next = bg->slots[slot].next;
		bg->slots[slot].next = bg->free;
		bg->free = slot;
		bg->slots_used--;
	}
	bg->copies[r->first / CHUNK_PAGES] = NO_SLOT;
}

/* Those who found the pool full try again. */
static void wake_starved(struct background *bg)
{
	bool starved;

	pthread_mutex_lock(&bg->lock);
	starved = bg->starved && bg->free != NO_SLOT;
	if (starved)
		bg->starved = false;
	pthread_mutex_unlock(&bg->lock);
	for (unsigned i = 0; starved && i < bg->pieces.count; i++)
		uffd_wake(
			&bg->uffd, bg->pieces.at[i].host, bg->pieces.at[i].count * GUEST_PAGE_SIZE);
}

/* Runs of one kind, as long as they are. */
static int hand_over(struct background *bg, const struct page_range *r, const uint8_t *kinds,
	const struct background_sink *sink, struct error *err)
{
	uint64_t from, to;
	int ret = 0;

	for (from = 0; from < r->count && ret >= 0; from = to) {
		for (to = from + 1; to < r->count && kinds[to] == kinds[from];)
			to++;
		if (kinds[from] == PAGE_GIVEN)
			continue;
		ret = sink->take(sink->owner, r->first + from, to - from,
			kinds[from] == PAGE_ZERO ? NULL : bg->bounce + from * GUEST_PAGE_SIZE, err);
		pthread_mutex_lock(&bg->lock);
		if (ret >= 0)
			bg->progress.taken += to - from;
		pthread_mutex_unlock(&bg->lock);
	}
	return ret;
}

/*
 * What the fault thread does to a page between the two looks is seen at the second: the copy that it made, or that the page
 * was not there. A page that is not done at the second look was not let go before: what was copied is as it was.
 */
static int read_chunk(struct background *bg, const struct page_range *r,
	const struct background_sink *sink, struct error *err)
{
	uint8_t kinds[CHUNK_PAGES] = {0};
	bool over;
	int ret;

	pthread_mutex_lock(&bg->lock);
	look_up(bg, r, kinds);
	pthread_mutex_unlock(&bg->lock);
	find_holes(bg, r, kinds);
	for (uint64_t i = 0; i < r->count; i++)
		if (kinds[i] == PAGE_PRESENT)
			memcpy(bg->bounce + i * GUEST_PAGE_SIZE, r->host + i * GUEST_PAGE_SIZE,
				GUEST_PAGE_SIZE);

	pthread_mutex_lock(&bg->lock);
	over = bg->phase == BACKGROUND_OVER;
	look_up(bg, r, kinds);
	take_copies(bg, r, kinds);
	page_set_add(&bg->done, r->first, r->count);
	page_set_add(&bg->passed, r->first / CHUNK_PAGES, 1);
	pthread_mutex_unlock(&bg->lock);
	if (over)
		return error_set(err, ERROR_CANCELLED, "the copy of guest memory was cancelled");

	ret = uffd_unprotect(&bg->uffd, r->host, r->count * GUEST_PAGE_SIZE);
	if (ret < 0)
		return error_errno(err, -ret, "cannot let guest memory go after it was copied");
	wake_starved(bg);
	return hand_over(bg, r, kinds, sink, err);
}

/* The copies of one chunk that the reader has not come to yet; its other pages stay as they are. */
static int drain_chunk(struct background *bg, const struct page_range *r,
	const struct background_sink *sink, struct error *err)
{
	uint8_t kinds[CHUNK_PAGES];

	memset(kinds, PAGE_GIVEN, sizeof(kinds));
	pthread_mutex_lock(&bg->lock);
	take_copies(bg, r, kinds);
	pthread_mutex_unlock(&bg->lock);
	wake_starved(bg);
	return hand_over(bg, r, kinds, sink, err);
}

/* A chunk with copies, while more than `limit` slots are used. */
static bool find_copies(struct background *bg, uint32_t limit, struct page_range *r)
{
	bool found = false;

	pthread_mutex_lock(&bg->lock);
	for (uint64_t n = 0; n < bg->chunks && bg->slots_used > limit && !found; n++) {
		found = bg->copies[bg->cursor] != NO_SLOT &&
			pieces_range(&bg->pieces, bg->cursor * CHUNK_PAGES, CHUNK_PAGES, r);
		bg->cursor = (bg->cursor + 1) % bg->chunks;
	}
	pthread_mutex_unlock(&bg->lock);
	return found;
}

static int drain(struct background *bg, const struct background_sink *sink, struct error *err)
{
	uint32_t limit = bg->slot_count / 2;
	struct page_range r;
	int ret = 0;

	while (ret >= 0 && find_copies(bg, limit, &r)) {
		ret = drain_chunk(bg, &r, sink, err);
		limit = bg->slot_count / 4;
	}
	return ret;
}

int background_run(struct background *bg, const struct background_sink *sink, struct error *err)
{
	struct page_range r;
	int ret = 0;

	BUG_ON(!bg->begun);
	for (uint64_t chunk = 0; chunk < bg->chunks && ret >= 0; chunk++) {
		ret = drain(bg, sink, err);
		if (ret >= 0 && pieces_range(&bg->pieces, chunk * CHUNK_PAGES, CHUNK_PAGES, &r))
			ret = read_chunk(bg, &r, sink, err);
	}
	background_let_go(bg);
	return ret < 0 ? ret : 0;
}
