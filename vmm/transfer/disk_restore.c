/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks out of layers. See disk_restore.h.
 *
 * From the newest layer down, with a set of the blocks that are done: so each block is written once, and what a newer layer
 * has hides what an older one has, a hole too. A disk never shrinks, so a block that an older, shorter layer lacks is
 * either in a newer one or zero; only a layer's last block, of which it may hold a part, needs care.
 */
#include "vmm/transfer/disk_restore.h"

#include "vmm/base/util.h"
#include "vmm/transfer/disk_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define NAME_SIZE 280

struct layer {
	const struct disk_layer *as_told;
	int fd;
	uint64_t size;
	struct page_set blocks; /* of an incremental */
};

struct composition {
	struct layer *layers; /* newest first */
	unsigned count;
	uint64_t size;
	struct page_set done;
	struct disk_pump pump;
};

/* ---- opening ---- */

static int open_map(struct layer *layer, struct error *err)
{
	char name[NAME_SIZE];
	uint64_t size;
	int ret;

	snprintf(name, sizeof(name), "%s%s", layer->as_told->file, DISK_MAP_SUFFIX);
	ret = disk_map_read(layer->as_told->dirfd, name, &layer->blocks, &size, err);
	if (ret == 0 && size != layer->size)
		ret = error_set(err, ERROR_CORRUPT,
			"'%s' has %" PRIu64 " bytes, its map is of %" PRIu64, layer->as_told->file,
			layer->size, size);
	return ret;
}

static int open_layer(struct layer *layer, const struct disk_layer *told, struct error *err)
{
	struct stat st;

	layer->as_told = told;
	layer->fd = openat(
		told->dirfd, told->file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (layer->fd < 0 || fstat(layer->fd, &st) < 0)
		return error_errno(err, errno, "cannot open '%s'", told->file);
	if (!S_ISREG(st.st_mode) || !st.st_size || st.st_size % 512)
		return error_set(err, ERROR_CORRUPT, "'%s' is no disk's file", told->file);
	layer->size = (uint64_t)st.st_size;
	return told->has_map ? open_map(layer, err) : 0;
}

static bool is_full(const struct composition *c)
{
	return !c->layers[c->count - 1].as_told->has_map;
}

static int check_layers(const struct composition *c, struct error *err)
{
	for (unsigned i = 1; i < c->count; i++) {
		const struct layer *newer = &c->layers[i - 1], *older = &c->layers[i];

		if (older->size > newer->size)
			return error_set(err, ERROR_CORRUPT,
				"'%s' is of a smaller disk than the copy that it is laid over",
				newer->as_told->file);
		if (!newer->as_told->has_map)
			return error_set(err, ERROR_CORRUPT,
				"'%s' is a full copy, and is not laid over another",
				newer->as_told->file);
	}
	return 0;
}

static void close_all(struct composition *c)
{
	for (unsigned i = 0; c->layers && i < c->count; i++) {
		if (c->layers[i].as_told)
			cleanup_close(&c->layers[i].fd);
		page_set_destroy(&c->layers[i].blocks);
	}
	free(c->layers);
	page_set_destroy(&c->done);
	disk_pump_release(&c->pump);
}

static int open_all(struct composition *c, const struct disk_layer *layers, unsigned count,
	struct disk_work *work, struct error *err)
{
	int ret = 0;

	*c = (struct composition){
		.count = count, .pump = {.from_name = layers->file, .work = work}};
	c->layers = calloc(count, sizeof(*c->layers));
	if (!c->layers)
		return error_errno(err, ENOMEM, "cannot open '%s'", layers->file);
	for (unsigned i = 0; i < count && ret == 0; i++)
		ret = open_layer(&c->layers[i], &layers[i], err);
	if (ret == 0)
		ret = check_layers(c, err);
	if (ret < 0)
		return ret;
	c->size = c->layers[0].size;
	if (work)
		atomic_store(&work->total, c->size);
	ret = page_set_create(&c->done, block_count(c->size), err);
	return ret < 0 ? ret : disk_pump_init(&c->pump, err);
}

/* ---- laying over each other ---- */

static int clear_rest(struct composition *c, uint64_t from, struct error *err)
{
	return from < c->size ? disk_pump_clear(&c->pump, from, c->size - from, err) : 0;
}

/* The blocks of `take` from this layer; what of them lies behind its end is zero. */
static int take_blocks(
	struct composition *c, struct layer *layer, struct page_set *take, struct error *err)
{
	int ret;

	c->pump.from = layer->fd;
	c->pump.from_name = layer->as_told->file;
	page_set_subtract(take, &c->done);
	ret = disk_pump_blocks(&c->pump, take, layer->size, err);
	page_set_union(&c->done, take);
	return ret;
}

static int take_incremental(struct composition *c, struct layer *layer, struct error *err)
{
	int ret = block_set_grow(&layer->blocks, c->done.count, err);

	return ret < 0 ? ret : take_blocks(c, layer, &layer->blocks, err);
}

static int take_full(struct composition *c, struct layer *layer, struct error *err)
{
	uint64_t blocks = block_count(layer->size);
	int ret = block_set_grow(&layer->blocks, c->done.count, err);

	if (ret < 0)
		return ret;
	page_set_add(&layer->blocks, 0, blocks);
	return take_blocks(c, layer, &layer->blocks, err);
}

static bool share(struct composition *c)
{
	const struct layer *base = &c->layers[c->count - 1];

	if (ioctl(c->pump.to, FICLONE, base->fd) < 0)
		return false;
	c->pump.fresh = false; /* what it has must go where a newer layer has a hole */
	return true;
}

/* `to` is as large as the disk, or becomes so; `fresh` when it is empty. */
static int compose(struct composition *c, int to, const char *to_name, bool fresh,
	struct disk_restored *restored, struct error *err)
{
	unsigned incrementals = c->count - is_full(c);
	int ret = 0;

	c->pump.to = to;
	c->pump.to_name = to_name;
	c->pump.fresh = fresh;
	restored->size = c->size;
	restored->has_map = !is_full(c);
	restored->shared = fresh && is_full(c) && share(c);
	if (fresh && ftruncate(to, (off_t)c->size) < 0)
		return error_errno(err, errno, "'%s' cannot be made as large as the disk", to_name);
	/* A volume's end, where no layer reaches: before what newer ones have there. */
	if (!fresh && is_full(c))
		ret = clear_rest(c, align_down(c->layers[c->count - 1].size, BLK_DIRTY_BLOCK), err);
	for (unsigned i = 0; i < incrementals && ret == 0; i++)
		ret = take_incremental(c, &c->layers[i], err);
	if (ret == 0 && is_full(c) && !restored->shared)
		ret = take_full(c, &c->layers[c->count - 1], err);
	if (ret == 0 && fsync(to) < 0)
		ret = error_errno(err, errno, "cannot write '%s'", to_name);
	return ret;
}

/* ---- where it goes ---- */

static int fill_volume(
	struct composition *c, const char *path, struct disk_restored *restored, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_EXCL | O_CLOEXEC);
	off_t size;

	if (fd < 0 && errno == EBUSY)
		return error_set(err, ERROR_NO_RESOURCE, "'%s' is in use", path);
	if (fd < 0)
		return error_errno(err, errno, "cannot open '%s'", path);
	size = lseek(fd, 0, SEEK_END);
	if (size < (off_t)c->size)
		return error_set(err, ERROR_BAD_REQUEST,
			"'%s' has %jd bytes, the disk has %" PRIu64, path, (intmax_t)size, c->size);
	return compose(c, fd, path, false, restored, err);
}

