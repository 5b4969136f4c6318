/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a snapshot: see disk_copy.h for how one is brought there. */
#include "vmm/transfer/snapshot_private.h"

#include "vmm/base/util.h"
#include "vmm/machine/machine_devices.h"

#include <linux/virtio_ids.h>

#include <stdio.h>
#include <string.h>

#define DISK_MAP_MAX MIB(64) /* of a disk of 32 TiB */

static enum disk_copy_mode mode_of(const struct snapshot *s, struct virtio_device *dev)
{
	if (s->options.disks == SNAPSHOT_DISK_REFLINK)
		return DISK_COPY_REFLINK;
	if (s->options.incremental && disk_copy_has_changes_since(dev, s->manifest.parent))
		return DISK_COPY_INCREMENTAL;
	return DISK_COPY_FULL;
}

static enum snapshot_disk_mode told_mode(enum disk_copy_mode mode)
{
	static const enum snapshot_disk_mode modes[] = {
		[DISK_COPY_REFLINK] = SNAPSHOT_DISK_REFLINK,
		[DISK_COPY_FULL] = SNAPSHOT_DISK_COPY,
		[DISK_COPY_INCREMENTAL] = SNAPSHOT_DISK_INCREMENTAL,
	};

	return modes[mode];
}

static int start_disk(struct snapshot *s, const struct disk_options *disk, struct error *err)
{
	struct machine_devices *devices = machine_devices(s->machine);
	struct virtio_pci *vp = machine_devices_find(devices, VIRTIO_ID_BLOCK, disk->id);
	struct snapshot_disk *entry = &s->manifest.disks[s->manifest.disk_count];
	struct disk_copy_config config = {.dirfd = s->dir.fd,
		.file = entry->file,
		.track = s->options.track,
		.checksum = true};
	int ret;

	snprintf(entry->id, sizeof(entry->id), "%s", disk->id);
	s->manifest.disk_count++;
	if (!vp || s->options.disks == SNAPSHOT_DISK_NONE || disk->readonly)
		return 0;
	config.dev = virtio_pci_device(vp);
	config.mode = mode_of(s, config.dev);
	config.parent = s->manifest.parent;
	/* The number keeps apart what is cut alike; room is left for the map's name. */
	snprintf(entry->file, sizeof(entry->file), "disk%u-%.40s", s->manifest.disk_count - 1,
		disk->id);
	entry->mode = told_mode(config.mode);
	ret = disk_copy_start(&config, &s->disks[s->disk_count], err);
	if (ret == 0)
		s->disk_count++;
	return ret;
}

int snapshot_start_disks(struct snapshot *s, struct error *err)
{
	const struct machine_config *config = machine_config(s->machine);
	int ret = 0;

	for (unsigned i = 0; i < config->disk_count && ret == 0; i++)
		ret = start_disk(s, &config->disks[i], err);
	return ret;
}

static int each(struct snapshot *s, int (*step)(struct disk_copy *copy, struct error *err),
	struct error *err)
{
	int ret = 0;

	for (unsigned i = 0; i < s->disk_count && ret == 0; i++)
		ret = step(s->disks[i], err);
	return ret;
}

int snapshot_prepare_disks(struct snapshot *s, struct error *err)
{
	return each(s, disk_copy_prepare, err);
}

int snapshot_final_disks(struct snapshot *s, struct error *err)
{
	return each(s, disk_copy_final, err);
}

/* The entry of copy number `number`: disks that are not copied have none. */
static struct snapshot_disk *entry_of(struct snapshot *s, unsigned number)
{
	struct snapshot_disk *entry = s->manifest.disks;

	while (!*entry->file || number-- > 0)
		entry++;
	return entry;
}

static int add_map(struct snapshot *s, const struct snapshot_disk *entry, struct error *err)
{
	char name[SCHEMA_ID_SIZE];

	snprintf(name, sizeof(name), "%.55s" DISK_MAP_SUFFIX, entry->file);
	return snapshot_dir_add_file(&s->dir, &s->manifest, name, DISK_MAP_MAX, err);
}

static int finish_disk(struct snapshot *s, unsigned number, struct error *err)
{
	struct snapshot_disk *entry = entry_of(s, number);
	struct disk_copy_result result = {0};
	int ret = disk_copy_finish(s->disks[number], &result, err);

	if (ret < 0)
		return ret;
	entry->size = result.size;
	ret = snapshot_manifest_add(
		&s->manifest, entry->file, SNAPSHOT_CHECK_BLOCKS, result.size, &result.sum, err);
	return ret == 0 && result.has_map ? add_map(s, entry, err) : ret;
}

int snapshot_finish_disks(struct snapshot *s, struct error *err)
{
	int ret = 0;

	for (unsigned i = 0; i < s->disk_count && ret == 0; i++)
		ret = finish_disk(s, i, err);
	return ret;
}

void snapshot_commit_disks(struct snapshot *s)
{
	for (unsigned i = 0; i < s->disk_count; i++)
		disk_copy_commit(s->disks[i], s->manifest.id);
}

void snapshot_drop_disks(struct snapshot *s)
{
	while (s->disk_count)
		disk_copy_destroy(s->disks[--s->disk_count]);
}
