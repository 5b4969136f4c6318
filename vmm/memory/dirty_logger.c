/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writers that keep a log themselves. See dirty_logger.h.
 *
 * The bitmap is as large as the guest's address space, of which only what is written to takes memory. It is mapped when
 * somebody first logs, and stays: a write that was under way when logging ended may still be logged.
 */
#include "vmm/memory/dirty_logger.h"

#include "vmm/base/util.h"
#include "vmm/memory/pages.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

struct memory_loggers {
	pthread_mutex_t lock; /* guards all of this */
	struct memory_logger *first;
	uint64_t *bitmap; /* NULL: nobody has logged yet */
	size_t size;
	bool on;
};

int memory_loggers_create(struct memory_loggers **out, struct error *err)
{
	struct memory_loggers *loggers = calloc(1, sizeof(*loggers));

	if (!loggers)
		return error_errno(err, ENOMEM, "cannot make guest memory");
	pthread_mutex_init(&loggers->lock, NULL);
	*out = loggers;
	return 0;
}

void memory_loggers_destroy(struct memory_loggers *loggers)
{
	if (!loggers)
		return;
	if (loggers->bitmap)
		munmap(loggers->bitmap, loggers->size);
	pthread_mutex_destroy(&loggers->lock);
	free(loggers);
}

static int need_bitmap(const struct guest_memory *memory)
{
	struct memory_loggers *loggers = memory->loggers;
	struct page_range last = guest_memory_piece(memory, guest_memory_piece_count(memory) - 1);
	uint64_t pages = last.gpa / GUEST_PAGE_SIZE + last.count;

	if (loggers->bitmap)
		return 0;
	loggers->size = (pages + 63) / 64 * sizeof(uint64_t);
	loggers->bitmap = mmap(NULL, loggers->size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (loggers->bitmap != MAP_FAILED)
		return 0;
	loggers->bitmap = NULL;
	return -errno;
}

static int begin(const struct guest_memory *memory, struct memory_logger *logger)
{
	int ret = need_bitmap(memory);

	return ret < 0 ? ret : logger->log(logger, memory->loggers->bitmap);
}

int guest_memory_add_logger(const struct guest_memory *memory, struct memory_logger *logger)
{
	struct memory_loggers *loggers = memory->loggers;
	int ret = 0;

	pthread_mutex_lock(&loggers->lock);
	if (loggers->on)
		ret = begin(memory, logger);
	if (ret == 0) {
		logger->next = loggers->first;
		loggers->first = logger;
	}
	pthread_mutex_unlock(&loggers->lock);
	return ret;
}

void guest_memory_remove_logger(const struct guest_memory *memory, struct memory_logger *logger)
{
	struct memory_loggers *loggers = memory->loggers;
	struct memory_logger **at = &loggers->first;

	pthread_mutex_lock(&loggers->lock);
	while (*at && *at != logger)
		at = &(*at)->next;
	if (*at)
		*at = logger->next;
	pthread_mutex_unlock(&loggers->lock);
}

static void stop(struct memory_loggers *loggers)
{
	for (struct memory_logger *logger = loggers->first; logger; logger = logger->next)
		logger->log(logger, NULL);
	loggers->on = false;
}

int memory_loggers_start(const struct guest_memory *memory, struct error *err)
{
	struct memory_loggers *loggers = memory->loggers;
	int ret = 0;

	pthread_mutex_lock(&loggers->lock);
	/* What was logged too late for the last time. */
	if (loggers->bitmap)
		madvise(loggers->bitmap, loggers->size, MADV_DONTNEED);
	for (struct memory_logger *l = loggers->first; l && ret == 0; l = l->next)
		ret = begin(memory, l);
	if (ret == 0)
		loggers->on = true;
	else
		stop(loggers);
	pthread_mutex_unlock(&loggers->lock);
	return ret < 0 ? error_errno(err, -ret,
				 "the kernel's vhost cannot log what it writes to guest memory")
		       : 0;
}

void memory_loggers_stop(const struct guest_memory *memory)
{
	pthread_mutex_lock(&memory->loggers->lock);
	stop(memory->loggers);
	pthread_mutex_unlock(&memory->loggers->lock);
}

/* A piece begins at a multiple of 2 MiB by address and by number: at a whole word in both. */
static void take_piece(uint64_t *bitmap, const struct page_range *piece, _Atomic uint64_t *words)
{
	uint64_t *from = bitmap + piece->gpa / GUEST_PAGE_SIZE / 64;

	for (uint64_t i = 0; i < (piece->count + 63) / 64; i++)
		if (__atomic_load_n(&from[i], __ATOMIC_RELAXED))
			atomic_fetch_or(&words[piece->first / 64 + i],
				__atomic_exchange_n(&from[i], 0, __ATOMIC_SEQ_CST));
}

void memory_loggers_take(const struct guest_memory *memory, _Atomic uint64_t *words)
{
	struct memory_loggers *loggers = memory->loggers;

	pthread_mutex_lock(&loggers->lock);
	for (unsigned i = 0; loggers->bitmap && i < guest_memory_piece_count(memory); i++) {
		struct page_range piece = guest_memory_piece(memory, i);

		take_piece(loggers->bitmap, &piece, words);
	}
	pthread_mutex_unlock(&loggers->lock);
}
