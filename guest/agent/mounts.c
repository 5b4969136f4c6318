/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount and unmount.
 *
 * A disk is formatted only when that was asked for and its first bytes are all zero: asking again for a
 * disk that has been formatted meanwhile simply mounts it, so that a host may repeat what it does not know to have
 * happened; one that holds something else is refused. mkfs is the guest's own program.
 */
#include "guest/agent/mounts.h"

#include "guest/agent/disks.h"
#include "guest/agent/files.h"
#include "guest/agent/freeze.h"
#include "guest/agent/mountinfo.h"
#include "guest/agent/process.h"
#include "guest/agent/worker.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct unmount_params {
	char *path, *disk;
	bool lazy;
	unsigned timeout_ms;
};

static const struct {
	const char *name;
	unsigned long set, clear;
} flags[] = {
	{"ro", MS_RDONLY, 0},
	{"rw", 0, MS_RDONLY},
	{"nosuid", MS_NOSUID, 0},
	{"suid", 0, MS_NOSUID},
	{"nodev", MS_NODEV, 0},
	{"dev", 0, MS_NODEV},
	{"noexec", MS_NOEXEC, 0},
	{"exec", 0, MS_NOEXEC},
	{"noatime", MS_NOATIME, 0},
	{"atime", 0, MS_NOATIME},
	{"nodiratime", MS_NODIRATIME, 0},
	{"relatime", MS_RELATIME, 0},
	{"strictatime", MS_STRICTATIME, 0},
	{"lazytime", MS_LAZYTIME, 0},
	{"sync", MS_SYNCHRONOUS, 0},
	{"dirsync", MS_DIRSYNC, 0},
	{"bind", MS_BIND, 0},
	{"defaults", 0, 0},
	{"auto", 0, 0},
	{"noauto", 0, 0},
	{"nofail", 0, 0},
	{"user", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0},
	{"_netdev", 0, 0},
};

/* The options that mount(2) takes as bits; the rest, between commas, goes to the file system. */
static unsigned long split_options(const char *options, char *data, size_t size)
{
	unsigned long bits = 0;
	size_t used = 0;

	data[0] = '\0';
	while (options && *options) {
		size_t len = strcspn(options, ",");
		bool known = len == 0 || !strncmp(options, "x-", 2);

		for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
			if (strlen(flags[i].name) == len && !strncmp(flags[i].name, options, len)) {
				bits = (bits | flags[i].set) & ~flags[i].clear;
				known = true;
			}
		if (!known && used + len + 2 < size)
			used += (size_t)snprintf(data + used, size - used, "%s%.*s",
				used ? "," : "", (int)len, options);
		options += len + (options[len] == ',');
	}
	return bits;
}

/* Run mkfs.TYPE and wait; its last words are the error. Output goes to a pipe of bounded size. */
static int run_mkfs(const char *type, const char *disk, struct error *err)
{
	char program[32], said[300] = "";
	char *argv[] = {program, (char *)(uintptr_t)(strncmp(type, "ext", 3) ? "-K" : "-q"),
		(char *)(uintptr_t)disk, NULL};
	int pipes[2], status = 0;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	snprintf(program, sizeof(program), "mkfs.%.16s", type);
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	pid = process_fork();
	if (!pid) {
		struct program mkfs = {
			.argv = argv, .in = STDIN_FILENO, .out = pipes[1], .error = pipes[1]};
		int ret;

		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a worker whose time is up takes it along */
		ret = process_exec(&mkfs, -1, err);

		dprintf(STDERR_FILENO, "%s", err->text);
		_exit(ret ? 127 : 0);
	}
	close(pipes[1]);
	while (pid > 0 && (n = read(pipes[0], said + used, sizeof(said) - 1 - used)) > 0)
		used = used + (size_t)n >= sizeof(said) - 1 ? 0 : used + (size_t)n;
	close(pipes[0]);
	said[used] = '\0';
	for (size_t i = 0; i < used; i++)
		said[i] = said[i] == '\n' ? ' ' : said[i];
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return error_errno(err, errno, "cannot run %s", program);
	if (status)
		return error_set(err, ERROR_IO, "%s failed: %s", program, said);
	return 0;
}

