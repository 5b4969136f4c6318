/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot's files: whole writes and reads at an offset, and checksums (XXH3, 128 bits).
 *
 * Writes go on until all is written, reads until all is there; an interruption is no end. What is shorter than it should be
 * is corrupt. `name` is the file in messages. Thread-safe.
 */
#pragma once

#include "vmm/base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct checksum {
	uint64_t low, high;
};

#define CHECKSUM_TEXT_SIZE 33 /* 32 hexadecimal digits and a NUL */

struct checksum checksum_of(const void *bytes, size_t size);
bool checksum_equal(struct checksum a, struct checksum b);
void checksum_format(struct checksum sum, char text[CHECKSUM_TEXT_SIZE]);
bool checksum_parse(const char *text, struct checksum *sum);

int file_write(int fd, const void *bytes, size_t size, uint64_t offset, const char *name,
	struct error *err);
int file_read(
	int fd, void *bytes, size_t size, uint64_t offset, const char *name, struct error *err);

/* Make `name` in the folder `dir` of these bytes, on the disk when it returns. It must not be there yet. */
int file_make(int dir, const char *name, const void *bytes, size_t size, struct error *err);

/*
 * The whole of `name` in the folder `dir`, which must be a regular file of at most `limit` bytes; followed by a NUL that
 * *size does not count. The caller's to free().
 */
int file_load(int dir, const char *name, uint64_t limit, uint8_t **bytes, size_t *size,
	struct error *err);

/*
 * A file that grows as PATH.part-PID beside its place and gets its name when it is whole and on the disk. Open it, write to `fd`, commit it;
 * without a commit, abandon it, and nothing is left. `path` must outlive it.
 */
struct file_part {
	const char *path;
	char *made;
	int fd;
};

int file_part_open(struct file_part *part, const char *path, bool replace, struct error *err);
/* `replace`: over what is there; else that is refused. */
int file_part_commit(struct file_part *part, bool replace, struct error *err);
/* After a commit it only closes. */
void file_part_abandon(struct file_part *part);
