/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that answers faults of a background copy. See background.h.
 *
 * It never waits for anyone but for short times: a writer that finds the pool full stays asleep, without being remembered.
 * When there is room again all sleepers are woken, and those who still need to be told of are told of again by the kernel.
 * So the reader, which touches guest memory itself, can never be waiting for a thread that waits for it.
 */
#include "vmm/transfer/background_private.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/machine/sandbox.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define MESSAGES 32

static const uint8_t zeros[GUEST_PAGE_SIZE] __attribute__((aligned(GUEST_PAGE_SIZE)));

/* With a page of its own for a writer: the kernel's page of zeros would cost it a second fault. */
static int provide(const struct background *bg, void *host, bool write)
{
	return write ? uffd_copy(&bg->uffd, host, zeros, GUEST_PAGE_SIZE)
		     : uffd_zero(&bg->uffd, host, GUEST_PAGE_SIZE);
}

/*
 * Before the moment. The page is let go with its neighbours, and remembered. Under the lock, because a round forgets
 * and protects under it: a page that is let go is always remembered.
 */
static int loosen(struct background *bg, uint64_t page, void *host, uint64_t flags)
{
	struct page_range r;

	BUG_ON(!pieces_range(&bg->pieces, align_down(page, LOOSE_PAGES), LOOSE_PAGES, &r));
	page_set_add(&bg->loose, r.first, r.count);
	bg->progress.early++;
	if (!(flags & UFFD_PAGEFAULT_FLAG_WP))
		return provide(bg, host, flags & UFFD_PAGEFAULT_FLAG_WRITE);
	return uffd_unprotect(&bg->uffd, r.host, r.count * GUEST_PAGE_SIZE);
}

/* NO_SLOT: there is none. */
static uint32_t take_slot(struct background *bg)
{
	uint32_t slot = bg->free;

	if (slot != NO_SLOT)
		bg->free = bg->slots[slot].next;
	else if (bg->wide && bg->slots_made < bg->slots_max)
		slot = bg->slots_made++; /* the pool stays that much larger */
	return slot;
}

static bool set_aside(struct background *bg, uint64_t page, const void *host)
{
	uint32_t slot = take_slot(bg);

	if (slot == NO_SLOT) {
		bg->starved = true;
		bg->progress.waits++;
		return false;
	}
	memcpy(bg->pool + (uint64_t)slot * GUEST_PAGE_SIZE, host, GUEST_PAGE_SIZE);
	bg->slots[slot].page = page;
	bg->slots[slot].next = bg->copies[page / CHUNK_PAGES];
	bg->copies[page / CHUNK_PAGES] = slot;
	bg->slots_used++;
	bg->progress.copied++;
	bg->progress.pool_peak = max_u64(bg->progress.pool_peak, bg->slots_used);
	return true;
}

/* After the moment. False: the writer has to wait. */
static bool save(struct background *bg, uint64_t page, const void *host, bool missing)
{
	if (page_set_has(&bg->done, page))
		return true;
	if (!missing && !set_aside(bg, page, host))
		return false;
	if (missing) {
		page_set_add(&bg->zero, page, 1);
		bg->progress.filled++;
	}
	page_set_add(&bg->done, page, 1);
	return true;
}

static int answer(struct background *bg, uint64_t address, uint64_t flags)
{
	void *host = (void *)(uintptr_t)align_down(address, GUEST_PAGE_SIZE);
	uint64_t page = guest_memory_page_of(bg->memory, host);
	bool missing = !(flags & UFFD_PAGEFAULT_FLAG_WP);
	enum background_phase phase;
	bool go = true, passed;
	int ret = 0;

	pthread_mutex_lock(&bg->lock);
	phase = bg->phase;
	if (phase == BACKGROUND_ARMED)
		ret = loosen(bg, page, host, flags);
	else if (phase == BACKGROUND_TAKING)
		go = save(bg, page, host, missing);
	passed = phase == BACKGROUND_TAKING && page_set_has(&bg->passed, page / CHUNK_PAGES);
	pthread_mutex_unlock(&bg->lock);

	if (phase == BACKGROUND_ARMED || !go)
		return ret;
	if (missing)
		return provide(bg, host, flags & UFFD_PAGEFAULT_FLAG_WRITE);
	/* The reader has let the whole chunk go, or is about to: a call for one page would split a huge one. */
	return passed ? uffd_wake(&bg->uffd, host, GUEST_PAGE_SIZE)
		      : uffd_unprotect(&bg->uffd, host, GUEST_PAGE_SIZE);
}

/* What can fail here: no memory for a page that was not there, or for splitting a huge one. The next try may find some. */
static void answer_all(struct background *bg, const struct uffd_msg *messages, int count)
{
	static struct log_limit limit;

	for (int i = 0; i < count; i++) {
		uint64_t address = messages[i].arg.pagefault.address;
		int ret;

		if (messages[i].event != UFFD_EVENT_PAGEFAULT)
			continue;
		ret = answer(bg, address, messages[i].arg.pagefault.flags);
		/* ENOENT: the range was unregistered meanwhile, which wakes it. */
		if (ret == 0 || ret == -ENOENT)
			continue;
		log_write_limited(&limit, LOG_WARN,
			"a guest's page cannot be had: %s; trying again", strerrordesc_np(-ret));
		uffd_wake(&bg->uffd, (void *)(uintptr_t)align_down(address, GUEST_PAGE_SIZE),
			GUEST_PAGE_SIZE);
	}
}

void *background_faults(void *arg)
{
	struct background *bg = arg;
	struct uffd_msg messages[MESSAGES];
	struct error err;

	log_use(bg->log);
	pthread_setname_np(pthread_self(), "faults");
	BUG_ON(sandbox_enter(SANDBOX_FAULTS, bg->seccomp, &err) < 0);
	for (;;) {
		struct pollfd fds[] = {
			{.fd = bg->uffd.fd, .events = POLLIN}, {.fd = bg->stop, .events = POLLIN}};
		int count;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			BUG_ON(errno != EINTR);
		if (fds[1].revents & POLLIN)
			return NULL;
		count = uffd_read(&bg->uffd, messages, MESSAGES);
		BUG_ON(count < 0);
		answer_all(bg, messages, count);
	}
}
