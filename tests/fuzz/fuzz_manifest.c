/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a snapshot that are parsed, each by its first byte; their checksums are not in the way.
 *   'M'  manifest.json: what is accepted is written and read again, and stays the same
 *   'P'  pages, 'S' memory.sums: of a row whose length is the next two bytes
 *   'Z'  memory.zst: its index, and every frame of it is unpacked
 * Whatever is accepted must keep the promises that chains rely on.
 */
#include "vmm/base/util.h"
#include "vmm/transfer/manifest.h"
#include "vmm/transfer/page_ranges.h"
#include "vmm/transfer/page_sums.h"
#include "vmm/transfer/zstd_frames.h"

#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool kept)
{
	if (!kept)
		abort();
}

static void check_manifest(const struct snapshot_manifest *m)
{
	uint64_t pages = memory_layout_pages(&m->memory);

	must(pages > 0 && pages <= 1ull << 41 && strlen(m->id) == 32);
	must((m->kind == SNAPSHOT_INCREMENTAL) == (m->parent_folder != NULL));
	must(m->part_count <= SNAPSHOT_PARTS_MAX && m->disk_count <= SNAPSHOT_DISKS_MAX);
	must(m->data_pages + m->zero_pages <= pages);
	for (unsigned i = 0; i < m->part_count; i++)
		must(*m->parts[i].name && !strchr(m->parts[i].name, '/') &&
			m->parts[i].name[0] != '.');
}

/* The object with its checksum made right. NULL: the text is no object. */
static char *mend_checksum(const uint8_t *data, size_t size)
{
	json_t *object = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	char sum[CHECKSUM_TEXT_SIZE];
	char *text = NULL;

	if (json_is_object(object)) {
		json_object_del(object, "checksum");
		text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
		checksum_format(checksum_of(text, strlen(text)), sum);
		free(text);
		json_object_set_new(object, "checksum", json_string(sum));
		text = json_dumps(object, JSON_COMPACT);
	}
	json_decref(object);
	return text;
}

static void try_manifest(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = mend_checksum(data, size), *first = NULL, *second = NULL;
	struct snapshot_manifest manifest, again;
	struct error err = {0};

	if (snapshot_manifest_parse(&manifest, (const char *)data, size, &err) == 0)
		snapshot_manifest_destroy(&manifest);
	else
		must(err.text[0] && err.code);
	if (!text || snapshot_manifest_parse(&manifest, text, strlen(text), &err) < 0)
		return;
	check_manifest(&manifest);
	must(snapshot_manifest_format(&manifest, &first, &err) == 0);
	must(snapshot_manifest_parse(&again, first, strlen(first), &err) == 0);
	must(snapshot_manifest_format(&again, &second, &err) == 0);
	must(!strcmp(first, second));
	snapshot_manifest_destroy(&manifest);
	snapshot_manifest_destroy(&again);
}

static void try_ranges(const uint8_t *data, size_t size, uint64_t pages)
{
	struct page_ranges ranges;
	struct error err = {0};
	uint64_t after = 0;
	uint8_t *again;
	size_t length;

	if (page_ranges_decode(&ranges, data, size, pages, &err) < 0) {
		must(err.text[0] && err.code);
		return;
	}
	for (uint64_t i = 0; i < ranges.count; i++) {
		must(ranges.ranges[i].first >= after && ranges.ranges[i].count);
		after = ranges.ranges[i].first + ranges.ranges[i].count;
	}
	must(after <= pages);
	must(page_ranges_encode(&ranges, &again, &length, &err) == 0);
	must(length == size && !memcmp(again, data, size));
	free(again);
	page_ranges_destroy(&ranges);
}

static void try_sums(const uint8_t *data, size_t size, uint64_t pages)
{
	struct page_sums sums;
	struct error err = {0};

	if (page_sums_decode(&sums, data, size, pages, &err) == 0) {
		must(sums.chunks == (pages + PAGE_SUMS_CHUNK - 1) / PAGE_SUMS_CHUNK);
		page_sums_destroy(&sums);
	} else {
		must(err.text[0] && err.code);
	}
}

/* The checksum of the index that the end of the file speaks of. */
static struct checksum sum_index(const uint8_t *data, size_t size)
{
	uint64_t count = 0, bytes;

	if (size >= 24)
		memcpy(&count, data + size - 8, sizeof(count));
	bytes = count < size / 56 ? count * 56 + 24 : 24;
	return bytes <= size ? checksum_of(data + size - bytes, bytes) : (struct checksum){0};
}

static void try_frames(const uint8_t *data, size_t size, uint64_t pages)
{
	static uint8_t room[ZSTD_BLOCK_PAGES * 4096];
	struct checksum sum = sum_index(data, size);
	_cleanup_close_ int fd = memfd_create("zst", MFD_CLOEXEC);
	struct zstd_frames frames;
	struct error err = {0};

	must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	if (zstd_frames_open(&frames, fd, size, pages, &sum, &err) < 0) {
		must(err.text[0] && err.code);
		return;
	}
	for (uint64_t i = 0; i < frames.count; i++) {
		must(frames.entries[i].first < pages);
		must(zstd_entry_pages(&frames.entries[i]) <= ZSTD_BLOCK_PAGES);
		zstd_frames_read(&frames, fd, &frames.entries[i], room, &err);
	}
	zstd_frames_close(&frames);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t pages;

	if (size < 3)
		return 0;
	pages = 1 + data[1] + 256u * data[2];
	switch (data[0]) {
	case 'M':
		try_manifest(data + 1, size - 1);
		break;
	case 'P':
		try_ranges(data + 3, size - 3, pages);
		break;
	case 'S':
		try_sums(data + 3, size - 3, pages);
		break;
	case 'Z':
		try_frames(data + 3, size - 3, pages);
		break;
	}
	return 0;
}
