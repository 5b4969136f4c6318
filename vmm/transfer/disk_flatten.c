/* SPDX-License-Identifier: Apache-2.0 */
/* Overlays made flat. See disk_flatten.h. */
#include "vmm/transfer/disk_flatten.h"

#include "virtio/blk_overlay.h"
#include "vmm/base/util.h"
#include "vmm/transfer/disk_file.h"

#include <errno.h>
#include <fcntl.h>

#define STEP MIB(64) /* from one word of progress to the next */

static int open_locked(const char *path, struct error *err)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return error_errno(err, errno, "cannot open '%s'", path);
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return fd;
	close(fd);
	error_set(err, ERROR_NO_RESOURCE, "'%s' is in use by a VM", path);
	return error_hint(err, "end that, or take a snapshot with a copy of its disks");
}

static int pump_all(struct disk_pump *pump, uint64_t size, const struct chain_verify_watch *watch,
	struct error *err)
{
	int ret = 0;

	for (uint64_t at = 0; ret == 0 && at < size; at += STEP) {
		uint64_t here = min_u64(STEP, size - at);

		if (watch && watch->cancel && atomic_load(watch->cancel))
			return error_set(err, ERROR_CANCELLED, "cancelled");
		ret = disk_pump_range(pump, at, here, err);
		if (watch && watch->progress)
			watch->progress(watch->owner, at + here, size);
	}
	return ret;
}

static int fill(const struct blk_overlay *overlay, const char *path, struct file_part *part,
	const struct chain_verify_watch *watch, struct error *err)
{
	struct disk_pump pump = {.overlay = overlay,
		.from = -1,
		.from_name = path,
		.to = part->fd,
		.to_name = part->made,
		.fresh = true};
	uint64_t size;
	int ret = blk_overlay_size(overlay, &size, err);

	if (ret == 0 && ftruncate(part->fd, (off_t)size) < 0)
		ret = error_errno(
			err, errno, "'%s' cannot be made as large as the disk", part->path);
	if (ret == 0)
		ret = disk_pump_init(&pump, err);
	if (ret == 0)
		ret = pump_all(&pump, size, watch, err);
	disk_pump_release(&pump);
	return ret;
}

int disk_flatten(const char *path, const char *base, const char *out,
	const struct chain_verify_watch *watch, struct error *err)
{
	_cleanup_close_ int fd = open_locked(path, err);
	struct blk_overlay *overlay = NULL;
	struct file_part part = {.fd = -1};
	int ret = fd < 0 ? fd : blk_overlay_open(&overlay, fd, path, base, err);

	if (ret == 0)
		ret = file_part_open(&part, out, false, err);
	if (ret == 0)
		ret = fill(overlay, path, &part, watch, err);
	if (ret == 0)
		ret = file_part_commit(&part, false, err);
	file_part_abandon(&part);
	blk_overlay_close(overlay);
	return ret;
}
