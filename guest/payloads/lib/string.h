/* SPDX-License-Identifier: Apache-2.0 */
/* The memory and string functions that a compiler and a test need. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strncmp(const char *a, const char *b, size_t n);

/* %s %c %d %u %x %lu %lx %ld %p %%, with width and zero padding. Returns the length written, cut to size - 1. */
size_t format(char *out, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
size_t format_args(char *out, size_t size, const char *fmt, va_list args);

/* Decimal, or hexadecimal after 0x. */
uint64_t parse_number(const char *s);
