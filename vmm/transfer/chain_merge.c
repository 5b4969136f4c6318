/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chain as one full snapshot of its own: see chain.h. Its memory is, byte for byte and hole for hole, what a full snapshot at
 * that time would have been: the writer is the same, and what was not plugged then is left out.
 */
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/state/state.h"
#include "vmm/transfer/chain.h"
#include "vmm/transfer/disk_restore.h"
#include "vmm/transfer/memory_file.h"
#include "vmm/transfer/snapshot_dir.h"
#include "vmm/transfer/workingset.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

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

static int merge_layers(
	const struct merge *merge, const struct snapshot_disk *disk, struct error *err)
{
	struct disk_layer layers[CHAIN_LINKS_MAX];
	struct disk_restored restored;
	unsigned count;
	int ret = chain_disk_layers(merge->chain, disk->id, layers, &count, err);

	if (ret == 0)
		ret = disk_merge(layers, count, merge->dir.fd, disk->file, NULL, &restored, err);
	if (ret == 0 && restored.size != disk->size)
		ret = error_set(err, ERROR_CORRUPT,
			"disk '%s': its file has another size than the manifest says", disk->id);
	return ret;
}

static int merge_disk(struct merge *merge, struct snapshot_disk *disk, struct error *err)
{
	_cleanup_close_ int fd = -1;
	struct checksum sum;
	int ret;

	if (disk->mode == SNAPSHOT_DISK_NONE)
		return 0;
	ret = merge_layers(merge, disk, err);
	if (ret < 0)
		return ret;
	fd = openat(merge->dir.fd, disk->file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "cannot open '%s'", disk->file);
	ret = disk_file_checksum(fd, disk->file, disk->size, NULL, &sum, err);
	if (ret < 0)
		return ret;
	if (disk->mode == SNAPSHOT_DISK_INCREMENTAL)
		disk->mode = SNAPSHOT_DISK_COPY;
	return snapshot_manifest_add(
		&merge->manifest, disk->file, SNAPSHOT_CHECK_BLOCKS, disk->size, &sum, err);
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

/* The guest's moment is the same, and so are its first pages. It is a hint: without it the new one is as good. */
static void take_working_set(const struct merge *merge)
{
	struct page_set set;
	struct error ignored;

	if (page_set_create(&set, merge->chain->pages, &ignored) < 0)
		return;
	if (workingset_load(merge->chain->links->dir, &set, &ignored) == 0 &&
		workingset_save(merge->dir.fd, &set, &ignored) < 0)
		log_info("the new snapshot has no working set: %s", ignored.text);
	page_set_destroy(&set);
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
	if (ret == 0) {
		take_working_set(&merge);
		ret = snapshot_dir_commit(&merge.dir, &merge.manifest, err);
	}
	memory_file_close(merge.file);
	free(merge.room);
	snapshot_manifest_destroy(&merge.manifest);
	snapshot_dir_abandon(&merge.dir);
	return ret;
}
