/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest: made, written, read and checked. See manifest.h.
 *
 * The checksum is over the text that the object without its member `checksum` has in one form: keys sorted, no blanks. So it
 * does not depend on how the file is laid out, and every other tool can make it.
 */
#include "vmm/transfer/manifest_private.h"

#include "vmm/base/util.h"
#include "vmm/transfer/page_ranges.h"
#include "vmm/transfer/page_sums.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

void snapshot_manifest_date(struct snapshot_manifest *manifest)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	manifest->created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int snapshot_manifest_init(struct snapshot_manifest *manifest, struct error *err)
{
	struct checksum id;

	*manifest = (struct snapshot_manifest){0};
	if (getrandom(&id, sizeof(id), 0) != sizeof(id))
		return error_errno(err, errno, "cannot make the snapshot's id");
	checksum_format(id, manifest->id);
	snapshot_manifest_date(manifest);
	snprintf(manifest->version, sizeof(manifest->version), "%s", BULKHEAD_VERSION);
	return 0;
}

void snapshot_manifest_destroy(struct snapshot_manifest *manifest)
{
	free(manifest->parent_folder);
	json_decref(manifest->machine);
	json_decref(manifest->devices);
	for (unsigned i = 0; i < manifest->disk_count; i++)
		free(manifest->disks[i].base);
	*manifest = (struct snapshot_manifest){0};
}

const struct snapshot_part *snapshot_manifest_part(
	const struct snapshot_manifest *manifest, const char *name)
{
	for (unsigned i = 0; i < manifest->part_count; i++)
		if (!strcmp(manifest->parts[i].name, name))
			return &manifest->parts[i];
	return NULL;
}

int snapshot_manifest_add(struct snapshot_manifest *manifest, const char *name,
	enum snapshot_check check, uint64_t size, const struct checksum *sum, struct error *err)
{
	struct snapshot_part *part = &manifest->parts[manifest->part_count];

	if (manifest->part_count == SNAPSHOT_PARTS_MAX)
		return error_set(err, ERROR_NO_RESOURCE, "a snapshot can have %u parts and no more",
			SNAPSHOT_PARTS_MAX);
	*part = (struct snapshot_part){.check = check, .size = size};
	if (strlen(name) >= sizeof(part->name))
		return error_set(
			err, ERROR_BAD_REQUEST, "'%s' is too long a name for a part", name);
	memcpy(part->name, name, strlen(name));
	if (sum)
		part->sum = *sum;
	manifest->part_count++;
	return 0;
}

/* ---- rules that no table can say ---- */

static int corrupt(struct error *err, const char *what, const char *name)
{
	return error_set(err, ERROR_CORRUPT, "%s '%.64s'", what, name);
}

static bool is_id(const char *text)
{
	struct checksum ignored;

	return checksum_parse(text, &ignored);
}

/* Only parts that one of our readers wants checked have a checksum. */
static bool wants_sum(const struct snapshot_part *part)
{
	return part->check == SNAPSHOT_CHECK_WHOLE || part->check == SNAPSHOT_CHECK_BLOCKS ||
	       !strcmp(part->name, SNAPSHOT_ZSTD_FILE);
}

static int check_part(const struct snapshot_manifest *m, const char *name,
	enum snapshot_check check, bool wanted, struct error *err)
{
	const struct snapshot_part *part = snapshot_manifest_part(m, name);

	if (!wanted)
		return part ? corrupt(err, "has a part that it cannot have:", name) : 0;
	if (!part || part->check != check)
		return corrupt(err, part ? "has no way to check its part" : "lacks its part", name);
	return 0;
}

