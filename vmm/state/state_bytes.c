/* SPDX-License-Identifier: Apache-2.0 */
/* The small steps of reading a state file, each of which stays inside its bytes. See state_private.h. */
#include "vmm/state/state_private.h"

#include <endian.h>
#include <string.h>

bool state_take(struct state_bytes *from, void *into, size_t size)
{
	if (size > from->left)
		return false;
	memcpy(into, from->at, size);
	from->at += size;
	from->left -= size;
	return true;
}

/* Names go into messages and JSON: printable, no quotes. */
bool state_take_name(struct state_bytes *from, char *into, size_t length, bool may_be_empty)
{
	if (length > STATE_NAME_MAX || (!length && !may_be_empty) ||
		!state_take(from, into, length))
		return false;
	into[length] = '\0';
	for (size_t i = 0; i < length; i++)
		if (into[i] <= ' ' || into[i] > '~' || into[i] == '"' || into[i] == '\\')
			return false;
	return true;
}

static bool is_width(unsigned width)
{
	return width == 1 || width == 2 || width == 4 || width == 8;
}

bool state_take_field(struct state_bytes *from, struct field_view *field)
{
	struct field_head *head = &field->head;

	if (!state_take(from, head, sizeof(*head)) ||
		!state_take_name(from, field->name, head->name, false))
		return false;
	head->size = le32toh(head->size);
	if (head->size > from->left)
		return false;
	if (head->kind == STATE_KIND_UINT && (!is_width(head->width) || head->size % head->width))
		return false;
	field->payload = from->at;
	from->at += head->size;
	from->left -= head->size;
	return true;
}

bool state_take_element(struct state_bytes *from, struct state_bytes *element)
{
	uint32_t length;

	if (!state_take(from, &length, sizeof(length)))
		return false;
	length = le32toh(length);
	if (length > from->left)
		return false;
	*element = (struct state_bytes){.at = from->at, .left = length};
	from->at += length;
	from->left -= length;
	return true;
}

uint64_t state_number(const struct field_view *field, uint32_t index)
{
	const uint8_t *at = field->payload + (size_t)index * field->head.width;
	uint64_t number = 0;

	for (unsigned i = field->head.width; i-- > 0;)
		number = number << 8 | at[i];
	return number;
}
