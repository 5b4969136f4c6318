/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of `memory.zst`'s index, little-endian: see zstd_frames.h. */
#pragma once

#include "vmm/transfer/zstd_frames.h"

#define ZSTD_FILE  "memory.zst"
#define ZSTD_MAGIC "BHZSTD1" /* with its NUL */

struct zstd_disk_entry {
	uint64_t first, offset;
	uint32_t size, zero;
	uint64_t pages[ZSTD_BLOCK_PAGES / 64];
};

struct zstd_disk_end {
	char magic[8];
	uint64_t pages, count;
};
