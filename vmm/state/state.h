/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state codec: what a device or a vCPU is, as bytes that a later version can read.
 *
 * A thing describes itself once, by a table of fields over a plain structure; the one table saves it, loads it, prints it
 * and lets tests fill it with anything. In the file each thing is a section (name, instance, version), each field carries its
 * name, kind and length, so a reader needs no older program to know what it sees:
 *
 *   a field that the table has from a later version on than the section's stays as the caller's defaults have it
 *   a field that the table has and the section should have, but has not, is refused: the file is corrupt
 *   a field that the table has not is skipped where its writer called it optional, and refused otherwise
 *
 * Rules for tables: a name never changes its meaning; a new field gets `since` of the table's new version; a field that goes
 * stays in files only. What is read is hostile: lengths, counts and ranges are checked against the table before anything
 * is written, and a thing that fails is left as it was. docs/snapshot-format.md has the bytes.
 *
 * Threads: an object belongs to one thread at a time; tables are constants.
 */
#pragma once

#include "vmm/base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATE_FORMAT	1 /* of the file as such; tables have versions of their own */
#define STATE_NAME_MAX	63
#define STATE_DEPTH_MAX 4	    /* lists in lists */
#define STATE_SIZE_MAX	(64u << 20) /* a file that is larger is not read */

enum state_kind {
	STATE_KIND_UINT =
		1, /* 1, 2, 4 or 8 bytes each, little-endian; a bool is one byte of 0 or 1 */
	STATE_KIND_BYTES,
	STATE_KIND_TEXT, /* without its NUL; UTF-8 */
	STATE_KIND_LIST, /* of structures with a table of their own */
};

struct state_table;

struct state_field {
	const char *name;
	enum state_kind kind;
	uint32_t offset; /* in the structure */
	uint32_t size;	 /* of one element, bytes */
	uint32_t count;	 /* elements there is room for */
	uint32_t used;	 /* offset of a uint32_t that says how many are in use, or STATE_ALL */
	const struct state_table *table; /* of a list's elements */
	uint64_t max;			 /* no UINT may be more; 0: any that fits */
	uint16_t since;			 /* the table's version that brought it; 0 is the first */
	bool optional;			 /* a reader that does not know it may skip it */
};

#define STATE_ALL UINT32_MAX

struct state_table {
	const char *name;
	uint16_t version; /* 1 and up */
	uint16_t oldest;  /* the oldest version of a section that is still read */
	bool optional;	  /* a reader that does not know the thing may go on without it */
	uint32_t size;	  /* of the structure */
	uint32_t field_count;
	const struct state_field *fields;
	/* What no field can say alone; NULL: nothing. The structure is a copy that nobody uses yet. */
	int (*check)(const void *thing, struct error *err);
};

/* Fields of `type`: a number or bool; a fixed array of numbers; bytes of fixed length; text in a char array. */
#define STATE_MEMBER_SIZE(type, member) sizeof(((type *)NULL)->member)
#define STATE_UINT(type, member, ...)                                                              \
	{                                                                                          \
		.name = #member, .kind = STATE_KIND_UINT, .offset = offsetof(type, member),        \
		.size = STATE_MEMBER_SIZE(type, member), .count = 1, .used = STATE_ALL,            \
		__VA_ARGS__                                                                        \
	}
#define STATE_BOOL(type, member, ...) STATE_UINT(type, member, .max = 1, __VA_ARGS__)
#define STATE_UINTS(type, member, ...)                                                             \
	{                                                                                          \
		.name = #member, .kind = STATE_KIND_UINT, .offset = offsetof(type, member),        \
		.size = STATE_MEMBER_SIZE(type, member[0]),                                        \
		.count = STATE_MEMBER_SIZE(type, member) / STATE_MEMBER_SIZE(type, member[0]),     \
		.used = STATE_ALL, __VA_ARGS__                                                     \
	}
#define STATE_BYTES(type, member, ...)                                                             \
	{                                                                                          \
		.name = #member, .kind = STATE_KIND_BYTES, .offset = offsetof(type, member),       \
		.size = 1, .count = STATE_MEMBER_SIZE(type, member), .used = STATE_ALL,            \
		__VA_ARGS__                                                                        \
	}
