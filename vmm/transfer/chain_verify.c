/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is everything as it was written? See chain.h.
 *
 * A snapshot's parts whose stamp holds are passed over. Memory is read by several threads, a chunk at a time: holes count nothing, so they
 * are not read, as are those of disks; compressed memory is unpacked, since the checksums are of what is in it. Other parts are summed from front to
 * end.
 */
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/transfer/chain.h"
#include "vmm/transfer/disk_file.h"
#include "vmm/transfer/stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <xxhash.h>

#define CHUNK_SIZE     ((size_t)PAGE_SUMS_CHUNK * GUEST_PAGE_SIZE)
#define THREADS_MAX    8
#define BLOCKS_AT_ONCE MIB(16) /* whole blocks of disks */

struct check {
	const struct chain_verify_watch *watch;
	uint64_t done, total; /* bytes of all parts that are read */
	pthread_mutex_t lock; /* of done, and of what follows */
	const struct chain *chain;
	const struct chain_link *link;
	uint64_t next; /* chunk */
	int ret;
	struct error err;
};

static bool is_cancelled(const struct check *check)
{
	return check->watch->cancel && atomic_load(check->watch->cancel);
}

/* With the lock held. */
static void tell(struct check *check, uint64_t bytes)
{
	check->done += bytes;
	if (check->watch->progress)
		check->watch->progress(check->watch->owner, check->done, check->total);
}

/* ---- memory ---- */

/* A chunk of a plain file into `room`, which is zero where the file has a hole; *empty: it is one. */
static int read_chunk(const struct chain_link *link, uint64_t chunk, uint64_t count, uint8_t *room,
	bool *empty, struct error *err)
{
	uint64_t from = chunk * CHUNK_SIZE;
	off_t data = lseek(link->memory, (off_t)from, SEEK_DATA);

	*empty = data < 0 ? errno == ENXIO : (uint64_t)data >= from + count * GUEST_PAGE_SIZE;
	return *empty ? 0
		      : file_read(link->memory, room, count * GUEST_PAGE_SIZE, from,
				SNAPSHOT_MEMORY_FILE, err);
}

static int sum_plain(const struct chain_link *link, uint64_t chunk, uint64_t count, uint8_t *room,
	struct page_sums *sums, struct error *err)
{
	bool empty;
	int ret = read_chunk(link, chunk, count, room, &empty, err);

	for (uint64_t i = 0; ret == 0 && !empty && i < count; i++)
		if (!page_is_zero(room + i * GUEST_PAGE_SIZE))
			page_sums_add(
				sums, chunk * PAGE_SUMS_CHUNK + i, room + i * GUEST_PAGE_SIZE);
	return ret;
}

static int sum_frames(const struct chain_link *link, uint64_t chunk, uint64_t count, uint8_t *room,
	struct page_sums *sums, struct error *err)
{
	const struct zstd_frames *frames = &link->frames;
	uint64_t first = chunk * PAGE_SUMS_CHUNK;
	int ret = 0;

	for (uint64_t i = zstd_frames_find(frames, first);
		ret == 0 && i < frames->count && frames->entries[i].first < first + count; i++) {
		const struct zstd_entry *entry = &frames->entries[i];
		const uint8_t *page = room;

		ret = zstd_frames_read(frames, link->memory, entry, room, err);
		for (unsigned n = 0; ret == 0 && n < ZSTD_BLOCK_PAGES; n++) {
			if (!(entry->pages[n / 64] >> (n % 64) & 1))
				continue;
			if (!page_is_zero(page))
				page_sums_add(sums, entry->first + n, page);
			page += GUEST_PAGE_SIZE;
		}
	}
	return ret;
}

/* `sums` is of the whole row, but only this chunk's is made. */
static int check_chunk(const struct chain_link *link, uint64_t chunk, uint8_t *room,
	struct page_sums *sums, struct error *err)
{
	uint64_t first = chunk * PAGE_SUMS_CHUNK;
	uint64_t count = min_u64(PAGE_SUMS_CHUNK, link->sums.pages - first);
	bool plain = link->manifest.compression == SNAPSHOT_PLAIN;
	int ret;

	ret = plain ? sum_plain(link, chunk, count, room, sums, err)
		    : sum_frames(link, chunk, count, room, sums, err);
	if (ret < 0 || checksum_equal(sums->sums[chunk], link->sums.sums[chunk]))
		return ret;
	return error_set(err, ERROR_CORRUPT,
		"'%s' is damaged: bytes %" PRIu64 " to %" PRIu64
		" of memory are not what was written",
		plain ? SNAPSHOT_MEMORY_FILE : SNAPSHOT_ZSTD_FILE, first * GUEST_PAGE_SIZE,
		(first + count) * GUEST_PAGE_SIZE - 1);
}

