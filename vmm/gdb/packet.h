/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets of gdb's remote serial protocol (GDB manual §E.1 "Overview"): $ data # checksum, and what may come between them.
 * Nothing but bytes: no socket and no guest, so that it can be tested and fuzzed alone.
 *
 * Input is hostile: a packet that is longer than GDB_PACKET_MAX is an error of the peer, and every number has an end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GDB_PACKET_MAX 16384 /* bytes of data, as told in PacketSize */

struct gdb_packet {
	enum { GDB_BETWEEN, GDB_DATA, GDB_ESCAPED, GDB_SUM_HIGH, GDB_SUM_LOW } state;
	uint8_t sum, told; /* of the bytes as they came; as the packet says */
	bool sum_bad;	   /* was no number */
	size_t size;
	char data[GDB_PACKET_MAX + 1]; /* unescaped; a NUL behind it, which it may also hold */
};

enum gdb_input {
	GDB_INPUT_NONE,	     /* not yet */
	GDB_INPUT_PACKET,    /* data and size are a whole packet, until the next byte */
	GDB_INPUT_BAD_SUM,   /* one came, but not as it was sent */
	GDB_INPUT_INTERRUPT, /* Ctrl-C: stop the guest */
	GDB_INPUT_RESEND,    /* what was sent last did not arrive well */
	GDB_INPUT_TOO_LONG,  /* the peer does not keep to what it was told: let it go */
};

enum gdb_input gdb_packet_take(struct gdb_packet *packet, uint8_t byte);

#define GDB_PACKET_MADE(size) (2 * (size) + 4)
/* "$data#sum" into `out`, which has room for GDB_PACKET_MADE(size) bytes. Returns how many it made. */
size_t gdb_packet_make(const char *data, size_t size, char *out);

/* A hexadecimal number of 1 to 16 digits at *at, which moves behind it. */
bool gdb_take_number(const char **at, uint64_t *number);

/* *at is this byte, and moves behind it. */
bool gdb_take_byte(const char **at, char byte);

/* A thread id: a positive number, or -1 (all), or 0 (any), which are both 0 in *thread. */
bool gdb_take_thread(const char **at, uint64_t *thread);

/* `size` bytes from twice as many hexadecimal digits. */
bool gdb_from_hex(const char *text, uint8_t *bytes, size_t size);
/* The digits, without a NUL. Returns how many. */
size_t gdb_to_hex(const void *bytes, size_t size, char *text);
