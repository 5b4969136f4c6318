/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chain as one full snapshot of its own: see chain.h. Its memory is, byte for byte and hole for hole, what a full snapshot at
 * that time would have been: the writer is the same, and what was not plugged then is left out.
 */
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/state/state.h"
#include "vmm/transfer/chain.h"
#include "vmm/transfer/disk_file.h"
#include "vmm/transfer/memory_file.h"
#include "vmm/transfer/snapshot_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define STEP (MIB(4) / GUEST_PAGE_SIZE)

struct merge {
	const struct chain *chain;
	const struct chain_verify_watch *watch;
	struct snapshot_dir dir;
	struct snapshot_manifest manifest;
	struct memory_file *file;
	uint8_t *room; /* of STEP pages */
	uint64_t done;
};

/* ---- memory ---- */

static int merge_range(struct merge *merge, uint64_t first, uint64_t count, struct error *err)
{
	int ret = 0;

	while (ret == 0 && count) {
		uint64_t now = min_u64(count, STEP - first % STEP);

		ret = chain_read_pages(merge->chain, first, now, merge->room, err);
		if (ret == 0)
			ret = memory_file_put(merge->file, first, merge->room, now, err);
		first += now;
		count -= now;
		merge->done += now;
		if (ret == 0 && merge->watch->progress)
			merge->watch->progress(merge->watch->owner, merge->done * GUEST_PAGE_SIZE,
				merge->chain->pages * GUEST_PAGE_SIZE);
	}
	return ret;
}

/* The regions, and the slots that were plugged. */
static int merge_ranges(struct merge *merge, struct error *err)
{
	const struct memory_layout *layout = &merge->manifest.memory;
	uint64_t unit = layout->area_unit / GUEST_PAGE_SIZE, first = 0, slot = 0;
	uint64_t area = layout->area_size / GUEST_PAGE_SIZE;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < layout->region_count; i++) {
		uint64_t count = layout->regions[i].size / GUEST_PAGE_SIZE;

		ret = merge_range(merge, first, count, err);
		first = align_up(first + count, MIB(2) / GUEST_PAGE_SIZE);
	}
	for (uint64_t at = 0; ret == 0 && at < area; at += unit, slot++)
		if (layout->area_present >> slot & 1)
			ret = merge_range(merge, first + at, min_u64(unit, area - at), err);
	return ret;
}

static int merge_memory(
	struct merge *merge, enum snapshot_compression compression, struct error *err)
{
	const struct memory_file_config config = {.dir = merge->dir.fd,
		.pages = merge->chain->pages,
		.kind = SNAPSHOT_FULL,
		.compression = compression,
		.cancel = merge->watch->cancel};
	int ret;

	merge->room = aligned_alloc(GUEST_PAGE_SIZE, (size_t)STEP * GUEST_PAGE_SIZE);
	if (!merge->room)
		return error_errno(err, ENOMEM, "cannot merge memory");
	ret = memory_file_open(&merge->file, &config, err);
	if (ret == 0)
		ret = merge_ranges(merge, err);
	if (ret == 0)
		ret = memory_file_finish(merge->file, &merge->manifest, err);
	return ret;
}

/* ---- disks ---- */

static const struct snapshot_disk *find_disk(
	const struct snapshot_manifest *manifest, const char *id)
{
	for (unsigned i = 0; i < manifest->disk_count; i++)
		if (!strcmp(manifest->disks[i].id, id))
			return &manifest->disks[i];
	return NULL;
}

/* The number of the link that has all of the disk; the chain's count: there is none. */
static unsigned base_of(const struct chain *chain, const char *id)
{
	unsigned link = 0;

	for (; link < chain->count; link++) {
		const struct snapshot_disk *disk = find_disk(&chain->links[link].manifest, id);

		if (!disk || disk->mode == SNAPSHOT_DISK_NONE)
			return chain->count;
		if (disk->mode != SNAPSHOT_DISK_INCREMENTAL)
			return link;
	}
	return link;
}

