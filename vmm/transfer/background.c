/* SPDX-License-Identifier: Apache-2.0 */
/* A background copy's life: made, armed in rounds, begun, let go. See background.h for how and why. */
#include "vmm/transfer/background_private.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL_DEFAULT MIB(64)
#define POOL_MIN     MIB(1)
#define POOL_MAX     GIB(16)
#define RESERVE	     MIB(128) /* a kernel with its initrd, as a reset loads them */
#define ROUNDS_MAX   16
#define LOOSE_FEW    (32 * LOOSE_PAGES) /* pages that may be left for the pause: 0.1 ms */

bool background_supported(const struct guest_memory *memory, struct error *why)
{
	if (memory->of_files) {
		/* Of a file on tmpfs the kernel would not even refuse it, and then not tell of every write. */
		error_set(why, ERROR_INCOMPATIBLE,
			"memory that is mapped from a snapshot cannot be copied in the background");
		return false;
	}
	if (memory->pages != MEMORY_PAGES_THP && memory->pages != MEMORY_PAGES_OFF) {
		error_set(why, ERROR_INCOMPATIBLE,
			"memory in reserved huge pages cannot be copied in the background");
		error_hint(why, "take an ordinary snapshot, or run with hugepages=thp");
		return false;
	}
	return true;
}

static uint64_t pool_size(const struct background *bg)
{
	return (uint64_t)bg->slots_max * GUEST_PAGE_SIZE;
}

static int make_pool(struct background *bg, uint64_t size, struct error *err)
{
	size = size ? min_u64(max_u64(size, POOL_MIN), POOL_MAX) : POOL_DEFAULT;
	bg->slot_count = bg->slots_made = (uint32_t)(size / GUEST_PAGE_SIZE);
	bg->slots_max = bg->slot_count + RESERVE / GUEST_PAGE_SIZE;
	bg->pool = mmap(NULL, pool_size(bg), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (bg->pool == MAP_FAILED) {
		bg->pool = NULL;
		return error_errno(err, errno, "no memory for a pool of %u pages", bg->slot_count);
	}
	bg->slots = calloc(bg->slots_max, sizeof(*bg->slots));
	bg->copies = calloc(bg->chunks, sizeof(*bg->copies));
	bg->bounce = aligned_alloc(GUEST_PAGE_SIZE, CHUNK_SIZE);
	if (!bg->slots || !bg->copies || !bg->bounce)
		return error_errno(err, ENOMEM, "no memory for a pool of %u pages", bg->slot_count);
	for (uint64_t i = 0; i < bg->chunks; i++)
		bg->copies[i] = NO_SLOT;
	for (uint32_t i = 0; i < bg->slot_count; i++)
		bg->slots[i].next = i + 1 < bg->slot_count ? i + 1 : NO_SLOT;
	bg->progress.pool_pages = bg->slot_count;
	return 0;
}

static int make_sets(struct background *bg, struct error *err)
{
	uint64_t pages = align_up(guest_memory_pages(bg->memory), CHUNK_PAGES);
	int ret;

	bg->chunks = pages / CHUNK_PAGES;
	ret = page_set_create(&bg->loose, pages, err);
	if (ret == 0)
		ret = page_set_create(&bg->done, pages, err);
	if (ret == 0)
		ret = page_set_create(&bg->zero, pages, err);
	if (ret == 0)
		ret = page_set_create(&bg->passed, bg->chunks, err);
	return ret;
}

static int start_thread(struct background *bg, struct error *err)
{
	sigset_t all, old;
	int ret;

	bg->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (bg->stop < 0)
		return error_errno(err, errno, "cannot make an eventfd");
	bg->log = log_used();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&bg->thread, NULL, background_faults, bg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret)
		return error_errno(err, ret, "cannot start the thread that answers faults");
	bg->threaded = true;
	return 0;
}

/* Only the kernel's notes on the mappings change: 10 us whatever the size. */
static int watch(struct background *bg, struct error *err)
{
	int ret = 0;

	for (unsigned i = 0; i < bg->pieces.count && ret == 0; i++, bg->registered++)
		ret = uffd_register(&bg->uffd, bg->pieces.at[i].host,
			bg->pieces.at[i].count * GUEST_PAGE_SIZE,
			UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP, err);
	return ret;
}

