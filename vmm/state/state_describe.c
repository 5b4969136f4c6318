/* SPDX-License-Identifier: Apache-2.0 */
/* What a state file holds, for people: as JSON, from the file alone. See state.h. */
#include "vmm/state/state_private.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static json_t *describe_fields(struct state_bytes bytes, unsigned depth);

/* JSON's integers are signed: what does not fit is text. */
static json_t *describe_number(uint64_t number)
{
	if (number <= INT64_MAX)
		return json_integer((json_int_t)number);
	return json_sprintf("0x%llx", (unsigned long long)number);
}

static json_t *describe_numbers(const struct field_view *view)
{
	uint32_t count = view->head.size / view->head.width;
	json_t *list;

	if (count == 1)
		return describe_number(state_number(view, 0));
	list = json_array();
	for (uint32_t i = 0; i < count; i++)
		json_array_append_new(list, describe_number(state_number(view, i)));
	return list;
}

static json_t *describe_bytes(const struct field_view *view)
{
	size_t size = view->head.size;
	_cleanup_free_ char *text = malloc(2 * size + 1);

	if (!text)
		return NULL;
	text[0] = '\0';
	for (size_t i = 0; i < size; i++)
		snprintf(text + 2 * i, 3, "%02x", view->payload[i]);
	return json_stringn(text, 2 * size);
}

static json_t *describe_list(const struct field_view *view, unsigned depth)
{
	struct state_bytes bytes = {.at = view->payload, .left = view->head.size}, element;
	json_t *list = json_array();

	while (list && bytes.left) {
		json_t *fields = state_take_element(&bytes, &element)
					 ? describe_fields(element, depth + 1)
					 : NULL;

		if (!fields) {
			json_decref(list);
			return NULL;
		}
		json_array_append_new(list, fields);
	}
	return list;
}

static json_t *describe_field(const struct field_view *view, unsigned depth)
{
	switch (view->head.kind) {
	case STATE_KIND_UINT:
		return describe_numbers(view);
	case STATE_KIND_TEXT:
		return json_stringn((const char *)view->payload, view->head.size);
	case STATE_KIND_LIST:
		return describe_list(view, depth);
	default: /* a kind of a later version is bytes to us */
		return describe_bytes(view);
	}
}

/* NULL: they are broken. */
static json_t *describe_fields(struct state_bytes bytes, unsigned depth)
{
	json_t *object = depth < STATE_DEPTH_MAX ? json_object() : NULL;
	struct field_view view;

	while (object && bytes.left) {
		if (!state_take_field(&bytes, &view) ||
			json_object_set_new(object, view.name, describe_field(&view, depth)) < 0) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

json_t *state_describe(const struct state_reader *in, struct error *err)
{
	json_t *list = json_array();

	for (unsigned i = 0; list && i < in->count; i++) {
		const struct state_section *s = &in->sections[i];
		json_t *fields =
			describe_fields((struct state_bytes){.at = s->body, .left = s->size}, 0);

		if (!fields) {
			json_decref(list);
			error_set(err, ERROR_CORRUPT, "the fields of %s '%s' are broken", s->name,
				s->instance);
			return NULL;
		}
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:i, s:o}", "section", s->name, "instance",
				      s->instance, "version", s->version, "fields", fields));
	}
	if (!list)
		error_errno(err, ENOMEM, "cannot describe the state");
	return list;
}
