/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of a VM that was saved: into a snapshot and out of it. See config.h.
 *
 * Nothing of a host is frozen in a snapshot: what belongs to the process that was (its sockets, its logs) is left out, and every
 * path that is kept can be given anew.
 */
#include "vmm/machine/config.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- out of a VM ---- */

static const char *const of_the_process[] = {"control", "control-fd", "console", "paused", "gdb",
	"seccomp", "log-level", "log-file", "metrics-file"};

/* What is there no more stays as it was written. */
static void make_absolute(json_t *object, const char *key)
{
	const char *path = json_string_value(json_object_get(object, key));
	_cleanup_free_ char *whole = path ? realpath(path, NULL) : NULL;

	if (whole)
		json_object_set_new(object, key, json_string(whole));
}

static void make_paths_absolute(json_t *config)
{
	json_t *device;
	size_t i;

	make_absolute(config, "kernel");
	make_absolute(config, "initrd");
	json_array_foreach(json_object_get(config, "disk"), i, device)
	{
		make_absolute(device, "path");
		make_absolute(device, "base");
	}
}

json_t *machine_config_to_save(const struct machine_config *config)
{
	json_t *object = schema_dump(machine_config_schema, config), *net;
	size_t i;

	for (i = 0; object && i < ARRAY_SIZE(of_the_process); i++)
		json_object_del(object, of_the_process[i]);
	json_array_foreach(json_object_get(object, "net"), i, net)
		json_object_del(net, "fd"); /* a number that means nothing elsewhere */
	if (object)
		make_paths_absolute(object);
	return object;
}

/* ---- into a VM ---- */

static json_t *find_device(json_t *list, const char *id)
{
	json_t *device;
	size_t i;

	json_array_foreach(list, i, device)
	{
		const char *has = json_string_value(json_object_get(device, "id"));

		if (has && !strcmp(has, id))
			return device;
	}
	return NULL;
}

/*
 * A network has a tap or a descriptor: the one that is given takes the other's place. And a disk somewhere else is the overlay that the
 * old one was only where that is said again.
 */
static void give_anew(json_t *device, json_t *given)
{
	if (json_object_get(given, "tap"))
		json_object_del(device, "fd");
	if (json_object_get(given, "fd"))
		json_object_del(device, "tap");
	if (json_object_get(given, "path"))
		json_object_del(device, "base");
	json_object_update(device, given);
}

/* Flags are well formed; what a file says may be anything. */
static int check_type(const json_t *value, json_type type, const char *name, struct error *err)
{
	if (!value || json_typeof(value) == type)
		return 0;
	return error_set(err, ERROR_BAD_REQUEST, "%s: is no %s", name,
		type == JSON_ARRAY ? "list" : "object");
}

static int merge_devices(json_t *saved, json_t *flags, const char *kind, struct error *err)
{
	json_t *list = json_object_get(saved, kind), *given;
	size_t i;

	if (check_type(json_object_get(flags, kind), JSON_ARRAY, kind, err))
		return -err->code;
	json_array_foreach(json_object_get(flags, kind), i, given)
	{
		const char *id = json_string_value(json_object_get(given, "id"));
		json_t *device = id ? find_device(list, id) : NULL;

		if (check_type(given, JSON_OBJECT, kind, err))
			return -err->code;
		/* Where there is one only, it is meant. */
		if (!id && json_array_size(list) == 1)
			device = json_array_get(list, 0);
		if (!device && !id)
			return error_set(err, ERROR_BAD_REQUEST,
				"%s[%zu]: id is missing: which of the snapshot's is meant?", kind,
				i);
		if (!device)
			return error_set(err, ERROR_BAD_REQUEST,
				"%s[%zu]: the snapshot has none with the id '%.64s'", kind, i, id);
		give_anew(device, given);
	}
	json_object_del(flags, kind);
	return 0;
}

/* A clone has addresses of its own: those that are given anew, or the ones that its name leads to. */
static void forget_addresses(json_t *saved)
{
	json_t *net;
	size_t i;

	json_array_foreach(json_object_get(saved, "net"), i, net) json_object_del(net, "mac");
}

static int merge_vsock(json_t *saved, json_t *flags, struct error *err)
{
	json_t *given = json_object_get(flags, "vsock"), *has = json_object_get(saved, "vsock");

	if (!given || check_type(given, JSON_OBJECT, "vsock", err))
		return given ? -err->code : 0;
	if (!json_is_object(has))
		return error_set(err, ERROR_BAD_REQUEST, "vsock: the snapshot has none");
	json_object_update(has, given);
	json_object_del(flags, "vsock");
	return 0;
}

/* A command line that is given replaces what was; more behind it does not add up. */
static void merge_cmdline(json_t *saved, const json_t *flags)
{
	if (json_object_get(flags, "cmdline"))
		json_object_del(saved, "append");
}

static int take_switches(json_t *flags, struct restore_options *options, struct error *err)
{
	json_t *own = json_object();
	int ret;

	for (const struct schema *s = machine_restore_switches; s->name; s++) {
		json_t *value = json_object_get(flags, s->name);

		if (value)
			json_object_set(own, s->name, value);
		json_object_del(flags, s->name);
	}
	ret = schema_fill(machine_restore_switches, own, options, "", err);
	json_decref(own);
	return ret;
}

/* What came from a file may have any key. */
static int check_keys(json_t *flags, struct error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach(flags, key, value)
	{
		const char *nearest = schema_nearest(machine_restore_schema, key);
		const struct schema *known = schema_find(machine_restore_schema, key);

		if (known && !known->flag_only)
			continue;
		error_set(err, ERROR_BAD_REQUEST,
			"%.64s: is nothing that a VM can be given when it is restored", key);
		return nearest && !known ? error_hint(err, "is '%s' meant?", nearest) : -err->code;
	}
	return 0;
}

static int check_addresses(const struct restore_options *options,
	const struct machine_config *config, struct error *err)
{
	if (options->address_count && !options->clone)
		return error_set(err, ERROR_BAD_REQUEST,
			"guest-address: only a clone's guest is told another (--clone)");
	return clone_addresses_check(options->addresses, options->address_count, config, err);
}

int machine_config_from_saved(struct machine_config *config, const json_t *saved, json_t *flags,
	struct restore_options *options, struct error *err)
{
	json_t *merged = json_deep_copy(saved);
	int ret;

	memset(options, 0, sizeof(*options));
	ret = merged ? check_keys(flags, err) : error_errno(err, ENOMEM, "configuration");
	if (ret == 0)
		ret = take_switches(flags, options, err);
	if (ret == 0 && options->clone)
		forget_addresses(merged);
	if (ret == 0)
		ret = merge_devices(merged, flags, "disk", err);
	if (ret == 0)
		ret = merge_devices(merged, flags, "net", err);
	if (ret == 0)
		ret = merge_vsock(merged, flags, err);
	if (ret == 0) {
		merge_cmdline(merged, flags);
		ret = json_object_update(merged, flags) ? error_errno(err, ENOMEM, "configuration")
							: 0;
	}
	if (ret == 0)
		ret = machine_config_from_json(config, merged, err);
	json_decref(merged);
	if (ret == 0) {
		ret = check_addresses(options, config, err);
		if (ret < 0)
			machine_config_free(config);
	}
	return ret;
}
