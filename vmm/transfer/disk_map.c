/* SPDX-License-Identifier: Apache-2.0 */
/* Block maps: which blocks an incremental copy of a disk holds. See disk_file.h for the bytes. */
#include "vmm/base/util.h"
#include "vmm/transfer/disk_file.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#define MAP_VERSION 1
#define MAP_MAX	    MIB(512) /* of a disk of 256 TiB */

struct map_header {
	char magic[8];
	uint32_t version, block;
	uint64_t size;
};

struct map_sum {
	uint64_t low, high;
};

static const char magic[8] = {'B', 'H', 'B', 'L', 'K', 'M', 'A', 'P'};

static uint64_t bitmap_bytes(uint64_t disk)
{
	return (block_count(disk) + 63) / 64 * sizeof(uint64_t);
}

static uint64_t file_bytes(uint64_t disk)
{
	return sizeof(struct map_header) + bitmap_bytes(disk) + sizeof(struct map_sum);
}

static struct map_sum sum_of(const uint8_t *bytes, uint64_t size)
{
	XXH128_hash_t hash = XXH3_128bits(bytes, size - sizeof(struct map_sum));

	return (struct map_sum){htole64(hash.low64), htole64(hash.high64)};
}

static void encode(uint8_t *bytes, const struct page_set *set, uint64_t disk)
{
	struct map_header header = {.version = htole32(MAP_VERSION),
		.block = htole32(BLK_DIRTY_BLOCK),
		.size = htole64(disk)};
	uint8_t *at = bytes + sizeof(header);
	struct map_sum sum;

	memcpy(header.magic, magic, sizeof(magic));
	memcpy(bytes, &header, sizeof(header));
	for (uint64_t i = 0; i < bitmap_bytes(disk) / sizeof(uint64_t); i++) {
		uint64_t word = i * 64 < set->count ? htole64(set->words[i]) : 0;

		memcpy(at, &word, sizeof(word));
		at += sizeof(word);
	}
	sum = sum_of(bytes, file_bytes(disk));
	memcpy(at, &sum, sizeof(sum));
}

static int write_all(int fd, const uint8_t *bytes, uint64_t size)
{
	for (uint64_t at = 0; at < size;) {
		ssize_t n = pwrite(fd, bytes + at, size - at, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += (uint64_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

int disk_map_write(
	int dirfd, const char *name, const struct page_set *set, uint64_t size, struct error *err)
{
	_cleanup_free_ uint8_t *bytes = malloc(file_bytes(size));
	_cleanup_close_ int fd = -1;
	int ret;

	if (!bytes)
		return error_errno(err, ENOMEM, "cannot write '%s'", name);
	encode(bytes, set, size);
	fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, errno, "cannot make '%s'", name);
	ret = write_all(fd, bytes, file_bytes(size));
	return ret < 0 ? error_errno(err, -ret, "cannot write '%s'", name) : 0;
}

/* ---- reading ---- */

static int load(int dirfd, const char *name, uint8_t **bytes, uint64_t *size, struct error *err)
{
	_cleanup_close_ int fd =
		openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	ssize_t n = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, errno, "cannot open '%s'", name);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < file_bytes(0) ||
		(uint64_t)st.st_size > MAP_MAX)
		return error_set(err, ERROR_CORRUPT, "'%s' is no block map", name);
	*size = (uint64_t)st.st_size;
	*bytes = malloc(*size);
	if (!*bytes)
		return error_errno(err, ENOMEM, "cannot read '%s'", name);
	for (uint64_t at = 0; at < *size; at += (uint64_t)n) {
		n = pread(fd, *bytes + at, *size - at, (off_t)at);
		if (n <= 0)
			return error_errno(err, n ? errno : EIO, "cannot read '%s'", name);
	}
	return 0;
}

/* The bits beyond the last block must be clear: one content, one file. */
static bool ends_clear(const uint8_t *bitmap, uint64_t disk)
{
	unsigned used = block_count(disk) % 64;
	uint64_t last;

	if (!used)
		return true;
	memcpy(&last, bitmap + bitmap_bytes(disk) - sizeof(last), sizeof(last));
	return !(le64toh(last) >> used);
}

static int check(
	const char *name, const uint8_t *bytes, uint64_t size, uint64_t *disk, struct error *err)
{
	struct map_header header;
	struct map_sum sum = sum_of(bytes, size);

	memcpy(&header, bytes, sizeof(header));
	if (memcmp(header.magic, magic, sizeof(magic)) != 0)
		return error_set(err, ERROR_CORRUPT, "'%s' is no block map", name);
	if (le32toh(header.version) != MAP_VERSION || le32toh(header.block) != BLK_DIRTY_BLOCK)
		return error_set(err, ERROR_INCOMPATIBLE,
			"'%s' is of version %u with blocks of %u bytes; known are version %d and %u bytes",
			name, le32toh(header.version), le32toh(header.block), MAP_VERSION,
			BLK_DIRTY_BLOCK);
	*disk = le64toh(header.size);
	if (*disk > (uint64_t)INT64_MAX || file_bytes(*disk) != size)
		return error_set(err, ERROR_CORRUPT,
			"'%s' has %" PRIu64 " bytes, which is not the map of a disk of %" PRIu64
			" bytes",
			name, size, *disk);
	if (memcmp(&sum, bytes + size - sizeof(sum), sizeof(sum)) != 0 ||
		!ends_clear(bytes + sizeof(header), *disk))
		return error_set(err, ERROR_CORRUPT, "the checksum of '%s' is wrong", name);
	return 0;
}

int disk_map_read(
	int dirfd, const char *name, struct page_set *set, uint64_t *size, struct error *err)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct page_set read = {0};
	uint64_t length = 0, word;
	int ret = load(dirfd, name, &bytes, &length, err);

	if (ret == 0)
		ret = check(name, bytes, length, size, err);
	if (ret < 0)
		return ret;
	ret = page_set_create(&read, block_count(*size), err);
	if (ret < 0)
		return ret;
	for (uint64_t i = 0; i * 64 < read.count; i++) {
		memcpy(&word, bytes + sizeof(struct map_header) + i * sizeof(word), sizeof(word));
		read.words[i] = le64toh(word);
	}
	*set = read;
	return 0;
}
