/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An overlay's file of any bytes, and if it is accepted any reads, writes, flushes, growth and crashes, against an image kept in memory.
 *
 * Input: flags; which base; the disk's size beyond that, in sectors (2 bytes); the number of changed bytes of the header, each its offset
 * (2 bytes) and value; 3 bytes of the bitmap; then what is done, 6 bytes each. Flags: 1 the header's checksum is made right
 * after the changes; 2 the file is cut off somewhere (by 4 more bytes); 4 in the end it is made flat. The data of all clusters is there, also of those
 * whose bit is clear: it must not be seen.
 */
#include "tests/fuzz/input.h"
#include "virtio/blk_overlay.h"
#include "vmm/base/util.h"
#include "vmm/transfer/disk_flatten.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define SECTOR	 512u
#define CLUSTER	 BLK_OVERLAY_CLUSTER
#define MOST	 (6 * CLUSTER)
#define CLUSTERS (MOST / CLUSTER)
#define HEADER	 4096u
#define SUM_AT	 4072u /* the checksum in it */
#define ACTIONS	 64

static const uint32_t base_sizes[] = {SECTOR, CLUSTER, 3 * CLUSTER - 7 * SECTOR, 3 * CLUSTER};

static struct {
	int fd;
	char path[32];
	uint8_t header[HEADER]; /* of an overlay on it */
} bases[ARRAY_SIZE(base_sizes)];

/* What bases hold, and what the data of an overlay's clusters is at the start. */
static uint8_t of_base[MOST], of_overlay[MOST];

static char folder[] = "/tmp/fuzz-overlay-XXXXXX";

struct trial {
	int fd;
	char path[32];
	const char *base;
	uint64_t base_size, size;
	struct blk_overlay *overlay;
	uint8_t disk[MOST],
		base_disk[MOST]; /* what a read must give; what it would of the base alone */
	bool own[CLUSTERS], stable[CLUSTERS];
};

static void must(bool kept)
{
	if (!kept)
		abort();
}

static uint8_t pattern(uint64_t at, unsigned of)
{
	return (uint8_t)(at * 31 + (at >> 9) * 7 + of * 85 + 1);
}

static void write_at(int fd, const void *data, size_t size, uint64_t offset)
{
	must(pwrite(fd, data, size, (off_t)offset) == (ssize_t)size);
}

/* ---- what does not change ---- */

static void make_base(unsigned i)
{
	char overlay[64];
	struct error err;
	int fd;

	bases[i].fd = memfd_create("base", MFD_CLOEXEC);
	write_at(bases[i].fd, of_base, base_sizes[i], 0);
	snprintf(bases[i].path, sizeof(bases[i].path), "/proc/self/fd/%d", bases[i].fd);
	snprintf(overlay, sizeof(overlay), "%s/overlay", folder);
	must(blk_overlay_create(overlay, bases[i].path, 0, &err) == 0);
	fd = open(overlay, O_RDONLY | O_CLOEXEC);
	must(pread(fd, bases[i].header, HEADER, 0) == HEADER);
	close(fd);
	unlink(overlay);
}

static void remove_folder(void)
{
	rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	must(mkdtemp(folder) != NULL);
	atexit(remove_folder);
	for (uint64_t at = 0; at < MOST; at++) {
		of_base[at] = pattern(at, 0);
		of_overlay[at] = pattern(at, 1);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bases); i++)
		make_base(i);
	return 0;
}

/* ---- a file ---- */

static void seal(uint8_t *header)
{
	XXH128_hash_t hash = XXH3_128bits(header, SUM_AT);

	memcpy(header + SUM_AT, &hash.low64, 8);
	memcpy(header + SUM_AT + 8, &hash.high64, 8);
}

