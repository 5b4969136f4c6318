/* SPDX-License-Identifier: Apache-2.0 */
/* The fuzzer's bytes, read as a program: from the front, and zeros once there are none left. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct input {
	const uint8_t *data;
	size_t left;
};

/* The next `bytes` bytes, at most 8, as a little-endian number. */
static inline uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t value = 0;

	if (bytes > in->left)
		bytes = (unsigned)in->left;
	memcpy(&value, in->data, bytes);
	in->data += bytes;
	in->left -= bytes;
	return value;
}
