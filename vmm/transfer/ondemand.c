/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling guest memory while the guest runs. See ondemand.h.
 *
 * Two threads put pages into the same memory: the one that answers faults, and the filler. Neither waits for the other: both may
 * read the same window, and the kernel lets only the first of two put a page in its place (UFFDIO_COPY says EEXIST). A
 * window is marked filled when all its pages that are not zero are in place, so in a filled window a page that is not there is zero.
 *
 * Only when every window is filled is the watch taken off: from then on the kernel gives zeros by itself.
 */
#include "vmm/transfer/ondemand.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/machine/sandbox.h"
#include "vmm/memory/uffd.h"
#include "vmm/transfer/pieces.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#define WINDOW_DEFAULT 256u /* a block of a compressed file: less costs as much */
#define WINDOW_MIN     16u
#define WINDOW_MAX     512u /* pieces begin at a multiple of it: see pages.h */
#define UNWATCH_PAGES  4096u
#define MESSAGES       32

struct ondemand {
	struct guest_memory *memory;
	struct ondemand_config config;
	const void *log;
	struct pieces pieces;
	struct uffd uffd;
	int stop; /* an eventfd, for the thread that answers faults */
	uint64_t windows;
	pthread_t faults, filler;
	bool faults_running, filler_running, held;
	uint8_t *rooms[2]; /* a window's bytes: the fault thread's, the filler's */
	atomic_bool stopping;

	pthread_mutex_t lock;		/* all below */
	struct page_set filled, broken; /* windows */
	struct ondemand_progress progress;
};

static const uint8_t zeros[GUEST_PAGE_SIZE] __attribute__((aligned(GUEST_PAGE_SIZE)));

static bool is_zero(const uint8_t *page)
{
	return !memcmp(page, zeros, GUEST_PAGE_SIZE);
}

static bool window_is(struct ondemand *od, const struct page_set *set, uint64_t window)
{
	bool is;

	pthread_mutex_lock(&od->lock);
	is = page_set_has(set, window);
	pthread_mutex_unlock(&od->lock);
	return is;
}

/*
 * Who waits for it tries again, and is refused by the kernel, a vCPU as well as a system call. Where the kernel has no memory
 * to note it they go on waiting: the next touch tries again.
 */
static void shut(const struct ondemand *od, const struct page_range *r)
{
	if (mprotect(r->host, r->count * GUEST_PAGE_SIZE, PROT_NONE) == 0)
		uffd_wake(&od->uffd, r->host, r->count * GUEST_PAGE_SIZE);
}

/* Nobody may take for memory what is none. Told first, so that the reason is known before what follows from it. */
static void break_window(struct ondemand *od, const struct page_range *r, const struct error *err)
{
	bool first;

	pthread_mutex_lock(&od->lock);
	first = !od->progress.failed;
	od->progress.failed = true;
	page_set_add(&od->broken, r->first / od->config.window, 1);
	pthread_mutex_unlock(&od->lock);
	if (first)
		od->config.failed(od->config.owner, err);
	shut(od, r);
}

/* ENOENT: the filler is through meanwhile, and has taken the watch off, which wakes whoever waits. */
static int put_run(const struct ondemand *od, uint8_t *host, const uint8_t *from, uint64_t count)
{
	int ret = uffd_copy(&od->uffd, host, from, count * GUEST_PAGE_SIZE);

	return ret == -ENOENT ? 0 : ret;
}

/* In runs, since each call costs as much as several pages. */
static int put_pages(const struct ondemand *od, const struct page_range *r, const uint8_t *room)
{
	uint64_t from, to;
	int ret = 0;

	for (from = 0; from < r->count && ret == 0; from = to) {
		bool zero = is_zero(room + from * GUEST_PAGE_SIZE);

		for (to = from + 1; to < r->count && is_zero(room + to * GUEST_PAGE_SIZE) == zero;)
			to++;
		if (!zero)
			ret = put_run(od, r->host + from * GUEST_PAGE_SIZE,
				room + from * GUEST_PAGE_SIZE, to - from);
	}
	return ret;
}

/*
 * Read a window and put it in place, the page `wanted` before all others, zero or not; NULL: none is. One that cannot be
 * read, or for which the host has no memory, is broken.
 */
