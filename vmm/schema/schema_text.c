/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flags into JSON: `--disk path=/a,readonly` becomes {"disk": [{"path": "/a", "readonly": true}]}.
 *
 * Compound values are KEY=VALUE items between commas; a comma inside a value is written twice. An
 * item without '=' is the bare value of the option's leading member where it is the first ("2" in
 * `--cpus 2,max=4`), else a switch turned on. Nothing is judged here beyond that form: a number that
 * is none stays text, and the validator, which sees flags and files alike, refuses it.
 */
#include "vmm/schema/schema.h"

#include "vmm/base/util.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FLAG_TEXT_MAX (64u << 10)

bool schema_size_parse(const char *text, uint64_t *bytes)
{
	static const char suffixes[] = "KMGT";
	unsigned shift = 0;
	uint64_t number = 0;

	if (!isdigit((unsigned char)*text))
		return false;
	for (; isdigit((unsigned char)*text); text++)
		if (__builtin_mul_overflow(number, 10u, &number) ||
			__builtin_add_overflow(number, (uint64_t)(*text - '0'), &number))
			return false;
	if (*text) {
		const char *suffix = strchr(suffixes, *text);

		if (!suffix || text[1])
			return false;
		shift = 10 * (unsigned)(suffix - suffixes + 1);
	}
	if (number > UINT64_MAX >> shift)
		return false;
	*bytes = number << shift;
	return true;
}

const char *schema_size_format(uint64_t bytes, char *buf, size_t size)
{
	static const char *const suffixes[] = {"", "K", "M", "G", "T"};
	unsigned unit = 0;

	while (bytes && bytes % 1024 == 0 && unit + 1 < ARRAY_SIZE(suffixes)) {
		bytes /= 1024;
		unit++;
	}
	snprintf(buf, size, "%" PRIu64 "%s", bytes, suffixes[unit]);
	return buf;
}

/* A whole number as JSON, or NULL when the text is anything else. */
static json_t *number_from_text(const char *text)
{
	const char *digits = *text == '-' ? text + 1 : text;
	long long number;
	char *end;

	if (!isdigit((unsigned char)*digits))
		return NULL;
	errno = 0;
	number = strtoll(text, &end, 10);
	return errno || *end ? NULL : json_integer(number);
}

/* The JSON of one plain value. NULL when the text is not UTF-8, or memory is short. */
static json_t *plain_from_text(const struct schema *s, const char *text)
{
	json_t *number = s->type == SCHEMA_NUMBER ? number_from_text(text) : NULL;

	return number ? number : json_string(text);
}

/* Cut the next item off `*rest`, undoubling its commas in place. NULL at the end. */
static char *next_item(char **rest)
{
	char *item = *rest, *from = item, *to = item;

	if (!item)
		return NULL;
	while (*from && (*from != ',' || from[1] == ',')) {
		from += *from == ',';
		*to++ = *from++;
	}
	*rest = *from ? from + 1 : NULL;
	*to = '\0';
	return item;
}

static int put_value(
	json_t *object, const char *key, json_t *value, const char *path, struct error *err)
{
	if (!value)
		return error_set(err, ERROR_BAD_REQUEST, "%s: the value is not UTF-8 text", path);
	if (json_object_set_new(object, key, value))
		return error_set(err, ERROR_BAD_REQUEST, "%s: the key is not UTF-8 text", path);
	return 0;
}

static int bare_item_error(const struct schema *s, const struct schema *member, const char *item,
	const char *path, struct error *err)
{
	if (member)
		return error_set(err, ERROR_BAD_REQUEST, "%s.%s: needs a value: %s=%s", path, item,
			item, member->placeholder ? member->placeholder : "VALUE");
	error_set(err, ERROR_BAD_REQUEST, "%s: '%.80s' is not of the form KEY=VALUE", path, item);
	if (schema_nearest(s->members, item))
		return error_hint(err, "did you mean '%s'?", schema_nearest(s->members, item));
	return error_hint(err, "did you mean %s=%.80s?", s->members[0].name, item);
}

/* One item of a compound value into `object`. */
static int put_item(const struct schema *s, char *item, bool first, json_t *object,
	const char *path, struct error *err)
{
	char *equals = strchr(item, '=');
	const struct schema *member;
	const char *key = item;

	if (equals)
		*equals = '\0';
	member = schema_find(s->members, key);
	if (!equals && first && s->lead && !(member && member->type == SCHEMA_BOOL)) {
		key = s->lead;
		return put_value(object, key, plain_from_text(schema_find(s->members, key), item),
			path, err);
	}
	if (!equals && (!member || member->type != SCHEMA_BOOL))
		return bare_item_error(s, member, item, path, err);
	if (json_object_get(object, key))
		return error_set(err, ERROR_BAD_REQUEST, "%s.%s: is given twice", path, key);
	if (!equals)
		return put_value(object, key, json_true(), path, err);
	return put_value(object, key,
		member ? plain_from_text(member, equals + 1) : json_string(equals + 1), path, err);
}