static int check_parts(const struct snapshot_manifest *m, struct error *err)
{
	uint64_t pages = memory_layout_pages(&m->memory);
	bool plain = m->compression == SNAPSHOT_PLAIN;
	int ret;

	for (unsigned i = 0; i < m->part_count; i++)
		if (snapshot_manifest_part(m, m->parts[i].name) != &m->parts[i] ||
			!strcmp(m->parts[i].name, SNAPSHOT_MANIFEST_FILE))
			return corrupt(err, "names twice its part", m->parts[i].name);
	ret = check_part(m, SNAPSHOT_STATE_FILE, SNAPSHOT_CHECK_WHOLE, true, err);
	if (ret == 0)
		ret = check_part(m, SNAPSHOT_MEMORY_FILE, SNAPSHOT_CHECK_CHUNKS, plain, err);
	if (ret == 0)
		ret = check_part(m, SNAPSHOT_ZSTD_FILE, SNAPSHOT_CHECK_CHUNKS, !plain, err);
	if (ret == 0)
		ret = check_part(m, PAGE_SUMS_FILE, SNAPSHOT_CHECK_WHOLE, true, err);
	if (ret == 0)
		ret = check_part(m, PAGE_RANGES_FILE, SNAPSHOT_CHECK_WHOLE,
			m->kind == SNAPSHOT_INCREMENTAL, err);
	if (ret == 0 && plain &&
		snapshot_manifest_part(m, SNAPSHOT_MEMORY_FILE)->size != pages * GUEST_PAGE_SIZE)
		return corrupt(err, "has not the memory's size for its part", SNAPSHOT_MEMORY_FILE);
	if (ret == 0 && (m->data_pages > pages || m->zero_pages > pages - m->data_pages))
		return corrupt(err, "counts more pages than there are in", SNAPSHOT_MEMORY_FILE);
	return ret;
}

static int check_disks(const struct snapshot_manifest *m, struct error *err)
{
	for (unsigned i = 0; i < m->disk_count; i++) {
		const struct snapshot_disk *disk = &m->disks[i];

		for (unsigned j = 0; j < i; j++)
			if (!strcmp(disk->id, m->disks[j].id))
				return corrupt(err, "names twice its disk", disk->id);
		if (disk->mode == SNAPSHOT_DISK_NONE ? *disk->file != '\0'
						     : !snapshot_manifest_part(m, disk->file))
			return corrupt(err, "has no right file for its disk", disk->id);
	}
	return 0;
}

static int check_rules(const struct snapshot_manifest *m, struct error *err)
{
	int ret;

	if (!is_id(m->id) || (*m->parent && !is_id(m->parent)) || !strcmp(m->parent, m->id))
		return corrupt(err, "cannot have the id", *m->parent ? m->parent : m->id);
	if ((m->kind == SNAPSHOT_INCREMENTAL) != (*m->parent != '\0'))
		return corrupt(err, "is not both incremental and with a parent, but has",
			*m->parent ? m->parent : "none");
	ret = memory_layout_check(&m->memory, err);
	if (ret == 0)
		ret = check_parts(m, err);
	return ret ?: check_disks(m, err);
}

/* ---- between the manifest and its texts ---- */

static void copy_id(char *to, const char *from, size_t size)
{
	while (--size && *from)
		*to++ = *from++;
	*to = '\0';
}

static int take_parts(
	struct snapshot_manifest *m, const struct manifest_text *text, struct error *err)
{
	for (unsigned i = 0; i < text->part_count; i++) {
		const struct manifest_part_text *from = &text->parts[i];
		struct snapshot_part *part = &m->parts[m->part_count++];

		copy_id(part->name, from->name, sizeof(part->name));
		part->check = from->check;
		part->size = from->size;
		if (wants_sum(part) ? !checksum_parse(from->sum, &part->sum) : *from->sum != '\0')
			return corrupt(err, "has no right checksum for its part", part->name);
	}
	return 0;
}

static bool parse_present(const char *text, uint64_t *present)
{
	char *end;

	*present = 0;
	if (!*text)
		return true;
	errno = 0;
	*present = strtoull(text, &end, 16);
	return !strncmp(text, "0x", 2) && text[2] && !*end && !errno;
}

