/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty engine. See dirty_engine.h for the contract.
 *
 * The two bitmaps know one "dirty" for all. What differs between users is in their page sets: `backlog` has what a user
 * must still be told though the bitmaps have forgotten it, because another user rearmed the page or its own sink failed.
 * What a user sees is the bitmaps and its backlog together. A page that was never armed has its bit set in KVM's log.
 *
 * A bit of a set is only ever added before the bitmaps lose it: whoever fails in between has a page too many, never one
 * too few.
 */
#include "vmm/kvm/dirty_engine.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/kvm/dirty_log.h"
#include "vmm/memory/dirty.h"
#include "vmm/memory/pages.h"

/* How many pages one call to KVM rearms of many: it holds a lock that vCPUs need, where they run. */
#define WINDOW (MIB(256) / GUEST_PAGE_SIZE)

void dirty_engine_init(struct dirty_engine *engine, struct guest_memory *memory)
{
	*engine = (struct dirty_engine){.memory = memory};
	pthread_mutex_init(&engine->lock, NULL);
}

void dirty_engine_destroy(struct dirty_engine *engine)
{
	if (!engine->memory)
		return;
	BUG_ON(engine->users);
	pthread_mutex_destroy(&engine->lock);
	engine->memory = NULL;
}

/* ---- words of sets; windows begin and end at whole words ---- */

static void add_window(
	struct page_set *set, const struct page_set *other, uint64_t first, uint64_t count)
{
	for (uint64_t at = first / 64; at < (first + count + 63) / 64; at++)
		set->words[at] |= other->words[at];
}

static void remove_window(
	struct page_set *set, const struct page_set *other, uint64_t first, uint64_t count)
{
	for (uint64_t at = first / 64; at < (first + count + 63) / 64; at++)
		set->words[at] &= ~other->words[at];
}

/* ---- users ---- */

/* `clean`: it is told of nothing yet. Its sets then take no memory: half a MiB for 16 GiB, which each clone would have. */
static int make_user(struct dirty_user *user, uint64_t pages, bool clean, struct error *err)
{
	int ret;

	*user = (struct dirty_user){0};
	ret = page_set_create(&user->backlog, pages, err);
	if (ret == 0)
		ret = page_set_create(&user->pending, pages, err);
	if (ret == 0 && !clean)
		page_set_add(&user->backlog, 0, pages);
	return ret;
}

static void free_user(struct dirty_user *user)
{
	page_set_destroy(&user->backlog);
	page_set_destroy(&user->pending);
}

static void stop(struct dirty_engine *engine)
{
	if (engine->vm && engine->vm->slot_flags)
		dirty_log_stop(engine->vm, engine->memory);
	if (atomic_load(&engine->memory->followed))
		guest_memory_unfollow(engine->memory);
	page_set_destroy(&engine->seen);
	page_set_destroy(&engine->taken);
	page_set_destroy(&engine->counted);
	engine->broken = false;
}

/* It begins with every bit set, which says nothing of what was written; or `clean`. */
static int start_log(struct dirty_engine *engine, bool clean, struct error *err)
{
	if (!clean)
		page_set_add(&engine->counted, 0, engine->counted.count);
	return dirty_log_start(engine->vm, engine->memory, clean, err);
}

static int start(struct dirty_engine *engine, bool clean, struct error *err)
{
	uint64_t pages = guest_memory_pages(engine->memory);
	int ret = page_set_create(&engine->seen, pages, err);

	if (ret == 0)
		ret = page_set_create(&engine->taken, pages, err);
	if (ret == 0)
		ret = page_set_create(&engine->counted, pages, err);
	if (ret == 0)
		ret = guest_memory_follow(engine->memory, err);
	if (ret == 0 && engine->vm)
		ret = start_log(engine, clean, err);
	if (ret < 0)
		stop(engine);
	return ret;
}

static int join(struct dirty_engine *engine, struct dirty_user *user, bool clean, struct error *err)
{
	int ret = make_user(user, guest_memory_pages(engine->memory), clean, err);

	pthread_mutex_lock(&engine->lock);
	BUG_ON(clean && engine->users);
	if (ret == 0 && !engine->users)
		ret = start(engine, clean, err);
	if (ret == 0) {
		user->next = engine->users;
		engine->users = user;
	}
	pthread_mutex_unlock(&engine->lock);
	if (ret < 0)
		free_user(user);
	return ret;
}

