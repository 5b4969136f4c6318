/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From flags and a file to a checked configuration: the file's object, with the flags' values put
 * over it key by key (a list given as flags replaces the file's list), goes through the validator
 * once. See config.h.
 */
#include "vmm/machine/config.h"

#include "vmm/base/util.h"
#include "vmm/schema/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int machine_config_parse(
	const char *text, size_t size, const char *name, json_t **out, struct error *err)
{
	json_error_t why;
	json_t *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);

	if (!object)
		return error_set(err, ERROR_BAD_REQUEST, "%.200s:%d:%d: %s", name, why.line,
			why.column, why.text);
	if (!json_is_object(object)) {
		json_decref(object);
		return error_set(err, ERROR_BAD_REQUEST, "%.200s: is not a JSON object", name);
	}
	*out = object;
	return 0;
}

/* The whole file, at most MACHINE_CONFIG_SIZE; it may be a pipe. */
static int read_all(int fd, const char *path, char *text, size_t *size, struct error *err)
{
	ssize_t got;

	*size = 0;
	while ((got = read(fd, text + *size, MACHINE_CONFIG_SIZE + 1 - *size)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return error_errno(
				err, errno, "cannot read the configuration '%.200s'", path);
		*size += (size_t)got;
		if (*size > MACHINE_CONFIG_SIZE)
			return error_set(err, ERROR_BAD_REQUEST, "%.200s: is larger than %u bytes",
				path, MACHINE_CONFIG_SIZE);
	}
	return 0;
}

static int load_file(const char *path, json_t **out, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_cleanup_free_ char *text = malloc(MACHINE_CONFIG_SIZE + 1);
	size_t size;
	int ret;

	if (fd < 0)
		return error_errno(err, errno, "cannot open the configuration '%.200s'", path);
	if (!text)
		return error_errno(err, ENOMEM, "cannot read the configuration '%.200s'", path);
	ret = read_all(fd, path, text, &size, err);
	return ret ? ret : machine_config_parse(text, size, path, out, err);
}

int machine_config_from_json(struct machine_config *config, const json_t *object, struct error *err)
{
	int ret;

	memset(config, 0, sizeof(*config));
	config->control_fd = -1;
	for (unsigned i = 0; i < MACHINE_NETS_MAX; i++)
		config->nets[i].fd = -1;
	ret = schema_fill(machine_config_schema, object, config, "", err);
	if (!ret)
		ret = machine_config_check(config, err);
	if (ret)
		machine_config_free(config);
	return ret;
}

/* A list that both have: the file's, and behind it the flags'. */
static int join_lists(const json_t *file, json_t *flags, struct error *err)
{
	const char *key;
	json_t *value;
	int ret = 0;

	json_object_foreach(flags, key, value)
	{
		json_t *first = json_object_get(file, key), *both;

		if (ret || !json_is_array(value) || !json_is_array(first))
			continue;
		both = json_copy(first);
		if (!both || json_array_extend(both, value) || json_object_set(flags, key, both))
			ret = error_errno(err, ENOMEM, "configuration");
		json_decref(both);
	}
	return ret;
}

int machine_config_merge_file(json_t *flags, bool join, json_t **out, struct error *err)
{
	const char *path = json_string_value(json_object_get(flags, "config"));
	json_t *file = NULL;
	int ret;

	if (!path) {
		*out = json_incref(flags);
		return 0;
	}
	ret = load_file(path, &file, err);
	if (ret)
		return ret;
	json_object_del(flags, "config");
	if (join)
		ret = join_lists(file, flags, err);
	if (ret == 0 && json_object_update(file, flags))
		ret = error_errno(err, ENOMEM, "configuration");
	if (ret < 0)
		json_decref(file);
	else
		*out = file;
	return ret;
}

int machine_config_from_args(
	struct machine_config *config, int argc, char *const *argv, bool *help, struct error *err)
{
	json_t *flags, *merged = NULL;
	int ret = schema_args(machine_config_schema, argc, argv, &flags, help, err);

	if (ret)
		return ret;
	if (!*help)
		ret = machine_config_merge_file(flags, false, &merged, err);
	json_decref(flags);
	if (ret || *help)
		return ret;
	ret = machine_config_from_json(config, merged, err);
	json_decref(merged);
	return ret;
}

void machine_config_free(struct machine_config *config)
{
	schema_release(machine_config_schema, config);
}

char *machine_config_cmdline(const struct machine_config *config)
{
	const char *base = config->cmdline ? config->cmdline : MACHINE_CMDLINE_DEFAULT;
	const char *root = "", *plug = "";
	char *whole;

	if (!config->cmdline && config->disk_count && !config->initrd)
		root = config->disks[0].readonly ? " root=/dev/vda ro" : " root=/dev/vda rw";
	if (!config->cmdline && config->memory_max > config->memory)
		plug = MACHINE_CMDLINE_PLUG;
	if (asprintf(&whole, "%s%s%s%s%s", base, root, plug, config->append ? " " : "",
		    config->append ? config->append : "") < 0)
		return NULL;
	return whole;
}
