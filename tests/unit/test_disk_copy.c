/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running disk's content at one point in time: copied while a guest writes it, at random, and compared with the image as it
 * was when the guest stood still; chains laid over each other; what fails, and what it leaves.
 */
#include "tests/unit/blk_disk.h"
#include "vmm/transfer/disk_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#define SIZE	(MIB(24) + 3 * 4096)
#define AT_ONCE 24

static int folder = -1;
static uint64_t seed = 7;
static struct error err;
static struct disk_copy_result result;

static uint64_t draw(uint64_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % below;
}

/* A third of the disk's blocks hold data, the rest are holes. */
static void make_image(uint64_t size)
{
	_cleanup_free_ uint8_t *block = malloc(BLK_DIRTY_BLOCK);
	int fd = open(disk_path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	for (uint64_t at = 0; at + BLK_DIRTY_BLOCK <= size; at += BLK_DIRTY_BLOCK) {
		if (draw(3))
			continue;
		disk_fill(block, BLK_DIRTY_BLOCK, at);
		ck_assert_int_eq(pwrite(fd, block, BLK_DIRTY_BLOCK, (off_t)at), BLK_DIRTY_BLOCK);
	}
	close(fd);
	folder = open(".", O_RDONLY | O_DIRECTORY);
	ck_assert_int_ge(folder, 0);
}

static void start_disk(enum blk_cache cache)
{
	struct blk_config config = disk_defaults();

	config.cache = cache == BLK_CACHE_NONE && !disk_direct_works() ? BLK_CACHE_AUTO : cache;
	make_image(SIZE);
	disk_start(&config, DRIVER_ALL_FEATURES);
}

/* In the scratch directory, beside the image. */
static const char *in_folder(const char *name)
{
	static char paths[8][96];
	static unsigned next;
	char *text = paths[next++ % 8];

	snprintf(text, sizeof(paths[0]), "%s.%s", disk_path, name);
	return text;
}

/* ---- load ---- */

static void add_write(void)
{
	uint32_t len = (uint32_t)(1 + draw(draw(4) ? 16 : 400)) * 512;
	struct disk_io io =
		disk_make_io(VIRTIO_BLK_T_OUT, draw((SIZE - len) / 512), len, 512, draw(8) ? 0 : 4);

	disk_fill(disk_data(&io), len, draw(250));
	disk_add(driver_queue(&guest, 0), &io, false);
}

static void add_clear(void)
{
	struct disk_io io = disk_make_io(draw(2) ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES,
		0, sizeof(struct virtio_blk_discard_write_zeroes), 8, 0);
	struct virtio_blk_discard_write_zeroes range = {.num_sectors = (uint32_t)draw(300)};

	range.sector = draw(SIZE / 512 - range.num_sectors);
	memcpy(disk_data(&io), &range, sizeof(range));
	disk_add(driver_queue(&guest, 0), &io, false);
}

/* Some requests at once; none is in flight when it returns. */
static void write_some(void)
{
	uint64_t heap = guest.heap_next;

	for (unsigned i = 0; i < AT_ONCE; i++) {
		if (draw(6))
			add_write();
		else
			add_clear();
	}
	driver_kick(driver_queue(&guest, 0));
	for (unsigned i = 0; i < AT_ONCE; i++)
		ck_assert(driver_wait_used(driver_queue(&guest, 0), NULL, NULL, DRIVER_WAIT_MS));
	memset(driver_host(&guest, heap, guest.heap_next - heap), 0, guest.heap_next - heap);
	guest.heap_next = heap;
}

/* ---- steps ---- */

struct prepared {
	struct disk_copy *copy;
	struct error err;
	int ret;
	_Atomic bool done;
};

static void *prepare(void *arg)
{
	struct prepared *work = arg;

	work->ret = disk_copy_prepare(work->copy, &work->err);
	atomic_store(&work->done, true);
	return NULL;
}

static struct disk_copy_config copy_config(enum disk_copy_mode mode, const char *name)
{
	return (struct disk_copy_config){.dev = guest.device,
		.mode = mode,
		.dirfd = folder,
		.file = in_folder(name),
		.track = true,
		.checksum = true};
}

static void start_copy(const struct disk_copy_config *config, struct disk_copy **copy)
{
	ck_assert_msg(disk_copy_start(config, copy, &err) == 0, "%s", err.text);
}

/* The guest writes all along. */
static void prepare_under_load(struct disk_copy *copy)
{
	struct prepared work = {.copy = copy};
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, prepare, &work), 0);
	while (!atomic_load(&work.done))
		write_some();
	pthread_join(thread, NULL);
	ck_assert_msg(work.ret == 0, "%s", work.err.text);
	write_some();
}

