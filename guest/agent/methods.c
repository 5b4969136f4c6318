/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's methods: the modules' tables one behind the other. See methods.h. */
#include "guest/agent/methods.h"

#include "guest/agent/disk_users.h"
#include "guest/agent/docker.h"
#include "guest/agent/exec.h"
#include "guest/agent/freeze.h"
#include "guest/agent/identity.h"
#include "guest/agent/info.h"
#include "guest/agent/mounts.h"
#include "guest/agent/network.h"
#include "guest/agent/system.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <inttypes.h>
#include <stdio.h>

#define METHODS_MAX 64

const struct rpc_method *agent_methods(void)
{
	static const struct rpc_method *const tables[] = {system_methods, info_methods,
		exec_methods, mount_methods, disk_users_methods, freeze_methods, identity_methods,
		network_methods, docker_methods};
	static struct rpc_method all[METHODS_MAX + 1];
	unsigned count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
		for (const struct rpc_method *m = tables[i]; m->name; m++) {
			BUG_ON(count == METHODS_MAX);
			all[count++] = *m;
		}
	all[count] = (struct rpc_method){.name = NULL};
	return all;
}

static const char *type_name(const struct schema *s, char *buf, size_t size)
{
	char names[128];

	switch (s->type) {
	case SCHEMA_BOOL:
		return "true or false";
	case SCHEMA_NUMBER:
		snprintf(buf, size, "number, %" PRIu64 " to %" PRIu64, s->min, s->max);
		return buf;
	case SCHEMA_CHOICE:
	case SCHEMA_WORD:
		return schema_choices_format(s, ", ", names, sizeof(names)),
		       snprintf(buf, size, "one of %s", names), buf;
	case SCHEMA_BYTES:
		snprintf(buf, size, "base64, %" PRIu64 " to %" PRIu64 " bytes", s->min, s->max);
		return buf;
	case SCHEMA_TEXTS:
		snprintf(buf, size, "list of %" PRIu64 " to %" PRIu64 " texts", s->min, s->max);
		return buf;
	case SCHEMA_ID:
		return "identifier";
	case SCHEMA_MAC:
		return "MAC address";
	case SCHEMA_PATH:
		snprintf(buf, size, "path, up to %" PRIu64 " bytes", s->max);
		return buf;
	case SCHEMA_LIST:
		snprintf(buf, size, "list of up to %" PRIu64 " objects", s->max);
		return buf;
	default:
		snprintf(buf, size, "text, up to %" PRIu64 " bytes", s->max);
		return buf;
	}
}

void agent_methods_print(void)
{
	char type[256];

	for (const struct rpc_method *m = agent_methods(); m->name; m++) {
		printf("### `%s`\n\n%s\n\nResult: `%s`\n\n", m->name, m->summary, m->result);
		if (m->params)
			printf("| parameter | type | meaning |\n| --- | --- | --- |\n");
		for (const struct schema *s = m->params; s && s->name; s++) {
			const char *fallback = s->value ? s->value : s->fallback;

			printf("| `%s` | %s | %s%s%s%s |\n", s->name,
				type_name(s, type, sizeof(type)), s->help,
				s->required ? "; required" : "", fallback ? "; default: " : "",
				fallback ? fallback : "");
		}
		if (m->params)
			printf("\n");
	}
}
