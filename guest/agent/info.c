/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info: statistics from /proc and /sys.
 *
 * What cannot hang is sent first; then one file system after the other is asked for its size. When one
 * of them does not answer (statfs(2) of a dead network mount), what came before it is the result all the same, and
 * `incomplete` says so.
 */
#include "guest/agent/info.h"

#include "guest/agent/disks.h"
#include "guest/agent/files.h"
#include "guest/agent/mountinfo.h"
#include "guest/agent/netlink.h"
#include "guest/agent/worker.h"
#include "vmm/base/util.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

struct info_params {
	unsigned timeout_ms;
};

static json_t *text_or_null(const char *text)
{
	return *text ? rpc_text(text, strlen(text)) : json_null();
}

/* The value of a KEY=VALUE line of os-release(5), without its quotes. */
static json_t *os_name(void)
{
	char text[4096], *line, *rest = text;

	if (!file_read("/etc/os-release", text, sizeof(text)))
		file_read("/usr/lib/os-release", text, sizeof(text));
	while ((line = strsep(&rest, "\n"))) {
		size_t len;

		if (strncmp(line, "PRETTY_NAME=", 12) != 0)
			continue;
		line += 12;
		line += *line == '"' || *line == '\'';
		len = strcspn(line, "\"'");
		return rpc_text(line, len);
	}
	return json_null();
}

/* How many CPUs a list such as "0-3,8" names. */
static unsigned count_list(const char *path)
{
	unsigned count = 0, first, last;
	char text[1024], *part, *rest = text;

	file_read(path, text, sizeof(text));
	while ((part = strsep(&rest, ","))) {
		int fields = sscanf(part, "%u-%u", &first, &last);

		count += fields == 2 && last >= first ? last - first + 1 : fields == 1;
	}
	return count;
}

static unsigned count_processes(void)
{
	DIR *folder = opendir("/proc");
	struct dirent *entry;
	unsigned count = 0;

	while (folder && (entry = readdir(folder)))
		count += isdigit((unsigned char)entry->d_name[0]) != 0;
	if (folder)
		closedir(folder);
	return count;
}

json_t *info_system(void)
{
	double load[3] = {0}, uptime = 0;
	struct utsname names;
	char text[128];

	uname(&names);
	if (file_read("/proc/uptime", text, sizeof(text)))
		sscanf(text, "%lf", &uptime);
	if (file_read("/proc/loadavg", text, sizeof(text)))
		sscanf(text, "%lf %lf %lf", &load[0], &load[1], &load[2]);
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:I, s:{s:i, s:i}, s:[f,f,f], s:i}", "kernel",
		names.release, "arch", names.machine, "os", os_name(), "hostname",
		text_or_null(names.nodename), "machine_id", file_json("/etc/machine-id"),
		"uptime_ms", (json_int_t)(uptime * 1000), "cpus", "online",
		(int)count_list("/sys/devices/system/cpu/online"), "present",
		(int)count_list("/sys/devices/system/cpu/present"), "load", load[0], load[1],
		load[2], "processes", (int)count_processes());
}

/* A line "Name:   123 kB" as bytes. */
static json_int_t memory_line(const char *text, const char *name)
{
	const char *line = text;
	size_t len = strlen(name);

	while (line && (strncmp(line, name, len) != 0 || line[len] != ':')) {
		line = strchr(line, '\n');
		line += line != NULL;
	}
	return line ? strtoll(line + len + 1, NULL, 10) * 1024 : 0;
}

static json_t *pressure(void)
{
	static const char *const kinds[] = {"cpu", "io", "memory"};
	json_t *object = json_object();
	char text[256];

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		json_t *kind = json_object();
		char *line, *rest = text;

		if (!file_readf(text, sizeof(text), "/proc/pressure/%s", kinds[i])) {
			json_decref(kind);
			continue;
		}
		while ((line = strsep(&rest, "\n"))) {
			double avg[3];
			unsigned long long total;
			char name[8];

			if (sscanf(line, "%7s avg10=%lf avg60=%lf avg300=%lf total=%llu", name,
				    &avg[0], &avg[1], &avg[2], &total) == 5)
				json_object_set_new(kind, name,
					json_pack("{s:f, s:f, s:f, s:I}", "avg10", avg[0], "avg60",
						avg[1], "avg300", avg[2], "total_us",
						(json_int_t)total));
		}
		json_object_set_new(object, kinds[i], kind);
	}
	return object;
}

json_t *info_memory(void)
{
	char text[4096];

	file_read("/proc/meminfo", text, sizeof(text));
	return json_pack("{s:{s:I, s:I, s:I, s:I, s:I}, s:{s:I, s:I}, s:o}", "memory", "total",
		memory_line(text, "MemTotal"), "available", memory_line(text, "MemAvailable"),
		"free", memory_line(text, "MemFree"), "cached", memory_line(text, "Cached"),
		"dirty", memory_line(text, "Dirty"), "swap", "total",
		memory_line(text, "SwapTotal"), "free", memory_line(text, "SwapFree"), "pressure",
		pressure());
}

