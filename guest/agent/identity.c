/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity.change: what a clone must not share with its original. Everything is checked before anything is
 * changed; then the changes are made in order, and an error says which one failed.
 *
 * The machine id (machine-id(5)) is written to /etc/machine-id; programs that have read the old one keep it.
 * Where its file is a mount of its own (systemd, before the first boot is complete) it is written in place.
 */
#include "guest/agent/identity.h"

#include "guest/agent/files.h"
#include "guest/agent/freeze.h"
#include "guest/agent/network.h"
#include "guest/agent/worker.h"
#include "vmm/base/util.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

struct identity_params {
	char *hostname, *machine_id;
	struct network_params interfaces[NETWORK_INTERFACES_MAX];
	unsigned interface_count;
};

bool identity_is_hostname(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) &&
			!(i && i + 1 < len && strchr("-.", name[i])))
			return false;
	return len >= 1 && len <= 64;
}

static int check_identity(const struct identity_params *p, struct error *err)
{
	int ret = 0;

	if (!p->hostname && !p->machine_id && !p->interface_count)
		return error_set(err, ERROR_BAD_REQUEST,
			"hostname, machine_id, interfaces: at least one of them is needed");
	if (p->hostname && !identity_is_hostname(p->hostname))
		return error_set(err, ERROR_BAD_REQUEST,
			"hostname: '%.64s' is not 1 to 64 letters, digits, dots and dashes",
			p->hostname);
	if (p->machine_id && strcmp(p->machine_id, "random") != 0 &&
		(strlen(p->machine_id) != 32 || strspn(p->machine_id, "0123456789abcdef") != 32))
		return error_set(err, ERROR_BAD_REQUEST,
			"machine_id: '%.64s' is neither 32 of 0-9, a-f nor 'random'",
			p->machine_id);
	for (unsigned i = 0; i < p->interface_count && !ret; i++) {
		char path[24];

		snprintf(path, sizeof(path), "interfaces[%u].", i);
		ret = network_check(&p->interfaces[i], path, err);
	}
	return ret;
}

static int set_hostname(const char *name, struct error *err)
{
	char line[80];

	if (sethostname(name, strlen(name)) < 0)
		return error_errno(err, errno, "hostname: cannot set it");
	snprintf(line, sizeof(line), "%s\n", name);
	return file_replace("/etc/hostname", line, err) ? error_prefix(err, "hostname") : 0;
}

static int set_machine_id(const char *id, char line[40], struct error *err)
{
	uint8_t bytes[16];

	if (strcmp(id, "random") != 0) {
		snprintf(line, 40, "%s\n", id);
	} else {
		if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
			return error_errno(err, errno, "machine_id: no random bytes");
		for (unsigned i = 0; i < sizeof(bytes); i++)
			snprintf(line + 2 * i, 40 - 2 * i, "%02x", bytes[i]);
		memcpy(line + 32, "\n", 2);
	}
	return file_replace("/etc/machine-id", line, err) ? error_prefix(err, "machine_id") : 0;
}

static json_t *identity_run(const void *params, struct error *err)
{
	const struct identity_params *p = params;
	json_t *interfaces = json_array();
	char id[40] = "";

	if ((p->hostname && set_hostname(p->hostname, err)) ||
		(p->machine_id && set_machine_id(p->machine_id, id, err)))
		return NULL;
	for (unsigned i = 0; i < p->interface_count; i++) {
		json_t *done = network_apply(&p->interfaces[i], err);

		if (!done) {
			error_prefix(err, "interfaces[%u]", i);
			return NULL;
		}
		json_array_append_new(interfaces, done);
	}
	return json_pack("{s:s?, s:o, s:o}", "hostname", p->hostname, "machine_id",
		*id ? json_stringn(id, 32) : json_null(), "interfaces", interfaces);
}

static void serve_identity(struct rpc_call *call)
{
	struct error err;

	if (check_identity(call->params, &err))
		rpc_fail(call, &err);
	else if (!freeze_refuses(call))
		worker_serve(call, 15000, identity_run);
}

static const struct schema identity_schema[] = {
	{.name = "hostname",
		.type = SCHEMA_TEXT,
		.offset = offsetof(struct identity_params, hostname),
		.min = 1,
		.max = 64,
		.help = "the new host name, kept in /etc/hostname"},
	{.name = "machine_id",
		.type = SCHEMA_TEXT,
		.offset = offsetof(struct identity_params, machine_id),
		.min = 1,
		.max = 32,
		.help = "32 hexadecimal digits for /etc/machine-id, or 'random'"},
	{.name = "interfaces",
		.type = SCHEMA_LIST,
		.offset = offsetof(struct identity_params, interfaces),
		.size = sizeof(struct network_params),
		.extra = offsetof(struct identity_params, interface_count),
		.max = NETWORK_INTERFACES_MAX,
		.members = network_schema,
		.help = "what to change on network interfaces, each as for network.configure"},
	{.name = NULL},
};

const struct rpc_method identity_methods[] = {
	{"identity.change", serve_identity, identity_schema, sizeof(struct identity_params),
		"Makes this guest another one than the guest it is a clone of.",
		"{hostname, machine_id, interfaces: [{name, mac, mtu, up}]}"},
	{.name = NULL},
};
