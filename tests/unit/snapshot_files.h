/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of snapshots: a scratch folder, memory of pages that can be told from each other, and a manifest as a VM would make it. */
#pragma once

#include "vmm/transfer/manifest.h"

#include <check.h>

#define MUST(call) ck_assert_msg((call) == 0, "%s", err.text)

/* A new folder on a disk, or in memory where `in_memory`; and all below it removed again. */
void scratch_make(char path[64], bool in_memory);
void scratch_remove(const char *path);

/* A page's content from a number: 0 is zeros. */
void page_fill(uint8_t *page, uint64_t content);

/* An anonymous mapping of so many pages. */
uint8_t *pages_map(uint64_t pages);

/* Two regions around the hole below 4 GiB, `low` and `high` pages, and no area. */
struct memory_layout layout_of_two(uint64_t low, uint64_t high);

/* Ids, a name, an architecture and this layout. */
void manifest_begin(struct snapshot_manifest *manifest, const struct memory_layout *layout);

/*
 * A snapshot of `pages` pages at `host` in a new folder. `parent` NULL: full; else its folder, and `which` says by its bits what
 * pages belong to it.
 */
void snapshot_write(const char *path, const struct memory_layout *layout, const uint8_t *host,
	enum snapshot_compression compression, const char *parent, const uint64_t *which);