static int prepare_disk(const struct mount_params *p, const char *disk, struct disk_probe *probe,
	bool *formatted, struct error *err)
{
	int ret = disk_probe(disk, probe, err);

	if (ret)
		return ret;
	if (probe->type[0] && p->format && strcmp(probe->type, p->format) != 0)
		return error_set(err, ERROR_WRONG_STATE,
			"format: '%s' is not blank, it holds %s: nothing was changed", disk,
			strcmp(probe->type, "unknown") ? probe->type : "something unknown");
	if (probe->type[0])
		return 0;
	if (!p->format)
		return error_set(err, ERROR_WRONG_STATE,
			"'%s' is blank (format says what to make on it)", disk);
	if (p->readonly)
		return error_set(
			err, ERROR_BAD_REQUEST, "format: the disk is to be mounted read-only");
	ret = run_mkfs(p->format, disk, err);
	*formatted = !ret;
	return ret ? ret : disk_probe(disk, probe, err);
}

static bool is_mounted_on(const char *path, const char *disk)
{
	struct error err;
	size_t count;
	_cleanup_free_ struct mount_entry *entries = mountinfo_read(&count, &err);
	bool found = false;

	for (size_t i = 0; entries && i < count; i++)
		if (!strcmp(entries[i].path, path))
			found = !strcmp(entries[i].source, disk);
	return found;
}

json_t *mount_run(const void *params, struct error *err)
{
	const struct mount_params *p = params;
	struct disk_probe probe = {0};
	char disk[300], data[1024];
	unsigned long bits;
	bool formatted = false, special = strncmp(p->path, "/", 1) != 0;
	const char *type = p->type;

	if (special) {
		error_set(err, ERROR_BAD_REQUEST, "path: '%.128s' does not begin with /", p->path);
		return NULL;
	}
	bits = split_options(p->options, data, sizeof(data)) | (p->readonly ? MS_RDONLY : 0);
	/* File systems without a disk, and folders for a bind mount, are taken as they are. */
	if (bits & MS_BIND ||
		(type && (!strcmp(type, "tmpfs") || !strcmp(type, "overlay") ||
				 !strcmp(type, "proc") || !strcmp(type, "sysfs") ||
				 !strcmp(type, "nfs") || !strcmp(type, "9p") ||
				 !strcmp(type, "cgroup2") || !strcmp(type, "devpts")))) {
		snprintf(disk, sizeof(disk), "%.299s", p->disk);
	} else {
		if (disk_find(p->disk, disk, sizeof(disk), err) ||
			prepare_disk(p, disk, &probe, &formatted, err))
			return NULL;
		type = type && strcmp(type, "auto") != 0 ? type : probe.type;
		if (!strcmp(type, "unknown")) {
			error_set(err, ERROR_BAD_REQUEST,
				"type: what is on '%s' is not known: say it", disk);
			return NULL;
		}
	}
	if (is_mounted_on(p->path, disk)) {
		error_set(err, ERROR_ALREADY_EXISTS, "'%s' is mounted on '%s' already", disk,
			p->path);
		return NULL;
	}
	if (file_folders(p->path, err))
		return NULL;
	if (mount(disk, p->path, type, bits, data[0] ? data : NULL) < 0) {
		error_errno(err, errno, "cannot mount '%s' on '%s' as %s", disk, p->path,
			type ? type : "a folder");
		return NULL;
	}
	return json_pack("{s:s, s:s, s:s?, s:b}", "disk", disk, "path", p->path, "type", type,
		"formatted", formatted);
}

