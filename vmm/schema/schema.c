/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one validator: walks a JSON object and its table together and stores what passes. Each type has
 * one function, which either stores a value or says in one line what the value is and what it should
 * have been. See schema.h.
 */
#include "vmm/schema/schema.h"

#include "vmm/base/base64.h"
#include "vmm/base/nearest.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PATH_SIZE                                                                                  \
	160 /* "disk[27].readonly", or as much of a long unknown key as is worth printing */
#define WORDS_SIZE 320
#define KEYS_MAX   64

static const char *join_path(char *buf, const char *path, const char *name)
{
	snprintf(buf, PATH_SIZE, "%s%s%.64s", path, *path ? "." : "", name);
	return buf;
}

/* What the value is, for "X is not …". Long texts are cut: a message stays one line. */
static const char *describe(const json_t *value, char *buf, size_t size)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		snprintf(buf, size, "'%.80s%s'", json_string_value(value),
			json_string_length(value) > 80 ? "…" : "");
		break;
	case JSON_INTEGER:
		snprintf(buf, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		break;
	case JSON_REAL:
		snprintf(buf, size, "%.17g", json_real_value(value));
		break;
	case JSON_OBJECT:
		snprintf(buf, size, "an object");
		break;
	case JSON_ARRAY:
		snprintf(buf, size, "a list");
		break;
	default:
		snprintf(buf, size, "%s",
			json_is_true(value)    ? "true"
			: json_is_false(value) ? "false"
					       : "null");
		break;
	}
	return buf;
}

static int refuse(struct error *err, const char *path, const json_t *value, const char *wanted)
{
	char is[128];

	return error_set(err, ERROR_BAD_REQUEST, "%s: %s is not %s", path,
		describe(value, is, sizeof(is)), wanted);
}

/* As refuse(), where the allowed values are names: with the nearest one as a hint. */
static int refuse_choice(
	const struct schema *s, const json_t *value, const char *path, struct error *err)
{
	char wanted[WORDS_SIZE], names[WORDS_SIZE - 8];
	const char *words[KEYS_MAX], *nearest = NULL;
	size_t count = 0;

	snprintf(wanted, sizeof(wanted), "one of %s",
		schema_choices_format(s, ", ", names, sizeof(names)));
	refuse(err, path, value, wanted);
	for (const struct schema_choice *c = s->choices; c->name && count < KEYS_MAX; c++)
		words[count++] = c->name;
	if (json_is_string(value))
		nearest = nearest_word(json_string_value(value), words, count);
	return nearest ? error_hint(err, "did you mean '%s'?", nearest) : -err->code;
}

static int store_text(void *field, const char *text, const char *path, struct error *err)
{
	char *copy = strdup(text);

	if (!copy)
		return error_errno(err, ENOMEM, "%s", path);
	free(*(char **)field);
	*(char **)field = copy;
	return 0;
}

static int fill_bool(const struct schema *s, const json_t *value, void *field, const char *path,
	struct error *err)
{
	const char *word = json_string_value(value);

	(void)s;
	if (json_is_true(value) || (word && !strcmp(word, "on")))
		*(bool *)field = true;
	else if (json_is_false(value) || (word && !strcmp(word, "off")))
		*(bool *)field = false;
	else
		return refuse(err, path, value, "one of on, off, true, false");
	return 0;
}

static int fill_number(const struct schema *s, const json_t *value, void *field, const char *path,
	struct error *err)
{
	json_int_t number = json_integer_value(value);
	char wanted[96];

	if (!json_is_integer(value) || number < 0 || (uint64_t)number < s->min ||
		(uint64_t)number > s->max) {
		snprintf(wanted, sizeof(wanted), "a whole number from %" PRIu64 " to %" PRIu64,
			s->min, s->max);
		return refuse(err, path, value, wanted);
	}
	if (s->size == sizeof(uint64_t))
		*(uint64_t *)field = (uint64_t)number;
	else
		*(unsigned *)field = (unsigned)number;
	return 0;
}

static int fill_size(const struct schema *s, const json_t *value, void *field, const char *path,
	struct error *err)
{
	char wanted[96], low[32], high[32];
	uint64_t bytes = 0;
	bool good = false;

	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		bytes = (uint64_t)json_integer_value(value);
		good = true;
	} else if (json_is_string(value)) {
		good = schema_size_parse(json_string_value(value), &bytes);
	}
	if (!good || bytes < s->min || bytes > s->max) {
		snprintf(wanted, sizeof(wanted), "a size from %s to %s (bytes, or with K, M, G, T)",
			schema_size_format(s->min, low, sizeof(low)),
			schema_size_format(s->max, high, sizeof(high)));
		return refuse(err, path, value, wanted);
	}
	*(uint64_t *)field = bytes;
	return 0;
}

