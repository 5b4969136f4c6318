/* SPDX-License-Identifier: Apache-2.0 */
/* What goes over the wire, apart from the requests: errors as objects and back, and text that may be none. */
#include "vmm/base/util.h"
#include "vmm/rpc/rpc.h"

#include <stdio.h>
#include <string.h>

/* -32602 and -32601 are the specification's; -32000 and below are left to servers. */
static const int codes[ERROR_KIND_COUNT] = {
	[ERROR_INTERNAL] = -32603,
	[ERROR_BAD_REQUEST] = -32602,
	[ERROR_UNKNOWN_METHOD] = -32601,
	[ERROR_WRONG_STATE] = -32001,
	[ERROR_NOT_FOUND] = -32002,
	[ERROR_ALREADY_EXISTS] = -32003,
	[ERROR_NO_RESOURCE] = -32004,
	[ERROR_GUEST_TIMEOUT] = -32005,
	[ERROR_AGENT_ABSENT] = -32006,
	[ERROR_IO] = -32007,
	[ERROR_CORRUPT] = -32008,
	[ERROR_INCOMPATIBLE] = -32009,
	[ERROR_CANCELLED] = -32010,
	[ERROR_GUEST_REFUSED] = -32011,
};

int rpc_error_code(enum error_kind kind)
{
	return kind < ERROR_KIND_COUNT ? codes[kind] : codes[ERROR_INTERNAL];
}

json_t *rpc_error_json(const struct error *err)
{
	char message[sizeof(err->text) + sizeof(err->hint) + 4];

	error_format(err, message, sizeof(message));
	return json_pack("{s:i, s:o, s:{s:s}}", "code", rpc_error_code(err->kind), "message",
		rpc_text(message, strlen(message)), "data", "kind", error_kind_name(err->kind));
}

void rpc_error_read(const json_t *object, struct error *err)
{
	const char *message = json_string_value(json_object_get(object, "message"));
	const char *kind =
		json_string_value(json_object_get(json_object_get(object, "data"), "kind"));
	unsigned found = ERROR_INTERNAL;

	for (unsigned i = 0; kind && i < ERROR_KIND_COUNT; i++)
		if (!strcmp(kind, error_kind_name((enum error_kind)i)))
			found = i;
	error_set(err, (enum error_kind)found, "%s",
		message ? message : "an error without a message");
}

/* The length of the UTF-8 sequence at `s` (Unicode 15, table 3-7), or 0 where there is none. */
static size_t sequence(const unsigned char *s, size_t left)
{
	size_t len = s[0] < 0x80   ? 1
		     : s[0] < 0xc2 ? 0
		     : s[0] < 0xe0 ? 2
		     : s[0] < 0xf0 ? 3
		     : s[0] < 0xf5 ? 4
				   : 0;

	if (!s[0] || len > left)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
		(s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

json_t *rpc_text(const char *bytes, size_t len)
{
	_cleanup_free_ char *text = malloc(3 * len + 1);
	size_t used = 0;

	if (!text)
		return NULL;
	for (size_t i = 0; i < len;) {
		size_t good = sequence((const unsigned char *)bytes + i, len - i);

		memcpy(text + used, good ? bytes + i : "\xef\xbf\xbd", good ? good : 3);
		used += good ? good : 3;
		i += good ? good : 1;
	}
	return json_stringn(text, used);
}
