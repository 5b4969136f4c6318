/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file behind a disk: what is refused and in which words, who locks out whom, and which cache mode
 * and sector size come of which file. Runs in a scratch directory below the current one.
 */
#include "tests/unit/runner.h"
#include "virtio/blk_image.h"

#include "vmm/base/util.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static char directory[] = "blk-image-test-XXXXXX";
static char path[64];
static struct error err;
static struct blk_image image;

static void make_file(off_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	close(fd);
}

static int open_image(struct blk_image *to, bool readonly, enum blk_cache cache)
{
	struct blk_config config = {.id = "data",
		.path = path,
		.queues = 1,
		.readonly = readonly,
		.discard = true,
		.cache = cache};

	memset(&err, 0, sizeof(err));
	return blk_image_open(to, &config, &err);
}

static void expect_refused(
	bool readonly, enum blk_cache cache, enum error_kind kind, const char *words)
{
	ck_assert_int_lt(open_image(&image, readonly, cache), 0);
	ck_assert_int_eq(image.fd, -1);
	ck_assert_msg(!strncmp(err.text, "disk 'data': ", 13), "%s", err.text);
	ck_assert_msg(strstr(err.text, path) && strstr(err.text, words), "'%s' does not say '%s'",
		err.text, words);
	ck_assert_msg(!strchr(err.text, '\n'), "more than one line");
	ck_assert_int_eq(err.kind, kind);
}

/* ---- what is refused ---- */

START_TEST(a_missing_file_is_refused)
{
	expect_refused(false, BLK_CACHE_AUTO, ERROR_NOT_FOUND, "No such file");
	expect_refused(true, BLK_CACHE_AUTO, ERROR_NOT_FOUND, "No such file");
}
END_TEST

START_TEST(a_directory_is_refused)
{
	ck_assert_int_eq(mkdir(path, 0700), 0);
	expect_refused(false, BLK_CACHE_AUTO, ERROR_BAD_REQUEST, "a directory");
	expect_refused(true, BLK_CACHE_AUTO, ERROR_BAD_REQUEST, "a directory");
}
END_TEST

START_TEST(a_character_device_is_refused)
{
	snprintf(path, sizeof(path), "/dev/null");
	expect_refused(false, BLK_CACHE_AUTO, ERROR_BAD_REQUEST, "a character device");
}
END_TEST

START_TEST(a_pipe_is_refused_without_waiting_for_its_other_end)
{
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	expect_refused(false, BLK_CACHE_AUTO, ERROR_BAD_REQUEST, "a pipe");
	expect_refused(true, BLK_CACHE_AUTO, ERROR_BAD_REQUEST, "a pipe");
}
END_TEST

START_TEST(a_socket_is_refused)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	expect_refused(false, BLK_CACHE_AUTO, ERROR_BAD_REQUEST, "a socket");
	close(fd);
}
END_TEST

START_TEST(odd_sizes_are_refused)
{
	static const off_t odd[] = {1, 511, 513, 4095, 1000000};

	make_file(0);
	expect_refused(false, BLK_CACHE_AUTO, ERROR_BAD_REQUEST, "empty");
	for (unsigned i = 0; i < ARRAY_SIZE(odd); i++) {
		make_file(odd[i]);
		for (enum blk_cache cache = BLK_CACHE_AUTO; cache <= BLK_CACHE_WRITETHROUGH;
			cache++)
			expect_refused(false, cache, ERROR_BAD_REQUEST, "not a multiple of 512");
	}
}
END_TEST

START_TEST(a_file_without_permission_is_refused_with_the_mend)
{
	uid_t me = geteuid();

	make_file(4096);
	ck_assert_int_eq(chmod(path, 0400), 0);
	if (me == 0) /* may do anything */
		ck_assert_int_eq(seteuid(65534), 0);
	ck_assert_int_lt(open_image(&image, false, BLK_CACHE_AUTO), 0);
	ck_assert_int_eq(seteuid(me), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "Permission denied"));
	ck_assert_ptr_nonnull(strstr(err.hint, "readonly"));
}
END_TEST

/* ---- locks ---- */