/* The choice that `word` names; for those that take text ("file:") *rest points behind the colon. */
static const struct schema_choice *choice_find(
	const struct schema_choice *choices, const char *word, const char **rest)
{
	for (const struct schema_choice *c = choices; c->name; c++) {
		size_t len = strlen(c->name);

		if (c->name[len - 1] == ':' && !strncmp(word, c->name, len)) {
			*rest = word + len;
			return c;
		}
		if (!strcmp(word, c->name)) {
			*rest = NULL;
			return c;
		}
	}
	return NULL;
}

static int fill_choice(const struct schema *s, const json_t *value, void *target, const char *path,
	struct error *err)
{
	const struct schema_choice *choice = NULL;
	const char *rest = NULL;

	if (json_is_string(value))
		choice = choice_find(s->choices, json_string_value(value), &rest);
	if (!choice)
		return refuse_choice(s, value, path, err);
	if (s->type == SCHEMA_WORD)
		return store_text((char *)target + s->offset, choice->name, path, err);
	*(unsigned *)(void *)((char *)target + s->offset) = (unsigned)choice->value;
	if (!rest)
		return 0;
	if (!*rest || strlen(rest) > s->max)
		return error_set(err, ERROR_BAD_REQUEST,
			"%s: '%s' needs a path of 1 to %" PRIu64 " bytes behind it", path,
			choice->name, s->max);
	return store_text((char *)target + s->extra, rest, path, err);
}

static int fill_text(const struct schema *s, const json_t *value, void *field, const char *path,
	struct error *err)
{
	const char *text = json_string_value(value);
	size_t len = json_string_length(value);

	if (!text)
		return refuse(err, path, value, s->type == SCHEMA_PATH ? "a path" : "text");
	if (len < s->min || (s->type == SCHEMA_PATH && !len))
		return error_set(err, ERROR_BAD_REQUEST, "%s: is empty", path);
	if (len > s->max)
		return error_set(err, ERROR_BAD_REQUEST,
			"%s: is %zu bytes long, at most %" PRIu64 " are allowed", path, len,
			s->max);
	for (size_t i = 0; i < len && s->type == SCHEMA_TEXT; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return error_set(err, ERROR_BAD_REQUEST,
				"%s: has a control character (byte 0x%02x at %zu)", path, text[i],
				i);
	return store_text(field, text, path, err);
}

/* Any text: what it may hold is for its user to say. */
static int fill_string(const struct schema *s, const json_t *value, void *field, const char *path,
	struct error *err)
{
	size_t len = json_string_length(value);

	if (!json_is_string(value))
		return refuse(err, path, value, "text");
	if (len < s->min || len > s->max)
		return error_set(err, ERROR_BAD_REQUEST,
			"%s: is %zu bytes long, from %" PRIu64 " to %" PRIu64 " are allowed", path,
			len, s->min, s->max);
	return store_text(field, json_string_value(value), path, err);
}

static int fill_bytes(const struct schema *s, const json_t *value, void *field, const char *path,
	struct error *err)
{
	struct schema_bytes *bytes = field;
	size_t len = json_string_length(value);

	if (!json_is_string(value))
		return refuse(err, path, value, "bytes as base64 text");
	free(bytes->data);
	bytes->data = malloc(len / 4 * 3 + 1);
	if (!bytes->data)
		return error_errno(err, ENOMEM, "%s", path);
	if (!base64_decode(json_string_value(value), len, bytes->data, &bytes->size))
		return error_set(
			err, ERROR_BAD_REQUEST, "%s: is not base64 (RFC 4648, padded)", path);
	if (bytes->size < s->min || bytes->size > s->max)
		return error_set(err, ERROR_BAD_REQUEST,
			"%s: has %zu bytes, from %" PRIu64 " to %" PRIu64 " are allowed", path,
			bytes->size, s->min, s->max);
	return 0;
}

static void release_texts(struct schema_texts *texts)
{
	for (unsigned i = 0; i < texts->count; i++)
		free(texts->items[i]);
	free(texts->items);
	*texts = (struct schema_texts){0};
}

static int fill_texts(const struct schema *s, const json_t *value, void *field, const char *path,
	struct error *err)
{
	struct schema_texts *texts = field;
	size_t given = json_array_size(value);