static uint8_t *read_file(const char *path, uint64_t size)
{
	int fd = open(path, O_RDONLY);
	uint8_t *bytes = malloc(size + 1);

	ck_assert_int_ge(fd, 0);
	ck_assert(bytes);
	ck_assert_int_eq(pread(fd, bytes, size + 1, 0), (ssize_t)size);
	close(fd);
	return bytes;
}

static void expect_same(const uint8_t *got, const uint8_t *wanted, uint64_t size)
{
	for (uint64_t at = 0; at < size; at++)
		if (got[at] != wanted[at])
			ck_abort_msg("byte %llu differs", (unsigned long long)at);
}

/* From start to commit, with writes at every step; the image as it was at the point in time, to be freed. */
static uint8_t *take(const struct disk_copy_config *config, const char *id)
{
	struct disk_copy *copy;
	uint8_t *image;

	start_copy(config, &copy);
	prepare_under_load(copy);
	image = read_file(disk_path, SIZE);
	ck_assert_msg(disk_copy_final(copy, &err) == 0, "%s", err.text);
	write_some();
	ck_assert_msg(disk_copy_finish(copy, &result, &err) == 0, "%s", err.text);
	write_some();
	disk_copy_commit(copy, id);
	disk_copy_destroy(copy);
	ck_assert_uint_eq(result.size, SIZE);
	return image;
}

static struct checksum sum_of(const char *path)
{
	struct checksum sum;
	int fd = open(path, O_RDONLY);

	ck_assert_int_eq(disk_file_checksum(fd, path, SIZE, NULL, &sum, &err), 0);
	close(fd);
	return sum;
}

/* As docs/snapshot-format.md has it. */
static struct checksum naive_sum(const uint8_t *image)
{
	static const uint8_t zeros[BLK_DIRTY_BLOCK];
	struct checksum sum = {0};

	for (uint64_t n = 0; n * BLK_DIRTY_BLOCK < SIZE; n++) {
		size_t size = min_u64(SIZE - n * BLK_DIRTY_BLOCK, BLK_DIRTY_BLOCK);
		const uint8_t *block = image + n * BLK_DIRTY_BLOCK;
		XXH128_hash_t hash = XXH3_128bits_withSeed(block, size, n + 1);

		if (memcmp(block, zeros, size) == 0)
			continue;
		sum.low ^= hash.low64;
		sum.high ^= hash.high64;
	}
	return sum;
}

/* ---- copies ---- */

/* All of it would take minutes. */
START_TEST(the_holes_of_a_large_disk_cost_nothing_in_its_checksum)
{
	const uint64_t size = GIB(1024), number = (GIB(700) >> BLK_DIRTY_SHIFT) + 7;
	uint8_t block[BLK_DIRTY_BLOCK] = {[99] = 1};
	XXH128_hash_t hash = XXH3_128bits_withSeed(block, sizeof(block), number + 1);
	int fd = memfd_create(
		"large", MFD_CLOEXEC); /* not each file system has files of this size */
	struct checksum sum;

	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	ck_assert_int_eq(disk_file_checksum(fd, "large", size, NULL, &sum, &err), 0);
	ck_assert(checksum_equal(sum, (struct checksum){0}));
	ck_assert_int_eq(
		file_write(fd, block, sizeof(block), number << BLK_DIRTY_SHIFT, "large", &err), 0);
	ck_assert_int_eq(disk_file_checksum(fd, "large", size, NULL, &sum, &err), 0);
	ck_assert(checksum_equal(sum, (struct checksum){hash.low64, hash.high64}));
	close(fd);
}
END_TEST

START_TEST(a_copy_taken_under_load_is_the_image_at_the_pause)
{
	start_disk(_i ? BLK_CACHE_WRITEBACK : BLK_CACHE_NONE);
	for (unsigned round = 0; round < 3; round++) {
		struct disk_copy_config config = copy_config(DISK_COPY_FULL, "full");
		_cleanup_free_ uint8_t *image = take(&config, "one"), *copy = NULL;
		struct checksum sum = sum_of(config.file);

		copy = read_file(config.file, SIZE);
		expect_same(copy, image, SIZE);
		ck_assert(!result.has_map);
		ck_assert(checksum_equal(sum, result.sum));
		ck_assert(checksum_equal(sum, naive_sum(image)));
		unlink(config.file);
	}
	disk_end();
}
END_TEST