static void expect_disk(struct trial *t, uint32_t bits)
{
	memcpy(t->base_disk, of_base, t->base_size);
	for (unsigned i = 0; i < CLUSTERS; i++)
		t->own[i] = t->stable[i] = bits >> i & 1;
	for (uint64_t at = 0; at < t->size; at += SECTOR)
		memcpy(t->disk + at, (t->own[at / CLUSTER] ? of_overlay : t->base_disk) + at,
			SECTOR);
}

/* True: it is as one of ours is, and must be accepted. */
static bool make_file(struct trial *t, struct input *in)
{
	static uint8_t header[HEADER];
	unsigned flags = (unsigned)take(in, 1), base = (unsigned)take(in, 1) % ARRAY_SIZE(bases);
	unsigned changes;
	uint32_t bits;
	bool right;

	t->base = bases[base].path;
	t->base_size = base_sizes[base];
	t->size = min_u64(t->base_size + take(in, 2) * SECTOR, MOST);
	memcpy(header, bases[base].header, HEADER);
	changes = (unsigned)take(in, 1);
	for (unsigned i = 0; i < changes; i++) {
		unsigned at = take(in, 2) % HEADER;

		header[at] = (uint8_t)take(in, 1);
	}
	if (flags & 1)
		seal(header);
	bits = (uint32_t)take(in, 3);
	write_at(t->fd, of_overlay, t->size, BLK_OVERLAY_DATA);
	write_at(t->fd, header, HEADER, 0);
	write_at(t->fd, &bits, sizeof(bits), BLK_OVERLAY_BITMAP);
	right = !memcmp(header, bases[base].header, SUM_AT + 16) &&
		!(bits >> (t->size + CLUSTER - 1) / CLUSTER) && !(flags & 2);
	if (flags & 2) {
		uint64_t length = take(in, 4) % (BLK_OVERLAY_DATA + t->size);

		must(ftruncate(t->fd, (off_t)length) == 0);
		if (length >
			BLK_OVERLAY_DATA) /* one that was made smaller, if it is not too small */
			t->size = length - BLK_OVERLAY_DATA;
	}
	expect_disk(t, bits);
	return right;
}

static bool open_overlay(struct trial *t)
{
	struct error err = {0};

	if (blk_overlay_open(&t->overlay, t->fd, t->path, t->base, &err) == 0)
		return true;
	must(err.text[0] && err.code);
	return false;
}

/* ---- what is done ---- */

static void check_read(struct trial *t, uint64_t offset, uint64_t len)
{
	static uint8_t got[MOST];

	must(blk_overlay_read(t->overlay, got, len, offset) == 0);
	must(!memcmp(got, t->disk + offset, len));
}

static void do_write(struct trial *t, uint64_t offset, uint64_t len, uint8_t value)
{
	uint64_t last = (offset + len - 1) / CLUSTER;
	bool whole;

	must(blk_overlay_prepare(t->overlay, offset, len, t->size, &whole) == 0);
	must(whole == !blk_overlay_owns(t->overlay, offset, len));
	memset(t->disk + offset, value, len);
	write_at(t->fd, t->disk + offset, len, BLK_OVERLAY_DATA + offset);
	must(blk_overlay_own(t->overlay, offset, len) == 0);
	must(blk_overlay_owns(t->overlay, offset, len));
	for (uint64_t i = offset / CLUSTER; i <= last; i++)
		t->own[i] = true;
}

static void do_prepare(struct trial *t, uint64_t offset, uint64_t len)
{
	bool whole;

	must(blk_overlay_prepare(t->overlay, offset, len, t->size, &whole) == 0);
	for (uint64_t i = offset / CLUSTER; i <= (offset + len - 1) / CLUSTER; i++)
		t->own[i] = blk_overlay_owns(t->overlay, i * CLUSTER, 1);
}

static void do_flush(struct trial *t)
{
	must(blk_overlay_persist(t->overlay, blk_overlay_mark(t->overlay)) == 0);
	must(!blk_overlay_is_ahead(t->overlay));
	memcpy(t->stable, t->own, sizeof(t->stable));
}

