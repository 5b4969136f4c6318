/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way back: a filled structure as the JSON that schema_fill() would make it from, every default said. A table that
 * checks what comes in thereby also says what there is, and the two cannot differ.
 */
#include "vmm/schema/schema.h"

#include "vmm/base/base64.h"
#include "vmm/base/util.h"

#include <stdio.h>
#include <string.h>

static json_t *dump_choice(const struct schema *s, const void *target)
{
	int value = *(const int *)(const void *)((const char *)target + s->offset);

	for (const struct schema_choice *c = s->choices; c->name; c++) {
		if (c->value != value)
			continue;
		if (c->name[strlen(c->name) - 1] != ':')
			return json_string(c->name);
		return json_sprintf("%s%s", c->name,
			*(char *const *)(const void *)((const char *)target + s->extra));
	}
	return NULL;
}

static json_t *dump_text(const char *text)
{
	return text ? json_string(text) : NULL;
}

static json_t *dump_texts(const struct schema_texts *texts)
{
	json_t *list = texts->items ? json_array() : NULL;

	for (unsigned i = 0; list && i < texts->count; i++)
		json_array_append_new(list, json_string(texts->items[i]));
	return list;
}

static json_t *dump_mac(const uint8_t mac[6])
{
	static const uint8_t none[6];

	if (!memcmp(mac, none, sizeof(none)))
		return NULL; /* not given */
	return json_sprintf(
		"%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static json_t *dump_list(const struct schema *s, const void *target)
{
	const char *bytes = target;
	unsigned count = *(const unsigned *)(const void *)(bytes + s->extra);
	json_t *list = json_array();

	for (unsigned i = 0; list && i < count; i++)
		json_array_append_new(
			list, schema_dump(s->members, bytes + s->offset + i * s->size));
	return list;
}

static json_t *dump_number(const struct schema *s, const void *field)
{
	json_int_t value = *(const int *)field; /* an int may be -1: none */

	if (s->size == sizeof(uint64_t) || s->type == SCHEMA_SIZE)
		value = (json_int_t) * (const uint64_t *)field;
	/* 0 where it may not be: not given, and without a default. */
	return value || !s->min || s->value ? json_integer(value) : NULL;
}

static json_t *dump_bytes(const struct schema_bytes *bytes)
{
	_cleanup_free_ char *text = bytes->data ? malloc(BASE64_SIZE(bytes->size)) : NULL;

	if (text)
		base64_encode(bytes->data, bytes->size, text);
	return dump_text(text);
}

/* An object without a number that it must have is not there. */
static bool is_given(const struct schema *members, const void *target)
{
	for (const struct schema *m = members; m->name; m++)
		if (m->required && m->type == SCHEMA_NUMBER && m->size == sizeof(uint64_t) &&
			!*(const uint64_t *)(const void *)((const char *)target + m->offset))
			return false;
	return true;
}

/* NULL: it has no value. */
static json_t *dump_one(const struct schema *s, const void *target)
{
	const void *field = (const char *)target + s->offset;

	switch (s->type) {
	case SCHEMA_BOOL:
		return json_boolean(*(const bool *)field);
	case SCHEMA_NUMBER:
	case SCHEMA_SIZE:
		return dump_number(s, field);
	case SCHEMA_CHOICE:
		return dump_choice(s, target);
	case SCHEMA_WORD:
	case SCHEMA_TEXT:
	case SCHEMA_PATH:
	case SCHEMA_STRING:
		return dump_text(*(char *const *)field);
	case SCHEMA_ID:
		return *(const char *)field ? json_string(field) : NULL;
	case SCHEMA_MAC:
		return dump_mac(field);
	case SCHEMA_OBJECT:
		return is_given(s->members, target) ? schema_dump(s->members, target) : NULL;
	case SCHEMA_LIST:
		return dump_list(s, target);
	case SCHEMA_TEXTS:
		return dump_texts(field);
	case SCHEMA_JSON:
		return json_incref(*(json_t *const *)field);
	case SCHEMA_BYTES:
		return dump_bytes(field);
	}
	return NULL;
}

json_t *schema_dump(const struct schema *table, const void *target)
{
	json_t *object = json_object();

	for (const struct schema *s = table; object && s->name; s++) {
		json_t *value = s->flag_only ? NULL : dump_one(s, target);

		if (value)
			json_object_set_new(object, s->name, value);
	}
	return object;
}