/* The naive way: each block that the map has, over what was there before. */
static void lay_over(uint8_t *image, const char *name)
{
	_cleanup_free_ uint8_t *blocks = read_file(in_folder(name), SIZE);
	struct page_set set;
	char map[96];
	uint64_t size;

	snprintf(map, sizeof(map), "%s.map", in_folder(name));
	ck_assert_msg(disk_map_read(folder, map, &set, &size, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(size, SIZE);
	for (uint64_t i = 0; i < set.count; i++)
		if (page_set_has(&set, i))
			memcpy(image + (i << BLK_DIRTY_SHIFT), blocks + (i << BLK_DIRTY_SHIFT),
				min_u64(BLK_DIRTY_BLOCK, SIZE - (i << BLK_DIRTY_SHIFT)));
	page_set_destroy(&set);
}

START_TEST(incremental_copies_laid_over_each_other_are_the_image)
{
	struct disk_copy_config config;
	_cleanup_free_ uint8_t *chain = NULL;
	char ids[6][8];

	start_disk(_i ? BLK_CACHE_WRITEBACK : BLK_CACHE_NONE);
	config = copy_config(DISK_COPY_FULL, "0");
	snprintf(ids[0], sizeof(ids[0]), "id-0");
	chain = take(&config, ids[0]);
	for (unsigned i = 1; i < 6; i++) {
		char name[8];
		_cleanup_free_ uint8_t *image = NULL;

		snprintf(name, sizeof(name), "%u", i);
		snprintf(ids[i], sizeof(ids[i]), "id-%u", i);
		config = copy_config(DISK_COPY_INCREMENTAL, name);
		config.parent = ids[i - 1];
		image = take(&config, ids[i]);
		ck_assert(result.has_map);
		lay_over(chain, name);
		expect_same(chain, image, SIZE);
	}
	ck_assert(disk_copy_has_changes_since(guest.device, ids[5]));
	ck_assert(!disk_copy_has_changes_since(guest.device, ids[4]));
	disk_end();
}
END_TEST

START_TEST(a_copy_that_fails_loses_no_change)
{
	struct disk_copy_config config;
	struct disk_copy *copy;
	_cleanup_free_ uint8_t *chain = NULL, *image = NULL;

	start_disk(BLK_CACHE_AUTO);
	config = copy_config(DISK_COPY_FULL, "base");
	chain = take(&config, "base");
	/* Given up at each step; the full one takes marks too. */
	for (unsigned step = 0; step < 4; step++)
		for (unsigned mode = DISK_COPY_FULL; mode <= DISK_COPY_INCREMENTAL; mode++) {
			config = copy_config(mode, "lost");
			config.parent = "base";
			write_some();
			start_copy(&config, &copy);
			if (step >= 1)
				prepare_under_load(copy);
			if (step >= 2)
				ck_assert_int_eq(disk_copy_final(copy, &err), 0);
			if (step >= 3)
				ck_assert_int_eq(disk_copy_finish(copy, &result, &err), 0);
			write_some();
			disk_copy_destroy(copy);
			ck_assert_int_ne(access(in_folder("lost"), F_OK), 0);
			ck_assert_int_ne(access(in_folder("lost.map"), F_OK), 0);
		}
	config = copy_config(DISK_COPY_INCREMENTAL, "next");
	config.parent = "base";
	image = take(&config, "next");
	lay_over(chain, "next");
	expect_same(chain, image, SIZE);
	disk_end();
}
END_TEST

START_TEST(holes_stay_holes)
{
	struct disk_copy_config config;
	struct disk_copy *copy;
	struct stat before, after;

	start_disk(BLK_CACHE_AUTO);
	config = copy_config(DISK_COPY_FULL, "sparse");
	start_copy(&config, &copy);
	ck_assert_int_eq(disk_copy_prepare(copy, &err), 0);
	ck_assert_int_eq(disk_copy_final(copy, &err), 0);
	ck_assert_int_eq(disk_copy_finish(copy, &result, &err), 0);
	disk_copy_commit(copy, "one");
	disk_copy_destroy(copy);
	ck_assert_int_eq(stat(disk_path, &before), 0);
	ck_assert_int_eq(stat(config.file, &after), 0);
	ck_assert_int_lt(before.st_blocks, SIZE / 512);
	ck_assert_int_le(after.st_blocks, before.st_blocks + 64);
	disk_end();
}
END_TEST

START_TEST(a_disk_that_grows_meanwhile_is_copied_whole)
{
	struct disk_copy_config config;
	struct disk_copy *copy;
	uint64_t size = SIZE + MIB(9);
	uint8_t *image, *got;

	start_disk(BLK_CACHE_AUTO);
	config = copy_config(DISK_COPY_FULL, "grown");
	start_copy(&config, &copy);
	prepare_under_load(copy);
	ck_assert_int_eq(blk_resize(guest.device, &size, &err), 0);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, size / 512 - 16, 8192), VIRTIO_BLK_S_OK);
	ck_assert_int_eq(disk_copy_final(copy, &err), 0);
	image = read_file(disk_path, size);
	ck_assert_int_eq(disk_copy_finish(copy, &result, &err), 0);
	disk_copy_commit(copy, "grown");
	disk_copy_destroy(copy);
	got = read_file(config.file, size);
	expect_same(got, image, size);
	/* Tracked as a whole from then on: only what is written counts. */
	ck_assert_uint_eq(blk_dirty_pending(blk_dirty(guest.device), size), 0);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, size / 512 - 16, 8192), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(blk_dirty_pending(blk_dirty(guest.device), size), 1);
	free(image);
	free(got);
	disk_end();
}
END_TEST

