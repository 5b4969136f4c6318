/* SPDX-License-Identifier: Apache-2.0 */
/* Single values out of JSON texts, for callers that have no JSON library. */
#include "vmm/lib/private.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Borrowed; NULL: there is none. */
static const json_t *step(const json_t *value, const char *key, size_t len)
{
	char *end;
	unsigned long at;

	if (json_is_object(value)) {
		_cleanup_free_ char *name = strndup(key, len);

		return name ? json_object_get(value, name) : NULL;
	}
	if (!json_is_array(value) || !len || *key < '0' || *key > '9')
		return NULL;
	at = strtoul(key, &end, 10);
	return end == key + len ? json_array_get(value, at) : NULL;
}

static const json_t *find(const json_t *value, const char *path)
{
	while (path && *path && value) {
		size_t len = strcspn(path, ".");

		value = step(value, path, len);
		path += len;
		path += *path == '.';
	}
	return value;
}

static json_t *parse(const char *json)
{
	return json ? json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
}

int bulkhead_json_text(const char *json, const char *path, char *text, size_t size)
{
	json_t *root = parse(json);
	const json_t *value = find(root, path);
	_cleanup_free_ char *dumped = value && !json_is_string(value)
					      ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY)
					      : NULL;
	const char *found = json_is_string(value) ? json_string_value(value) : dumped;
	int ret = 0;

	if (size)
		*text = '\0';
	if (!root)
		ret = -EINVAL;
	else if (!value)
		ret = -ENOENT;
	else if (!found)
		ret = -ENOMEM;
	else if (strlen(found) >= size)
		ret = -ENOSPC;
	else
		memcpy(text, found, strlen(found) + 1);
	json_decref(root);
	return ret;
}

int bulkhead_json_number(const char *json, const char *path, int64_t *number)
{
	json_t *root = parse(json);
	const json_t *value = find(root, path);
	int ret = 0;

	if (!root)
		ret = -EINVAL;
	else if (!value)
		ret = -ENOENT;
	else if (json_is_boolean(value))
		*number = json_is_true(value);
	else if (json_is_integer(value))
		*number = json_integer_value(value);
	else
		ret = -EINVAL;
	json_decref(root);
	return ret;
}
