/* SPDX-License-Identifier: Apache-2.0 */
/* What virtio-blk promises of stable storage: flush, cache modes, discard, write zeroes. */
#include "tests/unit/blk_disk.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define FEATURE(f) (1ull << VIRTIO_BLK_F_##f)

/* ---- flush and stable writes ---- */

#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif

/* Pages of the file that the host has not yet written out; -1 where the kernel cannot tell (before 6.5). */
static long dirty_pages(void)
{
	struct {
		uint64_t off, len;
	} range = {0, 0};
	struct {
		uint64_t cache, dirty, writeback, evicted, recently_evicted;
	} stat;
	int fd = open(disk_path, O_RDONLY);
	long ret = syscall(__NR_cachestat, fd, &range, &stat, 0);

	close(fd);
	return ret < 0 ? -1 : (long)(stat.dirty + stat.writeback);
}

static void start_clean(struct blk_config *config, uint64_t features)
{
	int fd;

	disk_make_file(DISK_SIZE);
	fd = open(disk_path, O_RDWR);
	fsync(fd);
	close(fd);
	disk_start(config, features);
}

START_TEST(a_flush_makes_completed_writes_stable)
{
	struct blk_config config = disk_defaults();

	config.cache = BLK_CACHE_WRITEBACK;
	start_clean(&config, DRIVER_ALL_FEATURES);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 0, 65536), VIRTIO_BLK_S_OK);
	if (dirty_pages() >= 0)
		ck_assert_int_gt(dirty_pages(), 0);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	ck_assert_int_le(dirty_pages(), 0);
	disk_end();
}
END_TEST

START_TEST(writethrough_completes_only_stable_writes)
{
	struct blk_config config = disk_defaults();
	uint8_t wce = 0xee;

	config.cache = BLK_CACHE_WRITETHROUGH;
	start_clean(&config, DRIVER_ALL_FEATURES);
	driver_config_read(&guest, offsetof(struct virtio_blk_config, wce), &wce, 1);
	ck_assert_uint_eq(wce, 0);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 0, 65536), VIRTIO_BLK_S_OK);
	ck_assert_int_le(dirty_pages(), 0);
	disk_end();
}
END_TEST

START_TEST(a_driver_that_cannot_flush_gets_stable_writes)
{
	struct blk_config config = disk_defaults();
	uint8_t one = 1;

	config.cache = BLK_CACHE_WRITEBACK;
	start_clean(&config, ~(FEATURE(FLUSH) | (_i ? FEATURE(CONFIG_WCE) : 0)));
	driver_config_write(&guest, offsetof(struct virtio_blk_config, wce), &one, 1);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 0, 65536), VIRTIO_BLK_S_OK);
	ck_assert_int_le(dirty_pages(), 0);
	disk_end();
}
END_TEST

START_TEST(the_driver_may_change_the_cache_mode)
{
	const uint32_t field = offsetof(struct virtio_blk_config, wce);
	struct blk_config config = disk_defaults();
	uint8_t wce;

	config.cache = BLK_CACHE_WRITEBACK;
	start_clean(&config, DRIVER_ALL_FEATURES);
	driver_config_read(&guest, field, &wce, 1);
	ck_assert_uint_eq(wce, 1);
	wce = 0;
	driver_config_write(&guest, field, &wce, 1);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 0, 65536), VIRTIO_BLK_S_OK);
	ck_assert_int_le(dirty_pages(), 0);
	driver_config_read(&guest, field, &wce, 1);
	ck_assert_uint_eq(wce, 0);
	wce = 1;
	driver_config_write(&guest, field, &wce, 1);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 0, 65536), VIRTIO_BLK_S_OK);
	if (dirty_pages() >= 0)
		ck_assert_int_gt(dirty_pages(), 0);
	/* other writes to the configuration space change nothing */
	driver_config_write(&guest, 0, &wce, 1);
	driver_config_write(&guest, field - 1, &(uint32_t){0}, 4);
	driver_config_read(&guest, field, &wce, 1);
	ck_assert_uint_eq(wce, 1);
	/* and a new driver starts from the configured mode */
	wce = 0;
	driver_config_write(&guest, field, &wce, 1);
	driver_reset(&guest);
	ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 256));
	driver_config_read(&guest, field, &wce, 1);
	ck_assert_uint_eq(wce, 1);
	disk_end();
}
END_TEST

