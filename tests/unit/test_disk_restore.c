/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks out of layers: random chains, of disks that grow meanwhile, against an image that was kept in memory all along; whole chains
 * restored, parts of them merged; what does not fit together. Runs in a scratch directory below the current one.
 */
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/transfer/disk_copy.h"
#include "vmm/transfer/disk_restore.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define BLOCK	   BLK_DIRTY_BLOCK
#define LAYERS_MAX 8
#define SIZE_MAX_  (40 * BLOCK)

static char directory[] = "disk-restore-test-XXXXXX";
static int folder = -1;
static uint64_t seed = 3;
static struct error err;
static struct disk_restored restored;

static uint8_t image[SIZE_MAX_];
static uint64_t image_size;
static char names[LAYERS_MAX][32];
static struct disk_layer layers[LAYERS_MAX]; /* newest first */
static unsigned layer_count;
static unsigned files;

static uint64_t draw(uint64_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % below;
}

static void start(void)
{
	folder = open(directory, O_RDONLY | O_DIRECTORY);
	ck_assert_int_ge(folder, 0);
}

static const char *path_of(const char *name)
{
	static char paths[4][96];
	static unsigned next;

	snprintf(paths[++next % 4], sizeof(paths[0]), "%s/%s", directory, name);
	return paths[next % 4];
}

static const char *new_name(char name[32])
{
	snprintf(name, 32, "%d-%u", getpid(), files++);
	return name;
}

/* ---- chains ---- */

static void change(uint64_t at, uint64_t len)
{
	uint8_t value = (uint8_t)draw(4) * 77; /* zero now and then */

	memset(image + at, value, len);
}

static void push_layer(bool has_map)
{
	ck_assert_uint_lt(layer_count, LAYERS_MAX);
	memmove(&layers[1], &layers[0], sizeof(layers[0]) * layer_count);
	layers[0] = (struct disk_layer){
		.dirfd = folder, .file = new_name(names[layer_count]), .has_map = has_map};
	layer_count++;
}

static int make_file(const char *name)
{
	int fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)image_size), 0);
	return fd;
}

static void write_block(int fd, uint64_t block)
{
	uint64_t at = block * BLOCK, len = min_u64(BLOCK, image_size - at);
	bool zero = !image[at] && !memcmp(image + at, image + at + 1, len - 1);

	/* What is zero may be a hole, or zeros. */
	if (!zero || draw(2))
		ck_assert_int_eq(pwrite(fd, image + at, len, (off_t)at), (ssize_t)len);
}

static void add_full(void)
{
	int fd;

	layer_count = 0;
	memset(image, 0, sizeof(image));
	image_size = (1 + draw(12)) * BLOCK - draw(2) * 512 * (1 + draw(127));
	for (unsigned i = 0; i < 6; i++)
		change(draw(image_size - 512), 512);
	push_layer(false);
	fd = make_file(layers[0].file);
	for (uint64_t i = 0; i < block_count(image_size); i++)
		write_block(fd, i);
	close(fd);
}

static void add_incremental(void)
{
	struct page_set set = {0};
	uint64_t grown = draw(3) ? image_size : image_size + 512 * draw(500);
	char map[40];
	int fd;

	ck_assert_int_eq(block_set_grow(&set, block_count(grown), &err), 0);
	if (block_count(grown) > block_count(image_size))
		page_set_add(&set, block_count(image_size),
			block_count(grown) - block_count(image_size));
	image_size = grown;
	for (uint64_t i = draw(6); i > 0; i--) {
		uint64_t at = draw(image_size / 512) * 512;
		uint64_t len = min_u64(512 * (1 + draw(300)), image_size - at);

		change(at, len);
		page_set_add(&set, at / BLOCK, (at + len - 1) / BLOCK - at / BLOCK + 1);
	}
	push_layer(true);
	fd = make_file(layers[0].file);
	for (uint64_t i = 0; i < set.count; i++)
		if (page_set_has(&set, i))
			write_block(fd, i);
	close(fd);
	snprintf(map, sizeof(map), "%s.map", layers[0].file);
	ck_assert_int_eq(disk_map_write(folder, map, &set, image_size, &err), 0);
	page_set_destroy(&set);
}

static void make_chain(unsigned incrementals)
{
	add_full();
	for (unsigned i = 0; i < incrementals; i++)
		add_incremental();
}

static void expect_image(const char *path, uint64_t size)
{
	_cleanup_free_ uint8_t *got = malloc(SIZE_MAX_);
	int fd = open(path, O_RDONLY);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_ge(pread(fd, got, SIZE_MAX_, 0), (ssize_t)size);
	close(fd);
	for (uint64_t at = 0; at < size; at++)
		if (got[at] != image[at])
			ck_abort_msg("byte %llu differs", (unsigned long long)at);
}

static void expect_restores(void)
{
	char name[32];
	const char *path = path_of(new_name(name));
	struct stat st;

	ck_assert_msg(disk_restore(layers, layer_count, path, false, NULL, &restored, &err) == 0,
		"%s", err.text);
	ck_assert_uint_eq(restored.size, image_size);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, image_size);
	expect_image(path, image_size);
	unlink(path);
}

START_TEST(a_chain_restores_to_the_image)
{
	start();
	for (unsigned round = 0; round < 60; round++) {
		make_chain(round % (LAYERS_MAX - 1));
		expect_restores();
	}
}
END_TEST

