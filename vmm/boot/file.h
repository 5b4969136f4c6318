/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel or an initial ramdisk as a file: opened with checks, read whole ranges at a time straight
 * into guest RAM. Nothing here knows what is in the file.
 *
 * Errors name the file and what it was to be ("kernel '/x'"), so callers add no context.
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/memory/guest_memory.h"

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

/* The same, into guest RAM. The range must be RAM: the caller has placed it. */
int boot_file_load(const struct boot_file *file, uint64_t offset, const struct guest_memory *memory,
	uint64_t gpa, uint64_t len, struct error *err);

/* "kernel '/x': what is wrong": the one form of this floor's messages, kind ERROR_BAD_REQUEST. */
int boot_file_error(const struct boot_file *file, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
