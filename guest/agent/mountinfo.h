/* SPDX-License-Identifier: Apache-2.0 */
/* What is mounted: /proc/self/mountinfo, proc_pid_mountinfo(5), taken apart. */
#pragma once

#include "vmm/base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define MOUNTS_MAX 1024

struct mount_entry {
	char path[512], source[256], type[32];
	unsigned major, minor;
	bool readonly; /* the mount or the file system */
	bool whole;    /* the file system's root, not a folder of it */
};

/* A new array in the order of mounting, at most MOUNTS_MAX; NULL after an error. */
struct mount_entry *mountinfo_read(size_t *count, struct error *err);
/* From text, for the tests. */
struct mount_entry *mountinfo_parse(const char *text, size_t *count);

/* Device numbers that stand for a disk: not /proc, tmpfs, overlay and the like. */
bool mount_is_on_disk(const struct mount_entry *entry);
/* How many folders deep: 0 for the root. */
unsigned mount_depth(const char *path);
