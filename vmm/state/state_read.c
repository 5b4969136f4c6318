/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes become things again: see state.h. The frame of the whole file is checked when it is opened, the fields of a section
 * when it is loaded, into a copy that takes the thing's place only when everything in it is right.
 */
#include "vmm/state/state_private.h"

#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#define SECTIONS_MAX 4096

/* ---- the frame ---- */

static int open_header(struct state_bytes *bytes, struct error *err)
{
	const uint8_t *begin = bytes->at;
	struct state_header header;
	uint64_t sum;

	if (bytes->left > STATE_SIZE_MAX)
		return error_set(err, ERROR_CORRUPT, "the state has %zu bytes, more than any VM's",
			bytes->left);
	if (bytes->left < sizeof(header) + sizeof(struct section_head) + sizeof(sum) ||
		memcmp(bytes->at, STATE_MAGIC, sizeof(header.magic)) != 0)
		return error_set(err, ERROR_CORRUPT, "this is not the state of a VM");
	state_take(bytes, &header, sizeof(header));
	if (le32toh(header.format) != STATE_FORMAT || header.reserved)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the state has format %" PRIu32 ", this version reads format %d",
			le32toh(header.format), STATE_FORMAT);
	bytes->left -= sizeof(sum);
	memcpy(&sum, bytes->at + bytes->left, sizeof(sum));
	if (le64toh(sum) != XXH3_64bits(begin, sizeof(header) + bytes->left))
		return error_set(
			err, ERROR_CORRUPT, "the state was changed: its checksum does not match");
	return 0;
}

/* 1: taken, 0: it was the end mark, negative: there is none. */
static int take_section(struct state_bytes *bytes, struct state_section *section)
{
	struct section_head head;

	if (!state_take(bytes, &head, sizeof(head)))
		return -1;
	if (!head.name && !head.instance && !head.size)
		return bytes->left ? -1 : 0;
	section->size = le32toh(head.size);
	section->version = le16toh(head.version);
	section->optional = le16toh(head.flags) & STATE_FLAG_OPTIONAL;
	if (!state_take_name(bytes, section->name, head.name, false) ||
		!state_take_name(bytes, section->instance, head.instance, true) ||
		section->size > bytes->left || !section->version)
		return -1;
	section->body = bytes->at;
	bytes->at += section->size;
	bytes->left -= section->size;
	return 1;
}

static struct state_section *add_section(struct state_reader *in)
{
	if (in->count % 16 == 0) { /* room for 16 more, each time those are full */
		struct state_section *grown =
			realloc(in->sections, (in->count + 16) * sizeof(struct state_section));

		if (!grown)
			return NULL;
		in->sections = grown;
	}
	in->sections[in->count] = (struct state_section){0};
	return &in->sections[in->count];
}

static int open_sections(struct state_reader *in, struct state_bytes *bytes, struct error *err)
{
	for (;;) {
		struct state_section *section = in->count < SECTIONS_MAX ? add_section(in) : NULL;
		int taken;

		if (!section)
			return error_errno(err, ENOMEM, "cannot read the state's sections");
		taken = take_section(bytes, section);
		if (taken == 0)
			return 0;
		if (taken < 0)
			return error_set(
				err, ERROR_CORRUPT, "section %u of the state is broken", in->count);
		if (state_find(in, section->name, section->instance))
			return error_set(err, ERROR_CORRUPT, "the state has section %s '%s' twice",
				section->name, section->instance);
		in->count++;
	}
}

int state_open(struct state_reader *in, const void *bytes, size_t size, struct error *err)
{
	struct state_bytes left = {.at = bytes, .left = size};
	int ret;

	*in = (struct state_reader){0};
	ret = open_header(&left, err);
	if (ret == 0)
		ret = open_sections(in, &left, err);
	if (ret < 0)
		state_close(in);
	return ret;
}

void state_close(struct state_reader *in)
{
	free(in->sections);
	*in = (struct state_reader){0};
}