static int compound_from_text(
	const struct schema *s, const char *text, const char *path, json_t **out, struct error *err)
{
	_cleanup_free_ char *copy = strdup(text);
	json_t *object = json_object();
	char *rest = copy, *item;
	bool first = true;
	int ret = 0;

	if (!copy || !object)
		ret = error_errno(err, ENOMEM, "%s", path);
	while (!ret && (item = next_item(&rest))) {
		ret = put_item(s, item, first, object, path, err);
		first = false;
	}
	if (ret)
		json_decref(object);
	else
		*out = object;
	return ret;
}

static int list_flag(const struct schema *s, const char *text, json_t *flags, struct error *err)
{
	json_t *list = json_object_get(flags, s->name), *element;
	char path[96];
	int ret;

	if (!list && json_object_set_new(flags, s->name, json_array()))
		return error_errno(err, ENOMEM, "--%s", s->name);
	list = json_object_get(flags, s->name);
	snprintf(path, sizeof(path), "%s[%zu]", s->name, json_array_size(list));
	ret = compound_from_text(s, text, path, &element, err);
	if (!ret && json_array_append_new(list, element))
		ret = error_errno(err, ENOMEM, "%s", path);
	return ret;
}

static int joined_flag(const struct schema *s, const char *text, json_t *flags, struct error *err)
{
	const char *before = json_string_value(json_object_get(flags, s->name));

	if (!before)
		return put_value(flags, s->name, json_string(text), s->name, err);
	if (strlen(before) + strlen(text) > FLAG_TEXT_MAX)
		return error_set(
			err, ERROR_BAD_REQUEST, "%s: the texts are too long together", s->name);
	return put_value(flags, s->name, json_sprintf("%s %s", before, text), s->name, err);
}

int schema_flag(const struct schema *s, const char *text, json_t *flags, struct error *err)
{
	json_t *object;
	int ret;

	if (!text && s->type != SCHEMA_BOOL)
		return error_set(err, ERROR_BAD_REQUEST, "--%s: needs a value: --%s %s", s->name,
			s->name, s->placeholder ? s->placeholder : "VALUE");
	if (!text)
		return put_value(flags, s->name, json_true(), s->name, err);
	if (strlen(text) > FLAG_TEXT_MAX)
		return error_set(err, ERROR_BAD_REQUEST, "--%s: the value is over %u bytes long",
			s->name, FLAG_TEXT_MAX);
	if (s->type == SCHEMA_LIST)
		return list_flag(s, text, flags, err);
	if (s->joins)
		return joined_flag(s, text, flags, err);
	if (s->type != SCHEMA_OBJECT)
		return put_value(flags, s->name, plain_from_text(s, text), s->name, err);
	ret = compound_from_text(s, text, s->name, &object, err);
	return ret ? ret : put_value(flags, s->name, object, s->name, err);
}

static int unknown_argument(const struct schema *table, const char *arg, struct error *err)
{
	char name[64];
	const char *nearest;

	if (strncmp(arg, "--", 2) != 0)
		return error_set(err, ERROR_BAD_REQUEST, "'%.80s': unexpected argument", arg);
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
	error_set(err, ERROR_BAD_REQUEST, "--%s: no such option", name);
	nearest = schema_nearest(table, name);
	return nearest ? error_hint(err, "did you mean --%s?", nearest)
		       : error_hint(err, "see --help");
}

/* The option that `arg` ("--name" or "--name=value") names; *value is what follows '=', or NULL. */
static const struct schema *option_of(
	const struct schema *table, const char *arg, const char **value)
{
	size_t len = strcspn(arg, "=");

	*value = arg[len] ? arg + len + 1 : NULL;
	if (strncmp(arg, "--", 2) != 0)
		return NULL;
	for (; table->name; table++)
		if (strlen(table->name) == len - 2 && !strncmp(table->name, arg + 2, len - 2))
			return table;
	return NULL;
}

int schema_args(const struct schema *table, int argc, char *const *argv, json_t **flags, bool *help,
	struct error *err)
{
	json_t *object = json_object();
	int ret = object ? 0 : error_errno(err, ENOMEM, "arguments");

	*help = false;
	for (int i = 0; i < argc && !ret && !*help; i++) {
		const char *value;
		const struct schema *option = option_of(table, argv[i], &value);

		if (!option && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
			*help = true;
		} else if (!option) {
			ret = unknown_argument(table, argv[i], err);
		} else {
			/* A switch takes its value only behind '=': "--paused x" must not eat x. */
			if (!value && option->type != SCHEMA_BOOL && i + 1 < argc)
				value = argv[++i];
			ret = schema_flag(option, value, object, err);
		}
	}
	if (ret)
		json_decref(object);
	else
		*flags = object;
	return ret;
}
