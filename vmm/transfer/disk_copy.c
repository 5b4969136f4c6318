/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running disk's content at one point in time. See disk_copy.h for the steps.
 *
 * The marks that are taken (blk_dirty.h) are kept in `taken` until the commit, and given back when there is none: so an incremental copy
 * after a failed one has all blocks of both. For a full copy the first pass is the whole disk, and marks older than it are
 * taken with the rest: they too are given back when it fails.
 *
 * Not everything may be done to the device's descriptor: an fsync there would be told of a write-back error that the guest's
 * next FLUSH has to be told of (the kernel tells each open file once). So write-back is only set going before a reflink, which
 * waits for what is left of it; the disk was flushed by its own queue by then.
 */
#include "vmm/transfer/disk_copy.h"

#include "virtio/blk.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define PASSES_MAX 16
#define SMALL	   64 /* blocks: not worth another pass */
#define SETTLE                                                                                     \
	MIB(16) /* after so much is written, it is brought to the disk before the pause, not in it */
#define NAME_SIZE 256

struct disk_copy {
	struct disk_copy_config config;
	char file[NAME_SIZE], parent[BLK_DIRTY_SINCE];
	int fd;
	struct disk_pump pump;
	struct disk_work work;
	struct page_set taken, pass;
	uint64_t size;
	bool started_tracking, committed;
	struct disk_copy_result result;
};

static struct blk_dirty *dirty_of(const struct disk_copy *copy)
{
	return blk_dirty(copy->config.dev);
}

static int failed(const struct disk_copy *copy, struct error *err)
{
	return error_prefix(err, "disk '%s'", copy->config.dev->id);
}

bool disk_copy_has_changes_since(struct virtio_device *dev, const char *id)
{
	const struct blk_dirty *dirty = blk_dirty(dev);

	return blk_dirty_on(dirty) && *id && !strcmp(dirty->since, id);
}

int disk_copy_count_from(struct virtio_device *dev, const char *id, struct error *err)
{
	struct blk_dirty *dirty = blk_dirty(dev);
	int ret;

	blk_untrack(dev);
	ret = blk_track(dev, err);
	if (ret == 0)
		snprintf(dirty->since, sizeof(dirty->since), "%s", id);
	return ret;
}

/* ---- start ---- */

static int refuse_reflink(const struct disk_copy *copy, const char *why, struct error *err)
{
	error_set(err, ERROR_BAD_REQUEST, "'%s' cannot share the image's blocks: %s", copy->file,
		why);
	return error_hint(err, "use a copy of the disk in place of a reflink");
}

/* Asked of one block, before anybody waits: the first, which is put away again. */
static int try_reflink(const struct disk_copy *copy, struct error *err)
{
	struct blk_source source = blk_source(copy->config.dev);
	struct file_clone_range range = {.src_fd = source.fd,
		.src_length = copy->size > BLK_DIRTY_BLOCK ? BLK_DIRTY_BLOCK : 0};

	if (source.block_device)
		return refuse_reflink(copy, "it is a block device", err);
	if (source.overlay)
		return refuse_reflink(copy, "it is an overlay on a base of its own", err);
	if (ioctl(copy->fd, FICLONERANGE, &range) < 0) {
		switch (errno) {
		case EXDEV:
			return refuse_reflink(
				copy, "the snapshot is on another file system than the image", err);
		case EOPNOTSUPP:
		case ENOTTY:
		case EINVAL:
			return refuse_reflink(
				copy, "this file system cannot (XFS and Btrfs can)", err);
		default:
			return error_errno(err, errno, "cannot make '%s'", copy->file);
		}
	}
	if (ftruncate(copy->fd, 0) < 0)
		return error_errno(err, errno, "cannot make '%s'", copy->file);
	return 0;
}

static int check_parent(const struct disk_copy *copy, struct error *err)
{
	if (copy->config.mode != DISK_COPY_INCREMENTAL ||
		disk_copy_has_changes_since(copy->config.dev, copy->parent))
		return 0;
	error_set(err, ERROR_WRONG_STATE, "what changed since the snapshot '%s' is not known",
		copy->parent);
	return error_hint(err, "take a full copy first, with tracking left on");
}

