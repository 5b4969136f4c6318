/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot in words: see snapshots.h. */
#include "vmm/cli/snapshots.h"

#include "vmm/transfer/stamp.h"
#include "vmm/transfer/workingset.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *snapshot_time(uint64_t ns, char text[32])
{
	time_t seconds = (time_t)(ns / 1000000000u);
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || !strftime(text, 32, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf(text, 32, "?");
	return text;
}

const char *snapshot_kind_words(const struct snapshot_manifest *manifest, char text[48])
{
	snprintf(text, 48, "%s%s%s", manifest->background ? "background " : "",
		manifest->kind == SNAPSHOT_FULL ? "full" : "incremental",
		manifest->compression == SNAPSHOT_ZSTD ? ", zstd" : "");
	return text;
}

const char *snapshot_size(uint64_t bytes, char text[32])
{
	static const char units[] = "KMGT";
	unsigned unit = 0;
	double size = (double)bytes / 1024;

	if (bytes < 1024) {
		snprintf(text, 32, "%" PRIu64 " B", bytes);
		return text;
	}
	for (; size >= 1024 && unit < 3; unit++)
		size /= 1024;
	snprintf(text, 32, "%.1f %ciB", size, units[unit]);
	return text;
}

uint64_t snapshot_memory_size(const struct snapshot_manifest *manifest)
{
	const struct memory_layout *layout = &manifest->memory;
	uint64_t size = 0;

	for (unsigned i = 0; i < layout->region_count; i++)
		size += layout->regions[i].size;
	for (uint64_t at = 0, slot = 0; at < layout->area_size; at += layout->area_unit, slot++)
		if (layout->area_present >> slot & 1)
			size += layout->area_size - at < layout->area_unit ? layout->area_size - at
									   : layout->area_unit;
	return size;
}

uint64_t snapshot_part_usage(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

uint64_t snapshot_usage(const struct chain_link *link)
{
	uint64_t bytes = snapshot_part_usage(link->dir, SNAPSHOT_MANIFEST_FILE) +
			 snapshot_part_usage(link->dir, SNAPSHOT_STAMP_FILE) +
			 snapshot_part_usage(link->dir, WORKINGSET_FILE);

	for (unsigned i = 0; i < link->manifest.part_count; i++)
		bytes += snapshot_part_usage(link->dir, link->manifest.parts[i].name);
	return bytes;
}

json_t *snapshot_link_json(const struct chain_link *link)
{
	const struct snapshot_manifest *m = &link->manifest;
	json_t *parts = json_array(), *disks = json_array(), *parent;

	for (unsigned i = 0; i < m->part_count; i++)
		json_array_append_new(parts,
			json_pack("{s:s, s:I, s:I}", "name", m->parts[i].name, "size",
				(json_int_t)m->parts[i].size, "disk_bytes",
				(json_int_t)snapshot_part_usage(link->dir, m->parts[i].name)));
	for (unsigned i = 0; i < m->disk_count; i++)
		json_array_append_new(
			disks, json_pack("{s:s, s:s, s:I}", "id", m->disks[i].id, "file",
				       m->disks[i].file, "size", (json_int_t)m->disks[i].size));
	parent = *m->parent ? json_string(m->parent) : json_null();
	return json_pack(
		"{s:s, s:s, s:o, s:I, s:s, s:s, s:s, s:b, s:b, s:b, s:I, s:I, s:I, s:I, s:o, s:o}",
		"folder", link->path, "id", m->id, "parent", parent, "created_ns",
		(json_int_t)m->created_ns, "bulkhead", m->version, "name", m->name, "architecture",
		m->architecture, "incremental", m->kind == SNAPSHOT_INCREMENTAL, "background",
		m->background, "compressed", m->compression == SNAPSHOT_ZSTD, "memory_bytes",
		(json_int_t)snapshot_memory_size(m), "data_pages", (json_int_t)m->data_pages,
		"zero_pages", (json_int_t)m->zero_pages, "disk_bytes",
		(json_int_t)snapshot_usage(link), "parts", parts, "disks", disks);
}

/* ---- progress ---- */

static int shown = -1; /* per cent; -1: nothing yet */

static void show(void *owner, uint64_t done, uint64_t total)
{
	int percent = total ? (int)(done * 100 / total) : 100;

	if (percent == shown)
		return;
	shown = percent;
	fprintf(stderr, "\r%s %3d %%", (const char *)owner, percent);
}

struct chain_verify_watch snapshot_watch(const char *word)
{
	shown = -1;
	if (!isatty(STDERR_FILENO))
		return (struct chain_verify_watch){0};
	return (struct chain_verify_watch){.progress = show, .owner = (void *)(uintptr_t)word};
}

void snapshot_watch_end(void)
{
	if (shown >= 0)
		fputc('\n', stderr);
	shown = -1;
}
