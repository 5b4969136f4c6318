/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the table cannot say because it concerns several keys: missing ids and addresses are filled
 * in, then names and files that clash, sizes that contradict each other and devices that do not fit
 * are refused, each in one line that names the keys.
 */
#include "vmm/base/util.h"
#include "vmm/machine/config.h"
#include "vmm/schema/schema.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int check_cpus(struct machine_config *config, struct error *err)
{
	if (!config->cpus_max)
		config->cpus_max = config->cpus;
	if (config->cpus_max < config->cpus)
		return error_set(err, ERROR_BAD_REQUEST, "cpus.max: %u is less than cpus.count, %u",
			config->cpus_max, config->cpus);
	return 0;
}

static uint64_t page_size(enum memory_pages pages)
{
	switch (pages) {
	case MEMORY_PAGES_2M:
		return MIB(2);
	case MEMORY_PAGES_1G:
		return GIB(1);
	default:
		return KIB(4);
	}
}

static int check_memory(struct machine_config *config, struct error *err)
{
	uint64_t page = page_size(config->hugepages);

	if (!config->memory_max)
		config->memory_max = config->memory;
	if (config->memory_max < config->memory)
		return error_set(err, ERROR_BAD_REQUEST,
			"memory.max: %" PRIu64 " bytes are less than memory.size, %" PRIu64,
			config->memory_max, config->memory);
	if (config->memory % page || config->memory_max % page)
		return error_set(err, ERROR_BAD_REQUEST,
			"memory.%s: %" PRIu64 " is not a multiple of the page size, %" PRIu64
			" KiB",
			config->memory % page ? "size" : "max",
			config->memory % page ? config->memory : config->memory_max, page >> 10);
	return 0;
}

static int check_device_count(const struct machine_config *config, struct error *err)
{
	unsigned count = config->disk_count + config->net_count + (config->vsock_cid ? 1 : 0);

	if (count <= MACHINE_DEVICES_MAX)
		return 0;
	return error_set(err, ERROR_BAD_REQUEST,
		"disk, net: %u disks, %u networks and %u vsock are %u PCI devices, at most %u fit",
		config->disk_count, config->net_count, config->vsock_cid ? 1 : 0, count,
		MACHINE_DEVICES_MAX);
}

/* The i-th device's id, disks first; `name` receives what the key is called. */
static char *device_id(struct machine_config *config, unsigned i, char *name, size_t size)
{
	bool is_disk = i < config->disk_count;
	unsigned index = is_disk ? i : i - config->disk_count;

	snprintf(name, size, "%s[%u]", is_disk ? "disk" : "net", index);
	return is_disk ? config->disks[index].id : config->nets[index].id;
}

static int check_ids(struct machine_config *config, struct error *err)
{
	unsigned count = config->disk_count + config->net_count;
	char name[32], other[32];

	for (unsigned i = 0; i < count; i++) {
		bool is_disk = i < config->disk_count;
		char *id = device_id(config, i, name, sizeof(name));

		if (!*id)
			snprintf(id, SCHEMA_ID_SIZE, "%s%u", is_disk ? "disk" : "net",
				is_disk ? i : i - config->disk_count);
	}
	for (unsigned i = 1; i < count; i++) {
		const char *id = device_id(config, i, name, sizeof(name));

		for (unsigned j = 0; j < i; j++)
			if (!strcmp(id, device_id(config, j, other, sizeof(other))))
				return error_set(err, ERROR_BAD_REQUEST,
					"%s.id: '%s' is the id of %s already; every device needs its own",
					name, id, other);
	}
	return 0;
}

/* The same file by another name, or through a link, is the same file. */
static bool same_file(const char *a, const char *b)
{
	struct stat a_stat, b_stat;

	if (!strcmp(a, b))
		return true;
	return !stat(a, &a_stat) && !stat(b, &b_stat) && a_stat.st_dev == b_stat.st_dev &&
	       a_stat.st_ino == b_stat.st_ino;
}

