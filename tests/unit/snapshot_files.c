/* SPDX-License-Identifier: Apache-2.0 */
/* Scratch folders, pages and snapshots for tests: see snapshot_files.h. */
#include "tests/unit/snapshot_files.h"

#include "vmm/base/util.h"
#include "vmm/state/state.h"
#include "vmm/transfer/memory_file.h"
#include "vmm/transfer/snapshot_dir.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

void scratch_make(char path[64], bool in_memory)
{
	snprintf(path, 64, "%s/bulkhead-test-XXXXXX", in_memory ? "/dev/shm" : "/var/tmp");
	ck_assert_ptr_nonnull(mkdtemp(path));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *place)
{
	(void)st;
	(void)type;
	(void)place;
	return remove(path);
}

void scratch_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void page_fill(uint8_t *page, uint64_t content)
{
	uint64_t *words = (void *)page;

	for (unsigned i = 0; i < GUEST_PAGE_SIZE / 8; i++)
		words[i] = content ? content * 0x9e3779b97f4a7c15u + i : 0;
}

uint8_t *pages_map(uint64_t pages)
{
	uint8_t *host = mmap(NULL, pages * GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ck_assert(host != MAP_FAILED);
	return host;
}

struct memory_layout layout_of_two(uint64_t low, uint64_t high)
{
	return (struct memory_layout){.region_count = 2,
		.regions = {{0, low * GUEST_PAGE_SIZE}, {GIB(4), high * GUEST_PAGE_SIZE}}};
}

void manifest_begin(struct snapshot_manifest *manifest, const struct memory_layout *layout)
{
	struct error err;

	MUST(snapshot_manifest_init(manifest, &err));
	manifest->memory = *layout;
	strcpy(manifest->name, "test");
	strcpy(manifest->architecture, "x86_64");
	manifest->machine = json_pack("{s:s, s:[i, i]}", "kernel", "/boot/vmlinux", "list", 1, 2);
	manifest->devices = json_pack("{s:{s:s}}", "vda", "kind", "virtio-blk");
}

static void put_pages(
	struct memory_file *file, const uint8_t *host, uint64_t pages, const uint64_t *which)
{
	struct error err;

	if (!which) {
		struct memory_piece piece = {host, 0, pages};

		MUST(memory_file_write(file, &piece, 1, &err));
		return;
	}
	for (uint64_t i = pages; i-- > 0;) /* backwards: any order must do */
		if (which[i / 64] >> (i % 64) & 1)
			MUST(memory_file_put(file, i, host + i * GUEST_PAGE_SIZE, 1, &err));
}

static void take_parent(struct snapshot_manifest *manifest, const char *parent)
{
	int dir = open(parent, O_RDONLY | O_DIRECTORY);
	struct snapshot_manifest of;
	struct error err;

	ck_assert_int_ge(dir, 0);
	MUST(snapshot_manifest_read(&of, dir, &err));
	close(dir);
	strcpy(manifest->parent, of.id);
	ck_assert_int_gt(asprintf(&manifest->parent_folder, "../%s", strrchr(parent, '/') + 1), 0);
	snapshot_manifest_destroy(&of);
}

void snapshot_write(const char *path, const struct memory_layout *layout, const uint8_t *host,
	enum snapshot_compression compression, const char *parent, const uint64_t *which)
{
	struct snapshot_manifest manifest;
	struct memory_file_config config = {.pages = memory_layout_pages(layout),
		.compression = compression,
		.kind = parent ? SNAPSHOT_INCREMENTAL : SNAPSHOT_FULL};
	struct memory_file *file;
	struct state_writer state;
	struct snapshot_dir dir;
	struct error err;

	manifest_begin(&manifest, layout);
	if (parent)
		take_parent(&manifest, parent);
	MUST(snapshot_dir_create(&dir, path, &err));
	state_begin(&state);
	MUST(state_finish(&state, &err));
	MUST(snapshot_dir_part(
		&dir, &manifest, SNAPSHOT_STATE_FILE, state.bytes, state.size, &err));
	state_release(&state);
	config.dir = dir.fd;
	MUST(memory_file_open(&file, &config, &err));
	put_pages(file, host, config.pages, which);
	MUST(memory_file_finish(file, &manifest, &err));
	memory_file_close(file);
	MUST(snapshot_dir_commit(&dir, &manifest, &err));
	snapshot_dir_abandon(&dir);
	snapshot_manifest_destroy(&manifest);
}