/* A thin-provisioned volume that runs full: a loop device over a sparse file on a tmpfs that is too small. */
static bool make_thin_volume(uint64_t space, uint64_t size)
{
	struct loop_config config = {.info.lo_flags = LO_FLAGS_AUTOCLEAR};
	char options[32], file[96], mount_point[80];
	int control, fd, n;

	snprintf(options, sizeof(options), "size=%llu", (unsigned long long)space);
	snprintf(mount_point, sizeof(mount_point), "%s.d", disk_path);
	snprintf(file, sizeof(file), "%s/file", mount_point);
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		mkdir(mount_point, 0700) || mount("tmpfs", mount_point, "tmpfs", 0, options))
		return false;
	config.fd = (uint32_t)open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	n = control < 0 || ftruncate((int)config.fd, (off_t)size)
		    ? -1
		    : ioctl(control, LOOP_CTL_GET_FREE);
	if (n < 0)
		return false;
	snprintf(disk_path, sizeof(disk_path), "/dev/loop%d", n);
	fd = open(
		disk_path, O_RDWR | O_CLOEXEC); /* stays open: the device goes with its last user */
	n = fd < 0 ? -1 : ioctl(fd, LOOP_CONFIGURE, &config);
	close((int)config.fd);
	close(control);
	return n == 0;
}

/* The kernel reports a failed write-back once, and forgets the data; we may not forget. */
START_TEST(after_a_failed_flush_no_flush_is_ever_confirmed)
{
	struct blk_config config = disk_defaults();
	char mount_point[80];

	snprintf(mount_point, sizeof(mount_point), "%s.d", disk_path);
	if (!make_thin_volume(MIB(1), MIB(8))) {
		fprintf(stderr, "skipped: no loop device or mount is allowed here\n");
		return;
	}
	config.cache = BLK_CACHE_WRITEBACK;
	disk_start(&config, DRIVER_ALL_FEATURES);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 0, 4096), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_uint_eq(
			disk_request(VIRTIO_BLK_T_OUT, 2048 * i, MIB(1)), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_IOERR);
	/* the administrator makes room; what was lost stays lost */
	ck_assert_int_eq(mount("tmpfs", mount_point, "tmpfs", MS_REMOUNT, "size=64m"), 0);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 0, 4096), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_IOERR);
	/* nor does a reset help, but a fresh attachment does */
	driver_reset(&guest);
	ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 256));
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_IOERR);
	disk_end();
	disk_start(&config, DRIVER_ALL_FEATURES);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 0, MIB(1)), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	disk_end();
}
END_TEST

/* ---- discard and write zeroes ---- */

static uint8_t clear(
	uint32_t type, const struct virtio_blk_discard_write_zeroes *ranges, unsigned n)
{
	struct disk_io io = disk_make_io(type, 0, (uint32_t)sizeof(*ranges) * n, 1, 0);

	memcpy(disk_data(&io), ranges, io.len);
	return disk_run(&io, false);
}

static long blocks(void)
{
	struct stat st;
	int fd = open(disk_path, O_RDWR);

	fsync(fd);
	ck_assert_int_eq(fstat(fd, &st), 0);
	close(fd);
	return st.st_blocks;
}

static void expect_zero(uint64_t at, size_t len, bool zero)
{
	_cleanup_free_ uint8_t *data = malloc(len);

	disk_file_read(at, data, len);
	for (size_t i = 0; i < len; i++)
		if (zero ? data[i] != 0 : data[i] != disk_pattern(at + i))
			ck_abort_msg(
				"byte %llu of the file is wrong", (unsigned long long)(at + i));
}

START_TEST(a_discard_gives_space_back)
{
	static const struct virtio_blk_discard_write_zeroes ranges[] = {
		{.sector = 0, .num_sectors = 2048}, {.sector = 100},
		{.sector = 4096, .num_sectors = 1024}};
	long before;

	disk_start_default(disk_caches[_i]);
	before = blocks();
	ck_assert_uint_eq(clear(VIRTIO_BLK_T_DISCARD, ranges, 3), VIRTIO_BLK_S_OK);
	expect_zero(0, MIB(1), true);
	expect_zero(MIB(1), MIB(1), false);
	expect_zero(MIB(2), KIB(512), true);
	expect_zero(MIB(2) + KIB(512), MIB(1), false);
	ck_assert_int_le(blocks(), before - 3000);
	disk_end();
}
END_TEST

START_TEST(write_zeroes_leaves_zeros_and_deallocates_only_when_told)
{
	const bool unmap = _i & 1;
	const struct virtio_blk_discard_write_zeroes ranges[] = {
		{.sector = 1, .num_sectors = 2047, .flags = unmap},
		{.sector = 4096, .num_sectors = 1024, .flags = unmap}};
	long before;

	disk_start_default(_i & 2 ? BLK_CACHE_WRITETHROUGH : BLK_CACHE_AUTO);
	before = blocks();
	ck_assert_uint_eq(clear(VIRTIO_BLK_T_WRITE_ZEROES, ranges, 2), VIRTIO_BLK_S_OK);
	expect_zero(0, 512, false);
	expect_zero(512, MIB(1) - 512, true);
	expect_zero(MIB(1), MIB(1), false);
	expect_zero(MIB(2), KIB(512), true);
	expect_zero(MIB(2) + KIB(512), MIB(1), false);
	if (unmap)
		ck_assert_int_lt(blocks(), before);
	else
		ck_assert_int_ge(blocks(), before);
	disk_end();
}
END_TEST