json_t *info_disks(void)
{
	DIR *folder = opendir("/sys/block");
	json_t *list = json_array();
	struct dirent *entry;

	while (folder && (entry = readdir(folder))) {
		unsigned long long n[11] = {0};
		char text[256], serial[128];
		const char *name = entry->d_name;
		uint64_t size = file_numberf("/sys/block/%.64s/size", name) * 512;

		if (name[0] == '.' || !size || !strncmp(name, "ram", 3))
			continue;
		if (file_readf(text, sizeof(text), "/sys/block/%.64s/stat", name))
			sscanf(text, "%llu %llu %llu %llu %llu %llu %llu %llu %llu", &n[0], &n[1],
				&n[2], &n[3], &n[4], &n[5], &n[6], &n[7], &n[8]);
		json_array_append_new(list,
			json_pack("{s:s, s:o, s:I, s:b, s:I, s:I, s:I, s:I, s:I}", "name", name,
				"serial", text_or_null(disk_serial(name, serial, sizeof(serial))),
				"size", (json_int_t)size, "readonly",
				(int)file_numberf("/sys/block/%.64s/ro", name), "reads",
				(json_int_t)n[0], "read_bytes", (json_int_t)(n[2] * 512), "writes",
				(json_int_t)n[4], "written_bytes", (json_int_t)(n[6] * 512),
				"in_flight", (json_int_t)n[8]));
	}
	if (folder)
		closedir(folder);
	return list;
}

static json_t *addresses_of(const json_t *all, int index)
{
	json_t *list = json_array(), *entry;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)all, i, entry)
	{
		if (json_integer_value(json_object_get(entry, "index")) == index)
			json_array_append(list, json_object_get(entry, "address"));
	}
	return list;
}

json_t *info_interfaces(void)
{
	static struct link links[LINKS_MAX];
	struct error err;
	int count = netlink_links(links, &err);
	json_t *all = netlink_addresses(&err), *list = json_array();

	for (int i = 0; i < count; i++) {
		const struct link *l = &links[i];
		char mac[18] = "";

		if (l->has_mac)
			snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", l->mac[0],
				l->mac[1], l->mac[2], l->mac[3], l->mac[4], l->mac[5]);
		json_array_append_new(list,
			json_pack("{s:s, s:o, s:b, s:i, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "name",
				l->name, "mac", text_or_null(mac), "up", l->up, "mtu", (int)l->mtu,
				"addresses", addresses_of(all, l->index), "rx_bytes",
				(json_int_t)l->rx_bytes, "tx_bytes", (json_int_t)l->tx_bytes,
				"rx_packets", (json_int_t)l->rx_packets, "tx_packets",
				(json_int_t)l->tx_packets, "rx_dropped", (json_int_t)l->rx_dropped,
				"tx_dropped", (json_int_t)l->tx_dropped));
	}
	json_decref(all);
	return list;
}

static bool is_pseudo(const struct mount_entry *entry)
{
	static const char *const shown[] = {
		"tmpfs", "overlay", "nfs", "nfs4", "9p", "virtiofs", "zfs"};

	for (unsigned i = 0; i < ARRAY_SIZE(shown); i++)
		if (!strcmp(entry->type, shown[i]))
			return false;
	return !mount_is_on_disk(entry);
}

static json_t *filesystem(const struct mount_entry *entry)
{
	struct statvfs st = {0};
	bool known = !statvfs(entry->path, &st);

	return json_pack("{s:o, s:s, s:o, s:b, s:o, s:o}", "path", text_or_null(entry->path),
		"type", entry->type, "source", text_or_null(entry->source), "readonly",
		entry->readonly, "size",
		known ? json_integer((json_int_t)st.f_blocks * (json_int_t)st.f_frsize)
		      : json_null(),
		"free",
		known ? json_integer((json_int_t)st.f_bavail * (json_int_t)st.f_frsize)
		      : json_null());
}

static json_t *info_run(const void *params, struct error *err)
{
	json_t *list = json_array(), *first = info_system();
	size_t count;
	_cleanup_free_ struct mount_entry *entries = mountinfo_read(&count, err);

	(void)params;
	json_object_update_new(first, info_memory());
	json_object_set_new(first, "disks", info_disks());
	json_object_set_new(first, "interfaces", info_interfaces());
	worker_part(first);
	for (size_t i = 0; entries && i < count; i++) {
		if (is_pseudo(&entries[i]) || json_array_size(list) == 256)
			continue;
		worker_part(
			json_pack("{s:O}", "filesystems", list)); /* in case the next one hangs */
		json_array_append_new(list, filesystem(&entries[i]));
	}
	return json_pack("{s:o}", "filesystems", list);
}

static void serve_info(struct rpc_call *call)
{
	worker_serve(call, ((const struct info_params *)call->params)->timeout_ms, info_run);
}

static const struct schema info_schema[] = {
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct info_params, timeout_ms),
		.min = 100,
		.max = 60000,
		.value = "3000",
		.help = "after this long what is known is the answer"},
	{.name = NULL},
};

const struct rpc_method info_methods[] = {
	{"info", serve_info, info_schema, sizeof(struct info_params),
		"Tells the guest's statistics; sizes are bytes.",
		"{kernel, arch, os, hostname, machine_id, uptime_ms, cpus, load, processes, memory, swap, pressure, disks, interfaces, filesystems, incomplete?}"},
	{.name = NULL},
};
