/* SPDX-License-Identifier: Apache-2.0 */
/* All of a memory at once, by several threads that take shares of it: see memory_file.h. */
#include "vmm/transfer/memory_file_private.h"

#include "vmm/base/util.h"

#include <pthread.h>
#include <sys/sysinfo.h>

#define THREADS_MAX 8
#define SHARE	    (4 * MEMORY_FILE_BLOCK) /* pages that a thread takes at a time */

struct work {
	struct memory_file *file;
	const struct memory_piece *pieces;
	unsigned count;
	pthread_mutex_t lock; /* of what follows */
	unsigned piece;
	uint64_t done; /* pages of that piece */
	struct error err;
	int ret;
};

/* A share ends where a block of the row does, so that no frame is made of two. */
static bool take_share(struct work *work, struct memory_piece *share)
{
	bool taken = false;

	pthread_mutex_lock(&work->lock);
	while (work->piece < work->count && work->done == work->pieces[work->piece].count) {
		work->piece++;
		work->done = 0;
	}
	if (work->piece < work->count && work->ret == 0) {
		const struct memory_piece *piece = &work->pieces[work->piece];
		uint64_t page = piece->page + work->done;

		*share = (struct memory_piece){
			.host = piece->host + work->done * GUEST_PAGE_SIZE,
			.page = page,
			.count = min_u64(SHARE - page % SHARE, piece->count - work->done),
		};
		work->done += share->count;
		taken = true;
	}
	pthread_mutex_unlock(&work->lock);
	return taken;
}

static void *run_shares(void *arg)
{
	struct work *work = arg;
	struct memory_piece share;

	while (take_share(work, &share)) {
		struct error err;
		int ret = memory_file_put(work->file, share.page, share.host, share.count, &err);

		if (ret == 0)
			continue;
		pthread_mutex_lock(&work->lock);
		if (work->ret == 0) {
			work->err = err;
			work->ret = ret;
		}
		pthread_mutex_unlock(&work->lock);
	}
	return NULL;
}

static unsigned threads_for(const struct memory_file *file)
{
	unsigned threads = file->config.threads ? file->config.threads : (unsigned)get_nprocs();

	return threads < THREADS_MAX ? threads : THREADS_MAX;
}

int memory_file_write(struct memory_file *file, const struct memory_piece *pieces, unsigned count,
	struct error *err)
{
	struct work work = {.file = file, .pieces = pieces, .count = count};
	unsigned wanted = threads_for(file), started = 0;
	pthread_t threads[THREADS_MAX];

	pthread_mutex_init(&work.lock, NULL);
	while (started + 1 < wanted && !pthread_create(&threads[started], NULL, run_shares, &work))
		started++;
	run_shares(&work);
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	pthread_mutex_destroy(&work.lock);
	if (work.ret < 0)
		*err = work.err;
	return work.ret;
}
