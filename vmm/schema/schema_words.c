/* SPDX-License-Identifier: Apache-2.0 */
/* What the tables say, in words. Apart from the validator: the document generator needs no more. */
#include "vmm/schema/schema.h"

#include <stdio.h>
#include <string.h>

const char *schema_choices_format(
	const struct schema *option, const char *between, char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (const struct schema_choice *c = option->choices; c->name && used < size; c++)
		used += (size_t)snprintf(buf + used, size - used, "%s%s%s", used ? between : "",
			c->name, c->name[strlen(c->name) - 1] == ':' ? "PATH" : "");
	return buf;
}
