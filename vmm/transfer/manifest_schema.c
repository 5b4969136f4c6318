/* SPDX-License-Identifier: Apache-2.0 */
/* The members of manifest.json as a table: what is read is checked by it, what is written is made by it. */
#include "vmm/transfer/manifest_private.h"

#define BYTES_MAX INT64_MAX
#define PATH_MAX_ 4095
#define HELP	  "docs/snapshot-format.md says what it is"

#define ID_(label, thing, member, ...)                                                             \
	{                                                                                          \
		.name = (label), .type = SCHEMA_ID, .offset = offsetof(thing, member),             \
		.help = HELP, __VA_ARGS__                                                          \
	}
#define NUMBER_(label, thing, member, least, ...)                                                  \
	{                                                                                          \
		.name = (label), .type = SCHEMA_NUMBER, .offset = offsetof(thing, member),         \
		.size = sizeof(((thing *)NULL)->member), .min = (least), .max = BYTES_MAX,         \
		.help = HELP, __VA_ARGS__                                                          \
	}
#define CHOICE_(label, thing, member, list, ...)                                                   \
	{                                                                                          \
		.name = (label), .type = SCHEMA_CHOICE, .offset = offsetof(thing, member),         \
		.choices = (list), .help = HELP, __VA_ARGS__                                       \
	}

static const struct schema_choice kinds[] = {
	{"full", SNAPSHOT_FULL}, {"incremental", SNAPSHOT_INCREMENTAL}, {NULL}};
static const struct schema_choice compressions[] = {
	{"none", SNAPSHOT_PLAIN}, {"zstd", SNAPSHOT_ZSTD}, {NULL}};
static const struct schema_choice checks[] = {{"whole", SNAPSHOT_CHECK_WHOLE},
	{"chunks", SNAPSHOT_CHECK_CHUNKS}, {"size", SNAPSHOT_CHECK_SIZE},
	{"blocks", SNAPSHOT_CHECK_BLOCKS}, {NULL}};
static const struct schema_choice modes[] = {{"none", SNAPSHOT_DISK_NONE},
	{"reflink", SNAPSHOT_DISK_REFLINK}, {"copy", SNAPSHOT_DISK_COPY},
	{"incremental", SNAPSHOT_DISK_INCREMENTAL}, {NULL}};

static const struct schema parent_members[] = {
	ID_("id", struct manifest_text, parent, .required = true),
	{.name = "folder",
		.type = SCHEMA_PATH,
		.help = HELP,
		.required = true,
		.offset = offsetof(struct manifest_text, parent_folder),
		.max = PATH_MAX_},
	{.name = NULL},
};

static const struct schema region_members[] = {
	NUMBER_("gpa", struct manifest_region, gpa, 0, .value = "0"),
	NUMBER_("size", struct manifest_region, size, 1, .required = true),
	{.name = NULL},
};

static const struct schema area_members[] = {
	NUMBER_("gpa", struct manifest_text, area_gpa, 1, .required = true),
	NUMBER_("size", struct manifest_text, area_size, 1, .required = true),
	NUMBER_("unit", struct manifest_text, area_unit, 1, .required = true),
	ID_("present", struct manifest_text, area_present, .required = true),
	{.name = NULL},
};

static const struct schema memory_members[] = {
	{.name = "regions",
		.type = SCHEMA_LIST,
		.help = HELP,
		.required = true,
		.members = region_members,
		.offset = offsetof(struct manifest_text, regions),
		.size = sizeof(struct manifest_region),
		.extra = offsetof(struct manifest_text, region_count),
		.max = MEMORY_REGIONS_MAX},
	{.name = "area", .type = SCHEMA_OBJECT, .members = area_members},
	NUMBER_("data_pages", struct manifest_text, data_pages, 0, .value = "0"),
	NUMBER_("zero_pages", struct manifest_text, zero_pages, 0, .value = "0"),
	{.name = NULL},
};

static const struct schema disk_members[] = {
	ID_("id", struct snapshot_disk, id, .required = true),
	CHOICE_("mode", struct snapshot_disk, mode, modes, .required = true),
	ID_("file", struct snapshot_disk, file),
	NUMBER_("size", struct snapshot_disk, size, 0, .value = "0"),
	{.name = "base",
		.type = SCHEMA_PATH,
		.offset = offsetof(struct snapshot_disk, base),
		.max = PATH_MAX_},
	{.name = NULL},
};

static const struct schema part_members[] = {
	ID_("name", struct manifest_part_text, name, .required = true),
	CHOICE_("check", struct manifest_part_text, check, checks, .required = true),
	NUMBER_("size", struct manifest_part_text, size, 0, .required = true),
	ID_("checksum", struct manifest_part_text, sum),
	{.name = NULL},
};

const struct schema manifest_schema[] = {
	{.name = "format",
		.type = SCHEMA_NUMBER,
		.required = true,
		.offset = offsetof(struct manifest_text, format),
		.size = sizeof(unsigned),
		.min = 1,
		.max = SNAPSHOT_FORMAT,
		.help = HELP},
	ID_("id", struct manifest_text, id, .required = true),
	{.name = "parent", .type = SCHEMA_OBJECT, .members = parent_members},
	NUMBER_("created_ns", struct manifest_text, created_ns, 0, .required = true),
	ID_("bulkhead", struct manifest_text, version, .required = true),
	ID_("name", struct manifest_text, name, .required = true),
	ID_("architecture", struct manifest_text, architecture, .required = true),
	CHOICE_("kind", struct manifest_text, kind, kinds, .required = true),
	{.name = "background",
		.type = SCHEMA_BOOL,
		.offset = offsetof(struct manifest_text, background),
		.value = "off"},
	CHOICE_("compression", struct manifest_text, compression, compressions, .required = true),
	{.name = "memory",
		.type = SCHEMA_OBJECT,
		.help = HELP,
		.required = true,
		.members = memory_members},
	{.name = "machine", .type = SCHEMA_JSON, .offset = offsetof(struct manifest_text, machine)},
	{.name = "devices", .type = SCHEMA_JSON, .offset = offsetof(struct manifest_text, devices)},
	{.name = "disks",
		.type = SCHEMA_LIST,
		.members = disk_members,
		.offset = offsetof(struct manifest_text, disks),
		.size = sizeof(struct snapshot_disk),
		.extra = offsetof(struct manifest_text, disk_count),
		.max = SNAPSHOT_DISKS_MAX},
	{.name = "parts",
		.type = SCHEMA_LIST,
		.help = HELP,
		.required = true,
		.members = part_members,
		.offset = offsetof(struct manifest_text, parts),
		.size = sizeof(struct manifest_part_text),
		.extra = offsetof(struct manifest_text, part_count),
		.max = SNAPSHOT_PARTS_MAX},
	ID_("checksum", struct manifest_text, checksum, .required = true),
	{.name = NULL},
};
