/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk on a shared base. See blk_overlay.h for the file and its rules.
 *
 * The base is read through the host's page cache, whatever the overlay's cache mode: siblings then read what they share once.
 * Clusters that have become complete wait in `fresh`, in that order, until a flush makes their bits stable. A flush notes how far
 * the list goes when it is submitted: what comes to it later belongs to the next one.
 */
#include "virtio/blk_overlay_file.h"

#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

struct blk_overlay {
	int fd, base_fd;
	uint64_t base_size;
	_Atomic uint64_t *
		live; /* of OVERLAY_BITMAP_BYTES, as is `stable`: mapped, and there as far as it is used */
	uint8_t *stable; /* what the file has, or is about to */
	uint32_t *fresh; /* complete, and not stable */
	size_t fresh_count, fresh_room;
	uint64_t fresh_first; /* the number of fresh[0] */
	bool given_up;
	uint8_t *cluster; /* one, on its way over */
};

/* ---- opening ---- */

static int load_bitmap(struct blk_overlay *o, const char *path, struct error *err)
{
	uint64_t size;
	int ret = blk_overlay_size(o, &size, err);

	if (ret == 0)
		ret = overlay_load_bitmap(o->fd, path, size, o->stable, err);
	if (ret < 0)
		return ret;
	for (uint64_t i = 0; i < overlay_bitmap_used(size) / sizeof(uint64_t); i++) {
		uint64_t word;

		memcpy(&word, o->stable + i * sizeof(word), sizeof(word));
		if (word)
			atomic_store(&o->live[i], le64toh(word));
	}
	return 0;
}

static int open_all(struct blk_overlay *o, const char *path, const char *base, struct error *err)
{
	struct overlay_header header;
	int ret = o->cluster && o->live != MAP_FAILED && o->stable != MAP_FAILED
			  ? overlay_open_base(base, &o->base_fd, &o->base_size, err)
			  : error_errno(err, ENOMEM, "cannot open '%s'", path);

	if (ret == 0)
		ret = overlay_load_header(o->fd, path, &header, err);
	if (ret == 0)
		ret = overlay_check_base(&header, path, o->base_fd, base, o->base_size, err);
	return ret < 0 ? ret : load_bitmap(o, path, err);
}

int blk_overlay_open(
	struct blk_overlay **out, int fd, const char *path, const char *base, struct error *err)
{
	struct blk_overlay *o = calloc(1, sizeof(*o));
	int ret;

	if (!o)
		return error_errno(err, ENOMEM, "cannot open '%s'", path);
	o->fd = fd;
	o->base_fd = -1;
	o->live = overlay_map_bitmap();
	o->stable = overlay_map_bitmap();
	o->cluster = aligned_alloc(OVERLAY_PAGE, BLK_OVERLAY_CLUSTER);
	ret = open_all(o, path, base, err);
	if (ret < 0) {
		blk_overlay_close(o);
		return ret;
	}
	*out = o;
	return 0;
}

void blk_overlay_close(struct blk_overlay *o)
{
	if (!o)
		return;
	if (o->fresh_count && !o->given_up && fdatasync(o->fd) == 0)
		blk_overlay_persist(o, blk_overlay_mark(o)); /* else it is the base's again */
	cleanup_close(&o->base_fd);
	if (o->live != MAP_FAILED)
		munmap((void *)o->live, OVERLAY_BITMAP_BYTES);
	if (o->stable != MAP_FAILED)
		munmap(o->stable, OVERLAY_BITMAP_BYTES);
	free(o->fresh);
	free(o->cluster);
	free(o);
}

int blk_overlay_size(const struct blk_overlay *o, uint64_t *size, struct error *err)
{
	return overlay_size(o->fd, o->base_size, size, err);
}

/* ---- whose a cluster is ---- */

static bool is_own(const struct blk_overlay *o, uint64_t cluster)
{
	return atomic_load_explicit(&o->live[cluster / 64], memory_order_acquire) >> cluster % 64 &
	       1;
}

static uint64_t last_of(uint64_t offset, uint64_t len)
{
	return (offset + len - 1) >> BLK_OVERLAY_SHIFT;
}

bool blk_overlay_owns(const struct blk_overlay *o, uint64_t offset, uint64_t len)
{
	for (uint64_t i = offset >> BLK_OVERLAY_SHIFT; i <= last_of(offset, len); i++)
		if (!is_own(o, i))
			return false;
	return true;
}

int blk_overlay_find(
	const struct blk_overlay *o, uint64_t offset, uint64_t *len, uint64_t *file_offset)
{
	uint64_t at = offset >> BLK_OVERLAY_SHIFT, last = last_of(offset, *len);
	bool own = is_own(o, at);

	while (at <= last && is_own(o, at) == own)
		at++;
	*len = min_u64(*len, (at << BLK_OVERLAY_SHIFT) - offset);
	*file_offset = own ? BLK_OVERLAY_DATA + offset : offset;
	if (own)
		return o->fd;
	if (offset >= o->base_size)
		return -1;
	*len = min_u64(*len, o->base_size - offset);
	return o->base_fd;
}