static int pump(struct disk_pump *to, const struct chain_link *link,
	const struct snapshot_disk *disk, struct error *err)
{
	_cleanup_close_ int fd = openat(
		link->dir, disk->file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	char map[SCHEMA_ID_SIZE + sizeof(".map")];
	struct page_set set;
	uint64_t size;
	int ret;

	if (fd < 0)
		return error_errno(err, errno, "cannot open '%s'", disk->file);
	to->from = fd;
	to->from_name = disk->file;
	/* What was cut off in between is zero when it comes again. */
	if (ftruncate(to->to, (off_t)disk->size) < 0)
		return error_errno(err, errno, "cannot give '%s' its size", to->to_name);
	if (disk->mode != SNAPSHOT_DISK_INCREMENTAL)
		return ioctl(to->to, FICLONE, fd) == 0 ? 0
						       : disk_pump_range(to, 0, disk->size, err);
	to->fresh = false;
	snprintf(map, sizeof(map), "%s.map", disk->file);
	ret = disk_map_read(link->dir, map, &set, &size, err);
	if (ret < 0)
		return ret;
	ret = size == disk->size ? disk_pump_blocks(to, &set, size, err)
				 : error_set(err, ERROR_CORRUPT, "'%s' is of another disk", map);
	page_set_destroy(&set);
	return ret;
}

static int pump_all(
	struct merge *merge, struct snapshot_disk *disk, unsigned base, int fd, struct error *err)
{
	struct disk_pump to = {.to = fd, .to_name = disk->file, .fresh = true};
	int ret = disk_pump_init(&to, err);

	for (unsigned i = base + 1; ret == 0 && i-- > 0;) {
		const struct chain_link *link = &merge->chain->links[i];
		const struct snapshot_disk *part = find_disk(&link->manifest, disk->id);

		BUG_ON(!part); /* base_of() has seen it in each */
		ret = pump(&to, link, part, err);
		if (ret < 0)
			error_prefix(err, "snapshot '%s'", link->path);
	}
	disk_pump_release(&to);
	if (ret == 0 && fdatasync(fd) < 0)
		ret = error_errno(err, errno, "cannot write '%s' to the disk", disk->file);
	return ret;
}

static int merge_disk(struct merge *merge, struct snapshot_disk *disk, struct error *err)
{
	unsigned base = base_of(merge->chain, disk->id);
	_cleanup_close_ int fd = -1;
	struct checksum sum;
	int ret;

	if (disk->mode == SNAPSHOT_DISK_NONE)
		return 0;
	if (base == merge->chain->count)
		return error_set(err, ERROR_CORRUPT,
			"disk '%s': no snapshot of the chain has all of it", disk->id);
	fd = openat(merge->dir.fd, disk->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, errno, "cannot make '%s'", disk->file);
	ret = pump_all(merge, disk, base, fd, err);
	if (ret == 0)
		ret = disk_file_checksum(fd, disk->file, disk->size, NULL, &sum, err);
	if (ret < 0)
		return ret;
	if (disk->mode == SNAPSHOT_DISK_INCREMENTAL)
		disk->mode = SNAPSHOT_DISK_COPY;
	return snapshot_manifest_add(
		&merge->manifest, disk->file, SNAPSHOT_CHECK_WHOLE, disk->size, &sum, err);
}

/* ---- all of it ---- */

static int begin(struct merge *merge, struct error *err)
{
	const struct snapshot_manifest *from = &merge->chain->links->manifest;
	struct snapshot_manifest *to = &merge->manifest;
	int ret = snapshot_manifest_init(to, err);

	if (ret < 0)
		return ret;
	memcpy(to->name, from->name, sizeof(to->name));
	memcpy(to->architecture, from->architecture, sizeof(to->architecture));
	to->created_ns = from->created_ns; /* the guest's moment is still that one */
	to->memory = from->memory;
	to->machine = json_incref(from->machine);
	to->devices = json_incref(from->devices);
	for (; to->disk_count < from->disk_count; to->disk_count++) {
		struct snapshot_disk *disk = &to->disks[to->disk_count];

		*disk = from->disks[to->disk_count];
		disk->base =
			disk->mode == SNAPSHOT_DISK_NONE && disk->base ? strdup(disk->base) : NULL;
	}
	return 0;
}

static int merge_state(struct merge *merge, struct error *err)
{
	_cleanup_free_ uint8_t *state = NULL;
	size_t size;
	int ret = chain_load_part(
		merge->chain, SNAPSHOT_STATE_FILE, STATE_SIZE_MAX, &state, &size, err);

	return ret
		       ?: snapshot_dir_part(&merge->dir, &merge->manifest, SNAPSHOT_STATE_FILE,
				  state, size, err);
}

int chain_merge(const struct chain *chain, const char *path, enum snapshot_compression compression,
	const struct chain_verify_watch *watch, struct error *err)
{
	static const struct chain_verify_watch none;
	struct merge merge = {.chain = chain, .watch = watch ? watch : &none};
	int ret = snapshot_dir_create(&merge.dir, path, err);

	if (ret == 0)
		ret = begin(&merge, err);
	if (ret == 0)
		ret = merge_state(&merge, err);
	if (ret == 0)
		ret = merge_memory(&merge, compression, err);
	for (unsigned i = 0; ret == 0 && i < merge.manifest.disk_count; i++)
		ret = merge_disk(&merge, &merge.manifest.disks[i], err);
	if (ret == 0)
		ret = snapshot_dir_commit(&merge.dir, &merge.manifest, err);
	memory_file_close(merge.file);
	free(merge.room);
	snapshot_manifest_destroy(&merge.manifest);
	snapshot_dir_abandon(&merge.dir);
	return ret;
}
