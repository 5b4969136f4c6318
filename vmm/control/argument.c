/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KEY=VALUE of the command line as a parameter, by the table of methods that is linked into the client too. Without it "1" could
 * be a number or a text, and `id=1` would be refused. Of a method or parameter that only a newer VM knows, nothing is
 * known here: then the value is JSON where it is that.
 */
#include "vmm/control/client.h"
#include "vmm/control/control_private.h"

#include <string.h>

static const struct schema *find_param(const char *method, const char *key)
{
	for (const struct rpc_method *m = control_methods; m->name; m++)
		if (!strcmp(m->name, method))
			return m->params ? schema_find(m->params, key) : NULL;
	return NULL;
}

/* Whether what is wanted is text and nothing else. A size may be either, and is checked as either. */
static bool is_text(const struct schema *param)
{
	switch (param->type) {
	case SCHEMA_CHOICE:
	case SCHEMA_WORD:
	case SCHEMA_TEXT:
	case SCHEMA_PATH:
	case SCHEMA_STRING:
	case SCHEMA_BYTES:
	case SCHEMA_ID:
	case SCHEMA_MAC:
		return true;
	default:
		return false;
	}
}

json_t *control_argument(const char *method, const char *key, const char *text)
{
	const struct schema *param = find_param(method, key);
	json_t *value = NULL;

	if (!param || !is_text(param))
		value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	return value ? value : json_string(text);
}
