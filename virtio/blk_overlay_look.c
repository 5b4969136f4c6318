/* SPDX-License-Identifier: Apache-2.0 */
/* What an overlay's file says of itself, for people: see blk_overlay_inspect(). Nothing of it is locked or changed. */
#include "virtio/blk_overlay_file.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

static uint64_t count_own(const uint8_t *bitmap, uint64_t bytes)
{
	uint64_t own = 0;

	for (uint64_t i = 0; i < bytes; i++)
		own += (unsigned)__builtin_popcount(bitmap[i]);
	return own;
}

/* Data in clusters that are the base's: [from, to) of the disk has some. */
static uint64_t count_stray(const uint8_t *bitmap, uint64_t from, uint64_t to)
{
	uint64_t stray = 0;

	for (uint64_t i = from >> BLK_OVERLAY_SHIFT; i < overlay_clusters(to); i++)
		stray += !(bitmap[i / 8] >> i % 8 & 1);
	return stray;
}

static uint64_t find_stray(int fd, const uint8_t *bitmap, uint64_t size)
{
	uint64_t stray = 0, at = 0;

	while (at < size) {
		off_t data = lseek(fd, (off_t)(BLK_OVERLAY_DATA + at), SEEK_DATA), hole;
		uint64_t from, to;

		if (data < 0)
			break;
		hole = lseek(fd, data, SEEK_HOLE);
		from = max_u64((uint64_t)data - BLK_OVERLAY_DATA, at);
		to = hole > data ? min_u64((uint64_t)hole - BLK_OVERLAY_DATA, size) : size;
		if (from >= to)
			break;
		stray += count_stray(bitmap, from, to);
		at = align_up(to, BLK_OVERLAY_CLUSTER);
	}
	return stray;
}

static int look(int fd, const char *path, struct blk_overlay_info *info, struct error *err)
{
	uint8_t *bitmap = overlay_map_bitmap();
	int ret;

	if (bitmap == MAP_FAILED)
		return error_errno(err, ENOMEM, "cannot read '%s'", path);
	ret = overlay_load_bitmap(fd, path, info->size, bitmap, err);
	if (ret == 0) {
		info->clusters = overlay_clusters(info->size);
		info->own = count_own(bitmap, overlay_bitmap_used(info->size));
		info->stray = find_stray(fd, bitmap, info->size);
	}
	munmap(bitmap, OVERLAY_BITMAP_BYTES);
	return ret;
}

static int compare_base(
	const struct overlay_header *header, const char *path, const char *base, struct error *err)
{
	_cleanup_close_ int fd = -1;
	uint64_t size = 0;
	int ret = overlay_open_base(base, &fd, &size, err);

	return ret ?: overlay_check_base(header, path, fd, base, size, err);
}

int blk_overlay_inspect(int fd, const char *path, const char *base, struct blk_overlay_info *info,
	struct error *err)
{
	struct overlay_header header;
	int ret = overlay_load_header(fd, path, &header, err);

	memset(info, 0, sizeof(*info));
	if (ret < 0)
		return ret;
	info->base_size = header.base_size;
	memcpy(info->base, header.base, sizeof(info->base));
	ret = overlay_size(fd, header.base_size, &info->size, err);
	if (ret < 0)
		return error_prefix(err, "'%s'", path);
	ret = look(fd, path, info, err);
	return ret == 0 && base ? compare_base(&header, path, base, err) : ret;
}