const struct state_section *state_find(
	const struct state_reader *in, const char *name, const char *instance)
{
	for (unsigned i = 0; i < in->count; i++)
		if (!strcmp(in->sections[i].name, name) &&
			!strcmp(in->sections[i].instance, instance))
			return &in->sections[i];
	return NULL;
}

int state_all_taken(const struct state_reader *in, struct error *err)
{
	for (unsigned i = 0; i < in->count; i++) {
		const struct state_section *s = &in->sections[i];

		if (!s->taken && !s->optional)
			return error_set(err, ERROR_INCOMPATIBLE,
				"the state has a %s%s%s%s that this VM does not have", s->name,
				*s->instance ? " '" : "", s->instance, *s->instance ? "'" : "");
	}
	return 0;
}

/* ---- fields ---- */

static int load_fields(const struct state_table *table, uint16_t version, struct state_bytes bytes,
	uint8_t *thing, struct error *err);

static int wrong(struct error *err, const struct state_field *field, const char *why)
{
	return error_set(err, ERROR_CORRUPT, "field '%s' %s", field->name, why);
}

static int load_numbers(const struct state_field *field, const struct field_view *view,
	uint32_t count, uint8_t *to, struct error *err)
{
	uint64_t fits = field->size < 8 ? (1ull << field->size * 8) - 1 : UINT64_MAX;
	uint64_t max = field->max ? field->max : fits;

	for (uint32_t i = 0; i < count; i++, to += field->size) {
		uint64_t number = state_number(view, i);
		const union {
			uint8_t one;
			uint16_t two;
			uint32_t four;
			uint64_t eight;
		} as[] = {{.one = (uint8_t)number}, {.two = (uint16_t)number},
			{.four = (uint32_t)number}, {.eight = number}};

		if (number > max)
			return error_set(err, ERROR_CORRUPT,
				"field '%s' is %" PRIu64 ", and at most %" PRIu64 " makes sense",
				field->name, number, max);
		memcpy(to, &as[__builtin_ctz(field->size)], field->size);
	}
	return 0;
}

static int load_list(const struct state_field *field, uint16_t version, struct state_bytes bytes,
	uint32_t count, uint8_t *to, struct error *err)
{
	struct state_bytes element;
	int ret = 0;

	for (uint32_t i = 0; i < count && ret == 0; i++, to += field->size) {
		if (!state_take_element(&bytes, &element))
			return wrong(err, field, "is broken");
		ret = load_fields(field->table, version, element, to, err);
		if (ret < 0)
			error_prefix(err, "%s[%" PRIu32 "]", field->name, i);
	}
	return ret;
}

/* False: the list's frame is broken. */
static bool count_elements(struct state_bytes bytes, uint32_t *count)
{
	struct state_bytes element;

	for (*count = 0; bytes.left; ++*count)
		if (!state_take_element(&bytes, &element))
			return false;
	return true;
}

/* How many elements the file has for the field. */
static int count_used(const struct state_field *field, const struct field_view *view,
	uint32_t *count, struct error *err)
{
	*count = view->head.size;
	if (view->head.kind != field->kind)
		return wrong(err, field, "is of another kind");
	if (field->kind == STATE_KIND_UINT)
		*count = view->head.size / view->head.width;
	if (field->kind == STATE_KIND_LIST &&
		!count_elements(
			(struct state_bytes){.at = view->payload, .left = view->head.size}, count))
		return wrong(err, field, "is broken");
	if (field->kind == STATE_KIND_TEXT) {
		if (*count >= field->count || memchr(view->payload, 0, *count))
			return wrong(err, field, "is no text that fits");
		return 0;
	}
	if (field->used == STATE_ALL ? *count != field->count : *count > field->count)
		return error_set(err, ERROR_CORRUPT,
			"field '%s' has %" PRIu32 " elements where %s%" PRIu32 " can be",
			field->name, *count, field->used == STATE_ALL ? "" : "at most ",
			field->count);
	return 0;
}