struct worker {
	struct check *check;
	struct page_sums *sums;
};

/* The next chunk, or false: there is none, or it does not matter any more. */
static bool take_chunk(struct check *check, uint64_t *chunk)
{
	bool taken;

	pthread_mutex_lock(&check->lock);
	if (check->ret == 0 && is_cancelled(check))
		check->ret = error_set(&check->err, ERROR_CANCELLED, "cancelled");
	taken = check->ret == 0 && check->next < check->link->sums.chunks;
	*chunk = check->next;
	check->next += taken;
	pthread_mutex_unlock(&check->lock);
	return taken;
}

static void *check_chunks(void *arg)
{
	const struct worker *worker = arg;
	struct check *check = worker->check;
	_cleanup_free_ uint8_t *room = malloc(CHUNK_SIZE);
	struct error err;
	uint64_t chunk;

	while (take_chunk(check, &chunk)) {
		int ret = room ? check_chunk(check->link, chunk, room, worker->sums, &err)
			       : error_errno(&err, ENOMEM, "cannot check memory");

		pthread_mutex_lock(&check->lock);
		if (ret < 0 && check->ret == 0) {
			check->ret = ret;
			check->err = err;
		}
		tell(check, CHUNK_SIZE);
		pthread_mutex_unlock(&check->lock);
	}
	return NULL;
}

static int check_memory(struct check *check, const struct chain_link *link, struct error *err)
{
	unsigned wanted = (unsigned)min_u64((unsigned)get_nprocs(), THREADS_MAX), started = 0;
	pthread_t threads[THREADS_MAX];
	struct page_sums sums;
	struct worker worker = {check, &sums};
	int ret = page_sums_create(&sums, link->sums.pages, err);

	if (ret < 0)
		return ret;
	check->link = link;
	check->next = 0;
	check->ret = 0;
	while (started + 1 < wanted &&
		!pthread_create(&threads[started], NULL, check_chunks, &worker))
		started++;
	check_chunks(&worker);
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	page_sums_destroy(&sums);
	if (check->ret < 0)
		*err = check->err;
	return check->ret;
}

/* ---- other parts ---- */

static int damaged(const struct snapshot_part *part, struct error *err)
{
	return error_set(err, ERROR_CORRUPT,
		"'%s' is damaged: its checksum is not right, in bytes 0 to %" PRIu64, part->name,
		part->size ? part->size - 1 : 0);
}

static int sum_file(
	struct check *check, int fd, const struct snapshot_part *part, struct error *err)
{
	_cleanup_free_ uint8_t *room = malloc(CHUNK_SIZE);
	XXH3_state_t *state = XXH3_createState();
	XXH128_hash_t hash = {0};
	int ret = 0;

	if (!room || !state)
		ret = error_errno(err, ENOMEM, "cannot check '%s'", part->name);
	else
		XXH3_128bits_reset(state);
	for (uint64_t at = 0; ret == 0 && at < part->size;) {
		size_t now = min_u64(CHUNK_SIZE, part->size - at);

		ret = is_cancelled(check) ? error_set(err, ERROR_CANCELLED, "cancelled")
					  : file_read(fd, room, now, at, part->name, err);
		if (ret < 0)
			break;
		XXH3_128bits_update(state, room, now);
		tell(check, now);
		at += now;
	}
	if (ret == 0)
		hash = XXH3_128bits_digest(state);
	XXH3_freeState(state);
	if (ret == 0 && (hash.low64 != part->sum.low || hash.high64 != part->sum.high))
		ret = damaged(part, err);
	return ret;
}

static int sum_blocks(
	struct check *check, int fd, const struct snapshot_part *part, struct error *err)
{
	struct checksum sum = {0};
	int ret = 0;

	for (uint64_t at = 0; ret == 0 && at < part->size;) {
		uint64_t now = min_u64(BLOCKS_AT_ONCE, part->size - at);

		ret = is_cancelled(check) ? error_set(err, ERROR_CANCELLED, "cancelled")
					  : disk_file_sum(fd, part->name, at, now, NULL, &sum, err);
		tell(check, now);
		at += now;
	}
	if (ret == 0 && !checksum_equal(sum, part->sum))
		ret = damaged(part, err);
	return ret;
}

