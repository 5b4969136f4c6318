/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file behind a disk. See blk_image.h for the contract.
 *
 * In use by one: an open-file-description lock covers the whole file, shared for readonly disks. It
 * belongs to the descriptor, not the process, so it is neither lost when some other descriptor of the
 * file is closed nor shared by two disks of one VM. Such locks live in an inode, and a block device
 * can have several; so a writable one is also claimed with O_EXCL, which the kernel keeps for the
 * device itself, and which is refused while it is mounted, a RAID member, or another VM's disk.
 * A readonly disk does not claim: many may read, and reading does a mounted file system no harm.
 * A monitor that was killed may hold both for some milliseconds after it is gone, until the kernel has
 * ended the last of its I/O (which is as it should be: nothing of the old VM reaches the disk after the
 * new one has it), so we try for a moment before we refuse. Files registered with a ring would be held
 * for longer still, by its deferred destruction: another reason, besides a gain too small to
 * measure, why the descriptor is used as it is.
 *
 * Direct I/O: alignment comes from statx() (Linux 6.1), from the device's sector size, or from trying,
 * and a read proves that it works; a file system may accept O_DIRECT and fail each request. The guest
 * is shown that alignment as its sector size, so what it asks for never needs a read-modify-write.
 */
#include "virtio/blk_image.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define SECTOR		 512u
#define ALIGN_MAX	 65536u
#define MEMORY_ALIGN_MAX 4096u /* bounce buffers begin at a page */

#define PATIENCE_NS                                                                                \
	1000000000u /* for what a killed monitor leaves behind: 5 to 20 ms, on a busy host 400 */

/* What zeros are written from. Never written to, so all of it is the kernel's one zero page. */
static uint8_t zeros[BLK_ZEROS_SIZE] __attribute__((aligned(4096)));

static bool is_power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

static int check_type(const char *path, mode_t mode, struct error *err)
{
	if (S_ISREG(mode) || S_ISBLK(mode))
		return 0;
	return error_set(err, ERROR_BAD_REQUEST, "'%s' is %s, not a disk image or a block device",
		path,
		S_ISDIR(mode)	 ? "a directory"
		: S_ISCHR(mode)	 ? "a character device"
		: S_ISFIFO(mode) ? "a pipe"
		: S_ISSOCK(mode) ? "a socket"
				 : "a special file");
}

static int in_use(const char *path, struct error *err)
{
	return error_set(err, ERROR_NO_RESOURCE, "'%s' is in use by another VM", path);
}

static int open_failed(const struct blk_config *config, int errnum, bool block, struct error *err)
{
	if (errnum == EBUSY && block) {
		in_use(config->path, err);
		return error_hint(err, "or it is mounted, or part of another device, on this host");
	}
	if (errnum == EWOULDBLOCK)
		return error_set(err, ERROR_NO_RESOURCE,
			"'%s' is in use by another process, which has a lease on it", config->path);
	error_errno(err, errnum, "cannot open '%s'", config->path);
	if (!config->readonly && (errnum == EACCES || errnum == EROFS || errnum == EPERM))
		return error_hint(err, "a disk that is only read can be given with 'readonly'");
	return -errnum;
}

/* Sleep a little, unless the time is up. */
static bool try_again(uint64_t deadline_ns)
{
	if (now_ns() >= deadline_ns)
		return false;
	usleep(1000);
	return true;
}

/* The type is looked at before opening too: opening a tape or a pipe has effects of its own. */
static int open_file(struct blk_image *image, const struct blk_config *config, uint64_t deadline_ns,
	struct stat *st, struct error *err)
{
	int flags = O_CLOEXEC | O_NOCTTY | (config->readonly ? O_RDONLY : O_RDWR);
	bool block;
	int ret;

