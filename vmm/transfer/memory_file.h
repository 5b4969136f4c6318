/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a snapshot's memory: pages in any order, from several threads, into `memory` or `memory.zst`.
 *
 * Pages of zeros are not written: they stay holes, and in an incremental snapshot are noted in `pages`. Each page is looked at,
 * summed and written while it is in the CPU's cache; no copy is made, the kernel takes it from where it is. Its content must
 * not change meanwhile: whoever calls keeps the guest from it (paused, or write-protected). But where pages may come again it may,
 * if such a page does come again: what came last counts.
 *
 *   memory_file_open()             makes the file in a snapshot_dir's folder
 *   memory_file_put()/_write()     each page at most once, unless `again`; what never comes is zero (full) or the parent's (incremental)
 *   memory_file_finish()           index files, everything on the disk, the parts added to the manifest
 *   memory_file_close()            in any case
 *
 * memory_file_put() may be called by several threads at once, for different pages; the rest belongs to one. `cancel` is looked at every MiB.
 */
#pragma once

#include "vmm/transfer/manifest.h"

#include <stdatomic.h>

struct memory_file;

struct memory_file_config {
	int dir;	/* the folder */
	uint64_t pages; /* of the row: memory_layout_pages() */
	enum snapshot_kind kind;
	enum snapshot_compression compression;
	int level;  /* of zstd; 0: ours */
	bool again; /* a page may come again, in place of what it was: costs 16 bytes a page */
	unsigned threads; /* that memory_file_write() may use; 0: one a host CPU, at most 8 */
	const atomic_bool *cancel; /* NULL: never */
	/* After each MiB or less, by whichever thread did it; pages looked at and bytes written so far. NULL: nothing. */
	void (*progress)(void *owner, uint64_t pages, uint64_t bytes);
	void *owner;
};

/* `count` pages of the row from number `page` on are at `host`. */
struct memory_piece {
	const uint8_t *host;
	uint64_t page, count;
};

int memory_file_open(
	struct memory_file **out, const struct memory_file_config *config, struct error *err);
int memory_file_put(struct memory_file *file, uint64_t page, const uint8_t *host, uint64_t count,
	struct error *err);
/* All pieces, on several threads. */
int memory_file_write(struct memory_file *file, const struct memory_piece *pieces, unsigned count,
	struct error *err);
/* Fills the manifest's kind, compression, page counts, and adds its parts. */
int memory_file_finish(
	struct memory_file *file, struct snapshot_manifest *manifest, struct error *err);
void memory_file_close(struct memory_file *file);