static int make_file(struct composition *c, const char *path, bool replace,
	struct disk_restored *restored, struct error *err)
{
	struct file_part part;
	int ret = file_part_open(&part, path, replace, err);

	if (ret == 0)
		ret = compose(c, part.fd, part.made, true, restored, err);
	if (ret == 0)
		ret = file_part_commit(&part, replace, err);
	file_part_abandon(&part);
	return ret;
}

static bool is_volume(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

int disk_restore(const struct disk_layer *layers, unsigned count, const char *path, bool replace,
	struct disk_work *work, struct disk_restored *restored, struct error *err)
{
	struct composition c;
	int ret = open_all(&c, layers, count, work, err);

	if (ret == 0 && !is_full(&c))
		ret = error_set(err, ERROR_CORRUPT, "'%s' is laid over a copy that is not there",
			layers[count - 1].file);
	if (ret == 0)
		ret = is_volume(path) ? fill_volume(&c, path, restored, err)
				      : make_file(&c, path, replace, restored, err);
	close_all(&c);
	return ret;
}

static int merge_into(struct composition *c, int dirfd, const char *file,
	struct disk_restored *restored, struct error *err)
{
	_cleanup_close_ int fd =
		openat(dirfd, file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	char map[NAME_SIZE];
	int ret;

	if (fd < 0)
		return error_errno(err, errno, "cannot make '%s'", file);
	snprintf(map, sizeof(map), "%s%s", file, DISK_MAP_SUFFIX);
	ret = compose(c, fd, file, true, restored, err);
	if (ret == 0 && restored->has_map)
		ret = disk_map_write(dirfd, map, &c->done, c->size, err);
	if (ret < 0)
		unlinkat(dirfd, file, 0);
	return ret;
}

int disk_merge(const struct disk_layer *layers, unsigned count, int dirfd, const char *file,
	struct disk_work *work, struct disk_restored *restored, struct error *err)
{
	struct composition c;
	int ret = open_all(&c, layers, count, work, err);

	if (ret == 0)
		ret = merge_into(&c, dirfd, file, restored, err);
	close_all(&c);
	return ret;
}