	if (stat(config->path, st) < 0)
		return open_failed(config, errno, false, err);
	ret = check_type(config->path, st->st_mode, err);
	if (ret < 0)
		return ret;
	block = S_ISBLK(st->st_mode);
	if (block && !config->readonly)
		flags |= O_EXCL;
	if (config->impatient)
		flags |=
			O_NONBLOCK; /* not for a lease either, nor for a pipe that is there by now */
	do
		image->fd = open(config->path, flags);
	while (image->fd < 0 && errno == EBUSY && block && try_again(deadline_ns));
	if (image->fd < 0)
		return open_failed(config, errno, block, err);
	if (fstat(image->fd, st) < 0)
		return error_errno(err, errno, "cannot look at '%s'", config->path);
	image->block_device = S_ISBLK(st->st_mode);
	if (image->block_device != block)
		return error_set(
			err, ERROR_IO, "'%s' was replaced while it was opened", config->path);
	ret = check_type(config->path, st->st_mode, err);
	if (ret < 0 || !config->impatient)
		return ret;
	/* io_uring takes the flag for a wish that its requests fail rather than wait. */
	if (fcntl(image->fd, F_SETFL, fcntl(image->fd, F_GETFL) & ~O_NONBLOCK) < 0)
		return error_errno(err, errno, "cannot prepare '%s'", config->path);
	return 0;
}

static int lock_file(struct blk_image *image, const struct blk_config *config, uint64_t deadline_ns,
	struct error *err)
{
	struct flock lock = {.l_type = config->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

	do {
		if (fcntl(image->fd, F_OFD_SETLK, &lock) == 0)
			return 0;
		if (errno != EAGAIN && errno != EACCES)
			return error_errno(err, errno, "cannot lock '%s'", config->path);
	} while (try_again(deadline_ns));
	return in_use(config->path, err);
}

static int check_size(uint64_t size, struct error *err)
{
	if (!size)
		return error_set(err, ERROR_BAD_REQUEST, "the file is empty");
	if (size % SECTOR)
		return error_set(err, ERROR_BAD_REQUEST,
			"its size, %" PRIu64 " bytes, is not a multiple of %u", size, SECTOR);
	return 0;
}

int blk_image_measure(const struct blk_image *image, uint64_t *size, struct error *err)
{
	/* A block device's stat says 0; the end of both can be sought, and the offset is used by nobody. */
	off_t end = lseek(image->fd, 0, SEEK_END);
	int ret;

	if (image->overlay) {
		ret = blk_overlay_size(image->overlay, size, err);
		*size = align_down(*size, image->block_size);
		return ret;
	}
	if (end < 0)
		return error_errno(err, errno, "cannot find out its size");
	ret = check_size((uint64_t)end, err);
	if (ret < 0)
		return ret;
	/* The last part of a sector that direct I/O cannot reach does not count. */
	*size = align_down((uint64_t)end, image->block_size);
	return 0;
}

/*
 * Linux, Documentation/filesystems/ext4/super.rst: the superblock is at 1024; s_magic at 0x38 of it, s_feature_incompat at 0x60, where
 * RECOVER (0x4) is set for as long as a file system with a journal is mounted for writing.
 */
bool blk_image_is_mounted(const struct blk_image *image)
{
	enum { BLOCK = 4096, MAGIC = 1024 + 0x38, INCOMPAT = 1024 + 0x60, RECOVER = 4 };
	_cleanup_free_ uint8_t *block = aligned_alloc(BLOCK, BLOCK); /* as direct I/O wants it */

	if (!block || image->size < BLOCK)
		return false;
	if (image->overlay ? blk_overlay_read(image->overlay, block, BLOCK, 0) < 0
			   : pread(image->fd, block, BLOCK, 0) != BLOCK)
		return false;
	return block[MAGIC] == 0x53 && block[MAGIC + 1] == 0xef && block[INCOMPAT] & RECOVER;
}

int blk_image_grow(const struct blk_image *image, uint64_t size, struct error *err)
{
	int ret = check_size(size, err);

	if (ret < 0)
		return ret;
	if (image->overlay) {
		if (size > BLK_OVERLAY_MAX)
			return error_set(err, ERROR_BAD_REQUEST,
				"an overlay has at most %llu bytes", BLK_OVERLAY_MAX);
		size += BLK_OVERLAY_DATA;
	}
	if (image->block_device)
		return error_set(err, ERROR_WRONG_STATE,
			"a volume is resized where it was made (lvextend); then ask without a size");
	/* Not longer than it is already: another program may have grown it meanwhile. */
	if (lseek(image->fd, 0, SEEK_END) >= (off_t)size)
		return 0;
	if (image->readonly)
		return error_set(err, ERROR_WRONG_STATE,
			"it is read-only here (grow its file by other means; then ask without a size)");
	if (ftruncate(image->fd, (off_t)size) < 0)
		return error_errno(err, errno, "its file cannot grow to %" PRIu64 " bytes", size);
	return 0;
}

/* Block devices: what the device says; files: 512, whatever the cache mode, as far as that allows. */
static void find_block_sizes(struct blk_image *image, const struct stat *st)
{
	int logical = 0;
	unsigned physical = 0;

	image->block_size = SECTOR;
	image->memory_align = 1;
	image->physical_size = st->st_blksize > 0 ? (uint32_t)st->st_blksize : SECTOR;
	if (image->block_device) {
		if (ioctl(image->fd, BLKSSZGET, &logical) == 0 && logical >= (int)SECTOR)
			image->block_size = (uint32_t)logical;
		if (ioctl(image->fd, BLKPBSZGET, &physical) == 0)
			image->physical_size = physical;
	}
	if (!is_power_of_two(image->physical_size) || image->physical_size > ALIGN_MAX)
		image->physical_size = 4096;
	if (image->physical_size < image->block_size)
		image->physical_size = image->block_size;
}

static bool read_works(const struct blk_image *image, uint32_t len, uint32_t align)
{
	_cleanup_free_ void *buffer = NULL;
	ssize_t n;

	if (posix_memalign(&buffer, max_u64(align, sizeof(void *)), len))
		return false;
	do
		n = pread(image->fd, buffer, len, 0);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)len;
}

