/* SPDX-License-Identifier: Apache-2.0 */
/* Memory, strings, formatting. See string.h. */
#include "guest/payloads/lib/string.h"

void *memcpy(void *to, const void *from, size_t n)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n)::"memory");
	return to;
}

void *memmove(void *to, const void *from, size_t n)
{
	uint8_t *d = to;
	const uint8_t *s = from;

	if (d <= s || d >= s + n)
		return memcpy(to, from, n);
	while (n--)
		((volatile uint8_t *)d)[n] = s[n];
	return to;
}

void *memset(void *to, int value, size_t n)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(value) : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (size_t i = 0; i < n; i++)
		if (x[i] != y[i])
			return x[i] - y[i];
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

int strncmp(const char *a, const char *b, size_t n)
{
	for (; n; n--, a++, b++)
		if (*a != *b || !*a)
			return (uint8_t)*a - (uint8_t)*b;
	return 0;
}

struct output {
	char *at, *end; /* end: where the NUL goes at the latest */
};

static void put(struct output *out, char c)
{
	if (out->at < out->end)
		*out->at++ = c;
}

static void put_number(struct output *out, uint64_t value, unsigned base, unsigned width, char pad)
{
	char digits[20];
	unsigned n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	for (; width > n; width--)
		put(out, pad);
	while (n)
		put(out, digits[--n]);
}

static void put_string(struct output *out, const char *s)
{
	while (*s)
		put(out, *s++);
}

static void put_signed(struct output *out, int64_t value, unsigned width)
{
	if (value < 0)
		put(out, '-');
	put_number(out, value < 0 ? -(uint64_t)value : (uint64_t)value, 10, width, ' ');
}

/* One conversion, from behind its '%'. Returns where the format goes on. */
static const char *convert(struct output *out, const char *fmt, va_list *args)
{
	char pad = *fmt == '0' ? '0' : ' ';
	unsigned width = 0;
	bool is_long = false;

	for (; *fmt >= '0' && *fmt <= '9'; fmt++)
		width = width * 10 + (unsigned)(*fmt - '0');
	for (; *fmt == 'l'; fmt++)
		is_long = true;
	switch (*fmt) {
	case 's':
		put_string(out, va_arg(*args, const char *));
		break;
	case 'c':
		put(out, (char)va_arg(*args, int));
		break;
	case 'd':
		put_signed(out, is_long ? va_arg(*args, long) : va_arg(*args, int), width);
		break;
	case 'u':
	case 'x':
		put_number(out, is_long ? va_arg(*args, unsigned long) : va_arg(*args, unsigned),
			*fmt == 'x' ? 16 : 10, width, pad);
		break;
	case 'p':
		put_number(out, (uint64_t)va_arg(*args, void *), 16, 16, '0');
		break;
	default:
		put(out, *fmt);
	}
	return fmt + 1;
}

size_t format_args(char *out, size_t size, const char *fmt, va_list args)
{
	struct output o = {.at = out, .end = out + size - 1};
	va_list copy;

	va_copy(copy, args);
	while (*fmt) {
		if (*fmt == '%')
			fmt = convert(&o, fmt + 1, &copy);
		else
			put(&o, *fmt++);
	}
	va_end(copy);
	*o.at = 0;
	return (size_t)(o.at - out);
}

size_t format(char *out, size_t size, const char *fmt, ...)
{
	va_list args;
	size_t n;

	va_start(args, fmt);
	n = format_args(out, size, fmt, args);
	va_end(args);
	return n;
}

uint64_t parse_number(const char *s)
{
	unsigned base = s[0] == '0' && s[1] == 'x' ? 16 : 10;
	uint64_t value = 0;

	for (s += base == 16 ? 2 : 0;; s++) {
		if (*s >= '0' && *s <= '9')
			value = value * base + (uint64_t)(*s - '0');
		else if (base == 16 && *s >= 'a' && *s <= 'f')
			value = value * base + (uint64_t)(*s - 'a' + 10);
		else
			return value;
	}
}