int background_create(struct background **out, struct guest_memory *memory,
	const struct background_config *config, struct error *err)
{
	struct background *bg;
	int ret;

	if (!background_supported(memory, err))
		return -err->code;
	bg = calloc(1, sizeof(*bg));
	if (!bg)
		return error_errno(err, ENOMEM, "cannot copy guest memory in the background");
	bg->memory = memory;
	bg->uffd = UFFD_CLOSED;
	bg->stop = -1;
	bg->seccomp = config->seccomp;
	pthread_mutex_init(&bg->lock, NULL);
	guest_memory_hold(memory);
	bg->held = true;
	bg->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	pieces_note(&bg->pieces, memory);
	ret = make_sets(bg, err);
	if (ret == 0)
		ret = make_pool(bg, config->pool, err);
	if (ret == 0)
		ret = uffd_open(&bg->uffd, config->device, UFFD_FEATURE_PAGEFAULT_FLAG_WP, err);
	if (ret == 0)
		ret = start_thread(bg, err);
	if (ret == 0)
		ret = watch(bg, err);
	if (ret < 0) {
		background_destroy(bg);
		return error_prefix(err, "cannot copy guest memory in the background");
	}
	*out = bg;
	return 0;
}

static int protect_failed(int ret, struct error *err)
{
	return error_errno(err, -ret, "cannot protect guest memory");
}

static int check_cancelled(struct background *bg, struct error *err)
{
	bool cancelled;

	pthread_mutex_lock(&bg->lock);
	cancelled = bg->cancelled;
	pthread_mutex_unlock(&bg->lock);
	return cancelled ? error_set(err, ERROR_CANCELLED, "the copy of guest memory was cancelled")
			 : 0;
}

/* What is written meanwhile is remembered, whether before or after its window is protected. */
static int first_round(struct background *bg, struct error *err)
{
	for (unsigned i = 0; i < bg->pieces.count; i++) {
		const struct page_range *piece = &bg->pieces.at[i];

		for (uint64_t at = 0; at < piece->count; at += WINDOW_PAGES) {
			int ret = check_cancelled(bg, err);

			if (ret < 0)
				return ret;
			ret = uffd_protect(&bg->uffd, piece->host + at * GUEST_PAGE_SIZE,
				min_u64(WINDOW_PAGES, piece->count - at) * GUEST_PAGE_SIZE);
			if (ret < 0)
				return protect_failed(ret, err);
		}
	}
	return 0;
}

/* With the lock held: the next pages that were let go are protected again. False: there are none from here on. */
static bool tighten_next(struct background *bg, uint64_t *from, int *ret)
{
	uint64_t first, count;
	struct page_range r;

	if (!page_set_next_range(&bg->loose, *from, &first, &count))
		return false;
	count = min_u64(count, CHUNK_PAGES - first % CHUNK_PAGES);
	page_set_remove(&bg->loose, first, count);
	BUG_ON(!pieces_range(&bg->pieces, first, count, &r));
	*ret = uffd_protect(&bg->uffd, r.host, r.count * GUEST_PAGE_SIZE);
	*from = first + count;
	return true;
}

/* The lock is let go in between, for the faults. */
static int next_round(struct background *bg, struct error *err)
{
	uint64_t from = 0;
	int ret = 0;

	for (bool more = true; more;) {
		if (check_cancelled(bg, err) < 0)
			return -err->code;
		pthread_mutex_lock(&bg->lock);
		more = tighten_next(bg, &from, &ret);
		pthread_mutex_unlock(&bg->lock);
		if (ret < 0)
			return protect_failed(ret, err);
	}
	return 0;
}

static uint64_t count_loose(struct background *bg)
{
	uint64_t count;

	pthread_mutex_lock(&bg->lock);
	count = page_set_size(&bg->loose);
	pthread_mutex_unlock(&bg->lock);
	return count;
}

int background_arm(struct background *bg, struct error *err)
{
	int ret = 0;

	if (!bg->swept) {
		page_set_touch(&bg->done); /* it is filled in the pause */
		ret = first_round(bg, err);
	}
	bg->swept = ret == 0;
	for (unsigned i = 0; ret == 0 && i < ROUNDS_MAX && count_loose(bg) > LOOSE_FEW; i++)
		ret = next_round(bg, err);
	return ret;
}

/* What is not wanted counts as done: it is let go when it is touched, and when the reader comes by. */
static void want(struct background *bg, const struct page_set *wanted)
{
	uint64_t first, count;

	if (!wanted) {
		for (unsigned i = 0; i < bg->pieces.count; i++)
			bg->progress.total += bg->pieces.at[i].count;
		return;
	}
	page_set_add(&bg->done, 0, bg->done.count);
	for (uint64_t from = 0; page_set_next_range(wanted, from, &first, &count);
		from = first + count)
		page_set_remove(&bg->done, first, count);
	for (unsigned i = 0; i < bg->pieces.count; i++)
		bg->progress.total +=
			bg->pieces.at[i].count -
			page_set_size_of(&bg->done, bg->pieces.at[i].first, bg->pieces.at[i].count);
}