	if (!json_is_array(value))
		return refuse(err, path, value, "a list of texts");
	if (given < s->min || given > s->max)
		return error_set(err, ERROR_BAD_REQUEST,
			"%s: %zu are given, from %" PRIu64 " to %" PRIu64 " are possible", path,
			given, s->min, s->max);
	release_texts(texts);
	texts->items = calloc(given + 1, sizeof(*texts->items));
	if (!texts->items)
		return error_errno(err, ENOMEM, "%s", path);
	for (size_t i = 0; i < given; i++) {
		const json_t *element = json_array_get(value, i);
		char name[PATH_SIZE];

		snprintf(name, sizeof(name), "%.120s[%zu]", path, i);
		if (!json_is_string(element))
			return refuse(err, name, element, "text");
		texts->items[i] = strdup(json_string_value(element));
		if (!texts->items[i])
			return error_errno(err, ENOMEM, "%s", name);
		texts->count++;
	}
	return 0;
}

static bool is_id(const char *text, size_t len)
{
	if (len == 0 || len >= SCHEMA_ID_SIZE || strchr("._-", text[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= '0' && text[i] <= '9') ||
			    strchr("._-", text[i])))
			return false;
	return true;
}

static int fill_id(const struct schema *s, const json_t *value, void *field, const char *path,
	struct error *err)
{
	(void)s;
	if (!json_is_string(value) || !is_id(json_string_value(value), json_string_length(value)))
		return refuse(err, path, value,
			"an identifier: 1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit");
	memset(field, 0, SCHEMA_ID_SIZE);
	memcpy(field, json_string_value(value), json_string_length(value));
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
	unsigned any = 0;

	for (unsigned i = 0; i < 6; i++, text += 3) {
		int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0 || text[2] != (i < 5 ? ':' : '\0'))
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
		any |= mac[i];
	}
	return any && !(mac[0] & 1);
}

static int fill_mac(const struct schema *s, const json_t *value, void *field, const char *path,
	struct error *err)
{
	uint8_t mac[6];

	(void)s;
	if (!json_is_string(value) || !parse_mac(json_string_value(value), mac))
		return refuse(err, path, value, "a unicast MAC address such as 52:54:00:12:34:56");
	memcpy(field, mac, sizeof(mac));
	return 0;
}

/* The document outlives nothing: a copy, so that no change of it is seen. */
static int fill_json(const json_t *value, void *field, const char *path, struct error *err)
{
	json_t **out = field;

	if (!json_is_object(value))
		return refuse(err, path, value, "an object");
	json_decref(*out);
	*out = json_deep_copy(value);
	return *out ? 0 : error_errno(err, ENOMEM, "%s", path);
}

static int fill_object(const struct schema *s, const json_t *value, void *target, const char *path,
	struct error *err)
{
	json_t *wrapped;
	int ret;

	if (json_is_object(value))
		return schema_fill(s->members, value, target, path, err);
	if (!s->lead || json_is_array(value) || json_is_null(value))
		return refuse(err, path, value, "an object");
	wrapped = json_object();
	if (!wrapped || json_object_set(wrapped, s->lead, (json_t *)(uintptr_t)value)) {
		json_decref(wrapped);
		return error_errno(err, ENOMEM, "%s", path);
	}
	ret = schema_fill(s->members, wrapped, target, path, err);
	json_decref(wrapped);
	return ret;
}

static int fill_list(const struct schema *s, const json_t *value, void *target, const char *path,
	struct error *err)
{
	unsigned *count = (void *)((char *)target + s->extra);
	size_t given = json_array_size(value);

	if (!json_is_array(value))
		return refuse(err, path, value, "a list of objects");
	if (given > s->max)
		return error_set(err, ERROR_BAD_REQUEST,
			"%s: %zu are given, at most %" PRIu64 " are possible", path, given, s->max);
	for (size_t i = 0; i < given; i++) {
		const json_t *element = json_array_get(value, i);
		char name[PATH_SIZE];
		int ret;

		snprintf(name, sizeof(name), "%s[%zu]", path, i);
		if (!json_is_object(element))
			return refuse(err, name, element, "an object");
		*count = (unsigned)i + 1; /* counted first: what is half filled is released too */
		ret = schema_fill(
			s->members, element, (char *)target + s->offset + i * s->size, name, err);
		if (ret)
			return ret;
	}
	return 0;
}

static int fill_one(const struct schema *s, const json_t *value, void *target, const char *path,
	struct error *err)
{
	void *field = (char *)target + s->offset;