START_TEST(a_merged_part_of_a_chain_stands_for_what_was_merged)
{
	start();
	for (unsigned round = 0; round < 60; round++) {
		char merged[32];
		unsigned first, count;

		make_chain(1 + (unsigned)draw(LAYERS_MAX - 2));
		first = (unsigned)draw(layer_count);
		count = 1 + (unsigned)draw(layer_count - first);
		new_name(merged);
		ck_assert_msg(disk_merge(&layers[first], count, folder, merged, NULL, &restored,
				      &err) == 0,
			"%s", err.text);
		ck_assert_int_eq(restored.has_map, first + count < layer_count);
		layers[first].file = merged;
		layers[first].has_map = restored.has_map;
		memmove(&layers[first + 1], &layers[first + count],
			sizeof(layers[0]) * (layer_count - first - count));
		layer_count -= count - 1;
		expect_restores();
	}
}
END_TEST

START_TEST(a_volume_is_filled_and_keeps_what_it_has_beyond)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), file, dev, n;
	char name[32], loop[32];
	uint8_t byte;

	start();
	n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	snprintf(loop, sizeof(loop), "/dev/loop%d", n);
	file = openat(folder, new_name(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(ftruncate(file, 6 * BLOCK), 0);
	dev = n < 0 ? -1 : open(loop, O_RDWR | O_CLOEXEC);
	if (dev < 0 || ioctl(dev, LOOP_SET_FD, file) < 0) {
		fprintf(stderr, "skip: no loop device to be had\n");
		return;
	}
	for (unsigned round = 0; round < 30; round++) {
		int ret;

		make_chain(round % 5);
		for (uint64_t at = 0; at < 6 * BLOCK; at += sizeof(name))
			ck_assert_int_eq(pwrite(dev, directory, sizeof(name) / 2, (off_t)at), 16);
		fsync(dev);
		ret = disk_restore(layers, layer_count, loop, false, NULL, &restored, &err);
		if (image_size > 6 * BLOCK) {
			ck_assert_int_lt(ret, 0);
			ck_assert_msg(strstr(err.text, loop), "%s", err.text);
			continue;
		}
		ck_assert_msg(ret == 0, "%s", err.text);
		expect_image(loop, image_size);
		if (image_size < 6 * BLOCK) {
			ck_assert_int_eq(pread(dev, &byte, 1, 6 * BLOCK - sizeof(name)), 1);
			ck_assert_uint_eq(byte, (uint8_t)directory[0]);
		}
	}
	ioctl(dev, LOOP_CLR_FD, 0);
	close(dev);
	close(file);
	close(control);
}
END_TEST

/* ---- what is refused ---- */

static void expect_refused(enum error_kind kind, const char *words)
{
	char name[32];
	const char *path = path_of(new_name(name));

	ck_assert_int_lt(disk_restore(layers, layer_count, path, false, NULL, &restored, &err), 0);
	ck_assert_int_eq(err.kind, kind);
	ck_assert_msg(strstr(err.text, words), "'%s' does not say '%s'", err.text, words);
	ck_assert_int_ne(access(path, F_OK), 0);
}

START_TEST(layers_that_do_not_fit_are_refused_and_nothing_is_made)
{
	struct page_set set = {0};
	char map[40];

	start();
	make_chain(3);
	layer_count = 3;
	expect_refused(ERROR_CORRUPT, "not there");
	make_chain(3);
	layers[1].has_map = false;
	expect_refused(ERROR_CORRUPT, "full copy");
	make_chain(2);
	ck_assert_int_eq(truncate(path_of(layers[2].file), (off_t)image_size + 512), 0);
	expect_refused(ERROR_CORRUPT, "smaller");
	make_chain(2);
	ck_assert_int_eq(truncate(path_of(layers[0].file), 512 * (off_t)image_size), 0);
	expect_refused(ERROR_CORRUPT, "its map is of");
	make_chain(1);
	unlink(path_of(layers[1].file));
	expect_refused(ERROR_NOT_FOUND, layers[1].file);
	make_chain(1);
	snprintf(map, sizeof(map), "%s.map", layers[0].file);
	unlink(path_of(map));
	expect_refused(ERROR_NOT_FOUND, map);
	ck_assert_int_eq(mkdirat(folder, map, 0700), 0);
	expect_refused(ERROR_CORRUPT, map);
	page_set_destroy(&set);
}
END_TEST

START_TEST(a_file_that_is_there_is_kept_until_the_new_one_is_complete)
{
	char name[32];
	const char *path = path_of(new_name(name));
	struct disk_work work = {0};
	int fd;

	start();
	make_chain(2);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	ck_assert_int_eq(write(fd, "kept", 4), 4);
	ck_assert_int_lt(disk_restore(layers, layer_count, path, false, NULL, &restored, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_ALREADY_EXISTS);
	atomic_store(&work.cancelled, true);
	ck_assert_int_eq(unlinkat(folder, layers[1].file, 0), 0);
	ck_assert_int_lt(disk_restore(layers, layer_count, path, true, &work, &restored, &err), 0);
	ck_assert_int_eq(lseek(fd, 0, SEEK_END), 4);
	close(fd);
	make_chain(2);
	ck_assert_int_eq(disk_restore(layers, layer_count, path, true, NULL, &restored, &err), 0);
	expect_image(path, image_size);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("disk_restore");
	char command[64];
	int failed;

	if (!mkdtemp(directory)) {
		perror("cannot make a scratch directory");
		return 1;
	}
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_chain_restores_to_the_image);
	tcase_add_test(tc, a_merged_part_of_a_chain_stands_for_what_was_merged);
	tcase_add_test(tc, a_volume_is_filled_and_keeps_what_it_has_beyond);
	tcase_add_test(tc, layers_that_do_not_fit_are_refused_and_nothing_is_made);
	tcase_add_test(tc, a_file_that_is_there_is_kept_until_the_new_one_is_complete);
	failed = run_tests("disk_restore", tc, NULL);
	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	return system(command) ? 1 : failed;
}