static void fill(
	struct ondemand *od, const struct page_range *r, const uint8_t *wanted, uint8_t *room)
{
	struct error err;
	int ret = od->config.read(od->config.owner, r->first, r->count, room, &err);

	if (ret < 0) {
		break_window(od, r, &err);
		return;
	}
	if (wanted)
		ret = put_run(od, (uint8_t *)(uintptr_t)wanted, room + (wanted - r->host), 1);
	if (ret == 0)
		ret = put_pages(od, r, room);
	if (ret < 0) {
		error_errno(&err, -ret, "cannot put pages into guest memory");
		break_window(od, r, &err);
		return;
	}
	pthread_mutex_lock(&od->lock);
	if (!page_set_has(&od->filled, r->first / od->config.window)) {
		page_set_add(&od->filled, r->first / od->config.window, 1);
		od->progress.filled++;
	}
	pthread_mutex_unlock(&od->lock);
}

static bool window_range(const struct ondemand *od, uint64_t window, struct page_range *r)
{
	return pieces_range(&od->pieces, window * od->config.window, od->config.window, r);
}

static void answer(struct ondemand *od, uint64_t address)
{
	uint8_t *host = (uint8_t *)(uintptr_t)align_down(address, GUEST_PAGE_SIZE);
	uint64_t page = guest_memory_page_of(od->memory, host);
	uint64_t window = page / od->config.window;
	struct page_range r;

	BUG_ON(!window_range(od, window, &r));
	pthread_mutex_lock(&od->lock);
	od->progress.faults++;
	pthread_mutex_unlock(&od->lock);
	if (window_is(od, &od->broken, window)) {
		shut(od, &r);
	} else if (!window_is(od, &od->filled, window)) {
		if (od->config.touched)
			od->config.touched(od->config.owner, page);
		fill(od, &r, host, od->rooms[0]);
	} else if (put_run(od, host, zeros, 1) < 0) {
		uffd_wake(&od->uffd, host, GUEST_PAGE_SIZE); /* no memory now: it tries again */
	}
}

static void enter(const struct ondemand *od, const char *name)
{
	struct error err;

	log_use(od->log);
	pthread_setname_np(pthread_self(), name);
	BUG_ON(sandbox_enter(SANDBOX_FAULTS, od->config.seccomp, &err) < 0);
}

static void *answer_faults(void *arg)
{
	struct ondemand *od = arg;
	struct uffd_msg messages[MESSAGES];

	enter(od, "faults");
	for (;;) {
		struct pollfd fds[] = {
			{.fd = od->uffd.fd, .events = POLLIN}, {.fd = od->stop, .events = POLLIN}};
		int count;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			BUG_ON(errno != EINTR);
		if (fds[1].revents & POLLIN)
			return NULL;
		count = uffd_read(&od->uffd, messages, MESSAGES);
		BUG_ON(count < 0);
		for (int i = 0; i < count; i++)
			if (messages[i].event == UFFD_EVENT_PAGEFAULT)
				answer(od, messages[i].arg.pagefault.address);
	}
}

/* In steps: faults elsewhere wait for each. */
static bool unwatch(struct ondemand *od)
{
	bool all = true;

	for (unsigned i = 0; i < od->pieces.count; i++) {
		const struct page_range *piece = &od->pieces.at[i];

		for (uint64_t at = 0; at < piece->count; at += UNWATCH_PAGES)
			if (od->stopping ||
				uffd_unregister(&od->uffd, piece->host + at * GUEST_PAGE_SIZE,
					min_u64(UNWATCH_PAGES, piece->count - at) *
						GUEST_PAGE_SIZE) < 0)
				all = false;
	}
	return all;
}

/* Where it cannot be unwatched (no memory to split the kernel's notes) the other thread goes on giving zeros. */
static void *fill_all(void *arg)
{
	struct ondemand *od = arg;
	bool whole = true;
	struct page_range r;

	enter(od, "filler");
	for (uint64_t window = 0; window < od->windows && !od->stopping; window++) {
		if (!window_range(od, window, &r))
			continue;
		if (!window_is(od, &od->filled, window) && !window_is(od, &od->broken, window))
			fill(od, &r, NULL, od->rooms[1]);
		whole = whole && window_is(od, &od->filled, window);
	}
	if (od->stopping || !whole)
		return NULL;
	whole = unwatch(od);
	pthread_mutex_lock(&od->lock);
	od->progress.complete = whole;
	pthread_mutex_unlock(&od->lock);
	return NULL;
}

