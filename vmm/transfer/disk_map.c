/* SPDX-License-Identifier: Apache-2.0 */
/* Block maps: which blocks an incremental copy of a disk holds. See disk_file.h for the bytes. */
#include "vmm/base/util.h"
#include "vmm/transfer/disk_file.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define MAP_VERSION 1
#define MAP_MAX	    MIB(512) /* of a disk of 256 TiB */

struct map_header {
	char magic[8];
	uint32_t version, block;
	uint64_t size;
};

static const char magic[8] = {'B', 'H', 'B', 'L', 'K', 'M', 'A', 'P'};

static uint64_t bitmap_bytes(uint64_t disk)
{
	return (block_count(disk) + 63) / 64 * sizeof(uint64_t);
}

static uint64_t file_bytes(uint64_t disk)
{
	return sizeof(struct map_header) + bitmap_bytes(disk) + sizeof(struct checksum);
}

static struct checksum sum_of(const uint8_t *bytes, uint64_t size)
{
	struct checksum sum = checksum_of(bytes, size - sizeof(sum));

	return (struct checksum){htole64(sum.low), htole64(sum.high)};
}

static void encode(uint8_t *bytes, const struct page_set *set, uint64_t disk)
{
	struct map_header header = {.version = htole32(MAP_VERSION),
		.block = htole32(BLK_DIRTY_BLOCK),
		.size = htole64(disk)};
	uint8_t *at = bytes + sizeof(header);
	struct checksum sum;

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

int disk_map_write(
	int dirfd, const char *name, const struct page_set *set, uint64_t size, struct error *err)
{
	_cleanup_free_ uint8_t *bytes = malloc(file_bytes(size));

	if (!bytes)
		return error_errno(err, ENOMEM, "cannot write '%s'", name);
	encode(bytes, set, size);
	return file_make(dirfd, name, bytes, file_bytes(size), err);
}

/* ---- reading ---- */

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
	struct checksum sum;

	if (size < file_bytes(0))
		return error_set(err, ERROR_CORRUPT, "'%s' is no block map", name);
	sum = sum_of(bytes, size);
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
	uint64_t word;
	size_t length = 0;
	int ret = file_load(dirfd, name, MAP_MAX, &bytes, &length, err);

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
