/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a snapshot's memory: see memory_file.h.
 *
 * What comes in is cut at blocks of 1 MiB of the row. Of a block the pages are looked at and summed first, which brings them into
 * the CPU's cache, and then written in as few calls as there are runs; a few zeros between two runs are written along. Whatever
 * threads share is atomic: which pages came and which are zero (a bit each), the chunks' checksums, the counters. Long
 * runs go to the disk past the page cache (O_DIRECT), straight from the guest's memory: that costs a fraction of the CPU time, and takes
 * no memory from the guests beside us. Of short ones the kernel is told to begin early, so that not all is left for the end.
 *
 * Where pages may come again (`again`) the checksum of each is kept, to be taken out of its chunk's when another comes, and which
 * pages of the file hold something, whatever it is: a page that has become zero is written there. Compressed frames cannot be
 * written over: the pages wait in a file without a name, and are compressed at the end.
 */
#include "vmm/transfer/memory_file_private.h"

#include "vmm/base/util.h"
#include "vmm/transfer/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#define BLOCK	   MEMORY_FILE_BLOCK
#define WORDS	   MEMORY_FILE_WORDS
#define GAP_MAX	   8 /* zero pages between two runs that are cheaper to write than to leave out */
#define PUSH_SIZE  MIB(8)  /* written bytes after which the kernel is told to begin */
#define DIRECT_MIN KIB(64) /* shorter runs are gathered by the page cache */