static json_t *unmount_run(const void *params, struct error *err)
{
	const struct unmount_params *p = params;
	_cleanup_free_ struct mount_entry *entries = NULL;
	char disk[300], path[512] = "";
	size_t count;

	if (p->disk && disk_find(p->disk, disk, sizeof(disk), err))
		return NULL;
	entries = mountinfo_read(&count, err);
	if (!entries)
		return NULL;
	/* The last one: the uppermost where several are on one path. */
	for (size_t i = 0; i < count; i++)
		if (p->path ? !strcmp(entries[i].path, p->path) : !strcmp(entries[i].source, disk))
			memcpy(path, entries[i].path, sizeof(path));
	if (!path[0]) {
		error_set(err, ERROR_NOT_FOUND, "nothing is mounted %s '%s'",
			p->path ? "on" : "from", p->path ? p->path : disk);
		return NULL;
	}
	if (umount2(path, UMOUNT_NOFOLLOW | (p->lazy ? MNT_DETACH : 0)) < 0) {
		if (errno == EBUSY)
			error_set(err, ERROR_WRONG_STATE, "'%s' is in use", path);
		else
			error_errno(err, errno, "cannot unmount '%s'", path);
		return NULL;
	}
	return json_pack("{s:s}", "path", path);
}

static void serve_mount(struct rpc_call *call)
{
	const struct mount_params *p = call->params;

	if (!freeze_refuses(call))
		worker_serve(call, p->timeout_ms, mount_run);
}

static void serve_unmount(struct rpc_call *call)
{
	const struct unmount_params *p = call->params;
	struct error err;

	if (!p->path == !p->disk) {
		error_set(&err, ERROR_BAD_REQUEST, "path, disk: exactly one of them is needed");
		rpc_fail(call, &err);
	} else if (!freeze_refuses(call)) {
		worker_serve(call, p->timeout_ms, unmount_run);
	}
}

static const struct schema_choice formats[] = {{"ext4", 0}, {"xfs", 0}, {.name = NULL}};

#define MOUNT(member)	.offset = offsetof(struct mount_params, member)
#define UNMOUNT(member) .offset = offsetof(struct unmount_params, member)

static const struct schema mount_schema[] = {
	{.name = "disk",
		.type = SCHEMA_PATH,
		MOUNT(disk),
		.max = 255,
		.required = true,
		.help = "a disk's serial, kernel name, path in /dev, or SERIAL=, LABEL=, UUID=; for a type without a disk its source"},
	{.name = "path",
		.type = SCHEMA_PATH,
		MOUNT(path),
		.max = 500,
		.required = true,
		.help = "where to; the folder is made if it is missing"},
	{.name = "type",
		.type = SCHEMA_TEXT,
		MOUNT(type),
		.min = 1,
		.max = 31,
		.fallback = "what is on the disk",
		.help = "the file system"},
	{.name = "options",
		.type = SCHEMA_TEXT,
		MOUNT(options),
		.max = 1000,
		.help = "as behind mount -o"},
	{.name = "readonly",
		.type = SCHEMA_BOOL,
		MOUNT(readonly),
		.value = "off",
		.help = "mount it read-only"},
	{.name = "format",
		.type = SCHEMA_WORD,
		MOUNT(format),
		.choices = formats,
		.help = "make this file system first if, and only if, the disk is blank"},
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		MOUNT(timeout_ms),
		.min = 1,
		.max = 3600000,
		.value = "60000",
		.help = "how long it may take"},
	{.name = NULL},
};

static const struct schema unmount_schema[] = {
	{.name = "path",
		.type = SCHEMA_PATH,
		UNMOUNT(path),
		.max = 500,
		.help = "where it is mounted"},
	{.name = "disk",
		.type = SCHEMA_PATH,
		UNMOUNT(disk),
		.max = 255,
		.help = "or what is mounted, as for mount"},
	{.name = "lazy",
		.type = SCHEMA_BOOL,
		UNMOUNT(lazy),
		.value = "off",
		.help = "take it out of the tree at once, even where it is in use"},
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		UNMOUNT(timeout_ms),
		.min = 1,
		.max = 3600000,
		.value = "60000",
		.help = "how long it may take"},
	{.name = NULL},
};

const struct rpc_method mount_methods[] = {
	{"mount", serve_mount, mount_schema, sizeof(struct mount_params),
		"Mounts a disk, and makes a file system on a blank one where asked.",
		"{disk, path, type, formatted}"},
	{"unmount", serve_unmount, unmount_schema, sizeof(struct unmount_params),
		"Unmounts a path or a disk.", "{path}"},
	{.name = NULL},
};
