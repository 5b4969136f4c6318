/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk on a shared base. See blk_overlay.h for the file and its rules.
 *
 * The base is read through the host's page cache, whatever the overlay's cache mode: siblings then read what they share once.
 * Clusters that have become complete wait in `fresh`, in that order, until a flush makes their bits stable. A flush notes how far
 * the list goes when it is submitted: what comes to it later belongs to the next one.
 */
#include "virtio/blk_overlay.h"

#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#define VERSION	     1
#define PAGE	     4096u
#define BITMAP_BYTES (BLK_OVERLAY_DATA - BLK_OVERLAY_BITMAP)
#define SAMPLES	     64u /* of the base, for its identity */

struct overlay_header {
	char magic[8];
	uint32_t version, cluster;
	uint64_t data_start, base_size;
	uint64_t base_low, base_high;
	char base[4024];    /* for people; the owner names it at each opening */
	uint64_t low, high; /* of all before */
	uint8_t rest[8];
};

_Static_assert(sizeof(struct overlay_header) == PAGE, "a header is a page");

static const char magic[8] = {'B', 'H', 'O', 'V', 'E', 'R', 'L', 'Y'};

struct blk_overlay {
	int fd, base_fd;
	uint64_t base_size;
	_Atomic uint64_t
		*live; /* of BITMAP_BYTES, as is `stable`: mapped, and there as far as it is used */
	uint8_t *stable; /* what the file has, or is about to */
	uint32_t *fresh; /* complete, and not stable */
	size_t fresh_count, fresh_room;
	uint64_t fresh_first; /* the number of fresh[0] */
	bool given_up;
	uint8_t *cluster; /* one, on its way over */
};

/* ---- plain I/O ---- */

static int read_all(int fd, void *data, uint64_t len, uint64_t offset)
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

static int write_all(int fd, const void *data, uint64_t len, uint64_t offset)
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

static int open_base(const char *base, int *fd, uint64_t *size, struct error *err)
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
		int ret = read_all(fd, block, len, from);

		if (ret < 0)
			return error_errno(err, -ret, "cannot read the base '%s'", base);
		hash = XXH3_128bits_withSeed(block, len, from + 1);
		identity[0] ^= hash.low64;
		identity[1] ^= hash.high64;
	}
	return 0;
}

/* ---- making one ---- */

static void seal(struct overlay_header *header)
{
	XXH128_hash_t hash = XXH3_128bits(header, offsetof(struct overlay_header, low));

	header->low = htole64(hash.low64);
	header->high = htole64(hash.high64);
}