/* Takes over what `text` has allocated. */
static int take(struct snapshot_manifest *m, struct manifest_text *text, struct error *err)
{
	*m = (struct snapshot_manifest){
		.created_ns = text->created_ns,
		.kind = text->kind,
		.background = text->background,
		.compression = text->compression,
		.data_pages = text->data_pages,
		.zero_pages = text->zero_pages,
		.parent_folder = text->parent_folder,
		.machine = text->machine,
		.devices = text->devices,
		.disk_count = text->disk_count,
		.memory = {.region_count = text->region_count,
			.area_gpa = text->area_gpa,
			.area_size = text->area_size,
			.area_unit = text->area_unit},
	};
	text->parent_folder = NULL;
	text->machine = text->devices = NULL;
	copy_id(m->id, text->id, sizeof(m->id));
	copy_id(m->parent, text->parent, sizeof(m->parent));
	copy_id(m->version, text->version, sizeof(m->version));
	copy_id(m->name, text->name, sizeof(m->name));
	copy_id(m->architecture, text->architecture, sizeof(m->architecture));
	memcpy(m->disks, text->disks, sizeof(m->disks));
	text->disk_count = 0;
	for (unsigned i = 0; i < text->region_count; i++) {
		m->memory.regions[i].gpa = text->regions[i].gpa;
		m->memory.regions[i].size = text->regions[i].size;
	}
	/* What was cut short above is no id: it would fit otherwise. */
	if (strlen(text->id) >= sizeof(m->id) || strlen(text->parent) >= sizeof(m->parent))
		return corrupt(err, "cannot have the id", text->id);
	if (!parse_present(text->area_present, &m->memory.area_present))
		return corrupt(err, "cannot have plugged slots", text->area_present);
	return take_parts(m, text, err);
}

/* The texts point to what the manifest owns. */
static void lend(const struct snapshot_manifest *m, struct manifest_text *text)
{
	*text = (struct manifest_text){
		.format = SNAPSHOT_FORMAT,
		.created_ns = m->created_ns,
		.kind = m->kind,
		.background = m->background,
		.compression = m->compression,
		.data_pages = m->data_pages,
		.zero_pages = m->zero_pages,
		.parent_folder = m->parent_folder,
		.machine = m->machine,
		.devices = m->devices,
		.disk_count = m->disk_count,
		.part_count = m->part_count,
		.region_count = m->memory.region_count,
		.area_gpa = m->memory.area_gpa,
		.area_size = m->memory.area_size,
		.area_unit = m->memory.area_unit,
	};
	copy_id(text->id, m->id, sizeof(text->id));
	copy_id(text->parent, m->parent, sizeof(text->parent));
	copy_id(text->version, m->version, sizeof(text->version));
	copy_id(text->name, m->name, sizeof(text->name));
	copy_id(text->architecture, m->architecture, sizeof(text->architecture));
	memcpy(text->disks, m->disks, sizeof(text->disks));
	snprintf(text->area_present, sizeof(text->area_present), "0x%" PRIx64,
		m->memory.area_present);
	for (unsigned i = 0; i < m->memory.region_count; i++)
		text->regions[i] = (struct manifest_region){
			m->memory.regions[i].gpa, m->memory.regions[i].size};
	for (unsigned i = 0; i < m->part_count; i++) {
		const struct snapshot_part *part = &m->parts[i];
		struct manifest_part_text *to = &text->parts[i];

		copy_id(to->name, part->name, sizeof(to->name));
		to->check = part->check;
		to->size = part->size;
		if (wants_sum(part))
			checksum_format(part->sum, to->sum);
	}
}

/* ---- the file ---- */

/* Of the object without its member `checksum`, which is taken out. */
static int sum_object(json_t *object, char text[CHECKSUM_TEXT_SIZE], struct error *err)
{
	char *plain;

	json_object_del(object, "checksum");
	plain = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
	if (!plain)
		return error_errno(err, ENOMEM, "cannot check '%s'", SNAPSHOT_MANIFEST_FILE);
	checksum_format(checksum_of(plain, strlen(plain)), text);
	free(plain);
	return 0;
}

static json_t *dump(const struct snapshot_manifest *manifest, struct error *err)
{
	struct manifest_text *text = malloc(sizeof(*text));
	char sum[CHECKSUM_TEXT_SIZE];
	json_t *object;

	if (!text) {
		error_errno(err, ENOMEM, "cannot write '%s'", SNAPSHOT_MANIFEST_FILE);
		return NULL;
	}
	lend(manifest, text);
	object = schema_dump(manifest_schema, text);
	free(text);
	if (!*manifest->parent)
		json_object_del(object, "parent");
	if (sum_object(object, sum, err) < 0 ||
		json_object_set_new(object, "checksum", json_string(sum)) < 0) {
		json_decref(object);
		return NULL;
	}
	return object;
}