START_TEST(a_volume_is_copied_like_a_file)
{
	struct disk_copy_config config;
	struct blk_config disk = disk_defaults();
	char loop[32];
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), file, dev, n;
	_cleanup_free_ uint8_t *image = NULL, *copy = NULL;
	struct disk_copy *dc;

	make_image(SIZE);
	n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	snprintf(loop, sizeof(loop), "/dev/loop%d", n);
	file = open(disk_path, O_RDWR | O_CLOEXEC);
	dev = n < 0 ? -1 : open(loop, O_RDWR | O_CLOEXEC);
	if (dev < 0 || ioctl(dev, LOOP_SET_FD, file) < 0) {
		fprintf(stderr, "skip: no loop device to be had\n");
		return;
	}
	disk.path = loop;
	disk_start(&disk, DRIVER_ALL_FEATURES);
	config = copy_config(DISK_COPY_REFLINK, "volume");
	ck_assert_int_lt(disk_copy_start(&config, &dc, &err), 0);
	ck_assert_msg(strstr(err.text, "block device") && strstr(err.hint, "copy"), "%s", err.text);
	config = copy_config(DISK_COPY_FULL, "volume");
	start_copy(&config, &dc);
	prepare_under_load(dc);
	ck_assert_int_eq(disk_copy_final(dc, &err), 0);
	image = read_file(loop, SIZE);
	ck_assert_int_eq(disk_copy_finish(dc, &result, &err), 0);
	copy = read_file(config.file, SIZE);
	expect_same(copy, image, SIZE);
	disk_copy_destroy(dc);
	disk_end();
	ioctl(dev, LOOP_CLR_FD, 0);
	close(dev);
	close(file);
	close(control);
}
END_TEST

/* ---- what is refused ---- */

START_TEST(a_reflink_that_cannot_be_is_refused_with_the_mend_or_is_the_image)
{
	struct disk_copy_config config;
	struct disk_copy *copy;
	_cleanup_free_ uint8_t *image = NULL, *got = NULL;

	start_disk(BLK_CACHE_AUTO);
	write_some();
	config = copy_config(DISK_COPY_REFLINK, "link");
	if (disk_copy_start(&config, &copy, &err) < 0) {
		ck_assert_int_eq(err.kind, ERROR_BAD_REQUEST);
		ck_assert_msg(strstr(err.text, "disk 'data'") && strstr(err.text, "file system"),
			"%s", err.text);
		ck_assert_msg(strstr(err.hint, "copy"), "%s", err.hint);
		ck_assert_int_ne(access(config.file, F_OK), 0);
		ck_assert(!blk_dirty_on(blk_dirty(guest.device)));
	} else {
		disk_copy_destroy(copy);
		image = take(&config, "link");
		got = read_file(config.file, SIZE);
		expect_same(got, image, SIZE);
	}
	disk_end();
}
END_TEST