static int start_threads(struct ondemand *od, struct error *err)
{
	sigset_t all, old;
	int ret;

	od->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (od->stop < 0)
		return error_errno(err, errno, "cannot make an eventfd");
	od->log = log_used();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&od->faults, NULL, answer_faults, od);
	od->faults_running = ret == 0;
	if (ret == 0)
		ret = pthread_create(&od->filler, NULL, fill_all, od);
	od->filler_running = od->faults_running && ret == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret ? error_errno(err, ret, "cannot start the threads that fill memory") : 0;
}

static int prepare(struct ondemand *od, struct error *err)
{
	int ret = page_set_create(&od->filled, od->windows, err);

	if (ret == 0)
		ret = page_set_create(&od->broken, od->windows, err);
	for (unsigned i = 0; i < ARRAY_SIZE(od->rooms) && ret == 0; i++) {
		od->rooms[i] =
			aligned_alloc(GUEST_PAGE_SIZE, (size_t)od->config.window * GUEST_PAGE_SIZE);
		if (!od->rooms[i])
			ret = error_errno(err, ENOMEM, "no memory for a window");
	}
	if (ret == 0)
		ret = uffd_open(&od->uffd, od->config.device, 0, err);
	for (unsigned i = 0; i < od->pieces.count && ret == 0; i++)
		ret = uffd_register(&od->uffd, od->pieces.at[i].host,
			od->pieces.at[i].count * GUEST_PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING,
			err);
	return ret;
}

static int check_memory(const struct guest_memory *memory, struct error *err)
{
	if (memory->pages == MEMORY_PAGES_THP || memory->pages == MEMORY_PAGES_OFF)
		return 0;
	return error_set(err, ERROR_INCOMPATIBLE,
		"memory in reserved huge pages cannot be filled on demand");
}

int ondemand_start(struct ondemand **out, struct guest_memory *memory,
	const struct ondemand_config *config, struct error *err)
{
	struct ondemand *od;
	int ret = check_memory(memory, err);

	if (ret < 0)
		return ret;
	od = calloc(1, sizeof(*od));
	if (!od)
		return error_errno(err, ENOMEM, "cannot fill guest memory on demand");
	od->memory = memory;
	od->config = *config;
	od->config.window = config->window ?: WINDOW_DEFAULT;
	BUG_ON(od->config.window < WINDOW_MIN || od->config.window > WINDOW_MAX ||
		od->config.window & (od->config.window - 1));
	od->uffd = UFFD_CLOSED;
	od->stop = -1;
	pthread_mutex_init(&od->lock, NULL);
	pieces_note(&od->pieces, memory);
	od->windows = align_up(guest_memory_pages(memory), WINDOW_MAX) / od->config.window;
	for (unsigned i = 0; i < od->pieces.count; i++)
		od->progress.windows +=
			align_up(od->pieces.at[i].count, od->config.window) / od->config.window;
	guest_memory_hold(memory);
	od->held = true;
	ret = prepare(od, err);
	if (ret == 0)
		ret = start_threads(od, err);
	if (ret < 0) {
		ondemand_destroy(od);
		return error_prefix(err, "cannot fill guest memory on demand");
	}
	*out = od;
	return 0;
}

void ondemand_progress(struct ondemand *od, struct ondemand_progress *progress)
{
	pthread_mutex_lock(&od->lock);
	*progress = od->progress;
	pthread_mutex_unlock(&od->lock);
}

void ondemand_destroy(struct ondemand *od)
{
	uint64_t one = 1;

	if (!od)
		return;
	od->stopping = true;
	if (od->filler_running)
		pthread_join(od->filler, NULL);
	if (od->faults_running) {
		BUG_ON(write(od->stop, &one, sizeof(one)) != sizeof(one));
		pthread_join(od->faults, NULL);
	}
	uffd_close(&od->uffd);
	cleanup_close(&od->stop);
	for (unsigned i = 0; i < ARRAY_SIZE(od->rooms); i++)
		free(od->rooms[i]);
	page_set_destroy(&od->filled);
	page_set_destroy(&od->broken);
	if (od->held)
		guest_memory_unhold(od->memory);
	pthread_mutex_destroy(&od->lock);
	free(od);
}