	switch (s->type) {
	case SCHEMA_BOOL:
		return fill_bool(s, value, field, path, err);
	case SCHEMA_NUMBER:
		return fill_number(s, value, field, path, err);
	case SCHEMA_SIZE:
		return fill_size(s, value, field, path, err);
	case SCHEMA_CHOICE:
	case SCHEMA_WORD:
		return fill_choice(s, value, target, path, err);
	case SCHEMA_TEXT:
	case SCHEMA_PATH:
		return fill_text(s, value, field, path, err);
	case SCHEMA_STRING:
		return fill_string(s, value, field, path, err);
	case SCHEMA_BYTES:
		return fill_bytes(s, value, field, path, err);
	case SCHEMA_TEXTS:
		return fill_texts(s, value, field, path, err);
	case SCHEMA_ID:
		return fill_id(s, value, field, path, err);
	case SCHEMA_MAC:
		return fill_mac(s, value, field, path, err);
	case SCHEMA_OBJECT:
		return fill_object(s, value, target, path, err);
	case SCHEMA_JSON:
		return fill_json(value, field, path, err);
	case SCHEMA_LIST:
		return fill_list(s, value, target, path, err);
	}
	return error_set(err, ERROR_INTERNAL, "%s: has an unknown type in our table", path);
}

static int refuse_key(
	const struct schema *table, const char *key, const char *path, struct error *err)
{
	const char *nearest = schema_nearest(table, key);
	char name[PATH_SIZE], keys[WORDS_SIZE];
	size_t used = 0;

	keys[0] = '\0';
	for (const struct schema *s = table; s->name && used < sizeof(keys); s++)
		if (!s->flag_only)
			used += (size_t)snprintf(keys + used, sizeof(keys) - used, "%s%s",
				used ? ", " : "", s->name);
	error_set(err, ERROR_BAD_REQUEST, "%s: no such key; there are %s",
		join_path(name, path, key), keys);
	return nearest ? error_hint(err, "did you mean '%s'?", nearest) : -err->code;
}

static int fill_default(const struct schema *s, void *target, const char *path, struct error *err)
{
	json_t *flags = json_object();
	int ret;

	if (!flags)
		return error_errno(err, ENOMEM, "%s", path);
	ret = schema_flag(s, s->value, flags, err);
	if (!ret)
		ret = fill_one(s, json_object_get(flags, s->name), target, path, err);
	json_decref(flags);
	return ret;
}

int schema_fill(const struct schema *table, const json_t *object, void *target, const char *path,
	struct error *err)
{
	char name[PATH_SIZE];
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		const struct schema *s = schema_find(table, key);

		if (!s || s->flag_only)
			return refuse_key(table, key, path, err);
	}
	for (const struct schema *s = table; s->name; s++) {
		int ret = 0;

		value = s->flag_only ? NULL : json_object_get(object, s->name);
		join_path(name, path, s->name);
		if (value)
			ret = fill_one(s, value, target, name, err);
		else if (s->value)
			ret = fill_default(s, target, name, err);
		else if (s->required)
			ret = error_set(
				err, ERROR_BAD_REQUEST, "%s: is required: %s", name, s->help);
		if (ret)
			return ret;
	}
	return 0;
}

static void release_one(const struct schema *s, void *target)
{
	char *field = (char *)target + s->offset;
	char **text = NULL;

	switch (s->type) {
	case SCHEMA_TEXT:
	case SCHEMA_PATH:
	case SCHEMA_WORD:
	case SCHEMA_STRING:
		text = (void *)field;
		break;
	case SCHEMA_CHOICE:
		text = s->extra ? (void *)((char *)target + s->extra) : NULL;
		break;
	case SCHEMA_BYTES:
		free(((struct schema_bytes *)(void *)field)->data);
		*(struct schema_bytes *)(void *)field = (struct schema_bytes){0};
		break;
	case SCHEMA_TEXTS:
		release_texts((void *)field);
		break;
	case SCHEMA_OBJECT:
		schema_release(s->members, target);
		break;
	case SCHEMA_JSON:
		json_decref(*(json_t **)(void *)field);
		*(json_t **)(void *)field = NULL;
		break;
	default:
		break;
	}
	if (text) {
		free(*text);
		*text = NULL;
	}
}

void schema_release(const struct schema *table, void *target)
{
	for (const struct schema *s = table; s->name; s++) {
		if (!s->flag_only)
			release_one(s, target);
		if (s->type == SCHEMA_LIST) {
			unsigned *count = (void *)((char *)target + s->extra);

			for (unsigned i = 0; i < *count; i++)
				schema_release(
					s->members, (char *)target + s->offset + i * s->size);
			*count = 0;
		}
	}
}

const struct schema *schema_find(const struct schema *table, const char *name)
{
	for (; table->name; table++)
		if (!strcmp(table->name, name))
			return table;
	return NULL;
}

const char *schema_nearest(const struct schema *table, const char *typed)
{
	const char *words[KEYS_MAX];
	size_t count = 0;

	for (; table->name && count < KEYS_MAX; table++)
		words[count++] = table->name;
	return nearest_word(typed, words, count);
}
