/* SPDX-License-Identifier: Apache-2.0 */
/* A machine from a snapshot: see restore.h for the order of things. */
#include "vmm/transfer/restore.h"

#include "vmm/arch/arch.h"
#include "vmm/base/util.h"
#include "vmm/machine/machine_devices.h"
#include "vmm/machine/save.h"
#include "vmm/state/state.h"
#include "vmm/transfer/chain.h"
#include "vmm/transfer/disk_copy.h"
#include "vmm/transfer/disk_restore.h"
#include "vmm/transfer/restore_memory.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>

struct restore {
	struct restore_options options;
	struct chain *chain;
	struct restore_memory memory;
	uint8_t *bytes; /* of the state */
	struct state_reader state;
	bool made[SNAPSHOT_DISKS_MAX]; /* these disks have the snapshot's content */
};

static const struct snapshot_manifest *manifest_of(const struct restore *restore)
{
	return &restore->chain->links[0].manifest;
}

static int open_state(struct restore *restore, struct error *err)
{
	size_t size;
	int ret = chain_load_part(
		restore->chain, SNAPSHOT_STATE_FILE, STATE_SIZE_MAX, &restore->bytes, &size, err);

	return ret < 0 ? ret : state_open(&restore->state, restore->bytes, size, err);
}

int restore_open(const char *dir, struct restore **out, struct error *err)
{
	struct restore *restore = calloc(1, sizeof(*restore));
	int ret;

	if (!restore)
		return error_errno(err, ENOMEM, "cannot restore '%.200s'", dir);
	ret = chain_open(&restore->chain, dir, err);
	if (ret == 0)
		ret = open_state(restore, err);
	if (ret < 0) {
		restore_close(restore);
		return ret;
	}
	*out = restore;
	return 0;
}

void restore_close(struct restore *restore)
{
	if (!restore)
		return;
	state_close(&restore->state);
	free(restore->bytes);
	chain_close(restore->chain);
	schema_release(machine_restore_switches, &restore->options);
	free(restore);
}

/* ---- before the machine is made ---- */

static int check_architecture(const struct restore *restore, struct error *err)
{
	const char *had = manifest_of(restore)->architecture;

	if (strcmp(had, arch_name) != 0)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the snapshot is of a VM of %s, this host is %s", had, arch_name);
	return 0;
}

static const char *saved_path(const struct restore *restore, const char *id)
{
	const json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(manifest_of(restore)->machine, "disk"), i, disk)
	{
		if (!strcmp(json_string_value(json_object_get(disk, "id")) ?: "", id))
			return json_string_value(json_object_get(disk, "path"));
	}
	return NULL;
}

static int make_disk(
	const struct restore *restore, const char *id, const char *path, struct error *err)
{
	struct disk_layer layers[CHAIN_LINKS_MAX];
	struct disk_restored restored;
	unsigned count;
	int ret = chain_disk_layers(restore->chain, id, layers, &count, err);

	return ret ?: disk_restore(layers, count, path, false, NULL, &restored, err);
}

/*
 * A disk that the snapshot holds goes where the configuration has it, unless there is something already, or it is to be an overlay: that
 * is then meant. But not to where it was when it was saved: what is there has gone on since, and does not belong to this memory.
 */
static int place_disk(struct restore *restore, const struct snapshot_disk *saved,
	const struct disk_options *disk, bool *made, struct error *err)
{
	const char *was = saved_path(restore, saved->id);

	if (was && !strcmp(was, disk->path)) {
		error_set(err, ERROR_BAD_REQUEST,
			"the snapshot holds the content of disk '%s', and what is at '%.200s' may be of another time",
			saved->id, disk->path);
		return error_hint(err,
			"say where it is to go, a new file, with --disk id=%s,path=FILE",
			saved->id);
	}
	if (disk->base || access(disk->path, F_OK) == 0)
		return 0;
	*made = true;
	return make_disk(restore, saved->id, disk->path, err);
}

static int place_disks(
	struct restore *restore, const struct machine_config *config, struct error *err)
{
	const struct snapshot_manifest *manifest = manifest_of(restore);
	int ret = 0;

	for (unsigned i = 0; i < manifest->disk_count && ret == 0; i++) {
		const struct snapshot_disk *saved = &manifest->disks[i];

		if (saved->mode == SNAPSHOT_DISK_NONE)
			continue;
		for (unsigned d = 0; d < config->disk_count && ret == 0; d++)
			if (!strcmp(config->disks[d].id, saved->id))
				ret = place_disk(
					restore, saved, &config->disks[d], &restore->made[i], err);
	}
	return ret;
}

int restore_configure(
	struct restore *restore, json_t *flags, struct machine_config *config, struct error *err)
{
	return machine_config_from_saved(
		config, manifest_of(restore)->machine, flags, &restore->options, err);
}

int restore_prepare(struct restore *restore, struct machine_config *config, struct error *err)
{
	enum chain_verify_mode mode =
		restore->options.verify == VERIFY_ALL ? CHAIN_VERIFY_ALL : CHAIN_VERIFY_STAMPED;
	int ret = check_architecture(restore, err);

	if (ret == 0)
		ret = chain_verify(restore->chain, mode, NULL, err);
	if (ret == 0)
		ret = machine_fit_config(config, &restore->state, err);
	return ret < 0 ? ret : place_disks(restore, config, err);
}

/* ---- after it was made ---- */

static int check_layout(
	const struct restore *restore, const struct guest_memory *memory, struct error *err)
{
	struct memory_layout layout;

	memory_layout_of(memory, &layout);
	if (memory_layout_same_places(&layout, &manifest_of(restore)->memory) &&
		layout.area_present == manifest_of(restore)->memory.area_present)
		return 0;
	return error_set(err, ERROR_INCOMPATIBLE,
		"the snapshot's memory lies elsewhere than this version of bulkhead would put it");
}

/* What is written to them from now on is what the next incremental snapshot has of them. */
static int count_from(const struct restore *restore, struct machine *machine, struct error *err)
{
	const struct snapshot_manifest *manifest = manifest_of(restore);
	int ret = 0;

	for (unsigned i = 0; i < manifest->disk_count && ret == 0; i++) {
		struct virtio_pci *vp = machine_devices_find(
			machine_devices(machine), VIRTIO_ID_BLOCK, manifest->disks[i].id);

		if (restore->made[i] && vp)
			ret = disk_copy_count_from(virtio_pci_device(vp), manifest->id, err);
	}
	return ret;
}

int restore_into(struct restore *restore, struct machine *machine, struct error *err)
{
	struct guest_memory *memory = machine_memory_to_fill(machine);
	int ret = machine_plug_saved_memory(machine, &restore->state, err);

	if (ret == 0)
		ret = check_layout(restore, memory, err);
	if (ret == 0)
		ret = restore_memory_begin(
			&restore->memory, restore->chain, machine, &restore->options, err);
	if (ret == 0 && restore->options.track)
		ret = count_from(restore, machine, err);
	if (ret < 0)
		return ret;
	return machine_load_at_start(
		machine, &restore->state, restore->options.clone, restore->options.track, err);
}

const struct restore_options *restore_chosen(const struct restore *restore)
{
	return &restore->options;
}

void restore_series(const struct restore *restore, struct snapshot_series *series)
{
	const struct chain_link *link = &restore->chain->links[0];

	if (!restore->options.track || strlen(link->path) >= sizeof(series->path))
		return;
	memcpy(series->id, link->manifest.id, sizeof(series->id));
	memcpy(series->path, link->path, strlen(link->path) + 1);
}