START_TEST(a_disk_has_one_writer_or_many_readers)
{
	struct blk_image other;

	make_file(4096);
	ck_assert_int_eq(open_image(&other, false, BLK_CACHE_AUTO), 0);
	expect_refused(false, BLK_CACHE_AUTO, ERROR_NO_RESOURCE, "is in use by another VM");
	blk_image_close(&other);

	ck_assert_int_eq(open_image(&other, true, BLK_CACHE_AUTO), 0);
	expect_refused(false, BLK_CACHE_AUTO, ERROR_NO_RESOURCE, "is in use by another VM");
	ck_assert_int_eq(open_image(&image, true, BLK_CACHE_AUTO), 0);
	blk_image_close(&image);
	/* closing one descriptor of the file does not let go of the other's lock */
	expect_refused(false, BLK_CACHE_AUTO, ERROR_NO_RESOURCE, "is in use by another VM");
	blk_image_close(&other);
	ck_assert_int_eq(open_image(&image, false, BLK_CACHE_AUTO), 0);
	blk_image_close(&image);
}
END_TEST

START_TEST(another_process_is_locked_out_until_the_first_has_ended)
{
	int ready[2], status;
	pid_t pid;
	char byte;

	make_file(4096);
	ck_assert_int_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		byte = open_image(&image, false, BLK_CACHE_AUTO) == 0;
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		pause();
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	ck_assert_int_eq(byte, 1);
	expect_refused(false, BLK_CACHE_AUTO, ERROR_NO_RESOURCE, "is in use by another VM");
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	ck_assert_int_eq(open_image(&image, false, BLK_CACHE_AUTO), 0);
	blk_image_close(&image);
}
END_TEST

/* ---- cache modes and sizes ---- */

START_TEST(the_cache_mode_is_what_the_file_allows)
{
	bool direct;
	int fd;

	make_file(MIB(1));
	fd = open(path, O_RDONLY | O_DIRECT);
	direct = fd >= 0;
	close(fd);
	ck_assert_int_eq(open_image(&image, false, BLK_CACHE_AUTO), 0);
	ck_assert_int_eq(image.cache, direct ? BLK_CACHE_NONE : BLK_CACHE_WRITEBACK);
	ck_assert_uint_eq(!!(fcntl(image.fd, F_GETFL) & O_DIRECT), direct);
	ck_assert_uint_eq(image.size, MIB(1));
	ck_assert_uint_ge(image.block_size, 512);
	blk_image_close(&image);
	for (enum blk_cache cache = BLK_CACHE_WRITEBACK; cache <= BLK_CACHE_WRITETHROUGH; cache++) {
		ck_assert_int_eq(open_image(&image, false, cache), 0);
		ck_assert_int_eq(image.cache, cache);
		ck_assert_uint_eq(fcntl(image.fd, F_GETFL) & O_DIRECT, 0);
		ck_assert_uint_eq(image.block_size, 512);
		ck_assert_uint_eq(image.memory_align, 1);
		blk_image_close(&image);
	}
}
END_TEST

/* sysfs: a regular file of 4096 bytes, on a file system without direct I/O. */
START_TEST(direct_io_that_is_refused_is_an_error_that_names_the_mend)
{
	snprintf(path, sizeof(path), "/sys/kernel/uevent_seqnum");
	if (access(path, R_OK))
		return;
	expect_refused(true, BLK_CACHE_NONE, ERROR_BAD_REQUEST, "cache=none");
	ck_assert_ptr_nonnull(strstr(err.hint, "cache=writeback"));
	ck_assert_int_eq(open_image(&image, true, BLK_CACHE_AUTO), 0);
	ck_assert_int_eq(image.cache, BLK_CACHE_WRITEBACK);
	blk_image_close(&image);
}
END_TEST

START_TEST(a_file_is_measured_again)
{
	uint64_t size;

	make_file(4096);
	ck_assert_int_eq(open_image(&image, false, BLK_CACHE_WRITEBACK), 0);
	ck_assert_int_eq(truncate(path, 8192), 0);
	ck_assert_int_eq(blk_image_measure(&image, &size, &err), 0);
	ck_assert_uint_eq(size, 8192);
	ck_assert_int_eq(truncate(path, 8200), 0);
	ck_assert_int_lt(blk_image_measure(&image, &size, &err), 0);
	ck_assert_int_eq(truncate(path, 0), 0);
	ck_assert_int_lt(blk_image_measure(&image, &size, &err), 0);
	blk_image_close(&image);
}
END_TEST