/* Fill in the alignments and prove them: 0, or a negative errno and nothing changed. */
static int find_direct_alignment(struct blk_image *image, uint64_t size)
{
	uint32_t tries[2] = {image->block_size, max_u64(4096, image->block_size)}, memory = 0;
	struct statx stx;
	int ret = -EINVAL;

	if (statx(image->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
		stx.stx_mask & STATX_DIOALIGN) {
		if (!stx.stx_dio_offset_align)
			return -EINVAL;
		memory = stx.stx_dio_mem_align;
		tries[0] = tries[1] =
			(uint32_t)max_u64(stx.stx_dio_offset_align, image->block_size);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(tries); i++) {
		uint32_t align = memory ? memory : tries[i];

		if (!is_power_of_two(tries[i]) || !is_power_of_two(align) || tries[i] > ALIGN_MAX ||
			align > MEMORY_ALIGN_MAX)
			return -EINVAL;
		if (size % tries[i])
			ret = -EDOM;
		if (size % tries[i] || !read_works(image, tries[i], align))
			continue;
		image->block_size = tries[i];
		image->memory_align = align;
		image->physical_size = (uint32_t)max_u64(image->physical_size, tries[i]);
		return 0;
	}
	return ret;
}

static int go_direct(struct blk_image *image, uint64_t size)
{
	int flags = fcntl(image->fd, F_GETFL);
	int ret;

	if (flags < 0 || fcntl(image->fd, F_SETFL, flags | O_DIRECT) < 0)
		return -errno;
	ret = find_direct_alignment(image, size);
	if (ret < 0)
		fcntl(image->fd, F_SETFL, flags);
	return ret;
}

static int choose_cache(struct blk_image *image, const struct blk_config *config, struct error *err)
{
	uint64_t size;
	int ret = blk_image_measure(image, &size, err);

	if (ret < 0)
		return error_prefix(err, "'%s' cannot be used", config->path);
	image->cache = config->cache;
	if (config->cache != BLK_CACHE_AUTO && config->cache != BLK_CACHE_NONE)
		return 0;
	image->cache = BLK_CACHE_NONE;
	ret = go_direct(image, size);
	if (ret == 0)
		return 0;
	if (config->cache == BLK_CACHE_NONE) {
		error_set(err, ERROR_BAD_REQUEST, "'%s' cannot be used with cache=none: %s",
			config->path,
			ret == -EDOM
				? "its size is not a multiple of 4096, as direct I/O needs there"
				: "its file system does not allow direct I/O for it");
		return error_hint(err, "use cache=writeback");
	}
	image->cache = BLK_CACHE_WRITEBACK;
	log_info("disk '%s': no direct I/O for '%s', using cache=writeback", config->id,
		config->path);
	return 0;
}

/* The file is an overlay: what the guest sees is in it. */
static int open_overlay(struct blk_image *image, const struct blk_config *config, struct error *err)
{
	if (image->block_device)
		return error_set(err, ERROR_BAD_REQUEST,
			"'%s' is a block device: an overlay is a file", config->path);
	if (config->queues > 1)
		return error_set(
			err, ERROR_BAD_REQUEST, "an overlay has one queue, not %u", config->queues);
	if (image->block_size > 4096) {
		error_set(err, ERROR_BAD_REQUEST, "direct I/O on '%s' is in blocks of %u bytes",
			config->path, image->block_size);
		return error_hint(err, "use cache=writeback");
	}
	return blk_overlay_open(&image->overlay, image->fd, config->path, config->base, err);
}

static int open_all(struct blk_image *image, const struct blk_config *config, struct error *err)
{
	uint64_t deadline_ns = now_ns() + (config->impatient ? 0 : PATIENCE_NS);
	struct stat st;
	int ret = 0;

	if (config->base && !config->readonly && stat(config->path, &st) < 0 && errno == ENOENT)
		ret = blk_overlay_create(config->path, config->base, 0, err);
	if (ret == 0)
		ret = open_file(image, config, deadline_ns, &st, err);
	if (ret == 0)
		ret = lock_file(image, config, deadline_ns, err);
	if (ret < 0)
		return ret;
	find_block_sizes(image, &st);
	ret = choose_cache(image, config, err);
	if (ret == 0 && config->base)
		ret = open_overlay(image, config, err);
	if (ret < 0)
		return ret;
	return blk_image_measure(image, &image->size, err);
}

int blk_image_open(struct blk_image *image, const struct blk_config *config, struct error *err)
{
	int ret;

	memset(image, 0, sizeof(*image));
	image->fd = -1;
	image->readonly = config->readonly;
	image->discard = config->discard && !config->readonly;
	ret = open_all(image, config, err);
	if (ret < 0) {
		blk_image_close(image);
		error_prefix(err, "disk '%s'", config->id);
	}
	return ret;
}

void blk_image_close(struct blk_image *image)
{
	blk_overlay_close(steal_ptr(&image->overlay));
	cleanup_close(&image->fd);
	image->fd = -1;
}

enum blk_clear blk_image_clear_way(const struct blk_image *image, enum blk_clear from)
{
	while (from < BLK_CLEAR_NONE &&
		atomic_load_explicit(&image->cannot[from], memory_order_relaxed))
		from++;
	return from;
}

/*
 * fallocate() serves block devices too: there, punching a hole is a write-zeroes that may unmap, which
 * unlike BLKDISCARD runs on the ring and leaves zeros behind.
 */
uint64_t blk_image_prep_clear(
	struct io_uring_sqe *sqe, int fd, enum blk_clear way, uint64_t offset, uint64_t len)
{
	int mode = FALLOC_FL_KEEP_SIZE |
		   (way == BLK_CLEAR_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);

	if (way == BLK_CLEAR_WRITE) {
		len = min_u64(len, sizeof(zeros));
		io_uring_prep_write(sqe, fd, zeros, (unsigned)len, offset);
	} else {
		io_uring_prep_fallocate(sqe, fd, mode, (off_t)offset, (off_t)len);
	}
	return len;
}