START_TEST(an_incremental_copy_without_its_parent_is_refused)
{
	struct disk_copy_config config;
	struct disk_copy *copy;

	start_disk(BLK_CACHE_AUTO);
	config = copy_config(DISK_COPY_INCREMENTAL, "alone");
	config.parent = "never";
	ck_assert_int_lt(disk_copy_start(&config, &copy, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_WRONG_STATE);
	ck_assert_msg(strstr(err.text, "'never'"), "%s", err.text);
	config = copy_config(DISK_COPY_FULL, "first");
	free(take(&config, "first"));
	config = copy_config(DISK_COPY_INCREMENTAL, "alone");
	config.parent = "never";
	ck_assert_int_lt(disk_copy_start(&config, &copy, &err), 0);
	/* A name that is taken is nobody's to write over. */
	config = copy_config(DISK_COPY_FULL, "first");
	ck_assert_int_lt(disk_copy_start(&config, &copy, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_ALREADY_EXISTS);
	ck_assert_int_eq(access(config.file, F_OK), 0);
	disk_end();
}
END_TEST

START_TEST(a_copy_can_be_cancelled_and_one_with_too_much_left_is_refused)
{
	struct disk_copy_config config;
	struct disk_copy *copy;
	uint64_t done, total, size = SIZE + MIB(2);

	start_disk(BLK_CACHE_AUTO);
	config = copy_config(DISK_COPY_FULL, "x");
	start_copy(&config, &copy);
	disk_copy_cancel(copy);
	ck_assert_int_lt(disk_copy_prepare(copy, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_CANCELLED);
	disk_copy_destroy(copy);
	ck_assert(!blk_dirty_on(blk_dirty(guest.device)));
	config.pause_max = BLK_DIRTY_BLOCK;
	start_copy(&config, &copy);
	ck_assert_int_eq(disk_copy_prepare(copy, &err), 0);
	disk_copy_progress(copy, &done, &total);
	ck_assert_uint_eq(done, total);
	ck_assert_uint_ge(done, SIZE);
	disk_copy_destroy(copy);
	/* What grew counts as changed as long as the copy is made. */
	start_copy(&config, &copy);
	ck_assert_int_eq(blk_resize(guest.device, &size, &err), 0);
	ck_assert_int_lt(disk_copy_prepare(copy, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_NO_RESOURCE);
	ck_assert_msg(strstr(err.text, "disk 'data'") && strstr(err.text, "at most 65536"), "%s",
		err.text);
	disk_copy_destroy(copy);
	ck_assert_int_ne(access(config.file, F_OK), 0);
	disk_end();
}
END_TEST

/* ---- block maps ---- */

START_TEST(a_block_map_is_read_as_it_was_written_and_each_changed_byte_is_noticed)
{
	const char *name = in_folder("map");
	struct page_set set = {0}, read = {0};
	uint64_t size;
	uint8_t byte;
	int fd;

	make_image(4096);
	ck_assert_int_eq(block_set_grow(&set, 130, &err), 0);
	page_set_add(&set, 3, 70);
	page_set_add(&set, 129, 1);
	ck_assert_int_eq(disk_map_write(folder, name, &set, 130 * BLK_DIRTY_BLOCK - 512, &err), 0);
	ck_assert_int_eq(disk_map_read(folder, name, &read, &size, &err), 0);
	ck_assert_uint_eq(size, 130 * BLK_DIRTY_BLOCK - 512);
	ck_assert(read.count == 130 && !memcmp(read.words, set.words, 24));
	page_set_destroy(&read);
	fd = open(name, O_RDWR);
	for (off_t at = 0; at < 24 + 24 + 16; at++) {
		ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
		ck_assert_int_lt(disk_map_read(folder, name, &read, &size, &err), 0);
		ck_assert(err.kind == ERROR_CORRUPT || err.kind == ERROR_INCOMPATIBLE);
		ck_assert_msg(strstr(err.text, name), "%s", err.text);
		byte ^= 0x10;
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	}
	ck_assert_int_eq(pread(fd, &byte, 1, 64), 0);
	for (off_t cut = 63; cut >= 0; cut -= 9) {
		ck_assert_int_eq(ftruncate(fd, cut), 0);
		ck_assert_int_lt(disk_map_read(folder, name, &read, &size, &err), 0);
	}
	close(fd);
	page_set_destroy(&set);
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, the_holes_of_a_large_disk_cost_nothing_in_its_checksum);
	tcase_add_loop_test(tc, a_copy_taken_under_load_is_the_image_at_the_pause, 0, 2);
	tcase_add_loop_test(tc, incremental_copies_laid_over_each_other_are_the_image, 0, 2);
	tcase_add_test(tc, a_copy_that_fails_loses_no_change);
	tcase_add_test(tc, holes_stay_holes);
	tcase_add_test(tc, a_disk_that_grows_meanwhile_is_copied_whole);
	tcase_add_test(tc, a_volume_is_copied_like_a_file);
	tcase_add_test(tc, a_reflink_that_cannot_be_is_refused_with_the_mend_or_is_the_image);
	tcase_add_test(tc, an_incremental_copy_without_its_parent_is_refused);
	tcase_add_test(tc, a_copy_can_be_cancelled_and_one_with_too_much_left_is_refused);
	tcase_add_test(tc, a_block_map_is_read_as_it_was_written_and_each_changed_byte_is_noticed);
}

int main(void)
{
	return disk_test_main("disk_copy", add_tests);
}