static int set_going(struct disk_copy *copy, struct error *err)
{
	struct virtio_device *dev = copy->config.dev;
	bool tracked = blk_dirty_on(blk_dirty(dev));
	int ret = check_parent(copy, err);

	if (ret < 0)
		return ret;
	copy->fd = openat(copy->config.dirfd, copy->file,
		O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (copy->fd < 0)
		return error_errno(err, errno, "cannot make '%s'", copy->file);
	copy->size = blk_size(dev);
	if (copy->config.mode == DISK_COPY_REFLINK)
		ret = try_reflink(copy, err);
	else
		ret = disk_pump_init(&copy->pump, err);
	if (ret < 0 || (copy->config.mode == DISK_COPY_REFLINK && !copy->config.track))
		return ret;
	ret = blk_track(dev, err);
	copy->started_tracking = ret == 0 && !tracked;
	return ret;
}

int disk_copy_start(
	const struct disk_copy_config *config, struct disk_copy **out, struct error *err)
{
	struct disk_copy *copy = calloc(1, sizeof(*copy));
	int ret;

	if (!copy)
		return error_errno(err, ENOMEM, "disk '%s'", config->dev->id);
	copy->config = *config;
	copy->fd = -1;
	snprintf(copy->file, sizeof(copy->file), "%s", config->file);
	snprintf(copy->parent, sizeof(copy->parent), "%s", config->parent ? config->parent : "");
	copy->pump.from_name = config->dev->id;
	copy->pump.to_name = copy->file;
	copy->pump.work = &copy->work;
	copy->pump.fresh = true;
	ret = set_going(copy, err);
	if (ret < 0) {
		failed(copy, err);
		disk_copy_destroy(copy);
		return ret;
	}
	copy->pump.from = blk_source(config->dev).fd;
	copy->pump.overlay = blk_source(config->dev).overlay;
	copy->pump.to = copy->fd;
	*out = copy;
	return 0;
}

/* ---- copying what changed ---- */

static int grow_sets(struct disk_copy *copy, struct error *err)
{
	int ret = block_set_grow(&copy->taken, block_count(copy->size), err);

	return ret < 0 ? ret : block_set_grow(&copy->pass, block_count(copy->size), err);
}

static int take_size(struct disk_copy *copy, struct error *err)
{
	copy->size = blk_size(copy->config.dev);
	if (grow_sets(copy, err) < 0)
		return -err->code;
	if (ftruncate(copy->fd, (off_t)copy->size) < 0)
		return error_errno(
			err, errno, "'%s' cannot be made as large as the disk", copy->file);
	return 0;
}

/* Into `pass`, noted in `taken` before anything is done with them. */
static void take_marks(struct disk_copy *copy)
{
	page_set_clear(&copy->pass);
	blk_dirty_take(dirty_of(copy), &copy->pass);
	page_set_union(&copy->taken, &copy->pass);
}

static int copy_marked(struct disk_copy *copy, uint64_t *bytes, struct error *err)
{
	uint64_t blocks;
	int ret = take_size(copy, err);

	if (ret < 0)
		return ret;
	take_marks(copy);
	blocks = page_set_size(&copy->pass);
	*bytes += blocks << BLK_DIRTY_SHIFT;
	atomic_fetch_add_explicit(
		&copy->work.total, blocks << BLK_DIRTY_SHIFT, memory_order_relaxed);
	ret = disk_pump_blocks(&copy->pump, &copy->pass, copy->size, err);
	copy->pump.fresh = false;
	return ret;
}

static int settle(const struct disk_copy *copy, uint64_t blocks, struct error *err)
{
	if (blocks << BLK_DIRTY_SHIFT >= SETTLE && fdatasync(copy->fd) < 0)
		return error_errno(err, errno, "cannot write '%s'", copy->file);
	return 0;
}

static int refuse_rest(const struct disk_copy *copy, uint64_t blocks, struct error *err)
{
	error_set(err, ERROR_NO_RESOURCE,
		"it is written as fast as it is copied: %" PRIu64
		" bytes would be left for the pause, at most %" PRIu64 " may be",
		blocks << BLK_DIRTY_SHIFT, copy->config.pause_max);
	return error_hint(err, "use a reflink, or limit the disk's 'bps' meanwhile");
}

/* Pass by pass, each over what changed in the one before, which took `last` blocks. */
static int follow(struct disk_copy *copy, uint64_t last, struct error *err)
{
	uint64_t rest;
	int ret = settle(copy, last, err);

	for (;;) {
		rest = blk_dirty_pending(dirty_of(copy), blk_size(copy->config.dev));
		if (ret < 0 || rest <= SMALL || rest > last - last / 4 ||
			copy->result.passes == PASSES_MAX)
			break;
		copy->result.passes++;
		ret = copy_marked(copy, &copy->result.before_bytes, err);
		if (ret == 0)
			ret = settle(copy, rest, err);
		last = rest;
	}
	if (ret == 0 && copy->config.pause_max && rest << BLK_DIRTY_SHIFT > copy->config.pause_max)
		return refuse_rest(copy, rest, err);
	return ret;
}

static int copy_before(struct disk_copy *copy, struct error *err)
{
	uint64_t blocks;
	int ret = take_size(copy, err);

	if (ret < 0)
		return ret;
	copy->result.passes = 1;
	blocks = block_count(copy->size);
	if (copy->config.mode == DISK_COPY_INCREMENTAL) {
		ret = copy_marked(copy, &copy->result.before_bytes, err);
		blocks = page_set_size(&copy->pass);
	} else {
		take_marks(copy); /* the whole is about to be read */
		copy->result.before_bytes = copy->size;
		atomic_store(&copy->work.total, copy->size);
		ret = disk_pump_range(&copy->pump, 0, copy->size, err);
		copy->pump.fresh = false;
	}
	return ret < 0 ? ret : follow(copy, blocks, err);
}

int disk_copy_prepare(struct disk_copy *copy, struct error *err)
{
	int ret = 0;

	if (copy->config.mode != DISK_COPY_REFLINK)
		ret = copy_before(copy, err);
	else
		sync_file_range(copy->pump.from, 0, 0, SYNC_FILE_RANGE_WRITE);
	return ret < 0 ? failed(copy, err) : 0;
}

/* ---- the point in time ---- */

static int reflink(struct disk_copy *copy, struct error *err)
{
	copy->size = blk_size(copy->config.dev);
	if (ioctl(copy->fd, FICLONE, copy->pump.from) < 0)
		return error_errno(err, errno, "'%s' cannot share the image's blocks", copy->file);
	/* What is behind the end that the guest sees is no part of the disk. */
	if (ftruncate(copy->fd, (off_t)copy->size) < 0)
		return error_errno(err, errno, "cannot make '%s'", copy->file);
	if (!copy->config.track)
		return 0;
	if (grow_sets(copy, err) < 0)
		return -err->code;
	take_marks(copy);
	return 0;
}

/* A disk that has grown is tracked as a whole from here on: no request is in flight, so the map may be another. */
static int track_all(struct disk_copy *copy, struct error *err)
{
	struct blk_dirty *dirty = dirty_of(copy);
	char since[BLK_DIRTY_SINCE];

	if (!blk_dirty_pending(dirty, copy->size)) /* all marks are taken: it covers all */
		return 0;
	memcpy(since, dirty->since, sizeof(since));
	free(blk_dirty_stop(dirty));
	if (blk_dirty_start(dirty, copy->size) < 0)
		return error_errno(err, ENOMEM, "its changes cannot be counted");
	memcpy(dirty->since, since, sizeof(since));
	return 0;
}

int disk_copy_final(struct disk_copy *copy, struct error *err)
{
	int ret = copy->config.mode == DISK_COPY_REFLINK
			  ? reflink(copy, err)
			  : copy_marked(copy, &copy->result.paused_bytes, err);

	if (ret == 0 && copy->config.track)
		ret = track_all(copy, err);
	return ret < 0 ? failed(copy, err) : 0;
}

/* ---- afterwards ---- */

static void map_name(const struct disk_copy *copy, char name[NAME_SIZE + 8])
{
	snprintf(name, NAME_SIZE + 8, "%s%s", copy->file, DISK_MAP_SUFFIX);
}

static int complete(struct disk_copy *copy, struct error *err)
{
	char map[NAME_SIZE + 8];
	int ret = 0;

	copy->result.size = copy->size;
	copy->result.has_map = copy->config.mode == DISK_COPY_INCREMENTAL;
	copy->result.has_checksum = copy->config.checksum;
	if (fsync(copy->fd) < 0)
		return error_errno(err, errno, "cannot write '%s'", copy->file);
	map_name(copy, map);
	if (copy->result.has_map)
		ret = disk_map_write(copy->config.dirfd, map, &copy->taken, copy->size, err);
	if (ret == 0 && copy->config.checksum) {
		atomic_fetch_add(&copy->work.total, copy->size);
		ret = disk_file_checksum(
			copy->fd, copy->file, copy->size, &copy->work, &copy->result.sum, err);
	}
	return ret;
}

int disk_copy_finish(struct disk_copy *copy, struct disk_copy_result *result, struct error *err)
{
	if (complete(copy, err) < 0)
		return failed(copy, err);
	*result = copy->result;
	return 0;
}

void disk_copy_commit(struct disk_copy *copy, const char *id)
{
	struct blk_dirty *dirty = dirty_of(copy);

	copy->committed = true;
	if (copy->config.track)
		snprintf(dirty->since, sizeof(dirty->since), "%s", id);
}

/* The marks as they would be without us. */
static void let_go_of_marks(struct disk_copy *copy)
{
	if (copy->committed && copy->config.track)
		return;
	if (copy->started_tracking)
		blk_untrack(copy->config.dev);
	else
		blk_dirty_give_back(dirty_of(copy), &copy->taken);
}

void disk_copy_destroy(struct disk_copy *copy)
{
	char map[NAME_SIZE + 8];

	if (!copy)
		return;
	let_go_of_marks(copy);
	if (copy->fd >= 0 && !copy->committed) {
		map_name(copy, map);
		unlinkat(copy->config.dirfd, copy->file, 0);
		unlinkat(copy->config.dirfd, map, 0);
	}
	cleanup_close(&copy->fd);
	disk_pump_release(&copy->pump);
	page_set_destroy(&copy->taken);
	page_set_destroy(&copy->pass);
	free(copy);
}

void disk_copy_progress(const struct disk_copy *copy, uint64_t *done, uint64_t *total)
{
	*done = atomic_load_explicit(&copy->work.done, memory_order_relaxed);
	*total = max_u64(atomic_load_explicit(&copy->work.total, memory_order_relaxed), *done);
}

void disk_copy_cancel(struct disk_copy *copy)
{
	atomic_store(&copy->work.cancelled, true);
}
