/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks. See disks.h.
 *
 * What is on a disk is told by its first 68 KiB: the superblocks of ext2 to 4 (at 1024), xfs (0), btrfs (64 KiB), swap (the
 * first page's end), LUKS, LVM (a label in the first four sectors), and partition tables. Blank is a disk
 * on which all of these bytes are zero, and no other: only that may be formatted.
 */
#include "guest/agent/disks.h"

#include "guest/agent/files.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

const char *disk_serial(const char *name, char *buf, unsigned long size)
{
	/* virtio-blk has it beside the disk; others (SCSI, NVMe) beside their device. */
	if (!file_readf(buf, size, "/sys/block/%.64s/serial", name))
		file_readf(buf, size, "/sys/block/%.64s/device/serial", name);
	buf[strcspn(buf, " ")] = '\0';
	return buf;
}

static void format_uuid(const uint8_t *bytes, char text[40])
{
	unsigned used = 0;

	for (unsigned i = 0; i < 16; i++)
		used += (unsigned)snprintf(text + used, 40 - used, "%s%02x",
			i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
}

static void set_probe(struct disk_probe *probe, const char *type, const uint8_t *uuid,
	const uint8_t *label, unsigned label_size)
{
	snprintf(probe->type, sizeof(probe->type), "%s", type);
	if (uuid)
		format_uuid(uuid, probe->uuid);
	if (label)
		snprintf(probe->label, sizeof(probe->label), "%.*s", (int)label_size,
			(const char *)label);
}

/* ext4's own features (extents 0x40, 64bit, flex_bg…) tell it from ext3 (a journal, 0x4) and ext2. */
static const char *ext_type(const uint8_t *super)
{
	uint32_t compat, incompat;

	memcpy(&compat, super + 0x5c, 4);
	memcpy(&incompat, super + 0x60, 4);
	return incompat & ~0x1fu ? "ext4" : compat & 4 ? "ext3" : "ext2";
}

void disk_probe_bytes(const uint8_t *b, struct disk_probe *probe)
{
	bool blank = true;

	memset(probe, 0, sizeof(*probe));
	if (b[1024 + 0x38] == 0x53 && b[1024 + 0x39] == 0xef) {
		set_probe(probe, ext_type(b + 1024), b + 1024 + 0x68, b + 1024 + 0x78, 16);
		return;
	}
	if (!memcmp(b, "XFSB", 4)) {
		set_probe(probe, "xfs", b + 32, b + 108, 12);
		return;
	}
	if (!memcmp(b + 0x10040, "_BHRfS_M", 8)) {
		set_probe(probe, "btrfs", b + 0x10020, b + 0x1012b, 63);
		return;
	}
	if (!memcmp(b + 4096 - 10, "SWAPSPACE2", 10)) {
		set_probe(probe, "swap", b + 1024 + 12, b + 1024 + 28, 16);
		return;
	}
	for (unsigned i = 0; i < DISK_PROBE_SIZE && blank; i++)
		blank = !b[i];
	if (!blank)
		set_probe(probe, "unknown", NULL, NULL, 0);
}

int disk_probe(const char *path, struct disk_probe *probe, struct error *err)
{
	_cleanup_free_ uint8_t *bytes = calloc(1, DISK_PROBE_SIZE);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n = 0;

	if (!bytes)
		return error_errno(err, ENOMEM, "cannot read '%s'", path);
	while (fd >= 0 && used < DISK_PROBE_SIZE &&
		(n = read(fd, bytes + used, DISK_PROBE_SIZE - used)) > 0)
		used += (size_t)n;
	if (fd < 0 || n < 0)
		return error_errno(err, errno, "cannot read the disk '%s'", path);
	disk_probe_bytes(bytes, probe);
	return 0;
}

/* devtmpfs makes the nodes; where something else is on /dev, this does. */
static int make_node(const char *name, const char *path, struct error *err)
{
	unsigned major_no, minor_no;
	char text[32];
	struct stat st;

	if (!stat(path, &st) && S_ISBLK(st.st_mode))
		return 0;
	if (!file_readf(text, sizeof(text), "/sys/class/block/%.64s/dev", name) ||
		sscanf(text, "%u:%u", &major_no, &minor_no) != 2)
		return error_set(err, ERROR_NOT_FOUND, "there is no disk '%s'", name);
	if (mknod(path, S_IFBLK | 0600, makedev(major_no, minor_no)) < 0 && errno != EEXIST)
		return error_errno(err, errno, "cannot make '%s'", path);
	return 0;
}

/* /sys/class/block/NAME leads to …/ADDRESS/virtioN/block/NAME; a partition's to a folder below that. */
static bool is_at(const char *name, const char *address)
{
	char link[96], path[PATH_MAX], part[80];

	snprintf(link, sizeof(link), "/sys/class/block/%.64s", name);
	snprintf(part, sizeof(part), "/%.64s/", address);
	return realpath(link, path) && strstr(path, part) &&
	       !file_numberf("/sys/class/block/%.64s/partition", name);
}

/* Is the block device `name` the one that is meant by `key` = `value`? */
static bool matches(const char *name, const char *key, const char *value)
{
	struct disk_probe probe;
	char text[128];
	struct error err;

	if (!strcmp(key, "SERIAL"))
		return *disk_serial(name, text, sizeof(text)) && !strcmp(text, value);
	if (!strcmp(key, "PCI"))
		return is_at(name, value);
	snprintf(text, sizeof(text), "/dev/%.64s", name);
	/* Empty drives and loop devices without a file would only answer with errors. */
	if (!file_numberf("/sys/class/block/%.64s/size", name) || make_node(name, text, &err) ||
		disk_probe(text, &probe, &err))
		return false;
	return !strcmp(value, !strcmp(key, "LABEL") ? probe.label : probe.uuid);
}

static int search(
	const char *key, const char *value, char *path, unsigned long size, struct error *err)
{
	DIR *folder = opendir("/sys/class/block");
	struct dirent *entry;
	char name[80] = "";

	while (*value && folder && !*name && (entry = readdir(folder)))
		if (entry->d_name[0] != '.' && matches(entry->d_name, key, value))
			snprintf(name, sizeof(name), "%.79s", entry->d_name);
	if (folder)
		closedir(folder);
	if (!*name)
		return error_set(
			err, ERROR_NOT_FOUND, "there is no disk with %s=%.64s", key, value);
	snprintf(path, size, "/dev/%s", name);
	return make_node(name, path, err);
}

int disk_find(const char *name, char *path, unsigned long size, struct error *err)
{
	static const char *const keys[] = {"SERIAL", "LABEL", "UUID", "PCI"};
	struct stat st;

	if (!strncmp(name, "/dev/", 5)) {
		snprintf(path, size, "%s", name);
		if (stat(path, &st) < 0)
			return error_errno(err, errno, "there is no disk '%.128s'", name);
		if (!S_ISBLK(st.st_mode))
			return error_set(err, ERROR_BAD_REQUEST, "'%.128s' is no disk", name);
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		size_t len = strlen(keys[i]);

		if (!strncmp(name, keys[i], len) && name[len] == '=')
			return search(keys[i], name + len + 1, path, size, err);
	}
	if (strchr(name, '/'))
		return error_set(err, ERROR_BAD_REQUEST, "'%.128s' is no disk", name);
	if (!search("SERIAL", name, path, size, err))
		return 0;
	snprintf(path, size, "/dev/%s", name);
	return make_node(name, path, err);
}