/* With `crash` the bits that no flush has made stable are lost, and those clusters are the base's again. */
static void do_reopen(struct trial *t, bool crash)
{
	if (crash)
		blk_overlay_give_up(t->overlay);
	else
		memcpy(t->stable, t->own, sizeof(t->stable));
	blk_overlay_close(steal_ptr(&t->overlay));
	must(open_overlay(t));
	memcpy(t->own, t->stable, sizeof(t->own));
	for (uint64_t at = 0; at < t->size; at += SECTOR)
		if (!t->own[at / CLUSTER])
			memcpy(t->disk + at, t->base_disk + at, SECTOR);
}

static void do_grow(struct trial *t, uint64_t by)
{
	uint64_t size = min_u64(t->size + by, MOST), seen;
	struct error err;

	must(ftruncate(t->fd, (off_t)(BLK_OVERLAY_DATA + size)) == 0);
	must(blk_overlay_size(t->overlay, &seen, &err) == 0 && seen == size);
	memset(t->disk + t->size, 0, size - t->size);
	t->size = size;
}

static void act(struct trial *t, struct input *in)
{
	unsigned what = (unsigned)take(in, 1), value = (unsigned)take(in, 1);
	uint64_t offset = take(in, 2) * SECTOR % t->size;
	uint64_t len = min_u64((1 + take(in, 2) % 512) * SECTOR, t->size - offset);

	switch (what % 7) {
	case 0:
		check_read(t, offset, len);
		break;
	case 1:
		do_write(t, offset, len, (uint8_t)value);
		break;
	case 2:
		do_prepare(t, offset, len);
		break;
	case 3:
		do_flush(t);
		break;
	case 4:
	case 5:
		do_reopen(t, what % 7 == 5);
		break;
	default:
		do_grow(t, len);
	}
}

/* ---- afterwards ---- */

static void check_info(const struct trial *t)
{
	struct blk_overlay_info info;
	struct error err;
	uint64_t own = 0;

	for (unsigned i = 0; i < CLUSTERS; i++)
		own += t->own[i];
	must(blk_overlay_inspect(t->fd, t->path, t->base, &info, &err) == 0);
	must(info.size == t->size && info.base_size == t->base_size && info.own == own);
	must(info.own + info.stray <= info.clusters);
}

static void check_flat(const struct trial *t)
{
	static uint8_t got[MOST];
	struct error err;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/flat", folder);
	must(disk_flatten(t->path, t->base, path, NULL, &err) == 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	must(pread(fd, got, MOST, 0) == (ssize_t)t->size);
	must(!memcmp(got, t->disk, t->size));
	close(fd);
	unlink(path);
}

static void check_hostile(const struct trial *t)
{
	struct blk_overlay_info info;
	struct error err = {0};

	blk_overlay_seems(t->fd);
	if (blk_overlay_inspect(t->fd, t->path, NULL, &info, &err) < 0)
		must(err.text[0] && err.code);
	else
		must(info.own + info.stray <= info.clusters && info.size >= info.base_size &&
			memchr(info.base, 0, sizeof(info.base)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct trial t;
	struct input in = {data, size};
	unsigned flags = size ? data[0] : 0;
	bool right;

	memset(&t, 0, sizeof(t));
	t.fd = memfd_create("overlay", MFD_CLOEXEC);
	must(t.fd >= 0);
	snprintf(t.path, sizeof(t.path), "/proc/self/fd/%d", t.fd);
	right = make_file(&t, &in);
	check_hostile(&t);
	if (!open_overlay(&t)) {
		must(!right);
		close(t.fd);
		return 0;
	}
	check_read(&t, 0, t.size);
	for (unsigned i = 0; i < ACTIONS && in.left; i++)
		act(&t, &in);
	check_read(&t, 0, t.size);
	blk_overlay_close(t.overlay);
	check_info(&t);
	if (flags & 4)
		check_flat(&t);
	close(t.fd);
	return 0;
}
