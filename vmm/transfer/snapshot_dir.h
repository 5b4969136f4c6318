/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot's folder comes into being whole or not at all.
 *
 *   snapshot_dir_create()	a folder NAME.tmp-XXXXXXXX beside it, with a lock in it; what dead processes left there goes
 *   (parts)			made in dir->fd by whoever has them, each synced to the disk (file_make(), memory_file_*())
 *   snapshot_dir_commit()	the manifest, last; all on the disk; the folder gets its name; then the stamp of chain.h
 *   snapshot_dir_abandon()	in any case: closes, and removes what was not committed
 *
 * The name must not be there yet, at the beginning nor at the end. All calls are relative to the parent's descriptor. A lock that
 * a dead process held is free, so its folder is known for what it is. One thread at a time; for a worker: they wait for the disk.
 */
#pragma once

#include "vmm/transfer/manifest.h"

struct snapshot_dir {
	int parent; /* the folder that it is to be in; -1: closed */
	int fd;	    /* the folder as it grows */
	int lock;
	char *path; /* as it was given, for messages */
	char *name; /* its last member */
	char *temp; /* the name as it grows; NULL: committed */
};

#define SNAPSHOT_LOCK_FILE ".growing"

int snapshot_dir_create(struct snapshot_dir *dir, const char *path, struct error *err);
/* A small part: written, synced, added to the manifest. */
int snapshot_dir_part(struct snapshot_dir *dir, struct snapshot_manifest *manifest,
	const char *name, const void *bytes, size_t size, struct error *err);
/* A small file that somebody made and synced in dir->fd: read, summed, added to the manifest. */
int snapshot_dir_add_file(struct snapshot_dir *dir, struct snapshot_manifest *manifest,
	const char *name, uint64_t limit, struct error *err);
int snapshot_dir_commit(
	struct snapshot_dir *dir, const struct snapshot_manifest *manifest, struct error *err);
void snapshot_dir_abandon(struct snapshot_dir *dir);

/*
 * Removes a snapshot: at first its name, so that it is never there by half; whoever is interrupted behind that has left what
 * the next snapshot beside it removes. What has no manifest is refused, and what is no folder.
 */
int snapshot_dir_remove(const char *path, struct error *err);
