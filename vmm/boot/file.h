/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel or an initial ramdisk as a file: opened with checks, read whole ranges at a time, and asked
 * for its holes. Nothing here knows what is in the file.
 *
 * Errors name the file and what it was to be ("kernel '/x'"), so callers add no context.
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/base/util.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct boot_file {
	int fd;
	uint64_t size;	  /* when it was opened; a file that shrinks later gives an error */
	const char *role; /* "kernel", "initrd" */
	const char *path; /* the caller's */
};

/* A regular file that is not empty, or an error. */
int boot_file_open(struct boot_file *file, const char *role, const char *path, struct error *err);
void boot_file_close(struct boot_file *file);

/* Whether [offset, offset+len) lies within the file. */
bool boot_file_holds(const struct boot_file *file, uint64_t offset, uint64_t len);

/* Read exactly `len` bytes; fewer is an error. */
int boot_file_read(
	const struct boot_file *file, uint64_t offset, void *data, size_t len, struct error *err);

/* Smaller holes are cheaper to read than to leave out. */
#define BOOT_FILE_HOLE_MIN KIB(64)

struct boot_file_hole {
	uint64_t offset, size;
};

/*
 * The first hole of a sparse file in [offset, offset+len) that is worth leaving out. None: size 0, at the
 * range's end. That is also the answer where the file system does not tell, and reading is always right.
 */
struct boot_file_hole boot_file_find_hole(
	const struct boot_file *file, uint64_t offset, uint64_t len);

/* "kernel '/x': what is wrong": the one form of this floor's messages, kind ERROR_BAD_REQUEST. */
int boot_file_error(const struct boot_file *file, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
