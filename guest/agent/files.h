/* SPDX-License-Identifier: Apache-2.0 */
/* Small files of /proc, /sys and /etc: read whole, written whole. Workers and boot only: any of it may block. */
#pragma once

#include "vmm/base/error.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* At most size - 1 bytes, NUL-terminated, without line ends at the end. Returns the length, 0 when there is none. */
size_t file_read(const char *path, char *buf, size_t size);
/* The same with a path made from a format. */
size_t file_readf(char *buf, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The number it begins with, or 0. */
uint64_t file_numberf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* As a JSON text, null when there is no such file. */
json_t *file_json(const char *path);

/* A short text into a file of /proc or /sys. */
int file_write(const char *path, const char *text, struct error *err);
/*
 * A file of /etc, whole or not at all: a new file is renamed over it. Where that cannot be (a bind mount of
 * a container), or it is a symbolic link, it is written in place.
 */
int file_replace(const char *path, const char *text, struct error *err);
/* mkdir -p */
int file_folders(const char *path, struct error *err);
