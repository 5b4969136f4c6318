/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying ranges of disks, and their checksums. See disk_file.h; disk_map.c has the block maps.
 *
 * A range is taken hole by hole where the source can tell (lseek(SEEK_DATA): files), and block by block: a block that reads as
 * zeros is not written but left, or made, a hole. So a copy is never larger than its source, also of a volume, which has no
 * holes to show. Reads are of whole blocks at their own offsets into an aligned buffer, as direct I/O wants them: the
 * live image's descriptor is read as it is, past the page cache where the guest's own reads go past it.
 */
#include "vmm/transfer/disk_file.h"

#include "virtio/blk_overlay.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#define PIECE	   MIB(1)
#define DIRECT_MAX 4096 /* no alignment of buffers that direct I/O asks for is larger */

int disk_pump_init(struct disk_pump *pump, struct error *err)
{
	pump->buffer = aligned_alloc(DIRECT_MAX, PIECE);
	return pump->buffer ? 0 : error_errno(err, ENOMEM, "cannot copy '%s'", pump->from_name);
}

void disk_pump_release(struct disk_pump *pump)
{
	free(steal_ptr(&pump->buffer));
}

static int check_cancelled(const struct disk_work *work, struct error *err)
{
	if (work && atomic_load_explicit(&work->cancelled, memory_order_relaxed))
		return error_set(err, ERROR_CANCELLED, "cancelled");
	return 0;
}

static void count_done(struct disk_work *work, uint64_t bytes)
{
	if (work)
		atomic_fetch_add_explicit(&work->done, bytes, memory_order_relaxed);
}

static bool is_zero(const uint8_t *data, uint64_t len)
{
	return !data[0] && !memcmp(data, data + 1, len - 1);
}

/* ---- zeros ---- */

static int write_zeros(struct disk_pump *pump, uint64_t offset, uint64_t len, struct error *err)
{
	int ret = 0;

	memset(pump->buffer, 0, min_u64(len, PIECE));
	while (len && ret == 0) {
		uint64_t here = min_u64(len, PIECE);

		ret = file_write(pump->to, pump->buffer, here, offset, pump->to_name, err);
		offset += here;
		len -= here;
	}
	return ret;
}

/* The buffer is lost with it. */
int disk_pump_clear(struct disk_pump *pump, uint64_t offset, uint64_t len, struct error *err)
{
	if (pump->fresh)
		return 0;
	if (fallocate(pump->to, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		    (off_t)len) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return error_errno(
			err, errno, "cannot clear '%s' at %" PRIu64, pump->to_name, offset);
	return write_zeros(pump, offset, len, err);
}

/* ---- data ---- */

/* How many blocks' bytes from `at` on are of one kind, zero or not. */
static uint64_t run_length(const uint8_t *data, uint64_t len, bool *zero)
{
	uint64_t run = min_u64(len, BLK_DIRTY_BLOCK);

	*zero = is_zero(data, run);
	while (run < len) {
		uint64_t here = min_u64(len - run, BLK_DIRTY_BLOCK);

		if (is_zero(data + run, here) != *zero)
			break;
		run += here;
	}
	return run;
}

static int write_piece(struct disk_pump *pump, uint64_t offset, uint64_t len, struct error *err)
{
	int ret = 0;
	bool zero;

	/* Data first: clearing may need the buffer. */
	for (unsigned pass = 0; pass < 2 && ret == 0; pass++)
		for (uint64_t at = 0, run; at < len && ret == 0; at += run) {
			run = run_length(pump->buffer + at, len - at, &zero);
			if (!zero && pass == 0)
				ret = file_write(pump->to, pump->buffer + at, run, offset + at,
					pump->to_name, err);
			else if (zero && pass == 1)
				ret = disk_pump_clear(pump, offset + at, run, err);
		}
	return ret;
}

static int read_piece(
	const struct disk_pump *pump, uint64_t len, uint64_t offset, struct error *err)
{
	int ret;

	if (!pump->overlay)
		return file_read(pump->from, pump->buffer, len, offset, pump->from_name, err);
	ret = blk_overlay_read(pump->overlay, pump->buffer, len, offset);
	return ret < 0 ? error_errno(err, -ret, "cannot read '%s' at byte %" PRIu64,
				 pump->from_name, offset)
		       : 0;
}

static int copy_data(struct disk_pump *pump, uint64_t offset, uint64_t len, struct error *err)
{
	int ret = 0;

	while (len && ret == 0) {
		uint64_t here = min_u64(len, PIECE);

		ret = check_cancelled(pump->work, err);
		if (ret == 0)
			ret = read_piece(pump, here, offset, err);
		if (ret == 0)
			ret = write_piece(pump, offset, here, err);
		count_done(pump->work, here);
		offset += here;
		len -= here;
	}
	return ret;
}

/*
 * The first range in [offset, end) that may hold data, in whole blocks; *from is `end` where there is none. A source that cannot tell
 * (a block device) is all data.
 */
static void find_data(int fd, uint64_t offset, uint64_t end, uint64_t *from, uint64_t *to)
{
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA), hole;

	*from = offset;
	*to = end;
	if (data < 0) {
		if (errno == ENXIO)
			*from = end;
		return;
	}
	*from = min_u64(max_u64(align_down((uint64_t)data, BLK_DIRTY_BLOCK), offset), end);
	if (*from == end)
		return;
	hole = lseek(fd, data, SEEK_HOLE);
	/* The guest may have made one of it meanwhile: go on by a block at least. */
	if (hole >= 0)
		*to = min_u64(align_up(max_u64((uint64_t)hole, *from + 1), BLK_DIRTY_BLOCK), end);
}