static int make_header(struct overlay_header *header, const char *base, struct error *err)
{
	_cleanup_close_ int fd = -1;
	uint64_t identity[2] = {0}, size = 0;
	int ret = open_base(base, &fd, &size, err);

	if (ret == 0)
		ret = identify_base(fd, base, size, identity, err);
	if (ret < 0)
		return ret;
	*header = (struct overlay_header){.version = htole32(VERSION),
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

static int fill_file(int fd, const struct overlay_header *header)
{
	int ret = write_all(fd, header, sizeof(*header), 0);

	if (ret == 0 && ftruncate(fd, (off_t)(BLK_OVERLAY_DATA + le64toh(header->base_size))) < 0)
		ret = -errno;
	if (ret == 0 && fsync(fd) < 0)
		ret = -errno;
	return ret;
}

int blk_overlay_create(const char *path, const char *base, struct error *err)
{
	_cleanup_free_ char *made = NULL;
	_cleanup_close_ int fd = -1;
	struct overlay_header header;
	int ret = make_header(&header, base, err);

	if (ret < 0)
		return ret;
	if (asprintf(&made, "%s.part-%d", path, getpid()) < 0)
		return error_errno(err, ENOMEM, "cannot make '%s'", path);
	fd = open(made, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, errno, "cannot make '%s'", made);
	ret = fill_file(fd, &header);
	if (ret == 0 && renameat2(AT_FDCWD, made, AT_FDCWD, path, RENAME_NOREPLACE) < 0)
		ret = -errno;
	if (ret == 0)
		return 0;
	unlink(made);
	return error_errno(err, -ret, "cannot make the overlay '%s'", path);
}

/* ---- opening ---- */

static int check_header(const struct blk_overlay *o, struct overlay_header *header,
	const char *path, const char *base, struct error *err)
{
	uint64_t low = header->low, high = header->high, identity[2] = {0};
	int ret;

	if (memcmp(header->magic, magic, sizeof(magic)) != 0)
		return error_set(err, ERROR_BAD_REQUEST, "'%s' is no overlay", path);
	if (le32toh(header->version) != VERSION)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the overlay '%s' is of version %u; known is %d", path,
			le32toh(header->version), VERSION);
	seal(header);
	if (header->low != low || header->high != high ||
		le32toh(header->cluster) != BLK_OVERLAY_CLUSTER ||
		le64toh(header->data_start) != BLK_OVERLAY_DATA)
		return error_set(
			err, ERROR_CORRUPT, "the header of the overlay '%s' is damaged", path);
	ret = identify_base(o->base_fd, base, o->base_size, identity, err);
	if (ret < 0)
		return ret;
	if (le64toh(header->base_size) == o->base_size &&
		le64toh(header->base_low) == identity[0] &&
		le64toh(header->base_high) == identity[1])
		return 0;
	header->base[sizeof(header->base) - 1] = '\0';
	error_set(err, ERROR_BAD_REQUEST,
		"'%s' is not the base that '%s' was made on, or has changed", base, path);
	return error_hint(err, "it was made on '%.100s'", header->base);
}

static int load_bitmap(struct blk_overlay *o, const char *path, struct error *err)
{
	uint64_t size, clusters, bytes;
	int ret = blk_overlay_size(o, &size, err);

	if (ret < 0)
		return ret;
	clusters = (size + BLK_OVERLAY_CLUSTER - 1) >> BLK_OVERLAY_SHIFT;
	bytes = align_up((clusters + 7) / 8, PAGE);
	ret = read_all(o->fd, o->stable, bytes, BLK_OVERLAY_BITMAP);
	if (ret < 0)
		return error_errno(err, -ret, "cannot read '%s'", path);
	for (uint64_t i = clusters; i < bytes * 8; i++)
		if (o->stable[i / 8] >> i % 8 & 1)
			return error_set(err, ERROR_CORRUPT,
				"the overlay '%s' is shorter than it was, or its bitmap is damaged",
				path);
	for (uint64_t i = 0; i < bytes / sizeof(uint64_t); i++) {
		uint64_t word;

		memcpy(&word, o->stable + i * sizeof(word), sizeof(word));
		if (word)
			atomic_store(&o->live[i], le64toh(word));
	}
	return 0;
}

static int open_all(struct blk_overlay *o, const char *path, const char *base, struct error *err)
{
	_cleanup_free_ struct overlay_header *header = aligned_alloc(PAGE, PAGE);
	int ret = header && o->cluster && o->live != MAP_FAILED && o->stable != MAP_FAILED
			  ? open_base(base, &o->base_fd, &o->base_size, err)
			  : error_errno(err, ENOMEM, "cannot open '%s'", path);

	if (ret < 0)
		return ret;
	ret = read_all(o->fd, header, PAGE, 0);
	if (ret < 0)
		return error_errno(err, -ret, "cannot read the overlay '%s'", path);
	ret = check_header(o, header, path, base, err);
	return ret < 0 ? ret : load_bitmap(o, path, err);
}

static void *map_bits(void)
{
	return mmap(NULL, BITMAP_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
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
	o->live = map_bits();
	o->stable = map_bits();
	o->cluster = aligned_alloc(PAGE, BLK_OVERLAY_CLUSTER);
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
		munmap((void *)o->live, BITMAP_BYTES);
	if (o->stable != MAP_FAILED)
		munmap(o->stable, BITMAP_BYTES);
	free(o->fresh);
	free(o->cluster);
	free(o);
}

int blk_overlay_size(const struct blk_overlay *o, uint64_t *size, struct error *err)
{
	off_t end = lseek(o->fd, 0, SEEK_END);

	if (end < 0)
		return error_errno(err, errno, "cannot find out its size");
	if ((uint64_t)end < BLK_OVERLAY_DATA + o->base_size ||
		(uint64_t)end - BLK_OVERLAY_DATA > BLK_OVERLAY_MAX)
		return error_set(err, ERROR_CORRUPT,
			"the overlay is shorter than its base, or longer than it can be");
	*size = (uint64_t)end - BLK_OVERLAY_DATA;
	return 0;
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
	ret = read_all(o->base_fd, o->cluster, there, offset);
	if (ret == 0)
		ret = write_all(o->fd, o->cluster, len, BLK_OVERLAY_DATA + offset);
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
		uint64_t page = align_down(o->fresh[i] / 8, PAGE);

		/* Neighbours are mostly of one page: it is written once, with the last of them. */
		if (i + 1 < count && align_down(o->fresh[i + 1] / 8, PAGE) == page)
			continue;
		ret = write_all(o->fd, o->stable + page, PAGE, BLK_OVERLAY_BITMAP + page);
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
			ret = read_all(fd, to, here, at);
		to += here;
		offset += here;
		len -= here;
	}
	return ret;
}