int snapshot_manifest_format(
	const struct snapshot_manifest *manifest, char **text, struct error *err)
{
	struct snapshot_manifest again;
	json_t *object = dump(manifest, err);
	int ret;

	if (!object)
		return -err->code;
	*text = json_dumps(object, JSON_INDENT(2));
	json_decref(object);
	if (!*text)
		return error_errno(err, ENOMEM, "cannot write '%s'", SNAPSHOT_MANIFEST_FILE);
	/* What could not be read again must not be written. */
	ret = snapshot_manifest_parse(&again, *text, strlen(*text), err);
	if (ret < 0) {
		free(steal_ptr(text));
		err->kind = ERROR_INTERNAL;
		return error_prefix(err, "the snapshot is not complete");
	}
	snapshot_manifest_destroy(&again);
	return 0;
}

/* Told first: a later format may look like anything else. */
static int check_format(const json_t *object, struct error *err)
{
	json_int_t format = json_integer_value(json_object_get(object, "format"));

	if (format <= SNAPSHOT_FORMAT)
		return 0; /* what is none is told by the table */
	error_set(err, ERROR_INCOMPATIBLE,
		"has format %" JSON_INTEGER_FORMAT ", and this program knows %u", format,
		SNAPSHOT_FORMAT);
	return error_hint(err, "use the version of bulkhead that wrote it, or a later one");
}

static int check_sum(json_t *object, struct error *err)
{
	_cleanup_free_ char *said =
		strdup(json_string_value(json_object_get(object, "checksum")) ?: "");
	char sum[CHECKSUM_TEXT_SIZE];
	int ret = sum_object(object, sum, err);

	if (ret < 0)
		return ret;
	if (!said || strcmp(said, sum) != 0)
		return error_set(err, ERROR_CORRUPT, "its checksum is not right");
	json_object_set_new(object, "checksum", json_string(sum));
	return 0;
}

static int fill(struct snapshot_manifest *manifest, const json_t *object, struct error *err)
{
	struct manifest_text *text = calloc(1, sizeof(*text));
	int ret;

	if (!text)
		return error_errno(err, ENOMEM, "cannot read it");
	ret = schema_fill(manifest_schema, object, text, "", err);
	if (ret < 0) {
		err->kind = ERROR_CORRUPT;
	} else {
		ret = take(manifest, text, err);
		if (ret == 0)
			ret = check_rules(manifest, err);
		if (ret < 0)
			snapshot_manifest_destroy(manifest);
	}
	schema_release(manifest_schema, text);
	free(text);
	return ret;
}

int snapshot_manifest_parse(
	struct snapshot_manifest *manifest, const char *text, size_t size, struct error *err)
{
	json_error_t why;
	json_t *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
	int ret;

	*manifest = (struct snapshot_manifest){0};
	if (!json_is_object(object)) {
		json_decref(object);
		return error_set(err, ERROR_CORRUPT, "'%s' is not JSON of an object: %.120s",
			SNAPSHOT_MANIFEST_FILE, object ? "it is something else" : why.text);
	}
	ret = check_format(object, err);
	if (ret == 0)
		ret = check_sum(object, err);
	if (ret == 0)
		ret = fill(manifest, object, err);
	json_decref(object);
	return ret < 0 ? error_prefix(err, "'%s'", SNAPSHOT_MANIFEST_FILE) : 0;
}

int snapshot_manifest_read(struct snapshot_manifest *manifest, int dir, struct error *err)
{
	uint8_t *text;
	size_t size;
	int ret = file_load(dir, SNAPSHOT_MANIFEST_FILE, SNAPSHOT_MANIFEST_MAX, &text, &size, err);

	if (ret < 0)
		return ret;
	ret = snapshot_manifest_parse(manifest, (const char *)text, size, err);
	free(text);
	return ret;
}
