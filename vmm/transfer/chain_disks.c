/* SPDX-License-Identifier: Apache-2.0 */
/* Where a disk's content lies in a chain: see chain_disk_layers(). */
#include "vmm/transfer/chain.h"
#include "vmm/transfer/disk_restore.h"

#include <string.h>

const struct snapshot_disk *chain_find_disk(
	const struct snapshot_manifest *manifest, const char *id)
{
	for (unsigned i = 0; i < manifest->disk_count; i++)
		if (!strcmp(manifest->disks[i].id, id))
			return &manifest->disks[i];
	return NULL;
}

int chain_disk_layers(const struct chain *chain, const char *id, struct disk_layer *layers,
	unsigned *count, struct error *err)
{
	*count = 0;
	for (unsigned i = 0; i < chain->count; i++) {
		const struct chain_link *link = &chain->links[i];
		const struct snapshot_disk *disk = chain_find_disk(&link->manifest, id);
		bool changes;

		if (!disk || disk->mode == SNAPSHOT_DISK_NONE)
			break;
		changes = disk->mode == SNAPSHOT_DISK_INCREMENTAL;
		layers[(*count)++] = (struct disk_layer){link->dir, disk->file, changes};
		if (!changes)
			return 0;
	}
	return error_set(
		err, ERROR_CORRUPT, "disk '%s': no snapshot of the chain has all of it", id);
}
