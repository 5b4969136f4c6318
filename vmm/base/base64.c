/* SPDX-License-Identifier: Apache-2.0 */
/* Base64, RFC 4648. Strict: one byte string has one text, so what is accepted is what we write. */
#include "vmm/base/base64.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_encode(const void *bytes, size_t size, char *text)
{
	const uint8_t *from = bytes;
	char *to = text;

	for (; size >= 3; size -= 3, from += 3) {
		uint32_t word = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];

		*to++ = digits[word >> 18];
		*to++ = digits[word >> 12 & 63];
		*to++ = digits[word >> 6 & 63];
		*to++ = digits[word & 63];
	}
	if (size) {
		uint32_t word = (uint32_t)from[0] << 16 | (size > 1 ? (uint32_t)from[1] << 8 : 0);

		*to++ = digits[word >> 18];
		*to++ = digits[word >> 12 & 63];
		*to++ = size > 1 ? digits[word >> 6 & 63] : '=';
		*to++ = '=';
	}
	*to = '\0';
	return (size_t)(to - text);
}

static int digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(const char *text, size_t len, void *bytes, size_t *size)
{
	uint8_t *to = bytes;

	*size = 0;
	if (len % 4)
		return false;
	for (size_t i = 0; i < len; i += 4) {
		unsigned pad = i + 4 < len ? 0
					   : (text[i + 3] == '=') +
						     (text[i + 2] == '=' && text[i + 3] == '=');
		uint32_t word = 0;

		for (unsigned j = 0; j < 4; j++) {
			int value = j < 4 - pad ? digit_value(text[i + j]) : 0;

			if (value < 0)
				return false;
			word = word << 6 | (uint32_t)value;
		}
		if (pad && word & (pad == 1 ? 0xff : 0xffff))
			return false;
		for (unsigned j = 0; j < 3 - pad; j++)
			to[(*size)++] = (uint8_t)(word >> (16 - 8 * j));
	}
	return true;
}