static int become_own(struct blk_overlay *o, uint64_t cluster)
{
	if (is_own(o, cluster))
		return 0;
	if (o->fresh_count == o->fresh_room) {
		size_t room = o->fresh_room ? o->fresh_room * 2 : 1024;
		uint32_t *fresh = realloc(o->fresh, room * sizeof(*fresh));

		if (!fresh)
			return -ENOMEM;
		o->fresh = fresh;
		o->fresh_room = room;
	}
	o->fresh[o->fresh_count++] = (uint32_t)cluster;
	atomic_fetch_or_explicit(
		&o->live[cluster / 64], 1ull << cluster % 64, memory_order_release);
	return 0;
}

/* ---- writing ---- */

static int bring_over(struct blk_overlay *o, uint64_t cluster, uint64_t size)
{
	uint64_t offset = cluster << BLK_OVERLAY_SHIFT;
	uint64_t len = min_u64(BLK_OVERLAY_CLUSTER, size - offset);
	uint64_t there = offset < o->base_size ? min_u64(len, o->base_size - offset) : 0;
	int ret;

	/* Zeros behind the base's end are written too: what is there may be left of a write that was never flushed. */
	memset(o->cluster + there, 0, BLK_OVERLAY_CLUSTER - there);
	ret = overlay_read(o->base_fd, o->cluster, there, offset);
	if (ret == 0)
		ret = overlay_write(o->fd, o->cluster, len, BLK_OVERLAY_DATA + offset);
	return ret < 0 ? ret : become_own(o, cluster);
}

int blk_overlay_prepare(
	struct blk_overlay *o, uint64_t offset, uint64_t len, uint64_t size, bool *whole)
{
	uint64_t first = offset >> BLK_OVERLAY_SHIFT, last = last_of(offset, len);
	int ret = 0;

	if (!is_own(o, first) &&
		(offset % BLK_OVERLAY_CLUSTER || (first == last && len < BLK_OVERLAY_CLUSTER)))
		ret = bring_over(o, first, size);
	if (ret == 0 && !is_own(o, last) && (offset + len) % BLK_OVERLAY_CLUSTER)
		ret = bring_over(o, last, size);
	*whole = !blk_overlay_owns(o, offset, len);
	return ret;
}

int blk_overlay_own(struct blk_overlay *o, uint64_t offset, uint64_t len)
{
	int ret = 0;

	for (uint64_t i = offset >> BLK_OVERLAY_SHIFT; i <= last_of(offset, len) && ret == 0; i++)
		ret = become_own(o, i);
	return ret;
}

/* ---- flushing ---- */

uint64_t blk_overlay_mark(const struct blk_overlay *o)
{
	return o->fresh_first + o->fresh_count;
}

static int write_pages(struct blk_overlay *o, size_t count)
{
	int ret = 0;

	for (size_t i = 0; i < count && ret == 0; i++) {
		uint64_t page = align_down(o->fresh[i] / 8, OVERLAY_PAGE);

		/* Neighbours are mostly of one page: it is written once, with the last of them. */
		if (i + 1 < count && align_down(o->fresh[i + 1] / 8, OVERLAY_PAGE) == page)
			continue;
		ret = overlay_write(
			o->fd, o->stable + page, OVERLAY_PAGE, BLK_OVERLAY_BITMAP + page);
	}
	return ret < 0 ? ret : fdatasync(o->fd) < 0 ? -errno : 0;
}

int blk_overlay_persist(struct blk_overlay *o, uint64_t mark)
{
	size_t count = mark > o->fresh_first ? (size_t)(mark - o->fresh_first) : 0;
	int ret;

	if (!count || o->given_up)
		return count ? -EIO : 0;
	for (size_t i = 0; i < count; i++)
		o->stable[o->fresh[i] / 8] |= (uint8_t)(1u << o->fresh[i] % 8);
	ret = write_pages(o, count);
	if (ret < 0) {
		o->given_up = true;
		return ret;
	}
	memmove(o->fresh, o->fresh + count, (o->fresh_count - count) * sizeof(*o->fresh));
	o->fresh_count -= count;
	o->fresh_first += count;
	return 0;
}

bool blk_overlay_is_ahead(const struct blk_overlay *o)
{
	return o->fresh_count;
}

void blk_overlay_give_up(struct blk_overlay *o)
{
	o->given_up = true;
}

int blk_overlay_read(const struct blk_overlay *o, void *data, uint64_t len, uint64_t offset)
{
	uint8_t *to = data;
	int ret = 0;

	while (len && ret == 0) {
		uint64_t here = len, at;
		int fd = blk_overlay_find(o, offset, &here, &at);

		if (fd < 0)
			memset(to, 0, here);
		else
			ret = overlay_read(fd, to, here, at);
		to += here;
		offset += here;
		len -= here;
	}
	return ret;
}