static int open_part(
	const struct chain_link *link, const struct snapshot_part *part, int *fd, struct error *err)
{
	struct stat st;

	*fd = openat(
		link->dir, part->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (*fd < 0)
		return error_errno(err, errno, "cannot open '%s'", part->name);
	if (fstat(*fd, &st) < 0)
		return error_errno(err, errno, "cannot look at '%s'", part->name);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != part->size)
		return error_set(err, ERROR_CORRUPT,
			"'%s' has %jd bytes, not the %" PRIu64 " that were written", part->name,
			(intmax_t)st.st_size, part->size);
	return 0;
}

/* What reading it costs, for the progress. */
static uint64_t part_size(const struct chain_link *link, const struct snapshot_part *part)
{
	switch (part->check) {
	case SNAPSHOT_CHECK_CHUNKS:
		return link->sums.chunks * CHUNK_SIZE;
	case SNAPSHOT_CHECK_WHOLE:
	case SNAPSHOT_CHECK_BLOCKS:
		return part->size;
	case SNAPSHOT_CHECK_SIZE:
		break;
	}
	return 0;
}

/* The parts of a link that must be read. Each of the others is there, and its stamp holds. */
static int choose_parts(const struct chain_link *link, enum chain_verify_mode mode,
	bool wanted[SNAPSHOT_PARTS_MAX], uint64_t *total, struct error *err)
{
	for (unsigned i = 0; i < link->manifest.part_count; i++) {
		const struct snapshot_part *part = &link->manifest.parts[i];
		_cleanup_close_ int fd = -1;
		int ret = open_part(link, part, &fd, err);

		if (ret < 0)
			return error_prefix(err, "snapshot '%s'", link->path);
		wanted[i] = mode == CHAIN_VERIFY_ALL ||
			    !snapshot_stamp_holds(link->dir, &link->manifest, part->name, fd);
		if (wanted[i])
			*total += part_size(link, part);
	}
	return 0;
}

static int check_part(struct check *check, const struct chain_link *link,
	const struct snapshot_part *part, struct error *err)
{
	_cleanup_close_ int fd = -1;
	int ret = open_part(link, part, &fd, err);

	if (ret == 0 && part->check == SNAPSHOT_CHECK_CHUNKS)
		ret = check_memory(check, link, err);
	else if (ret == 0 && part->check == SNAPSHOT_CHECK_WHOLE)
		ret = sum_file(check, fd, part, err);
	else if (ret == 0 && part->check == SNAPSHOT_CHECK_BLOCKS)
		ret = sum_blocks(check, fd, part, err);
	return ret;
}

static int check_link(struct check *check, const struct chain_link *link,
	const bool wanted[SNAPSHOT_PARTS_MAX], struct error *err)
{
	_cleanup_free_ char *stamp = NULL;
	struct error why;
	bool any = false;
	int ret = 0;

	for (unsigned i = 0; i < link->manifest.part_count; i++)
		any |= wanted[i];
	if (!any)
		return 0;
	stamp = snapshot_stamp_make(link->dir, &link->manifest);
	for (unsigned i = 0; ret == 0 && i < link->manifest.part_count; i++)
		if (wanted[i])
			ret = check_part(check, link, &link->manifest.parts[i], err);
	if (ret < 0)
		return error_prefix(err, "snapshot '%s'", link->path);
	/* Where the folder may not be written, it is read again the next time. */
	if (stamp && snapshot_stamp_save(link->dir, stamp, &why) < 0)
		log_debug("snapshot '%s' has no new stamp: %s", link->path, why.text);
	return 0;
}

int chain_verify(struct chain *chain, enum chain_verify_mode mode,
	const struct chain_verify_watch *watch, struct error *err)
{
	static const struct chain_verify_watch none;
	struct check check = {.watch = watch ? watch : &none, .chain = chain};
	_cleanup_free_ bool *wanted = calloc(chain->count, SNAPSHOT_PARTS_MAX);
	int ret = wanted ? 0 : error_errno(err, ENOMEM, "cannot check '%s'", chain->links->path);

	for (unsigned i = 0; ret == 0 && i < chain->count; i++)
		ret = choose_parts(
			&chain->links[i], mode, wanted + i * SNAPSHOT_PARTS_MAX, &check.total, err);
	if (ret < 0)
		return ret;
	pthread_mutex_init(&check.lock, NULL);
	for (unsigned i = 0; ret == 0 && i < chain->count; i++)
		ret = check_link(&check, &chain->links[i], wanted + i * SNAPSHOT_PARTS_MAX, err);
	pthread_mutex_destroy(&check.lock);
	return ret;
}