int background_begin(struct background *bg, const struct page_set *wanted, struct error *err)
{
	uint64_t from = 0, start = now_ns();
	int ret = 0;

	BUG_ON(!bg->swept || bg->begun);
	if (atomic_load(&bg->memory->area.present) != bg->pieces.slots)
		return error_set(err, ERROR_WRONG_STATE,
			"memory was plugged or unplugged while its copy was being prepared");
	pthread_mutex_lock(&bg->lock);
	while (ret == 0 && tighten_next(bg, &from, &ret))
		;
	want(bg, wanted);
	if (ret == 0 && !bg->cancelled)
		bg->phase = BACKGROUND_TAKING;
	bg->progress.begin_ns = now_ns() - start;
	pthread_mutex_unlock(&bg->lock);
	if (ret < 0)
		return protect_failed(ret, err);
	ret = check_cancelled(bg, err);
	bg->begun = ret == 0;
	return ret;
}

void background_let_go(struct background *bg)
{
	pthread_mutex_lock(&bg->lock);
	bg->phase = BACKGROUND_OVER;
	for (unsigned i = 0; i < bg->registered; i++)
		uffd_wake(
			&bg->uffd, bg->pieces.at[i].host, bg->pieces.at[i].count * GUEST_PAGE_SIZE);
	pthread_mutex_unlock(&bg->lock);
}

void background_cancel(struct background *bg)
{
	pthread_mutex_lock(&bg->lock);
	bg->cancelled = true;
	pthread_mutex_unlock(&bg->lock);
	background_let_go(bg);
}

void background_widen(struct background *bg, bool wide)
{
	pthread_mutex_lock(&bg->lock);
	bg->wide = wide;
	/* Who waits for room asks again. */
	for (unsigned i = 0; wide && i < bg->registered; i++)
		uffd_wake(
			&bg->uffd, bg->pieces.at[i].host, bg->pieces.at[i].count * GUEST_PAGE_SIZE);
	pthread_mutex_unlock(&bg->lock);
}

void background_progress(struct background *bg, struct background_progress *progress)
{
	pthread_mutex_lock(&bg->lock);
	*progress = bg->progress;
	pthread_mutex_unlock(&bg->lock);
}

/*
 * In windows: the call keeps everyone else from changing mappings, and faults from being served. Where the kernel has no
 * memory to split its notes on a mapping at a window's end, closing the descriptor ends the watch instead.
 */
static void unwatch(struct background *bg)
{
	for (unsigned i = 0; i < bg->registered; i++) {
		const struct page_range *piece = &bg->pieces.at[i];

		for (uint64_t at = 0; at < piece->count; at += WINDOW_PAGES) {
			void *start = piece->host + at * GUEST_PAGE_SIZE;
			uint64_t size = min_u64(WINDOW_PAGES, piece->count - at) * GUEST_PAGE_SIZE;

			if (uffd_unregister(&bg->uffd, start, size) < 0)
				uffd_unprotect(&bg->uffd, start, size);
		}
	}
}

void background_end(struct background *bg)
{
	uint64_t one = 1;

	background_let_go(bg);
	unwatch(bg);
	if (bg->threaded) {
		BUG_ON(write(bg->stop, &one, sizeof(one)) != sizeof(one));
		pthread_join(bg->thread, NULL);
		bg->threaded = false;
	}
	/* background_cancel() may come at any time. */
	pthread_mutex_lock(&bg->lock);
	bg->registered = 0;
	uffd_close(&bg->uffd);
	pthread_mutex_unlock(&bg->lock);
}

void background_destroy(struct background *bg)
{
	if (!bg)
		return;
	background_end(bg);
	cleanup_close(&bg->stop);
	cleanup_close(&bg->pagemap);
	if (bg->pool)
		munmap(bg->pool, pool_size(bg));
	free(bg->slots);
	free(bg->copies);
	free(bg->bounce);
	page_set_destroy(&bg->loose);
	page_set_destroy(&bg->done);
	page_set_destroy(&bg->zero);
	page_set_destroy(&bg->passed);
	if (bg->held)
		guest_memory_unhold(bg->memory);
	pthread_mutex_destroy(&bg->lock);
	free(bg);
}
