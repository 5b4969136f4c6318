/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages in compressed frames: the file `memory.zst`.
 *
 * The row of pages is cut into blocks of 1 MiB. A frame is one Zstandard frame (RFC 8878, with its content checksum) of some
 * pages of one block, in ascending order; which, says its entry in the index behind the last frame. A block may have several frames
 * with different pages, in any order in the file, so whoever writes may do so in any order and from several threads.
 * A page that no frame has is zero.
 *
 * File, little-endian: frames; entries (uint64 first page of the block, uint64 offset of the frame, uint32 its size, uint32 0,
 * four uint64 with bit n of word n / 64 for page n of the block), ascending by first page and offset; and the end: magic
 * "BHZSTD1\0", uint64 pages of the row, uint64 number of entries. The index is the entries and the end; the manifest has its checksum.
 *
 * zstd_writer_put() may be called by several threads at once, for different pages; zstd_frames_read() by any number. The rest
 * belongs to one thread.
 */
#pragma once

#include "vmm/transfer/file.h"

#include <stdbool.h>
#include <stddef.h>

#define ZSTD_BLOCK_PAGES   256u
#define ZSTD_LEVEL_DEFAULT 1

struct zstd_entry {
	uint64_t first, offset;
	uint32_t size;
	uint64_t pages[ZSTD_BLOCK_PAGES / 64];
};

/* ---- writing ---- */

struct zstd_writer;

int zstd_writer_create(
	struct zstd_writer **out, int fd, uint64_t pages, int level, struct error *err);
void zstd_writer_destroy(struct zstd_writer *writer);

/* `pages`: bit n says that page n of the block at `first` is at host + n * GUEST_PAGE_SIZE and is to be written. */
int zstd_writer_put(struct zstd_writer *writer, uint64_t first, const uint8_t *host,
	const uint64_t pages[ZSTD_BLOCK_PAGES / 64], struct error *err);
/* Bytes of frames so far. */
uint64_t zstd_writer_size(const struct zstd_writer *writer);
/* The index behind them: the file's whole size and the index's checksum. */
int zstd_writer_finish(
	struct zstd_writer *writer, uint64_t *size, struct checksum *sum, struct error *err);

/* ---- reading ---- */

struct zstd_frames {
	uint64_t pages, count;
	struct zstd_entry *entries;
};

/* The index of a file of `size` bytes whose row must have `pages` pages. Hostile; nothing stays behind on failure. */
int zstd_frames_open(struct zstd_frames *frames, int fd, uint64_t size, uint64_t pages,
	const struct checksum *sum, struct error *err);
void zstd_frames_close(struct zstd_frames *frames);

/* The first entry whose block begins at `page` or later; frames->count: none. */
uint64_t zstd_frames_find(const struct zstd_frames *frames, uint64_t page);
unsigned zstd_entry_pages(const struct zstd_entry *entry);
/* The entry's pages, one behind the other, into `to`, which has room for zstd_entry_pages(). */
int zstd_frames_read(const struct zstd_frames *frames, int fd, const struct zstd_entry *entry,
	uint8_t *to, struct error *err);
