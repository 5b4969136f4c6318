/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a snapshot's memory: see memory_file.h.
 *
 * What comes in is cut at blocks of 1 MiB of the row. Of a block the pages are looked at and summed first, which brings them into
 * the CPU's cache, and then written in as few calls as there are runs; a few zeros between two runs are written along. Whatever
 * threads share is atomic: which pages came and which are zero (a bit each), the chunks' checksums, the counters. Long
 * runs go to the disk past the page cache (O_DIRECT), straight from the guest's memory: that costs a fraction of the CPU time, and takes
 * no memory from the guests beside us. Of short ones the kernel is told to begin early, so that not all is left for the end.
 */
#include "vmm/transfer/memory_file.h"

#include "vmm/base/util.h"
#include "vmm/transfer/page_ranges.h"
#include "vmm/transfer/page_sums.h"
#include "vmm/transfer/zstd_frames.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

#define BLOCK	    ZSTD_BLOCK_PAGES
#define WORDS	    (BLOCK / 64)
#define GAP_MAX	    8 /* zero pages between two runs that are cheaper to write than to leave out */
#define PUSH_SIZE   MIB(8) /* written bytes after which the kernel is told to begin */
#define THREADS_MAX 8
#define DIRECT_MIN  KIB(64) /* shorter runs are gathered by the page cache */

struct memory_file {
	struct memory_file_config config;
	const char *name;
	int fd;
	int direct; /* the same file past the page cache; -1: the file system has none */
	struct page_sums sums;
	struct zstd_writer *zstd;      /* NULL: not compressed */
	_Atomic uint64_t *seen, *zero; /* a bit a page */
	_Atomic uint64_t looked, data, zeros, bytes, pushed;
};

int memory_file_open(
	struct memory_file **out, const struct memory_file_config *config, struct error *err)
{
	struct memory_file *file = calloc(1, sizeof(*file));
	uint64_t words = config->pages / 64 + 1;
	int ret;