START_TEST(ways_of_clearing_fall_back_in_order)
{
	make_file(4096);
	ck_assert_int_eq(open_image(&image, false, BLK_CACHE_AUTO), 0);
	ck_assert_int_eq(blk_image_clear_way(&image, BLK_CLEAR_PUNCH), BLK_CLEAR_PUNCH);
	atomic_store(&image.cannot[BLK_CLEAR_PUNCH], true);
	ck_assert_int_eq(blk_image_clear_way(&image, BLK_CLEAR_PUNCH), BLK_CLEAR_ZERO);
	atomic_store(&image.cannot[BLK_CLEAR_ZERO], true);
	ck_assert_int_eq(blk_image_clear_way(&image, BLK_CLEAR_PUNCH), BLK_CLEAR_WRITE);
	ck_assert_int_eq(blk_image_clear_way(&image, BLK_CLEAR_ZERO), BLK_CLEAR_WRITE);
	blk_image_close(&image);
}
END_TEST

/* ---- block devices, where this test may make one ---- */

static int loop_fd = -1;

static bool attach_loop(uint32_t block_size)
{
	/* gone with the last descriptor, even if this test dies */
	struct loop_config config = {.block_size = block_size, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), n;

	if (control < 0)
		return false;
	n = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	if (n < 0)
		return false;
	config.fd = (uint32_t)open(path, O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof(path), "/dev/loop%d", n);
	loop_fd = open(path, O_RDWR | O_CLOEXEC);
	n = loop_fd < 0 ? -1 : ioctl(loop_fd, LOOP_CONFIGURE, &config);
	close((int)config.fd);
	return n == 0;
}

START_TEST(a_block_device_is_a_disk_with_its_own_sector_size_and_one_writer)
{
	uint32_t sector = _i ? 4096 : 512;
	struct blk_image other;

	make_file(MIB(1));
	if (!attach_loop(sector)) {
		fprintf(stderr, "skipped: no loop device can be set up here\n");
		return;
	}
	for (enum blk_cache cache = BLK_CACHE_AUTO; cache <= BLK_CACHE_WRITETHROUGH; cache++) {
		ck_assert_msg(open_image(&image, false, cache) == 0, "%s", err.text);
		ck_assert_uint_eq(image.size, MIB(1));
		ck_assert_uint_eq(image.block_size, sector);
		ck_assert(image.block_device);
		blk_image_close(&image);
	}
	ck_assert_int_eq(open_image(&image, false, BLK_CACHE_AUTO), 0);
	ck_assert_int_lt(open_image(&other, false, BLK_CACHE_AUTO), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "is in use by another VM"));
	ck_assert_ptr_nonnull(strstr(err.hint, "mounted"));
	blk_image_close(&image);
	close(loop_fd);
}
END_TEST

/* ---- the suite ---- */

static void use_directory(void)
{
	snprintf(path, sizeof(path), "%s/disk-%d", directory, getpid());
}

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, a_missing_file_is_refused);
	tcase_add_test(tc, a_directory_is_refused);
	tcase_add_test(tc, a_character_device_is_refused);
	tcase_add_test(tc, a_pipe_is_refused_without_waiting_for_its_other_end);
	tcase_add_test(tc, a_socket_is_refused);
	tcase_add_test(tc, odd_sizes_are_refused);
	tcase_add_test(tc, a_file_without_permission_is_refused_with_the_mend);
	tcase_add_test(tc, a_disk_has_one_writer_or_many_readers);
	tcase_add_test(tc, another_process_is_locked_out_until_the_first_has_ended);
	tcase_add_test(tc, the_cache_mode_is_what_the_file_allows);
	tcase_add_test(tc, direct_io_that_is_refused_is_an_error_that_names_the_mend);
	tcase_add_test(tc, a_file_is_measured_again);
	tcase_add_test(tc, ways_of_clearing_fall_back_in_order);
	tcase_add_loop_test(
		tc, a_block_device_is_a_disk_with_its_own_sector_size_and_one_writer, 0, 2);
}

static void remove_directory(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	if (system(command))
		fprintf(stderr, "cannot remove %s\n", directory);
}

int main(void)
{
	TCase *tc = tcase_create("blk_image");
	int failed;

	if (!mkdtemp(directory)) {
		perror("cannot make a scratch directory");
		return 1;
	}
	tcase_add_checked_fixture(tc, use_directory, NULL);
	add_tests(tc);
	failed = run_tests("blk_image", tc, NULL);
	remove_directory();
	return failed;
}