int dirty_engine_join(struct dirty_engine *engine, struct dirty_user *user, struct error *err)
{
	return join(engine, user, false, err);
}

int dirty_engine_join_clean(struct dirty_engine *engine, struct dirty_user *user, struct error *err)
{
	return join(engine, user, true, err);
}

void dirty_engine_leave(struct dirty_engine *engine, struct dirty_user *user)
{
	struct dirty_user **at = &engine->users;

	pthread_mutex_lock(&engine->lock);
	while (*at != user)
		at = &(*at)->next;
	*at = user->next;
	if (!engine->users)
		stop(engine);
	pthread_mutex_unlock(&engine->lock);
	free_user(user);
}

bool dirty_engine_active(struct dirty_engine *engine)
{
	bool active;

	pthread_mutex_lock(&engine->lock);
	active = engine->users;
	pthread_mutex_unlock(&engine->lock);
	return active;
}

/* ---- looking ---- */

/* What both bitmaps say, into `seen`; and count what is new in them. */
static int look(struct dirty_engine *engine, struct error *err)
{
	struct page_set *seen = &engine->seen, *counted = &engine->counted;
	int ret = 0;

	if (engine->broken)
		return error_set(err, ERROR_WRONG_STATE,
			"dirty pages are not tracked any more: KVM's log was lost at the guest's reset");
	if (engine->vm)
		ret = dirty_log_look(engine->vm, engine->memory, seen, err);
	else
		page_set_clear(seen);
	if (ret < 0)
		return ret;
	guest_memory_marked(engine->memory, seen);
	for (uint64_t at = 0; at < page_set_words(seen); at++) {
		engine->dirtied +=
			(uint64_t)__builtin_popcountll(seen->words[at] & ~counted->words[at]);
		counted->words[at] |= seen->words[at];
	}
	return 0;
}

static void keep_present(const struct guest_memory *memory, struct page_set *set)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < guest_memory_piece_count(memory); i++) {
		struct page_range piece = guest_memory_piece(memory, i);

		if (!guest_memory_piece_present(memory, i))
			continue;
		page_set_remove(set, end, piece.first - end);
		end = piece.first + piece.count;
	}
	page_set_remove(set, end, set->count - end);
}

int dirty_engine_look(struct dirty_engine *engine, struct dirty_user *user, struct page_set *into,
	struct error *err)
{
	int ret;

	pthread_mutex_lock(&engine->lock);
	ret = look(engine, err);
	if (ret == 0) {
		page_set_copy(into, &engine->seen);
		page_set_union(into, &user->backlog);
		keep_present(engine->memory, into);
	}
	pthread_mutex_unlock(&engine->lock);
	return ret;
}

void dirty_engine_touch(struct dirty_engine *engine, struct dirty_user *user)
{
	struct page_set *sets[] = {
		&engine->seen, &engine->taken, &engine->counted, &user->backlog, &user->pending};

	pthread_mutex_lock(&engine->lock);
	for (unsigned i = 0; i < ARRAY_SIZE(sets); i++)
		page_set_touch(sets[i]);
	pthread_mutex_unlock(&engine->lock);
}

uint64_t dirty_engine_dirtied(struct dirty_engine *engine)
{
	struct error ignored;
	uint64_t dirtied;

	pthread_mutex_lock(&engine->lock);
	if (engine->users)
		look(engine, &ignored);
	dirtied = engine->dirtied;
	pthread_mutex_unlock(&engine->lock);
	return dirtied;
}

/* ---- taking ---- */

/*
 * A window of `set` is pending to `taker` then (NULL: to nobody), and what of it the bitmaps say leaves them: to all other users
 * that is still dirty. What the bitmaps did not say when they were looked at is left alone: a bit that came since is kept
 * for everybody.
 */
