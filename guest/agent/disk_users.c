/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The method disk.users: who uses a disk, so that it is not taken away from under a file system.
 *
 * The kernel lets one owner claim a block device for itself (O_EXCL of a block device, open(2)): mounts do so in every namespace,
 * swap, device mapper, md and LVM too. So whether a disk or a partition of it can be claimed says all; mountinfo and
 * /proc/swaps only say it in words that a person understands.
 */
#include "guest/agent/disk_users.h"

#include "guest/agent/disks.h"
#include "guest/agent/files.h"
#include "guest/agent/mountinfo.h"
#include "guest/agent/worker.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define PARTITIONS_MAX 128

struct users_params {
	char *disk;
};

struct users {
	json_t *list;
	struct mount_entry *mounts;
	size_t mount_count;
};

/* Where it is mounted, in our namespace. Returns whether it is. */
static bool add_mounts(struct users *users, dev_t dev)
{
	bool found = false;

	for (size_t i = 0; i < users->mount_count; i++) {
		const struct mount_entry *entry = &users->mounts[i];

		if (makedev(entry->major, entry->minor) != dev)
			continue;
		json_array_append_new(users->list, json_sprintf("mounted at %s", entry->path));
		found = true;
	}
	return found;
}

/* `name`: of a disk or a partition, as in /dev. */
static void add_users(struct users *users, const char *name)
{
	_cleanup_close_ int fd = -1;
	char path[80];
	struct stat st;

	snprintf(path, sizeof(path), "/dev/%.64s", name);
	if (stat(path, &st) < 0 || !S_ISBLK(st.st_mode) || add_mounts(users, st.st_rdev))
		return;
	fd = open(path, O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY)
		json_array_append_new(users->list,
			json_sprintf("%s is claimed (by a mount, swap or another device)", name));
}

/* Its partitions have folders of their own in its folder. */
static void add_partitions(struct users *users, const char *disk)
{
	char folder[96];
	DIR *dir;
	struct dirent *entry;
	unsigned count = 0;

	snprintf(folder, sizeof(folder), "/sys/class/block/%.64s", disk);
	dir = opendir(folder);
	while (dir && count < PARTITIONS_MAX && (entry = readdir(dir))) {
		char name[80];

		if (strncmp(entry->d_name, disk, strlen(disk)) != 0)
			continue;
		snprintf(name, sizeof(name), "%.79s", entry->d_name);
		add_users(users, name);
		count++;
	}
	if (dir)
		closedir(dir);
}

static json_t *users_run(const void *params, struct error *err)
{
	const struct users_params *p = params;
	struct users users = {.list = json_array()};
	char path[PATH_MAX];

	if (disk_find(p->disk, path, sizeof(path), err) < 0)
		return NULL;
	users.mounts = mountinfo_read(&users.mount_count, err);
	if (!users.mounts)
		return NULL;
	add_users(&users, path + strlen("/dev/"));
	add_partitions(&users, path + strlen("/dev/"));
	free(users.mounts);
	return json_pack("{s:s, s:o}", "disk", path, "users", users.list);
}

static void serve_users(struct rpc_call *call)
{
	worker_serve(call, 5000, users_run);
}

static const struct schema users_schema[] = {
	{.name = "disk",
		.type = SCHEMA_PATH,
		.offset = offsetof(struct users_params, disk),
		.max = 255,
		.required = true,
		.help = "as for mount, or PCI= with the address of its device"},
	{.name = NULL},
};

const struct rpc_method disk_users_methods[] = {
	{"disk.users", serve_users, users_schema, sizeof(struct users_params),
		"Tells what keeps a disk or its partitions from being taken away: mounts, swap, other devices on top of it.",
		"{disk, users: [words]}: none where it is free"},
	{.name = NULL},
};
