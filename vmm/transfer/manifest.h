/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot's `manifest.json`: what the snapshot is, of which parts it is made, and how each is checked.
 *
 * It is written last: a folder without one is no snapshot. It carries a checksum over all its other members, and those of
 * the other parts, so that what it says is either what was written or is refused. docs/snapshot-format.md has every member.
 *
 * What is read is hostile: snapshot_manifest_parse() accepts only what keeps all rules below. One thread at a time.
 */
#pragma once

#include "vmm/memory/guest_memory.h"
#include "vmm/schema/schema.h"
#include "vmm/transfer/file.h"
#include "vmm/transfer/memory_layout.h"

#define SNAPSHOT_FORMAT	       1 /* of the folder; the codec and its tables have versions of their own */
#define SNAPSHOT_MANIFEST_FILE "manifest.json"
#define SNAPSHOT_MANIFEST_MAX  (16u << 20)
#define SNAPSHOT_STATE_FILE    "state"
#define SNAPSHOT_MEMORY_FILE   "memory"
#define SNAPSHOT_ZSTD_FILE     "memory.zst"
#define SNAPSHOT_ID_SIZE       33 /* 128 bits at random as text */
#define SNAPSHOT_DISKS_MAX     64
#define SNAPSHOT_PARTS_MAX     96

enum snapshot_kind { SNAPSHOT_FULL, SNAPSHOT_INCREMENTAL };
enum snapshot_compression { SNAPSHOT_PLAIN, SNAPSHOT_ZSTD };

enum snapshot_disk_mode {
	SNAPSHOT_DISK_NONE, /* the disk is as its owner has it */
	SNAPSHOT_DISK_REFLINK,
	SNAPSHOT_DISK_COPY,
	SNAPSHOT_DISK_INCREMENTAL, /* what changed since the parent's */
};

struct snapshot_disk {
	char id[SCHEMA_ID_SIZE];
	enum snapshot_disk_mode mode;
	char file[SCHEMA_ID_SIZE]; /* in the folder; "" for NONE */
	uint64_t size;		   /* of the disk, bytes */
	char *base; /* what the file is to be read together with, as its maker says; NULL: nothing */
};

enum snapshot_check {
	SNAPSHOT_CHECK_WHOLE,  /* a checksum of the file; small files: checked at each opening */
	SNAPSHOT_CHECK_CHUNKS, /* the memory: by memory.sums */
	SNAPSHOT_CHECK_SIZE,   /* no checksum was made: its size alone (a reflink) */
	SNAPSHOT_CHECK_BLOCKS, /* a disk: a checksum to which zeros add nothing, disk_file_sum() */
};

struct snapshot_part {
	char name[SCHEMA_ID_SIZE];
	enum snapshot_check check;
	uint64_t size;
	struct checksum sum; /* WHOLE: of the file; of memory.zst: of its index; else nothing */
};

struct snapshot_manifest {
	char id[SNAPSHOT_ID_SIZE];
	char parent[SNAPSHOT_ID_SIZE]; /* "": none */
	char *parent_folder; /* relative to the snapshot's own folder, or absolute; NULL: none */
	uint64_t created_ns; /* CLOCK_REALTIME */
	char version[SCHEMA_ID_SIZE]; /* of the program that wrote it */
	char name[SCHEMA_ID_SIZE];    /* of the VM */
	char architecture[SCHEMA_ID_SIZE];
	enum snapshot_kind kind;
	bool background; /* memory was written while the VM ran */
	enum snapshot_compression compression;
	struct memory_layout memory;
	uint64_t data_pages,
		zero_pages; /* written; found to be zero (in an incremental: since its parent) */
	json_t *machine;    /* the configuration as an object: for the machine to check */
	json_t *devices;    /* an object: what devices there are, for people */
	unsigned disk_count;
	struct snapshot_disk disks[SNAPSHOT_DISKS_MAX];
	unsigned part_count;
	struct snapshot_part parts[SNAPSHOT_PARTS_MAX];
};

/* A new id, the time and the program's version; all else zero. 0, or an error where the kernel has no random bytes. */
int snapshot_manifest_init(struct snapshot_manifest *manifest, struct error *err);
void snapshot_manifest_destroy(struct snapshot_manifest *manifest);
/* The guest's moment is now. */
void snapshot_manifest_date(struct snapshot_manifest *manifest);

/* NULL: there is none of that name. */
const struct snapshot_part *snapshot_manifest_part(
	const struct snapshot_manifest *manifest, const char *name);
/* A part that is complete. ERROR_NO_RESOURCE when there are too many. `sum` NULL: none. */
int snapshot_manifest_add(struct snapshot_manifest *manifest, const char *name,
	enum snapshot_check check, uint64_t size, const struct checksum *sum, struct error *err);

/* The file's text, the caller's to free(). Aborts on a manifest that breaks the rules. */
int snapshot_manifest_format(
	const struct snapshot_manifest *manifest, char **text, struct error *err);
/* Fills *manifest, or leaves nothing behind. */
int snapshot_manifest_parse(
	struct snapshot_manifest *manifest, const char *text, size_t size, struct error *err);
/* The same from the folder `dir`. */
int snapshot_manifest_read(struct snapshot_manifest *manifest, int dir, struct error *err);
