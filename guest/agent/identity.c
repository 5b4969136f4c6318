/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity.change: what a clone must not share with its original. Everything is checked before anything is
 * changed. Then each change is made whatever became of the others, and the result tells of each: a clone that has not got
 * its new address must not keep the old random numbers too. Entropy comes first: what is random afterwards is its own.
 *
 * The machine id (machine-id(5)) is written to /etc/machine-id; programs that have read the old one keep it. D-Bus's, where it
 * is a file of its own and no link to that, becomes the same.
 * Where its file is a mount of its own (systemd, before the first boot is complete) it is written in place.
 */
#include "guest/agent/identity.h"

#include "guest/agent/files.h"
#include "guest/agent/freeze.h"
#include "guest/agent/system.h"
#include "guest/agent/worker.h"
#include "vmm/base/util.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

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

	if (!p->hostname && !p->machine_id && !p->interface_count && !p->time_ns &&
		!p->entropy.data)
		return error_set(err, ERROR_BAD_REQUEST,
			"time_ns, entropy, hostname, machine_id, interfaces: at least one of them is needed");
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

#define DBUS_ID "/var/lib/dbus/machine-id"

static int set_dbus_id(const char *line, struct error *err)
{
	struct stat st;

	if (lstat(DBUS_ID, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	return file_replace(DBUS_ID, line, err);
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
	if (file_replace("/etc/machine-id", line, err) || set_dbus_id(line, err))
		return error_prefix(err, "machine_id");
	return 0;
}

/*
 * What we are told is late by the way that it came, which on a host that wakes many clones at once may be seconds: our clock may well be
 * ahead of it. That of a guest that was restored is right already, by kvmclock, and would become worse.
 */
#define CLOCK_BEHIND_NS (1 * (int64_t)1000000000)
#define CLOCK_AHEAD_NS	(20 * (int64_t)1000000000) /* as long as a host waits for our answer */

static int correct_clock(uint64_t time_ns, struct error *err)
{
	struct timespec now;
	int64_t ahead;

	clock_gettime(CLOCK_REALTIME, &now);
	ahead = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - (int64_t)time_ns;
	return ahead > -CLOCK_BEHIND_NS && ahead < CLOCK_AHEAD_NS ? 0
								  : system_set_clock(time_ns, err);
}

/* ---- the steps ---- */

struct steps {
	json_t *list;
	bool failed;
};

static void note(struct steps *steps, const char *name, bool done, const struct error *err)
{
	json_t *step = json_pack("{s:s, s:b}", "step", name, "done", done);

	if (!done)
		json_object_set_new(step, "error", json_string(err->text));
	steps->failed |= !done;
	json_array_append_new(steps->list, step);
}

static json_t *change_interfaces(const struct identity_params *p, struct steps *steps)
{
	json_t *interfaces = json_array();
	struct error err;

	for (unsigned i = 0; i < p->interface_count; i++) {
		json_t *done = network_apply(&p->interfaces[i], &err);
		char name[24];

		snprintf(name, sizeof(name), "interfaces[%u]", i);
		note(steps, name, done, &err);
		json_array_append_new(interfaces, done ? done : json_null());
	}
	return interfaces;
}

static json_t *identity_run(const void *params, struct error *err)
{
	const struct identity_params *p = params;
	struct steps steps = {.list = json_array()};
	json_t *interfaces;
	char id[40] = "";
	bool done;

	if (p->entropy.data)
		note(&steps, "entropy", !system_add_entropy(&p->entropy, err), err);
	if (p->time_ns)
		note(&steps, "time_ns", !correct_clock(p->time_ns, err), err);
	if (p->hostname)
		note(&steps, "hostname", !set_hostname(p->hostname, err), err);
	if (p->machine_id) {
		done = !set_machine_id(p->machine_id, id, err);
		note(&steps, "machine_id", done, err);
		if (!done)
			*id = '\0';
	}
	interfaces = change_interfaces(p, &steps);
	return json_pack("{s:s?, s:o, s:o, s:b, s:o}", "hostname", p->hostname, "machine_id",
		*id ? json_stringn(id, 32) : json_null(), "interfaces", interfaces, "complete",
		!steps.failed, "steps", steps.list);
}

static void serve_identity(struct rpc_call *call)
{
	struct error err;

	if (check_identity(call->params, &err))
		rpc_fail(call, &err);
	else if (!freeze_refuses(call))
		worker_serve(call, 15000, identity_run);
}

const struct rpc_method identity_methods[] = {
	{"identity.change", serve_identity, identity_schema, sizeof(struct identity_params),
		"Makes this guest another one than the guest it is a clone of.",
		"{hostname, machine_id, interfaces: [{name, mac, mtu, up, announced} or null], complete, steps: [{step, done, error}]}"},
	{.name = NULL},
};