#define STATE_TEXT(type, member, ...)                                                              \
	{                                                                                          \
		.name = #member, .kind = STATE_KIND_TEXT, .offset = offsetof(type, member),        \
		.size = 1, .count = STATE_MEMBER_SIZE(type, member), .used = STATE_ALL,            \
		__VA_ARGS__                                                                        \
	}
/* As many as the uint32_t `number` says: bytes; structures with a table of their own. */
#define STATE_BLOB(type, member, number, ...)                                                      \
	{                                                                                          \
		.name = #member, .kind = STATE_KIND_BYTES, .offset = offsetof(type, member),       \
		.size = 1, .count = STATE_MEMBER_SIZE(type, member),                               \
		.used = offsetof(type, number), __VA_ARGS__                                        \
	}
#define STATE_LIST(type, member, number, elements, ...)                                            \
	{                                                                                          \
		.name = #member, .kind = STATE_KIND_LIST, .offset = offsetof(type, member),        \
		.size = STATE_MEMBER_SIZE(type, member[0]),                                        \
		.count = STATE_MEMBER_SIZE(type, member) / STATE_MEMBER_SIZE(type, member[0]),     \
		.used = offsetof(type, number), .table = (elements), __VA_ARGS__                   \
	}
/* All elements of a fixed array of structures. */
#define STATE_ARRAY(type, member, elements, ...)                                                   \
	{                                                                                          \
		.name = #member, .kind = STATE_KIND_LIST, .offset = offsetof(type, member),        \
		.size = STATE_MEMBER_SIZE(type, member[0]),                                        \
		.count = STATE_MEMBER_SIZE(type, member) / STATE_MEMBER_SIZE(type, member[0]),     \
		.used = STATE_ALL, .table = (elements), __VA_ARGS__                                \
	}

#define STATE_TABLE(label, number, type, list, ...)                                                \
	{                                                                                          \
		.name = (label), .version = (number), .oldest = 1, .size = sizeof(type),           \
		.field_count = sizeof(list) / sizeof((list)[0]), .fields = (list), __VA_ARGS__     \
	}

/* ---- writing ---- */

struct state_writer {
	uint8_t *bytes;
	size_t size, room;
	bool failed; /* there was no memory: told by state_finish() */
};

void state_begin(struct state_writer *out);

/* `instance` tells things of one kind apart ("", "0", "data"). Aborts on a table or thing that breaks its own rules. */
void state_save(struct state_writer *out, const struct state_table *table, const char *instance,
	const void *thing);

/* The end mark and the checksum: out->bytes is a complete file then, the caller's to write and to state_release(). */
int state_finish(struct state_writer *out, struct error *err);
void state_release(struct state_writer *out);

/* ---- reading ---- */

struct state_section {
	char name[STATE_NAME_MAX + 1], instance[STATE_NAME_MAX + 1];
	uint16_t version;
	bool optional, taken;
	const uint8_t *body;
	uint32_t size;
};

struct state_reader {
	struct state_section *sections;
	unsigned count;
};

/* Checks the file's frame and checksum. `bytes` must stay as long as the reader. Nothing stays behind on failure. */
int state_open(struct state_reader *in, const void *bytes, size_t size, struct error *err);
void state_close(struct state_reader *in);

/* NULL: there is none. */
const struct state_section *state_find(
	const struct state_reader *in, const char *name, const char *instance);

/* `thing` holds the defaults of what older versions did not have; unchanged on failure. */
int state_load(struct state_reader *in, const struct state_table *table, const char *instance,
	void *thing, struct error *err);

/* Refuses where a section was never loaded and is not optional: it belongs to something that this machine has not. */
int state_all_taken(const struct state_reader *in, struct error *err);

/* Everything in it, without any table: {"section": "vcpu", "instance": "0", "version": 1, "fields": {...}} in a list. A new reference. */
json_t *state_describe(const struct state_reader *in, struct error *err);
