/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a memory file share: see memory_file.h. */
#pragma once

#include "vmm/transfer/memory_file.h"
#include "vmm/transfer/page_sums.h"
#include "vmm/transfer/zstd_frames.h"

#define MEMORY_FILE_BLOCK   ZSTD_BLOCK_PAGES
#define MEMORY_FILE_WORDS   (MEMORY_FILE_BLOCK / 64)
#define MEMORY_FILE_WAITING "memory.waiting" /* for no longer than it takes to remove the name */

struct memory_file {
	struct memory_file_config config;
	const char *name;
	int fd;
	int direct; /* the same file past the page cache; -1: the file system has none */
	struct page_sums sums;
	struct zstd_writer *zstd;      /* NULL: not compressed */
	_Atomic uint64_t *seen, *zero; /* a bit a page */
	_Atomic uint64_t looked, bytes, pushed;

	/* Where pages may come again. */
	_Atomic uint64_t *written; /* a bit a page: something was put there */
	struct checksum *latest;   /* of each page, as it came last; zeros for one of zeros */
	int packed;		   /* -1, or `memory.zst`: `fd` is the file without a name */
};
