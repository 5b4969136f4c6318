/* SPDX-License-Identifier: Apache-2.0 */
/* Things become bytes: see state.h, and state_private.h for the bytes. */
#include "vmm/state/state_private.h"

#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>

/* Our own mistake: a table that no reader could follow. */
#define RULE(holds)                                                                                \
	do {                                                                                       \
		if (!(holds))                                                                      \
			abort();                                                                   \
	} while (0)

static void put(struct state_writer *out, const void *bytes, size_t size)
{
	if (out->failed || !size)
		return;
	if (out->room - out->size < size) {
		size_t room = max_u64(out->room * 2, align_up(out->size + size, KIB(4)));
		uint8_t *grown = realloc(out->bytes, room);

		if (!grown) {
			out->failed = true;
			return;
		}
		out->bytes = grown;
		out->room = room;
	}
	memcpy(out->bytes + out->size, bytes, size);
	out->size += size;
}

/* Room for a 32-bit length that is known later. Returns where it is. */
static size_t put_length(struct state_writer *out)
{
	const uint32_t none = 0;
	size_t at = out->size;

	put(out, &none, sizeof(none));
	return at;
}

static void set_length(struct state_writer *out, size_t at, size_t from)
{
	uint32_t length = htole32((uint32_t)(out->size - from));

	RULE(out->failed || out->size - from <= STATE_SIZE_MAX);
	if (!out->failed)
		memcpy(out->bytes + at, &length, sizeof(length));
}

static void put_numbers(
	struct state_writer *out, const uint8_t *from, uint32_t size, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++, from += size) {
		union {
			uint8_t one;
			uint16_t two;
			uint32_t four;
			uint64_t eight;
		} number;

		memcpy(&number, from, size);
		if (size == 2)
			number.two = htole16(number.two);
		else if (size == 4)
			number.four = htole32(number.four);
		else if (size == 8)
			number.eight = htole64(number.eight);
		put(out, &number, size);
	}
}

static void put_fields(struct state_writer *out, const struct state_table *table, const void *thing,
	unsigned depth);

static void put_list(struct state_writer *out, const struct state_field *field, const uint8_t *from,
	uint32_t count, unsigned depth)
{
	for (uint32_t i = 0; i < count; i++, from += field->size) {
		size_t at = put_length(out), begin = out->size;

		put_fields(out, field->table, from, depth + 1);
		set_length(out, at, begin);
	}
}

static uint32_t used_count(const struct state_field *field, const uint8_t *thing)
{
	uint32_t used;

	if (field->kind == STATE_KIND_TEXT)
		return (uint32_t)strnlen((const char *)thing + field->offset, field->count);
	if (field->used == STATE_ALL)
		return field->count;
	memcpy(&used, thing + field->used, sizeof(used));
	RULE(used <= field->count);
	return used;
}

static void put_field(struct state_writer *out, const struct state_field *field,
	const uint8_t *thing, unsigned depth)
{
	uint32_t count = used_count(field, thing);
	struct field_head head = {
		.name = (uint8_t)strlen(field->name),
		.kind = (uint8_t)field->kind,
		.width = field->kind == STATE_KIND_UINT ? (uint8_t)field->size : 1,
		.flags = field->optional ? STATE_FLAG_OPTIONAL : 0,
	};
	size_t at = out->size, begin;

	RULE(head.name && strlen(field->name) <= STATE_NAME_MAX);
	put(out, &head, sizeof(head));
	put(out, field->name, head.name);
	begin = out->size;
	switch (field->kind) {
	case STATE_KIND_UINT:
		put_numbers(out, thing + field->offset, field->size, count);
		break;
	case STATE_KIND_BYTES:
	case STATE_KIND_TEXT:
		put(out, thing + field->offset, count);
		break;
	case STATE_KIND_LIST:
		put_list(out, field, thing + field->offset, count, depth);
		break;
	}
	set_length(out, at, begin); /* the head's first member */
}

static void put_fields(struct state_writer *out, const struct state_table *table, const void *thing,
	unsigned depth)
{
	RULE(depth < STATE_DEPTH_MAX);
	for (uint32_t i = 0; i < table->field_count; i++)
		put_field(out, &table->fields[i], thing, depth);
}

void state_begin(struct state_writer *out)
{
	const struct state_header header = {.magic = STATE_MAGIC, .format = htole32(STATE_FORMAT)};

	*out = (struct state_writer){0};
	put(out, &header, sizeof(header));
}

void state_save(struct state_writer *out, const struct state_table *table, const char *instance,
	const void *thing)
{
	struct section_head head = {
		.version = htole16(table->version),
		.flags = table->optional ? htole16(STATE_FLAG_OPTIONAL) : 0,
		.name = (uint8_t)strlen(table->name),
		.instance = (uint8_t)strlen(instance),
	};
	size_t at = out->size, begin;

	RULE(head.name && strlen(table->name) <= STATE_NAME_MAX);
	RULE(strlen(instance) <= STATE_NAME_MAX && table->version);
	put(out, &head, sizeof(head));
	put(out, table->name, head.name);
	put(out, instance, head.instance);
	begin = out->size;
	put_fields(out, table, thing, 0);
	set_length(out, at, begin); /* the head's first member */
}

int state_finish(struct state_writer *out, struct error *err)
{
	const struct section_head end = {0};
	uint64_t sum;

	put(out, &end, sizeof(end));
	if (!out->failed) {
		sum = htole64(XXH3_64bits(out->bytes, out->size));
		put(out, &sum, sizeof(sum));
	}
	if (out->failed)
		return error_errno(err, ENOMEM, "cannot keep the state of the VM");
	if (out->size > STATE_SIZE_MAX)
		return error_set(
			err, ERROR_INTERNAL, "the state of the VM takes %zu bytes", out->size);
	return 0;
}

void state_release(struct state_writer *out)
{
	free(out->bytes);
	*out = (struct state_writer){0};
}
