/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a memory file: what waited is compressed, the index files are made of what was noted of each page, and all of it is on
 * the disk before the manifest hears of it. See memory_file.h.
 */
#include "vmm/transfer/memory_file_private.h"

#include "vmm/base/util.h"
#include "vmm/transfer/file.h"
#include "vmm/transfer/page_ranges.h"

#include <errno.h>
#include <unistd.h>

static int make_part(const struct memory_file *file, const char *name, uint8_t *bytes, size_t size,
	struct snapshot_manifest *manifest, struct error *err)
{
	struct checksum sum = checksum_of(bytes, size);
	int ret = file_make(file->config.dir, name, bytes, size, err);

	free(bytes);
	return ret ?: snapshot_manifest_add(manifest, name, SNAPSHOT_CHECK_WHOLE, size, &sum, err);
}

/* From the bits: runs of pages that came and are zero, or came and are not. */
static int collect_ranges(
	const struct memory_file *file, struct page_ranges *ranges, struct error *err)
{
	int ret = 0;

	for (uint64_t word = 0; ret == 0 && word <= file->config.pages / 64; word++) {
		uint64_t seen = file->seen[word], zero = file->zero[word];

		while (ret == 0 && seen) {
			unsigned n = (unsigned)__builtin_ctzll(seen);

			ret = page_ranges_append(
				ranges, (struct page_run){word * 64 + n, 1, zero >> n & 1}, err);
			seen &= seen - 1;
		}
	}
	return ret;
}

static int write_ranges(
	const struct memory_file *file, struct snapshot_manifest *manifest, struct error *err)
{
	struct page_ranges ranges = {.pages = file->config.pages};
	uint8_t *bytes;
	size_t size;
	int ret = collect_ranges(file, &ranges, err);

	if (ret == 0)
		ret = page_ranges_encode(&ranges, &bytes, &size, err);
	if (ret == 0)
		ret = make_part(file, PAGE_RANGES_FILE, bytes, size, manifest, err);
	page_ranges_destroy(&ranges);
	return ret;
}

static int write_sums(
	const struct memory_file *file, struct snapshot_manifest *manifest, struct error *err)
{
	uint8_t *bytes;
	size_t size;
	int ret = page_sums_encode(&file->sums, &bytes, &size, err);

	return ret ?: make_part(file, PAGE_SUMS_FILE, bytes, size, manifest, err);
}

/* A block of what waits; `data`: which of its pages hold something. */
static int pack_block(struct memory_file *file, uint64_t block, uint8_t *room,
	const uint64_t data[MEMORY_FILE_WORDS], struct error *err)
{
	uint64_t count = min_u64(MEMORY_FILE_BLOCK, file->config.pages - block);
	int ret = file_read(file->fd, room, count * GUEST_PAGE_SIZE, block * GUEST_PAGE_SIZE,
		MEMORY_FILE_WAITING, err);

	return ret ?: zstd_writer_put(file->zstd, block, room, data, err);
}

static int pack(struct memory_file *file, struct error *err)
{
	_cleanup_free_ uint8_t *room = malloc(MEMORY_FILE_BLOCK * GUEST_PAGE_SIZE);
	int ret = room ? 0 : error_errno(err, ENOMEM, "cannot compress memory");

	for (uint64_t block = 0; ret == 0 && block < file->config.pages;
		block += MEMORY_FILE_BLOCK) {
		uint64_t data[MEMORY_FILE_WORDS], any = 0;

		for (unsigned i = 0; i < MEMORY_FILE_WORDS; i++) {
			uint64_t word = block / 64 + i;

			data[i] = word <= file->config.pages / 64
					  ? file->seen[word] & ~file->zero[word]
					  : 0;
			any |= data[i];
		}
		if (file->config.cancel && atomic_load(file->config.cancel))
			ret = error_set(err, ERROR_CANCELLED, "cancelled");
		else if (any)
			ret = pack_block(file, block, room, data, err);
	}
	return ret;
}

static void count_pages(const struct memory_file *file, struct snapshot_manifest *manifest)
{
	manifest->data_pages = manifest->zero_pages = 0;
	for (uint64_t word = 0; word <= file->config.pages / 64; word++) {
		uint64_t seen = file->seen[word], zero = file->zero[word];

		manifest->data_pages += (uint64_t)__builtin_popcountll(seen & ~zero);
		manifest->zero_pages += (uint64_t)__builtin_popcountll(seen & zero);
	}
}

int memory_file_finish(
	struct memory_file *file, struct snapshot_manifest *manifest, struct error *err)
{
	uint64_t size = file->config.pages * GUEST_PAGE_SIZE;
	struct checksum sum = {0};
	int ret = 0;

	if (file->packed >= 0)
		ret = pack(file, err);
	if (ret == 0 && file->zstd)
		ret = zstd_writer_finish(file->zstd, &size, &sum, err);
	if (ret == 0 && fdatasync(file->packed >= 0 ? file->packed : file->fd) < 0)
		ret = error_errno(err, errno, "cannot write '%s' to the disk", file->name);
	if (ret == 0)
		ret = snapshot_manifest_add(
			manifest, file->name, SNAPSHOT_CHECK_CHUNKS, size, &sum, err);
	if (ret == 0)
		ret = write_sums(file, manifest, err);
	if (ret == 0 && file->config.kind == SNAPSHOT_INCREMENTAL)
		ret = write_ranges(file, manifest, err);
	manifest->kind = file->config.kind;
	manifest->compression = file->config.compression;
	count_pages(file, manifest);
	return ret;
}
