/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot and all that it rests on: opened, checked, mapped and read.
 *
 * chain_open() checks what is small, always: each manifest, the ids from child to parent, the checksums of the index files and
 * of the snapshot's own state. What is large is checked by chain_verify(): a part whose stamp still holds (stamp.h) is as it was
 * when it was written or last read in full, and is not read; everything else is. Both must have said yes before a guest runs.
 *
 * Afterwards there is one answer to where each page comes from: extents, in ascending order and without a gap. chain_map()
 * makes a guest's memory of them, in a time that does not grow with it: files are mapped, privately.
 *
 * Everything read is hostile, also between two calls: sizes are checked when a file is opened, and a file is mapped only as
 * far as it then went. Who can truncate a snapshot's file while a guest runs on it can end that guest, by SIGBUS: give
 * snapshots to nobody else. The functions may wait for the disk. chain_read_pages() and chain_find() are thread-safe.
 */
#pragma once

#include "vmm/transfer/manifest.h"
#include "vmm/transfer/page_ranges.h"
#include "vmm/transfer/page_sums.h"
#include "vmm/transfer/zstd_frames.h"

#include <stdatomic.h>

#define CHAIN_LINKS_MAX 256

struct chain_link {
	char *path; /* absolute */
	int dir;
	struct snapshot_manifest manifest;
	int memory; /* `memory` or `memory.zst` */
	struct page_sums sums;
	struct page_ranges ranges; /* of an incremental */
	struct zstd_frames frames; /* of a compressed one */
};

#define CHAIN_ZERO UINT32_MAX

/* Pages [first, first + count) are those of a link, or zero. Those of a compressed link that it has not are zero too. */
struct chain_extent {
	uint64_t first, count;
	uint32_t link; /* number in chain.links, or CHAIN_ZERO */
};

struct chain {
	unsigned count;
	struct chain_link *links; /* the snapshot itself, its parent, ..., the full one */
	uint64_t pages;
	struct chain_extent *extents; /* cover [0, pages) */
	uint64_t extent_count;
};

enum chain_verify_mode {
	CHAIN_VERIFY_STAMPED, /* parts whose stamp holds are not read */
	CHAIN_VERIFY_ALL,
};

struct chain_verify_watch {
	const atomic_bool *cancel; /* NULL: never */
	/* Bytes looked at so far, of all that are to be; by any thread, one at a time. NULL: nothing. */
	void (*progress)(void *owner, uint64_t done, uint64_t total);
	void *owner;
};

int chain_open(struct chain **out, const char *path, struct error *err);
void chain_close(struct chain *chain);

/* `watch` may be NULL. Damage is told with the snapshot, the part and the bytes. What was read in full gets a new stamp. */
int chain_verify(struct chain *chain, enum chain_verify_mode mode,
	const struct chain_verify_watch *watch, struct error *err);

/* A small part of the snapshot itself, checked; the caller's to free(). */
int chain_load_part(const struct chain *chain, const char *name, uint64_t limit, uint8_t **bytes,
	size_t *size, struct error *err);

/* The extent that page `page` is in; NULL behind the end. */
const struct chain_extent *chain_find(const struct chain *chain, uint64_t page);

/* Pages as they were, from whatever form they are in. */
int chain_read_pages(
	const struct chain *chain, uint64_t first, uint64_t count, uint8_t *to, struct error *err);

/* Of a compressed link: the pages that it has of these, each to its place; the others are left as they are. */
int chain_unpack(const struct chain_link *link, uint64_t first, uint64_t count, uint8_t *to,
	struct error *err);

/* Whether any of its memory is compressed, so that it cannot be mapped. */
bool chain_is_compressed(const struct chain *chain);

/* Whether this memory (guest_memory_create(), and the slots that were plugged plugged) is the chain's in size and place. */
int chain_check_memory(
	const struct chain *chain, const struct guest_memory *memory, struct error *err);

/*
 * Make fresh memory that is the chain's what it was. chain_map(): long pieces of files are mapped, short ones read, compressed
 * ones unpacked; with huge pages from the host's pool all is read. chain_fill(): all is read. Where it fails memory is
 * undefined: destroy it. The chain may be closed afterwards.
 */
int chain_map(const struct chain *chain, struct guest_memory *memory, struct error *err);
int chain_fill(const struct chain *chain, struct guest_memory *memory, struct error *err);

/* What a snapshot says of that disk; NULL: nothing. */
const struct snapshot_disk *chain_find_disk(
	const struct snapshot_manifest *manifest, const char *id);

/*
 * The files that the disk's content is made of, as disk_restore() and disk_merge() take them: the snapshot's own, and where that has changes
 * only, its parents', down to one that has all of it: CHAIN_LINKS_MAX at most. They last as long as the chain.
 */
struct disk_layer;
int chain_disk_layers(const struct chain *chain, const char *id, struct disk_layer *layers,
	unsigned *count, struct error *err);

/*
 * Write the chain as one full snapshot into a new folder: memory is byte for byte what a full one would have had. A disk that is a
 * reflink or a copy goes along, shared where the file system can; one that is incremental becomes a copy. Verify it before.
 */
int chain_merge(const struct chain *chain, const char *path, enum snapshot_compression compression,
	const struct chain_verify_watch *watch, struct error *err);

/*
 * The path from the new snapshot's folder `child` (which need not be there yet) to its parent's: relative where both lie under the
 * same folder, at any depth, else absolute. The caller's to free().
 */
int chain_parent_folder(const char *child, const char *parent, char **folder, struct error *err);