/* The same of an overlay: each stretch of it in the file that it is in; behind the base's end there is none. */
static void find_overlay_data(const struct blk_overlay *overlay, uint64_t offset, uint64_t end,
	uint64_t *from, uint64_t *to)
{
	for (uint64_t at = offset, len; at < end; at += len) {
		uint64_t place, shift;
		int fd;

		len = end - at;
		fd = blk_overlay_find(overlay, at, &len, &place);
		shift = place - at;
		if (fd < 0)
			continue;
		find_data(fd, place, place + len, from, to);
		*from = max_u64(align_down(*from - shift, BLK_DIRTY_BLOCK), offset);
		*to = min_u64(align_up(*to - shift, BLK_DIRTY_BLOCK), end);
		if (*from < at + len)
			return;
	}
	*from = *to = end;
}

int disk_pump_range(struct disk_pump *pump, uint64_t offset, uint64_t len, struct error *err)
{
	uint64_t end = offset + len, from, to;
	int ret = 0;

	while (offset < end && ret == 0) {
		if (pump->overlay)
			find_overlay_data(pump->overlay, offset, end, &from, &to);
		else
			find_data(pump->from, offset, end, &from, &to);
		if (from > offset) {
			ret = disk_pump_clear(pump, offset, from - offset, err);
			count_done(pump->work, from - offset);
		}
		if (from == end)
			break;
		if (ret == 0)
			ret = copy_data(pump, from, to - from, err);
		offset = to;
	}
	return ret;
}

int disk_pump_blocks(
	struct disk_pump *pump, const struct page_set *set, uint64_t size, struct error *err)
{
	uint64_t first, count;
	int ret = 0;

	for (uint64_t at = 0; ret == 0 && page_set_next_range(set, at, &first, &count);
		at = first + count) {
		uint64_t from = first << BLK_DIRTY_SHIFT;
		uint64_t to = min_u64((first + count) << BLK_DIRTY_SHIFT, size);

		if (from < to)
			ret = disk_pump_range(pump, from, to - from, err);
	}
	return ret;
}

/* ---- checksums ---- */

static void add_blocks(const uint8_t *data, uint64_t len, uint64_t offset, struct checksum *sum)
{
	for (uint64_t at = 0; at < len; at += BLK_DIRTY_BLOCK) {
		uint64_t here = min_u64(len - at, BLK_DIRTY_BLOCK);
		XXH128_hash_t hash;

		if (is_zero(data + at, here))
			continue;
		hash = XXH3_128bits_withSeed(
			data + at, here, ((offset + at) >> BLK_DIRTY_SHIFT) + 1);
		sum->low ^= hash.low64;
		sum->high ^= hash.high64;
	}
}

static int sum_data(int fd, const char *name, uint8_t *buffer, uint64_t offset, uint64_t len,
	struct disk_work *work, struct checksum *sum, struct error *err)
{
	int ret = 0;

	while (len && ret == 0) {
		uint64_t here = min_u64(len, PIECE);

		ret = check_cancelled(work, err);
		if (ret == 0)
			ret = file_read(fd, buffer, here, offset, name, err);
		if (ret == 0)
			add_blocks(buffer, here, offset, sum);
		count_done(work, here);
		offset += here;
		len -= here;
	}
	return ret;
}

int disk_file_sum(int fd, const char *name, uint64_t offset, uint64_t len, struct disk_work *work,
	struct checksum *sum, struct error *err)
{
	_cleanup_free_ uint8_t *buffer = malloc(PIECE);
	uint64_t end = offset + len, from, to;
	int ret = buffer ? 0 : error_errno(err, ENOMEM, "cannot read '%s'", name);

	while (offset < end && ret == 0) {
		find_data(fd, offset, end, &from, &to);
		count_done(work, from - offset);
		if (from < end)
			ret = sum_data(fd, name, buffer, from, to - from, work, sum, err);
		offset = to;
	}
	return ret;
}

int disk_file_checksum(int fd, const char *name, uint64_t size, struct disk_work *work,
	struct checksum *sum, struct error *err)
{
	*sum = (struct checksum){0};
	return disk_file_sum(fd, name, 0, size, work, sum, err);
}