static int check_disks(const struct machine_config *config, struct error *err)
{
	for (unsigned i = 1; i < config->disk_count; i++)
		for (unsigned j = 0; j < i; j++)
			if (same_file(config->disks[i].path, config->disks[j].path))
				return error_set(err, ERROR_BAD_REQUEST,
					"disk[%u].path: '%.200s' is the file of disk[%u] already",
					i, config->disks[i].path, j);
	return 0;
}

static int check_net(struct machine_config *config, unsigned index, struct error *err)
{
	struct net_options *net = &config->nets[index];

	if (!net->tap == (net->fd < 0))
		return error_set(err, ERROR_BAD_REQUEST, "net[%u]: needs %s: tap=NAME or fd=N",
			index, net->tap ? "only one of" : "one of");
	if (net->tap &&
		(strpbrk(net->tap, "/ \t%:") || !strcmp(net->tap, ".") || !strcmp(net->tap, "..")))
		return error_set(err, ERROR_BAD_REQUEST,
			"net[%u].tap: '%s' is not a name of a network device", index, net->tap);
	for (unsigned j = 0; j < index; j++) {
		const struct net_options *other = &config->nets[j];

		if (net->tap && other->tap && !strcmp(net->tap, other->tap))
			return error_set(err, ERROR_BAD_REQUEST,
				"net[%u].tap: '%s' is the tap of net[%u] already", index, net->tap,
				j);
		if (!net->tap && net->fd == other->fd)
			return error_set(err, ERROR_BAD_REQUEST,
				"net[%u].fd: %d is the fd of net[%u] already", index, net->fd, j);
	}
	return 0;
}

static int check_nets(struct machine_config *config, struct error *err)
{
	static const uint8_t none[6];

	for (unsigned i = 0; i < config->net_count; i++) {
		struct net_options *net = &config->nets[i];
		int ret = check_net(config, i, err);

		if (ret)
			return ret;
		net->mac_given = memcmp(net->mac, none, sizeof(none)) != 0;
		for (unsigned j = 0; j < i && net->mac_given; j++)
			if (!memcmp(net->mac, config->nets[j].mac, sizeof(net->mac)))
				return error_set(err, ERROR_BAD_REQUEST,
					"net[%u].mac: is the address of net[%u] already", i, j);
	}
	return 0;
}

static int check_control(const struct machine_config *config, struct error *err)
{
	if (config->control && config->control_fd >= 0)
		return error_set(err, ERROR_BAD_REQUEST,
			"control, control-fd: only one of them can be given");
	for (unsigned i = 0; i < config->net_count && config->control_fd >= 0; i++)
		if (config->nets[i].fd == config->control_fd)
			return error_set(err, ERROR_BAD_REQUEST,
				"control-fd: %d is the fd of net[%u] already", config->control_fd,
				i);
	return 0;
}

static int check_cmdline(const struct machine_config *config, struct error *err)
{
	_cleanup_free_ char *whole = machine_config_cmdline(config);

	if (!whole)
		return error_errno(err, ENOMEM, "append");
	if (strlen(whole) >= MACHINE_CMDLINE_SIZE)
		return error_set(err, ERROR_BAD_REQUEST,
			"append: the kernel command line is %zu bytes long, at most %d are allowed",
			strlen(whole), MACHINE_CMDLINE_SIZE - 1);
	return 0;
}

int machine_config_check(struct machine_config *config, struct error *err)
{
	int ret = check_cpus(config, err);

	if (!ret)
		ret = check_memory(config, err);
	if (!ret)
		ret = check_device_count(config, err);
	if (!ret)
		ret = check_ids(config, err);
	if (!ret)
		ret = check_disks(config, err);
	if (!ret)
		ret = check_nets(config, err);
	if (!ret)
		ret = check_control(config, err);
	return ret ? ret : check_cmdline(config, err);
}