static int load_field(const struct state_field *field, const struct field_view *view,
	uint16_t version, uint8_t *thing, struct error *err)
{
	const struct state_bytes bytes = {.at = view->payload, .left = view->head.size};
	uint8_t *to = thing + field->offset;
	uint32_t count;
	int ret = count_used(field, view, &count, err);

	if (ret < 0)
		return ret;
	if (field->used != STATE_ALL)
		memcpy(thing + field->used, &count, sizeof(count));
	switch (field->kind) {
	case STATE_KIND_UINT:
		return load_numbers(field, view, count, to, err);
	case STATE_KIND_LIST:
		return load_list(field, version, bytes, count, to, err);
	case STATE_KIND_TEXT:
		to[count] = '\0';
		break;
	case STATE_KIND_BYTES:
		break;
	}
	memcpy(to, view->payload, count);
	return 0;
}

/* A later writer's field: it can do without us only where it says so. */
static int pass_over(const struct field_view *view, struct error *err)
{
	if (view->head.flags & STATE_FLAG_OPTIONAL)
		return 0;
	return error_set(
		err, ERROR_INCOMPATIBLE, "field '%s' is not known to this version", view->name);
}

#define FIELDS_MAX 256

static int load_fields(const struct state_table *table, uint16_t version, struct state_bytes bytes,
	uint8_t *thing, struct error *err)
{
	bool seen[FIELDS_MAX] = {false};
	struct field_view view;
	int ret = 0;

	if (table->field_count > FIELDS_MAX)
		abort();
	while (bytes.left && ret == 0) {
		uint32_t i = 0;

		if (!state_take_field(&bytes, &view))
			return error_set(err, ERROR_CORRUPT, "its fields are broken");
		while (i < table->field_count && strcmp(table->fields[i].name, view.name) != 0)
			i++;
		if (i == table->field_count)
			ret = pass_over(&view, err);
		else if (seen[i])
			ret = wrong(err, &table->fields[i], "is there twice");
		else
			ret = load_field(&table->fields[i], &view, version, thing, err);
		if (i < table->field_count)
			seen[i] = true;
	}
	for (uint32_t i = 0; i < table->field_count && ret == 0; i++)
		if (!seen[i] && table->fields[i].since <= version)
			ret = wrong(err, &table->fields[i], "is missing");
	if (ret == 0 && table->check)
		ret = table->check(thing, err);
	return ret;
}

static int load_section(struct state_section *section, const struct state_table *table, void *thing,
	struct error *err)
{
	const struct state_bytes body = {.at = section->body, .left = section->size};
	_cleanup_free_ uint8_t *copy = malloc(table->size);
	int ret;

	if (!copy)
		return error_errno(err, ENOMEM, "cannot load the state");
	if (section->version < table->oldest)
		return error_set(err, ERROR_INCOMPATIBLE,
			"it has version %u, and %u is the oldest that this version reads",
			section->version, table->oldest);
	memcpy(copy, thing, table->size);
	ret = load_fields(table, section->version, body, copy, err);
	if (ret < 0)
		return section->version > table->version
			       ? error_hint(
					 err, "a later version of bulkhead wrote it: use that one")
			       : ret;
	memcpy(thing, copy, table->size);
	section->taken = true;
	return 0;
}

int state_load(struct state_reader *in, const struct state_table *table, const char *instance,
	void *thing, struct error *err)
{
	const struct state_section *found = state_find(in, table->name, instance);
	int ret;

	if (!found)
		ret = error_set(err, ERROR_INCOMPATIBLE, "the state has none");
	else
		ret = load_section(&in->sections[found - in->sections], table, thing, err);
	if (ret < 0 && *instance)
		return error_prefix(err, "%s '%s'", table->name, instance);
	return ret < 0 ? error_prefix(err, "%s", table->name) : 0;
}
