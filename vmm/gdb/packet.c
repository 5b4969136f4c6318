/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of gdb's remote serial protocol. See packet.h. */
#include "vmm/gdb/packet.h"

#define ESCAPE	   '}'
#define ESCAPE_BIT 0x20
#define INTERRUPT  0x03

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static enum gdb_input take_between(struct gdb_packet *p, uint8_t byte)
{
	switch (byte) {
	case '$':
		p->state = GDB_DATA;
		p->size = 0;
		p->sum = 0;
		p->sum_bad = false;
		return GDB_INPUT_NONE;
	case INTERRUPT:
		return GDB_INPUT_INTERRUPT;
	case '-':
		return GDB_INPUT_RESEND;
	default: /* '+', or what is left of something torn */
		return GDB_INPUT_NONE;
	}
}

static enum gdb_input keep(struct gdb_packet *p, uint8_t byte)
{
	if (p->size == GDB_PACKET_MAX)
		return GDB_INPUT_TOO_LONG;
	p->data[p->size++] = (char)byte;
	return GDB_INPUT_NONE;
}

static enum gdb_input take_data(struct gdb_packet *p, uint8_t byte)
{
	switch (byte) {
	case '$': /* never within data unescaped: the end of the one before was lost */
		return take_between(p, byte);
	case '#':
		p->state = GDB_SUM_HIGH;
		return GDB_INPUT_NONE;
	case ESCAPE:
		p->sum += byte;
		p->state = GDB_ESCAPED;
		return GDB_INPUT_NONE;
	default:
		p->sum += byte;
		return keep(p, byte);
	}
}

static void take_sum(struct gdb_packet *p, uint8_t byte)
{
	int value = digit((char)byte);

	if (value < 0)
		p->sum_bad = true;
	p->told = (uint8_t)(p->told << 4 | (value & 0xf));
}

enum gdb_input gdb_packet_take(struct gdb_packet *p, uint8_t byte)
{
	switch (p->state) {
	case GDB_BETWEEN:
		return take_between(p, byte);
	case GDB_DATA:
		return take_data(p, byte);
	case GDB_ESCAPED:
		p->sum += byte;
		p->state = GDB_DATA;
		return keep(p, byte ^ ESCAPE_BIT);
	case GDB_SUM_HIGH:
		take_sum(p, byte);
		p->state = GDB_SUM_LOW;
		return GDB_INPUT_NONE;
	case GDB_SUM_LOW:
		take_sum(p, byte);
		p->state = GDB_BETWEEN;
		p->data[p->size] = '\0';
		return p->sum_bad || p->told != p->sum ? GDB_INPUT_BAD_SUM : GDB_INPUT_PACKET;
	}
	return GDB_INPUT_NONE;
}

size_t gdb_packet_make(const char *data, size_t size, char *out)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t sum = 0;
	size_t n = 0;

	out[n++] = '$';
	for (size_t i = 0; i < size; i++) {
		char c = data[i];

		if (c == '$' || c == '#' || c == ESCAPE || c == '*') {
			out[n++] = ESCAPE;
			c ^= ESCAPE_BIT;
		}
		out[n++] = c;
	}
	for (size_t i = 1; i < n; i++)
		sum += (uint8_t)out[i];
	out[n++] = '#';
	out[n++] = digits[sum >> 4];
	out[n++] = digits[sum & 0xf];
	return n;
}

bool gdb_take_number(const char **at, uint64_t *number)
{
	unsigned digits = 0;

	*number = 0;
	while (digit(**at) >= 0) {
		if (++digits > 16)
			return false;
		*number = *number << 4 | (uint64_t)digit(**at);
		++*at;
	}
	return digits;
}

bool gdb_take_byte(const char **at, char byte)
{
	if (**at != byte)
		return false;
	++*at;
	return true;
}

bool gdb_take_thread(const char **at, uint64_t *thread)
{
	if (!gdb_take_byte(at, '-'))
		return gdb_take_number(at, thread);
	*thread = 0;
	return gdb_take_byte(at, '1');
}

bool gdb_from_hex(const char *text, uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		int high = digit(text[2 * i]);
		int low = high < 0 ? -1 : digit(text[2 * i + 1]);

		if (low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

size_t gdb_to_hex(const void *bytes, size_t size, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < size; i++) {
		uint8_t byte = ((const uint8_t *)bytes)[i];

		text[2 * i] = digits[byte >> 4];
		text[2 * i + 1] = digits[byte & 0xf];
	}
	return 2 * size;
}