START_TEST(ranges_are_judged_before_any_is_touched)
{
	static const struct {
		uint32_t type;
		struct virtio_blk_discard_write_zeroes bad;
		uint8_t status;
	} cases[] = {
		{VIRTIO_BLK_T_DISCARD, {.num_sectors = 8, .flags = 1}, VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_DISCARD, {.num_sectors = 8, .flags = 2}, VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_WRITE_ZEROES, {.num_sectors = 8, .flags = 2}, VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_WRITE_ZEROES, {.num_sectors = 8, .flags = 0x80000001},
			VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_DISCARD, {.sector = DISK_SECTORS - 1, .num_sectors = 2},
			VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {.sector = UINT64_MAX, .num_sectors = 1},
			VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {.sector = 1ull << 55, .num_sectors = 8},
			VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {.num_sectors = UINT32_MAX}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_WRITE_ZEROES, {.sector = DISK_SECTORS, .num_sectors = 1},
			VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_WRITE_ZEROES, {.num_sectors = UINT32_MAX}, VIRTIO_BLK_S_IOERR},
	};

	disk_start_default(BLK_CACHE_AUTO);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct virtio_blk_discard_write_zeroes ranges[] = {
			{.sector = 0, .num_sectors = 8}, cases[i].bad};

		ck_assert_uint_eq(clear(cases[i].type, ranges, 2), cases[i].status);
	}
	/* none, too many, or a part of one */
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_DISCARD, 0, 0), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_DISCARD, 0, 9 * 16), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 24), VIRTIO_BLK_S_IOERR);
	expect_zero(0, DISK_SIZE, false);
	disk_end();
}
END_TEST

START_TEST(without_the_feature_there_is_no_discard)
{
	struct virtio_blk_discard_write_zeroes range = {.num_sectors = 2048};
	struct blk_config config = disk_defaults();
	long before;

	config.discard = false;
	disk_make_file(DISK_SIZE);
	disk_start(&config, DRIVER_ALL_FEATURES);
	ck_assert(!(guest.device->features & FEATURE(DISCARD)));
	ck_assert_uint_eq(clear(VIRTIO_BLK_T_DISCARD, &range, 1), VIRTIO_BLK_S_UNSUPP);
	expect_zero(0, DISK_SIZE, false);
	/* zeros are still to be had, but the space stays allocated even if the guest would give it back */
	before = blocks();
	range.flags = 1;
	ck_assert_uint_eq(clear(VIRTIO_BLK_T_WRITE_ZEROES, &range, 1), VIRTIO_BLK_S_OK);
	expect_zero(0, MIB(1), true);
	ck_assert_int_ge(blocks(), before);
	disk_end();
}
END_TEST

/* tmpfs cannot FALLOC_FL_ZERO_RANGE, so there zeros are written. */
START_TEST(write_zeroes_works_where_the_file_system_cannot)
{
	struct virtio_blk_discard_write_zeroes range = {.sector = 8, .num_sectors = 6000};

	snprintf(disk_path, sizeof(disk_path), "/dev/shm/bulkhead-test-blk-%d", getpid());
	if (access("/dev/shm", W_OK))
		return;
	disk_start_default(BLK_CACHE_WRITEBACK);
	if (_i)
		blk_set_limits(guest.device, 0, MIB(10)); /* the written zeros count */
	ck_assert_uint_eq(clear(VIRTIO_BLK_T_WRITE_ZEROES, &range, 1), VIRTIO_BLK_S_OK);
	range.sector = 7000;
	range.num_sectors = 1;
	ck_assert_uint_eq(clear(VIRTIO_BLK_T_WRITE_ZEROES, &range, 1), VIRTIO_BLK_S_OK);
	expect_zero(0, 4096, false);
	expect_zero(4096, 6000 * 512, true);
	expect_zero(4096 + 6000 * 512, 4096, false);
	expect_zero(7000 * 512, 512, true);
	disk_end();
	unlink(disk_path);
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, a_flush_makes_completed_writes_stable);
	tcase_add_test(tc, writethrough_completes_only_stable_writes);
	tcase_add_loop_test(tc, a_driver_that_cannot_flush_gets_stable_writes, 0, 2);
	tcase_add_test(tc, the_driver_may_change_the_cache_mode);
	tcase_add_test(tc, after_a_failed_flush_no_flush_is_ever_confirmed);
	tcase_add_loop_test(tc, a_discard_gives_space_back, 0, 3);
	tcase_add_loop_test(tc, write_zeroes_leaves_zeros_and_deallocates_only_when_told, 0, 4);
	tcase_add_test(tc, ranges_are_judged_before_any_is_touched);
	tcase_add_test(tc, without_the_feature_there_is_no_discard);
	tcase_add_loop_test(tc, write_zeroes_works_where_the_file_system_cannot, 0, 2);
}

int main(void)
{
	return disk_test_main("blk_stable", add_tests);
}
