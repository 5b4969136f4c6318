/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 with padding, RFC 4648 section 4: how bytes that need not be text travel in JSON. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for the text of `size` bytes, its NUL included. */
#define BASE64_SIZE(size) (((size) + 2) / 3 * 4 + 1)

/* Write the text, NUL-terminated; `text` has BASE64_SIZE(size) bytes of room. Returns its length. */
size_t base64_encode(const void *bytes, size_t size, char *text);

/*
 * Read `len` characters into `bytes`, which has len / 4 * 3 bytes of room. False when the text is not
 * exactly what base64_encode() would have written (blanks, a missing '=', bits that are lost).
 */
bool base64_decode(const char *text, size_t len, void *bytes, size_t *size);