	if (!file)
		return error_errno(err, ENOMEM, "cannot write memory");
	file->config = *config;
	file->fd = file->direct = -1;
	file->seen = calloc(words, sizeof(*file->seen));
	file->zero = calloc(words, sizeof(*file->zero));
	file->name =
		config->compression == SNAPSHOT_ZSTD ? SNAPSHOT_ZSTD_FILE : SNAPSHOT_MEMORY_FILE;
	ret = page_sums_create(&file->sums, config->pages, err);
	if (ret == 0 && (!file->seen || !file->zero))
		ret = error_errno(err, ENOMEM, "cannot write memory");
	if (ret == 0) {
		file->fd = openat(config->dir, file->name,
			O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (file->fd < 0)
			ret = error_errno(err, errno, "cannot make '%s'", file->name);
	}
	if (ret == 0 && config->compression == SNAPSHOT_PLAIN)
		file->direct = openat(
			config->dir, file->name, O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
	if (ret == 0 && config->compression == SNAPSHOT_ZSTD)
		ret = zstd_writer_create(&file->zstd, file->fd, config->pages,
			config->level ?: ZSTD_LEVEL_DEFAULT, err);
	else if (ret == 0 && ftruncate(file->fd, (off_t)(config->pages * GUEST_PAGE_SIZE)) < 0)
		ret = error_errno(err, errno, "cannot give '%s' its size", file->name);
	if (ret < 0)
		memory_file_close(file);
	else
		*out = file;
	return ret;
}

void memory_file_close(struct memory_file *file)
{
	if (!file)
		return;
	zstd_writer_destroy(file->zstd);
	page_sums_destroy(&file->sums);
	free(file->seen);
	free(file->zero);
	if (file->fd >= 0)
		close(file->fd);
	if (file->direct >= 0)
		close(file->direct);
	free(file);
}

/* ---- a block ---- */

static bool bit(const uint64_t words[WORDS], unsigned n)
{
	return words[n / 64] >> (n % 64) & 1;
}

/* Each page once: a second time would undo its checksum. */
static bool mark_seen(struct memory_file *file, uint64_t page, uint64_t count)
{
	uint64_t again = 0;

	for (uint64_t end = page + count; page < end;) {
		uint64_t in_word = min_u64(64 - page % 64, end - page);
		uint64_t mask = (UINT64_MAX >> (64 - in_word)) << (page % 64);

		again |= atomic_fetch_or_explicit(
				 &file->seen[page / 64], mask, memory_order_relaxed) &
			 mask;
		page += in_word;
	}
	return !again;
}

/* Which of the block's pages first .. first + count - 1 hold something; their number. `host` is of the block's page 0. */
static unsigned look(struct memory_file *file, uint64_t block, const uint8_t *host, unsigned first,
	unsigned count, uint64_t data[WORDS])
{
	unsigned found = 0;

	for (unsigned i = first; i < first + count; i++) {
		const uint8_t *page = host ? host + (size_t)i * GUEST_PAGE_SIZE : NULL;

		if (!page || page_is_zero(page)) {
			atomic_fetch_or_explicit(&file->zero[(block + i) / 64],
				1ull << ((block + i) % 64), memory_order_relaxed);
			continue;
		}
		page_sums_add(&file->sums, block + i, page);
		data[i / 64] |= 1ull << (i % 64);
		found++;
	}
	return found;
}

static int write_run(struct memory_file *file, uint64_t block, const uint8_t *host, unsigned from,
	unsigned to, struct error *err)
{
	const uint8_t *bytes = host + (size_t)from * GUEST_PAGE_SIZE;
	size_t size = (size_t)(to - from) * GUEST_PAGE_SIZE;
	uint64_t offset = (block + from) * GUEST_PAGE_SIZE;

	atomic_fetch_add(&file->bytes, size);
	if (file->direct >= 0 && size >= DIRECT_MIN && (uintptr_t)bytes % GUEST_PAGE_SIZE == 0 &&
		pwrite(file->direct, bytes, size, (off_t)offset) == (ssize_t)size)
		return 0;
	/* Short runs, and where that way fails for whatever reason: this one finds out why. */
	return file_write(file->fd, bytes, size, offset, file->name, err);
}

static int write_runs(struct memory_file *file, uint64_t block, const uint8_t *host,
	const uint64_t data[WORDS], struct error *err)
{
	unsigned from = 0, to = 0; /* of the run that is being made */
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < BLOCK; i++) {
		if (!bit(data, i))
			continue;
		if (to && i - to > GAP_MAX) {
			ret = write_run(file, block, host, from, to, err);
			to = 0;
		}
		if (!to)
			from = i;
		to = i + 1;
	}
	if (ret == 0 && to)
		ret = write_run(file, block, host, from, to, err);
	return ret;
}

/* The kernel would leave it in memory for many seconds, and fdatasync() would have to wait for all of it then. */
static void push(struct memory_file *file)
{
	uint64_t bytes = atomic_load(&file->bytes), pushed = atomic_load(&file->pushed);

	if (bytes - pushed >= PUSH_SIZE && bytes > pushed &&
		atomic_compare_exchange_strong(&file->pushed, &pushed, bytes))
		sync_file_range(file->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static int put_block(struct memory_file *file, uint64_t block, const uint8_t *host, unsigned first,
	unsigned count, struct error *err)
{
	uint64_t data[WORDS] = {0};
	unsigned found;
	int ret = 0;

	if (file->config.cancel && atomic_load(file->config.cancel))
		return error_set(err, ERROR_CANCELLED, "cancelled");
	if (!mark_seen(file, block + first, count))
		return error_set(err, ERROR_INTERNAL,
			"a page of memory was to be written twice, near page %" PRIu64,
			block + first);
	found = look(file, block, host, first, count, data);
	if (found && file->zstd)
		ret = zstd_writer_put(file->zstd, block, host, data, err);
	else if (found)
		ret = write_runs(file, block, host, data, err);
	if (ret < 0)
		return ret;
	if (file->zstd)
		atomic_store(&file->bytes, zstd_writer_size(file->zstd));
	push(file);
	atomic_fetch_add(&file->data, found);
	atomic_fetch_add(&file->zeros, count - found);
	atomic_fetch_add(&file->looked, count);
	if (file->config.progress)
		file->config.progress(
			file->config.owner, atomic_load(&file->looked), atomic_load(&file->bytes));
	return 0;
}

int memory_file_put(struct memory_file *file, uint64_t page, const uint8_t *host, uint64_t count,
	struct error *err)
{
	int ret = 0;

	if (page > file->config.pages || count > file->config.pages - page)
		return error_set(err, ERROR_INTERNAL, "pages behind the end of memory");
	while (ret == 0 && count) {
		unsigned first = page % BLOCK;
		unsigned now = (unsigned)min_u64(BLOCK - first, count);

		ret = put_block(file, page - first, host - (size_t)first * GUEST_PAGE_SIZE, first,
			now, err);
		page += now;
		host += (size_t)now * GUEST_PAGE_SIZE;
		count -= now;
	}
	return ret;
}

/* ---- all at once ---- */

#define SHARE (4 * BLOCK) /* pages that a thread takes at a time */

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

/* ---- the end ---- */

static int make_part(const struct memory_file *file, const char *name, uint8_t *bytes, size_t size,
	struct snapshot_manifest *manifest, struct error *err)
{
	struct checksum sum = checksum_of(bytes, size);
	int ret = file_make(file->config.dir, name, bytes, size, err);

	free(bytes);
	return ret ?: snapshot_manifest_add(manifest, name, SNAPSHOT_CHECK_WHOLE, size, &sum, err);
}

/* From the bits: runs of pages that came and are zero, or came and are not. */
static int collect_ranges(
	const struct memory_file *file, struct page_ranges *ranges, struct error *err)
{
	int ret = 0;

	for (uint64_t word = 0; ret == 0 && word <= file->config.pages / 64; word++) {
		uint64_t seen = file->seen[word], zero = file->zero[word];

		while (ret == 0 && seen) {
			unsigned n = (unsigned)__builtin_ctzll(seen);

			ret = page_ranges_append(
				ranges, (struct page_run){word * 64 + n, 1, zero >> n & 1}, err);
			seen &= seen - 1;
		}
	}
	return ret;
}

static int write_ranges(
	const struct memory_file *file, struct snapshot_manifest *manifest, struct error *err)
{
	struct page_ranges ranges = {.pages = file->config.pages};
	uint8_t *bytes;
	size_t size;
	int ret = collect_ranges(file, &ranges, err);

	if (ret == 0)
		ret = page_ranges_encode(&ranges, &bytes, &size, err);
	if (ret == 0)
		ret = make_part(file, PAGE_RANGES_FILE, bytes, size, manifest, err);
	page_ranges_destroy(&ranges);
	return ret;
}

static int write_sums(
	const struct memory_file *file, struct snapshot_manifest *manifest, struct error *err)
{
	uint8_t *bytes;
	size_t size;
	int ret = page_sums_encode(&file->sums, &bytes, &size, err);

	return ret ?: make_part(file, PAGE_SUMS_FILE, bytes, size, manifest, err);
}

int memory_file_finish(
	struct memory_file *file, struct snapshot_manifest *manifest, struct error *err)
{
	uint64_t size = file->config.pages * GUEST_PAGE_SIZE;
	struct checksum sum = {0};
	int ret = 0;

	if (file->zstd)
		ret = zstd_writer_finish(file->zstd, &size, &sum, err);
	if (ret == 0 && fdatasync(file->fd) < 0)
		ret = error_errno(err, errno, "cannot write '%s' to the disk", file->name);
	if (ret == 0)
		ret = snapshot_manifest_add(
			manifest, file->name, SNAPSHOT_CHECK_CHUNKS, size, &sum, err);
	if (ret == 0)
		ret = write_sums(file, manifest, err);
	if (ret == 0 && file->config.kind == SNAPSHOT_INCREMENTAL)
		ret = write_ranges(file, manifest, err);
	manifest->kind = file->config.kind;
	manifest->compression = file->config.compression;
	manifest->data_pages = file->data;
	manifest->zero_pages = file->zeros;
	return ret;
}