static int take(struct dirty_engine *engine, struct dirty_user *taker, const struct page_set *set,
	uint64_t first, uint64_t count, struct error *err)
{
	struct page_set *taken = &engine->taken;

	for (uint64_t at = first / 64; at < (first + count + 63) / 64; at++)
		taken->words[at] = set->words[at] & engine->seen.words[at];
	for (struct dirty_user *user = engine->users; user; user = user->next)
		if (user != taker)
			add_window(&user->backlog, taken, first, count);
	if (taker) {
		add_window(&taker->pending, set, first, count);
		remove_window(&taker->backlog, set, first, count);
	}
	remove_window(&engine->seen, taken, first, count);
	remove_window(&engine->counted, taken, first, count);
	guest_memory_unmark(engine->memory, taken, first, count);
	return engine->vm && !engine->broken
		       ? dirty_log_rearm(engine->vm, engine->memory, taken, first, count, err)
		       : 0;
}

int dirty_engine_rearm(struct dirty_engine *engine, struct dirty_user *user,
	const struct page_set *set, uint64_t first, uint64_t count, struct error *err)
{
	int ret;

	pthread_mutex_lock(&engine->lock);
	ret = take(engine, user, set, first, count, err);
	pthread_mutex_unlock(&engine->lock);
	return ret;
}

int dirty_engine_collect(struct dirty_engine *engine, struct dirty_user *user,
	struct page_set *into, struct error *err)
{
	int ret = dirty_engine_look(engine, user, into, err);
	uint64_t first, count;

	if (ret < 0)
		return ret;
	for (uint64_t from = 0; ret == 0 && page_set_next_range(into, from, &first, &count);
		from = first + count) {
		first = align_down(first, 64);
		count = min_u64(WINDOW, into->count - first);
		ret = dirty_engine_rearm(engine, user, into, first, count, err);
	}
	if (ret < 0)
		dirty_engine_rollback(engine, user);
	return ret;
}

void dirty_engine_commit(struct dirty_engine *engine, struct dirty_user *user)
{
	pthread_mutex_lock(&engine->lock);
	page_set_clear(&user->pending);
	pthread_mutex_unlock(&engine->lock);
}

void dirty_engine_rollback(struct dirty_engine *engine, struct dirty_user *user)
{
	pthread_mutex_lock(&engine->lock);
	page_set_union(&user->backlog, &user->pending);
	page_set_clear(&user->pending);
	pthread_mutex_unlock(&engine->lock);
}

/* ---- arming ---- */

/* The window from this page on, of what has not been armed; the last user may have left meanwhile. */
static int arm_window(struct dirty_engine *engine, uint64_t at, struct error *err)
{
	uint64_t pages = engine->seen.count;

	return at < pages ? take(engine, NULL, &engine->seen, at, min_u64(WINDOW, pages - at), err)
			  : 0;
}

int dirty_engine_arm(struct dirty_engine *engine, struct error *err)
{
	uint64_t pages = guest_memory_pages(engine->memory);
	int ret;

	pthread_mutex_lock(&engine->lock);
	ret = engine->users ? look(engine, err) : 0;
	for (uint64_t at = 0; ret == 0 && at < pages; at += WINDOW) {
		/* Others have their turn between two windows. */
		pthread_mutex_unlock(&engine->lock);
		pthread_mutex_lock(&engine->lock);
		ret = arm_window(engine, at, err);
	}
	pthread_mutex_unlock(&engine->lock);
	return ret;
}

/* Before a new guest's first instruction; nobody else knows of the VM yet. */
static int arm_new_vm(struct dirty_engine *engine, struct error *err)
{
	int ret = start_log(engine, false, err);

	if (ret == 0)
		ret = look(engine, err);
	for (uint64_t at = 0; ret == 0 && at < engine->seen.count; at += WINDOW)
		ret = arm_window(engine, at, err);
	return ret;
}

void dirty_engine_attach(struct dirty_engine *engine, struct vm *vm)
{
	struct error err;

	pthread_mutex_lock(&engine->lock);
	engine->vm = vm;
	/* What a new guest finds and what it makes of it: all memory is dirty, which arming says to each user. */
	if (engine->users && arm_new_vm(engine, &err) < 0) {
		engine->broken = true;
		log_warn("dirty pages are not tracked any more: %s", err.text);
	}
	pthread_mutex_unlock(&engine->lock);
}

void dirty_engine_detach(struct dirty_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->vm = NULL;
	pthread_mutex_unlock(&engine->lock);
}
