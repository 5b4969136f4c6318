/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest as its table stores it: what is text in the file and a number in the manifest is here as text. */
#pragma once

#include "vmm/transfer/manifest.h"

struct manifest_part_text {
	char name[SCHEMA_ID_SIZE];
	unsigned check;
	uint64_t size;
	char sum[SCHEMA_ID_SIZE];
};

struct manifest_region {
	uint64_t gpa, size;
};

struct manifest_text {
	unsigned format;
	char id[SCHEMA_ID_SIZE], checksum[SCHEMA_ID_SIZE];
	char parent[SCHEMA_ID_SIZE];
	char *parent_folder;
	uint64_t created_ns;
	char version[SCHEMA_ID_SIZE], name[SCHEMA_ID_SIZE], architecture[SCHEMA_ID_SIZE];
	unsigned kind, compression;
	bool background;
	unsigned region_count;
	struct manifest_region regions[MEMORY_REGIONS_MAX];
	uint64_t area_gpa, area_size, area_unit;
	char area_present[SCHEMA_ID_SIZE];
	uint64_t data_pages, zero_pages;
	json_t *machine, *devices;
	unsigned disk_count, part_count;
	struct snapshot_disk disks[SNAPSHOT_DISKS_MAX];
	struct manifest_part_text parts[SNAPSHOT_PARTS_MAX];
};

extern const struct schema manifest_schema[];
