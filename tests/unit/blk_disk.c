/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-blk disk under test. See blk_disk.h. */
#include "tests/unit/blk_disk.h"
#include "tests/unit/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <string.h>

struct driver guest;
char disk_path[64];
static char directory[] = "blk-test-XXXXXX";

uint8_t disk_pattern(uint64_t at)
{
	return (uint8_t)(at * 31 + at / 512 * 7 + 1);
}

void disk_make_file(uint64_t size)
{
	uint8_t block[4096];
	int fd = open(disk_path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	for (uint64_t at = 0; at < size; at += sizeof(block)) {
		for (unsigned i = 0; i < sizeof(block); i++)
			block[i] = disk_pattern(at + i);
		ck_assert_int_eq(write(fd, block, min_u64(sizeof(block), size - at)),
			(ssize_t)min_u64(sizeof(block), size - at));
	}
	close(fd);
}

struct blk_config disk_defaults(void)
{
	return (struct blk_config){.id = "data", .path = disk_path, .queues = 1, .discard = true};
}

void disk_start(const struct blk_config *config, uint64_t features)
{
	struct error err;

	driver_create(&guest, DISK_RAM);
	ck_assert_msg(blk_create(config, &guest.memory, guest.main_loop, &guest.device, &err) == 0,
		"%s", err.text);
	ck_assert(driver_start(&guest, features, 256));
}

/* The usual: a 4 MiB file full of the pattern. */
void disk_start_default(enum blk_cache cache)
{
	struct blk_config config = disk_defaults();

	config.cache = cache;
	disk_make_file(DISK_SIZE);
	disk_start(&config, DRIVER_ALL_FEATURES);
}

void disk_file_read(uint64_t at, void *data, size_t len)
{
	int fd = open(disk_path, O_RDONLY);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, data, len, (off_t)at), (ssize_t)len);
	close(fd);
}

void disk_set_header(uint64_t gpa, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = {.type = type, .sector = sector};

	memcpy(driver_host(&guest, gpa, sizeof(header)), &header, sizeof(header));
}

struct disk_io disk_make_io(
	uint32_t type, uint64_t sector, uint32_t len, uint32_t align, uint32_t misalign)
{
	struct disk_io io = {.header = driver_alloc(&guest, 16, 8),
		.status = driver_alloc(&guest, 1, 1),
		.len = len};

	if (len)
		io.data = driver_alloc(&guest, len + misalign, align) + misalign;
	disk_set_header(io.header, type, sector);
	*(uint8_t *)driver_host(&guest, io.status, 1) = 0xee;
	return io;
}

uint8_t *disk_data(const struct disk_io *io)
{
	return driver_host(&guest, io->data, io->len);
}

uint8_t disk_status(const struct disk_io *io)
{
	return __atomic_load_n((uint8_t *)driver_host(&guest, io->status, 1), __ATOMIC_ACQUIRE);
}

uint16_t disk_add(struct driver_queue *q, const struct disk_io *io, bool writable)
{
	struct driver_segment segments[3] = {{io->header, 16, false}};
	unsigned n = 1;

	if (io->len)
		segments[n++] = (struct driver_segment){io->data, io->len, writable};
	segments[n++] = (struct driver_segment){io->status, 1, true};
	return driver_add(q, segments, n);
}

uint8_t disk_run(const struct disk_io *io, bool writable)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	uint16_t head = disk_add(q, io, writable), done;
	uint32_t len;

	driver_kick(q);
	ck_assert_msg(
		driver_wait_used(q, &done, &len, DRIVER_WAIT_MS), "the request does not complete");
	ck_assert_uint_eq(done, head);
	ck_assert_uint_eq(len, writable ? io->len + 1 : 1);
	return disk_status(io);
}

uint8_t disk_request(uint32_t type, uint64_t sector, uint32_t len)
{
	struct disk_io io = disk_make_io(type, sector, len, 4096, 0);

	return disk_run(&io, type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID);
}

void disk_fill(uint8_t *data, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(seed * 13 + i * 5 + i / 512);
}

void disk_expect_pattern(const uint8_t *data, uint64_t at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] != disk_pattern(at + i))
			ck_abort_msg(
				"byte %zu of the read at %llu is wrong", i, (unsigned long long)at);
}

/* Write, look at the file, read back. */
void disk_round_trip(uint64_t sector, uint32_t len, uint32_t misalign)
{
	struct disk_io out = disk_make_io(VIRTIO_BLK_T_OUT, sector, len, 4096, misalign);
	struct disk_io in = disk_make_io(VIRTIO_BLK_T_IN, sector, len, 4096, misalign);
	_cleanup_free_ uint8_t *file = malloc(len);

	disk_fill(disk_data(&out), len, sector);
	ck_assert_uint_eq(disk_run(&out, false), VIRTIO_BLK_S_OK);
	disk_file_read(sector * 512, file, len);
	ck_assert_mem_eq(file, disk_data(&out), len);
	ck_assert_uint_eq(disk_run(&in, true), VIRTIO_BLK_S_OK);
	ck_assert_mem_eq(disk_data(&in), disk_data(&out), len);
}

void disk_end(void)
{
	ck_assert(!(atomic_load(&guest.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET));
	driver_destroy(&guest);
}

const enum blk_cache disk_caches[DISK_CACHES] = {
	BLK_CACHE_AUTO, BLK_CACHE_WRITEBACK, BLK_CACHE_WRITETHROUGH, BLK_CACHE_NONE};

/* cache=none only where the scratch directory allows it. */
bool disk_direct_works(void)
{
	int fd;

	disk_make_file(4096);
	fd = open(disk_path, O_RDONLY | O_DIRECT);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void use_directory(void)
{
	snprintf(disk_path, sizeof(disk_path), "%s/disk-%d", directory, getpid());
}

static void remove_directory(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	if (system(command))
		fprintf(stderr, "cannot remove %s\n", directory);
}

int disk_test_main(const char *name, void (*add)(TCase *tc))
{
	TCase *tc = tcase_create(name);
	int failed;

	if (!mkdtemp(directory)) {
		perror("cannot make a scratch directory");
		return 1;
	}
	tcase_add_checked_fixture(tc, use_directory, NULL);
	tcase_set_timeout(tc, 60);
	add(tc);
	failed = run_tests(name, tc, NULL);
	remove_directory();
	return failed;
}