static int make_file(struct memory_file *file, int *fd, struct error *err)
{
	*fd = openat(file->config.dir, file->name,
		O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return *fd < 0 ? error_errno(err, errno, "cannot make '%s'", file->name) : 0;
}

/* Another way to the same file. */
static void open_direct(struct memory_file *file, const char *name)
{
	file->direct = openat(file->config.dir, name, O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
}

static int make_waiting(struct memory_file *file, struct error *err)
{
	file->fd = openat(file->config.dir, MEMORY_FILE_WAITING,
		O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file->fd < 0)
		return error_errno(err, errno, "cannot make '%s'", MEMORY_FILE_WAITING);
	open_direct(file, MEMORY_FILE_WAITING);
	if (unlinkat(file->config.dir, MEMORY_FILE_WAITING, 0) < 0)
		return error_errno(
			err, errno, "cannot remove the name of '%s'", MEMORY_FILE_WAITING);
	return 0;
}

static int make_files(struct memory_file *file, struct error *err)
{
	const struct memory_file_config *config = &file->config;
	bool packs = config->compression == SNAPSHOT_ZSTD;
	int ret = make_file(file, packs && config->again ? &file->packed : &file->fd, err);

	if (ret == 0 && packs && config->again)
		ret = make_waiting(file, err);
	else if (ret == 0 && !packs)
		open_direct(file, file->name);
	if (ret == 0 && packs)
		ret = zstd_writer_create(&file->zstd, config->again ? file->packed : file->fd,
			config->pages, config->level ?: ZSTD_LEVEL_DEFAULT, err);
	if (ret == 0 && (!packs || config->again) &&
		ftruncate(file->fd, (off_t)(config->pages * GUEST_PAGE_SIZE)) < 0)
		ret = error_errno(err, errno, "cannot give '%s' its size", file->name);
	return ret;
}

static int make_notes(struct memory_file *file, struct error *err)
{
	uint64_t pages = file->config.pages, words = pages / 64 + 1;
	bool again = file->config.again;
	int ret = page_sums_create(&file->sums, pages, err);

	if (ret < 0)
		return ret;
	file->seen = calloc(words, sizeof(*file->seen));
	file->zero = calloc(words, sizeof(*file->zero));
	file->written = again ? calloc(words, sizeof(*file->written)) : NULL;
	file->latest = again ? calloc(pages + 1, sizeof(*file->latest)) : NULL;
	if (!file->seen || !file->zero || (again && (!file->written || !file->latest)))
		return error_errno(err, ENOMEM, "cannot write memory");
	return 0;
}

int memory_file_open(
	struct memory_file **out, const struct memory_file_config *config, struct error *err)
{
	struct memory_file *file = calloc(1, sizeof(*file));
	int ret;

	if (!file)
		return error_errno(err, ENOMEM, "cannot write memory");
	file->config = *config;
	file->fd = file->direct = file->packed = -1;
	file->name =
		config->compression == SNAPSHOT_ZSTD ? SNAPSHOT_ZSTD_FILE : SNAPSHOT_MEMORY_FILE;
	ret = make_notes(file, err);
	if (ret == 0)
		ret = make_files(file, err);
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
	free(file->written);
	free(file->latest);
	cleanup_close(&file->fd);
	cleanup_close(&file->direct);
	cleanup_close(&file->packed);
	free(file);
}

/* ---- a block ---- */

static bool bit(const uint64_t words[WORDS], unsigned n)
{
	return words[n / 64] >> (n % 64) & 1;
}

/* The pages' bits in a row of them; which of the bits were there before, if any. */
static uint64_t set_bits(_Atomic uint64_t *words, uint64_t page, uint64_t count)
{
	uint64_t before = 0;

	for (uint64_t end = page + count; page < end;) {
		uint64_t in_word = min_u64(64 - page % 64, end - page);
		uint64_t mask = (UINT64_MAX >> (64 - in_word)) << (page % 64);

		before |= atomic_fetch_or_explicit(&words[page / 64], mask, memory_order_relaxed) &
			  mask;
		page += in_word;
	}
	return before;
}

static void set_bit(_Atomic uint64_t *words, uint64_t page, bool value)
{
	uint64_t mask = 1ull << (page % 64);

	if (value)
		atomic_fetch_or_explicit(&words[page / 64], mask, memory_order_relaxed);
	else if (atomic_load_explicit(&words[page / 64], memory_order_relaxed) & mask)
		atomic_fetch_and_explicit(&words[page / 64], ~mask, memory_order_relaxed);
}

static bool has_bit(const _Atomic uint64_t *words, uint64_t page)
{
	return atomic_load_explicit(&words[page / 64], memory_order_relaxed) >> (page % 64) & 1;
}

static void sum(struct memory_file *file, uint64_t page, const uint8_t *bytes, bool zero)
{
	struct checksum now = {0};

	if (!file->latest) {
		if (!zero)
			page_sums_add(&file->sums, page, bytes);
		return;
	}
	if (!zero)
		now = page_sum(page, bytes);
	page_sums_toggle(&file->sums, page, file->latest[page]);
	page_sums_toggle(&file->sums, page, now);
	file->latest[page] = now;
}

/* Which of the block's pages first .. first + count - 1 are to be written; their number. `host` is of the block's page 0. */
static unsigned look(struct memory_file *file, uint64_t block, const uint8_t *host, unsigned first,
	unsigned count, uint64_t data[WORDS])
{
	unsigned found = 0;

	for (unsigned i = first; i < first + count; i++) {
		const uint8_t *page = host + (size_t)i * GUEST_PAGE_SIZE;
		bool zero = page_is_zero(page);

		set_bit(file->zero, block + i, zero);
		sum(file, block + i, page, zero);
		if (zero && !(file->written && has_bit(file->written, block + i)))
			continue;
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
	if (file->written) /* few zeros that are written along, too: they may not stay so */
		set_bits(file->written, block + from, to - from);
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
	/* A second time would undo its checksum. */
	if (set_bits(file->seen, block + first, count) && !file->config.again)
		return error_set(err, ERROR_INTERNAL,
			"a page of memory was to be written twice, near page %" PRIu64,
			block + first);
	found = look(file, block, host, first, count, data);
	if (found && file->zstd && !file->config.again)
		ret = zstd_writer_put(file->zstd, block, host, data, err);
	else if (found)
		ret = write_runs(file, block, host, data, err);
	if (ret < 0)
		return ret;
	if (file->zstd && !file->config.again)
		atomic_store(&file->bytes, zstd_writer_size(file->zstd));
	push(file);
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
