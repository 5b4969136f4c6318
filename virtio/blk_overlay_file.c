/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overlays as files: made, read, looked at. See blk_overlay_file.h.
 *
 * Nothing in a file is believed: the header has a checksum, which finds damage but not malice, so each number is measured against
 * the file's length, and the base that it names is for people. Which base to open is the caller's to say.
 */
#include "virtio/blk_overlay_file.h"

#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#define VERSION 1
#define PAGE	OVERLAY_PAGE
#define SAMPLES 64u /* of the base, for its identity */

/* The header's bytes; numbers are little-endian. */
struct file_header {
	char magic[8];
	uint32_t version, cluster;
	uint64_t data_start, base_size;
	uint64_t base_low, base_high;
	char base[BLK_OVERLAY_NAME_SIZE]; /* for people; the owner names it at each opening */
	uint64_t low, high;		  /* of all before */
	uint8_t rest[8];
};

_Static_assert(sizeof(struct file_header) == PAGE, "a header is a page");

static const char magic[8] = {'B', 'H', 'O', 'V', 'E', 'R', 'L', 'Y'};

/* ---- plain I/O ---- */

int overlay_read(int fd, void *data, uint64_t len, uint64_t offset)
{
	for (uint64_t at = 0; at < len;) {
		ssize_t n = pread(fd, (uint8_t *)data + at, len - at, (off_t)(offset + at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += (uint64_t)n;
	}
	return 0;
}

int overlay_write(int fd, const void *data, uint64_t len, uint64_t offset)
{
	for (uint64_t at = 0; at < len;) {
		ssize_t n = pwrite(fd, (const uint8_t *)data + at, len - at, (off_t)(offset + at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += (uint64_t)n;
	}
	return 0;
}

/* ---- the base ---- */

int overlay_open_base(const char *base, int *fd, uint64_t *size, struct error *err)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	struct stat st;
	off_t end;

	*fd = open(base, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (*fd < 0)
		return error_errno(err, errno, "cannot open the base '%s'", base);
	if (fstat(*fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		return error_set(err, ERROR_BAD_REQUEST,
			"the base '%s' is not a disk image or a block device", base);
	if (fcntl(*fd, F_OFD_SETLK, &lock) < 0) {
		error_set(err, ERROR_NO_RESOURCE, "the base '%s' is being written by another VM",
			base);
		return error_hint(err, "a base is only read as long as an overlay is in use");
	}
	end = lseek(*fd, 0, SEEK_END);
	if (end <= 0 || end % 512 || (uint64_t)end > BLK_OVERLAY_MAX)
		return error_set(err, ERROR_BAD_REQUEST,
			"the base '%s' has %jd bytes: it must be a multiple of 512, and at most %llu",
			base, (intmax_t)end, BLK_OVERLAY_MAX);
	*size = (uint64_t)end;
	return 0;
}

/* Of some blocks all over it: another image is told, if not every change. */
static int identify_base(
	int fd, const char *base, uint64_t size, uint64_t identity[2], struct error *err)
{
	uint8_t block[PAGE];
	uint64_t step = max_u64(align_down(size / SAMPLES, 512), PAGE);

	identity[0] = identity[1] = 0;
	for (uint64_t at = 0; at < size; at += step) {
		uint64_t from = at + step < size ? at : (size > PAGE ? size - PAGE : 0);
		uint64_t len = min_u64(PAGE, size - from);
		XXH128_hash_t hash;
		int ret = overlay_read(fd, block, len, from);

		if (ret < 0)
			return error_errno(err, -ret, "cannot read the base '%s'", base);
		hash = XXH3_128bits_withSeed(block, len, from + 1);
		identity[0] ^= hash.low64;
		identity[1] ^= hash.high64;
	}
	return 0;
}

int overlay_check_base(const struct overlay_header *header, const char *path, int base_fd,
	const char *base, uint64_t base_size, struct error *err)
{
	uint64_t identity[2];
	int ret = identify_base(base_fd, base, base_size, identity, err);

	if (ret < 0)
		return ret;
	if (header->base_size == base_size && header->identity[0] == identity[0] &&
		header->identity[1] == identity[1])
		return 0;
	error_set(err, ERROR_BAD_REQUEST,
		"'%s' is not the base that '%s' was made on, or has changed", base, path);
	return error_hint(err, "it was made on '%.100s'", header->base);
}

/* ---- making one ---- */

static void seal(struct file_header *header)
{
	XXH128_hash_t hash = XXH3_128bits(header, offsetof(struct file_header, low));

	header->low = htole64(hash.low64);
	header->high = htole64(hash.high64);
}

static int make_header(struct file_header *header, const char *base, struct error *err)
{
	_cleanup_close_ int fd = -1;
	uint64_t identity[2] = {0}, size = 0;
	int ret = overlay_open_base(base, &fd, &size, err);

	if (ret == 0)
		ret = identify_base(fd, base, size, identity, err);
	if (ret < 0)
		return ret;
	*header = (struct file_header){.version = htole32(VERSION),
		.cluster = htole32(BLK_OVERLAY_CLUSTER),
		.data_start = htole64(BLK_OVERLAY_DATA),
		.base_size = htole64(size),
		.base_low = htole64(identity[0]),
		.base_high = htole64(identity[1])};
	memcpy(header->magic, magic, sizeof(magic));
	snprintf(header->base, sizeof(header->base), "%s", base);
	seal(header);
	return 0;
}

static int fill_file(int fd, const struct file_header *header, uint64_t size)
{
	int ret = overlay_write(fd, header, sizeof(*header), 0);

	if (ret == 0 && ftruncate(fd, (off_t)(BLK_OVERLAY_DATA + size)) < 0)
		ret = -errno;
	if (ret == 0 && fsync(fd) < 0)
		ret = -errno;
	return ret;
}

static int choose_size(
	const struct file_header *header, const char *base, uint64_t *size, struct error *err)
{
	uint64_t least = le64toh(header->base_size);

	if (!*size)
		*size = least;
	if (*size >= least && *size % 512 == 0 && *size <= BLK_OVERLAY_MAX)
		return 0;
	return error_set(err, ERROR_BAD_REQUEST,
		"%" PRIu64 " bytes: an overlay on '%s' has at least the %" PRIu64
		" of its base, at most %llu, and a multiple of 512",
		*size, base, least, BLK_OVERLAY_MAX);
}

/* The name, for good. In a sandbox the folder may not be opened: then it is when the file's system gets to it. */
static int sync_folder_of(const char *path)
{
	_cleanup_free_ char *folder = strdup(path);
	_cleanup_close_ int fd = -1;
	char *slash = folder ? strrchr(folder, '/') : NULL;

	if (!folder)
		return -ENOMEM;
	if (slash)
		slash[slash == folder] = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 && fsync(fd) < 0 ? -errno : 0;
}

int blk_overlay_create(const char *path, const char *base, uint64_t size, struct error *err)
{
	_cleanup_free_ char *made = NULL;
	_cleanup_close_ int fd = -1;
	struct file_header header;
	int ret = make_header(&header, base, err);

	if (ret == 0)
		ret = choose_size(&header, base, &size, err);
	if (ret < 0)
		return ret;
	if (asprintf(&made, "%s.part-%d", path, getpid()) < 0)
		return error_errno(err, ENOMEM, "cannot make '%s'", path);
	fd = open(made, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, errno, "cannot make '%s'", made);
	ret = fill_file(fd, &header, size);
	if (ret == 0 && renameat2(AT_FDCWD, made, AT_FDCWD, path, RENAME_NOREPLACE) < 0)
		ret = -errno;
	if (ret == 0)
		ret = sync_folder_of(path);
	else
		unlink(made);
	if (ret == 0)
		return 0;
	return error_errno(err, -ret, "cannot make the overlay '%s'", path);
}

/* ---- reading one ---- */

static int decode(const struct file_header *from, const char *path, struct overlay_header *to,
	struct error *err)
{
	struct file_header sealed = *from;

	if (memcmp(from->magic, magic, sizeof(magic)) != 0)
		return error_set(err, ERROR_BAD_REQUEST, "'%s' is no overlay", path);
	if (le32toh(from->version) != VERSION)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the overlay '%s' is of version %u; known is %d", path,
			le32toh(from->version), VERSION);
	seal(&sealed);
	if (from->low != sealed.low || from->high != sealed.high ||
		le32toh(from->cluster) != BLK_OVERLAY_CLUSTER ||
		le64toh(from->data_start) != BLK_OVERLAY_DATA)
		return error_set(
			err, ERROR_CORRUPT, "the header of the overlay '%s' is damaged", path);
	*to = (struct overlay_header){.base_size = le64toh(from->base_size),
		.identity = {le64toh(from->base_low), le64toh(from->base_high)}};
	memcpy(to->base, from->base, sizeof(to->base) - 1);
	return 0;
}

int overlay_load_header(int fd, const char *path, struct overlay_header *header, struct error *err)
{
	_cleanup_free_ struct file_header *bytes = aligned_alloc(PAGE, PAGE);
	int ret = bytes ? overlay_read(fd, bytes, PAGE, 0) : -ENOMEM;

	if (ret == -EIO && lseek(fd, 0, SEEK_END) < (off_t)PAGE)
		return error_set(err, ERROR_BAD_REQUEST, "'%s' is no overlay", path);
	if (ret < 0)
		return error_errno(err, -ret, "cannot read the overlay '%s'", path);
	return decode(bytes, path, header, err);
}

int overlay_size(int fd, uint64_t base_size, uint64_t *size, struct error *err)
{
	off_t end = lseek(fd, 0, SEEK_END);

	if (end < 0)
		return error_errno(err, errno, "cannot find out its size");
	if (base_size > BLK_OVERLAY_MAX || (uint64_t)end < BLK_OVERLAY_DATA + base_size ||
		(uint64_t)end - BLK_OVERLAY_DATA > BLK_OVERLAY_MAX)
		return error_set(err, ERROR_CORRUPT,
			"the overlay is shorter than its base, or longer than it can be");
	*size = (uint64_t)end - BLK_OVERLAY_DATA;
	if (!*size || *size % 512)
		return error_set(err, ERROR_CORRUPT, "its disk has %" PRIu64 " bytes", *size);
	return 0;
}

uint64_t overlay_clusters(uint64_t size)
{
	return (size + BLK_OVERLAY_CLUSTER - 1) >> BLK_OVERLAY_SHIFT;
}

uint64_t overlay_bitmap_used(uint64_t size)
{
	return align_up((overlay_clusters(size) + 7) / 8, PAGE);
}

int overlay_load_bitmap(int fd, const char *path, uint64_t size, uint8_t *bitmap, struct error *err)
{
	uint64_t bytes = overlay_bitmap_used(size);
	int ret = overlay_read(fd, bitmap, bytes, BLK_OVERLAY_BITMAP);

	if (ret < 0)
		return error_errno(err, -ret, "cannot read '%s'", path);
	for (uint64_t i = overlay_clusters(size); i < bytes * 8; i++)
		if (bitmap[i / 8] >> i % 8 & 1)
			return error_set(err, ERROR_CORRUPT,
				"the overlay '%s' is shorter than it was, or its bitmap is damaged",
				path);
	return 0;
}

void *overlay_map_bitmap(void)
{
	return mmap(NULL, OVERLAY_BITMAP_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

bool blk_overlay_seems(int fd)
{
	char first[sizeof(magic)];

	return overlay_read(fd, first, sizeof(first), 0) == 0 &&
	       !memcmp(first, magic, sizeof(magic));
}
