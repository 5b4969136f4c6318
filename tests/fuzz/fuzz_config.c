/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration from both its sources: the first byte chooses.
 *   'J'  the rest is the JSON file
 *   'F'  lines of the rest are the arguments, as `run` gets them
 *   'B'  arguments up to an empty line, and a JSON file behind it, merged as with --config
 * Whatever is accepted must keep the promises that the machine relies on.
 */
#include "vmm/base/util.h"
#include "vmm/machine/config.h"

#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define ARGS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool kept)
{
	if (!kept)
		abort();
}

static void check_disks(const struct machine_config *config)
{
	must(config->disk_count <= MACHINE_DISKS_MAX);
	for (unsigned i = 0; i < config->disk_count; i++) {
		const struct disk_options *disk = &config->disks[i];

		must(disk->path && *disk->path && *disk->id && strlen(disk->id) < sizeof(disk->id));
		must(disk->queues >= 1 && disk->queues <= BLK_QUEUES_MAX);
		must(!disk->serial || strlen(disk->serial) <= BLK_SERIAL_LEN);
		for (unsigned j = 0; j < i; j++)
			must(strcmp(disk->id, config->disks[j].id) &&
				strcmp(disk->path, config->disks[j].path));
	}
}

static void check_nets(const struct machine_config *config)
{
	must(config->net_count <= MACHINE_NETS_MAX);
	for (unsigned i = 0; i < config->net_count; i++) {
		const struct net_options *net = &config->nets[i];

		must(!net->tap != (net->fd < 0) && *net->id && !(net->mac[0] & 1));
		must(net->queues >= 1 && net->queues <= NET_QUEUE_PAIRS_MAX);
		must(net->mtu == 0 || (net->mtu >= 68 && net->mtu <= 65535));
		must(!net->tap || strlen(net->tap) < 16);
	}
}

static void check_accepted(struct machine_config *config)
{
	char *cmdline = machine_config_cmdline(config);

	must(config->kernel && *config->kernel && config->cpu_model && *config->name);
	must(config->cpus >= 1 && config->cpus <= config->cpus_max && config->cpus_max <= 64);
	must(config->memory >= MIB(16) && config->memory <= config->memory_max);
	must(config->memory % 4096 == 0);
	must(!config->control ||
		strlen(config->control) < sizeof(((struct sockaddr_un *)0)->sun_path));
	must(config->disk_count + config->net_count <= MACHINE_DEVICES_MAX);
	must((config->vsock_cid != 0) == (config->vsock_socket != NULL));
	must((config->console >= CONSOLE_FILE) == (config->console_path != NULL));
	must(cmdline && strlen(cmdline) < MACHINE_CMDLINE_SIZE);
	check_disks(config);
	check_nets(config);
	free(cmdline);
	machine_config_free(config);
}

static void try_object(const json_t *object)
{
	struct machine_config config;
	struct error err = {0};

	if (!machine_config_from_json(&config, object, &err))
		check_accepted(&config);
	else
		must(err.text[0] && err.code);
}

static json_t *parse_file(const char *text, size_t size)
{
	struct error err = {0};
	json_t *object;

	return machine_config_parse(text, size, "fuzz", &object, &err) ? NULL : object;
}

/* Arguments are lines; parsing them opens no file: --config is taken out, as merging would. */
static json_t *parse_flags(char *text)
{
	char *argv[ARGS_MAX];
	struct error err = {0};
	json_t *flags;
	bool help;
	int argc = 0;

	for (char *line; argc < ARGS_MAX && (line = strsep(&text, "\n")) && *line;)
		argv[argc++] = line;
	if (schema_args(machine_config_schema, argc, argv, &flags, &help, &err)) {
		must(err.text[0] && err.code);
		return NULL;
	}
	json_object_del(flags, "config");
	return flags;
}

static void try_both(char *text)
{
	char *split = strstr(text, "\n\n");
	json_t *file = split ? parse_file(split + 2, strlen(split + 2)) : NULL;
	json_t *flags = parse_flags(text);

	if (file && flags && !json_object_update(file, flags))
		try_object(file);
	json_decref(file);
	json_decref(flags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = size ? strndup((const char *)data + 1, size - 1) : NULL;
	json_t *object;

	if (!text)
		return 0;
	if (data[0] == 'B') {
		try_both(text);
		return 0;
	}
	object = data[0] == 'J' ? parse_file((const char *)data + 1, size - 1) : parse_flags(text);
	if (object)
		try_object(object);
	json_decref(object);
	return 0;
}
