/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks on a shared base: random requests against an image kept in memory; what a file holds that is taken away at any moment
 * (as kill -9 takes it); siblings; growing; what is refused.
 */
#include "tests/unit/blk_disk.h"
#include "virtio/blk_overlay.h"
#include "vmm/transfer/disk_copy.h"
#include "vmm/transfer/disk_flatten.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BASE_SIZE (MIB(2) + 3 * 4096)
#define MOST	  (BASE_SIZE + MIB(1))
#define AT_ONCE	  12

static uint64_t seed = 11, size;
static struct error err;
static char base_path[96], overlay_path[96], crash_path[96];
static uint8_t oracle[MOST], flushed[MOST];
static bool unsure[MOST / 512]; /* sectors written since the last flush */

static uint64_t draw(uint64_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % below;
}

static void make_base(void)
{
	char kept[sizeof(disk_path)];

	snprintf(base_path, sizeof(base_path), "%s.base", disk_path);
	snprintf(overlay_path, sizeof(overlay_path), "%s.overlay", disk_path);
	snprintf(crash_path, sizeof(crash_path), "%s.crash", disk_path);
	memcpy(kept, disk_path, sizeof(kept));
	snprintf(disk_path, sizeof(disk_path), "%.58s.base", kept);
	disk_make_file(BASE_SIZE);
	memcpy(disk_path, kept, sizeof(kept));
	for (uint64_t i = 0; i < BASE_SIZE; i++)
		oracle[i] = disk_pattern(i);
	memset(oracle + BASE_SIZE, 0, MOST - BASE_SIZE);
	memcpy(flushed, oracle, MOST);
	memset(unsure, 0, sizeof(unsure));
	size = BASE_SIZE;
}

static void start_overlay(enum blk_cache cache)
{
	struct blk_config config = disk_defaults();

	config.path = overlay_path;
	config.base = base_path;
	config.cache = cache == BLK_CACHE_NONE && !disk_direct_works() ? BLK_CACHE_AUTO : cache;
	disk_start(&config, DRIVER_ALL_FEATURES);
}

/* ---- requests, which do not overlap within a round ---- */

static uint64_t next_sector;

static void note_written(uint64_t sector, uint64_t sectors)
{
	for (uint64_t i = sector; i < sector + sectors; i++)
		unsure[i] = true;
}

static void add_write(uint64_t sector, uint32_t sectors)
{
	struct disk_io io =
		disk_make_io(VIRTIO_BLK_T_OUT, sector, sectors * 512, 512, draw(6) ? 0 : 4);

	disk_fill(disk_data(&io), io.len, draw(250));
	memcpy(oracle + sector * 512, disk_data(&io), io.len);
	note_written(sector, sectors);
	disk_add(driver_queue(&guest, 0), &io, false);
}

static void add_clear(uint64_t sector, uint32_t sectors)
{
	struct virtio_blk_discard_write_zeroes range = {.sector = sector, .num_sectors = sectors};
	struct disk_io io = disk_make_io(VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(range), 8, 0);

	memcpy(disk_data(&io), &range, sizeof(range));
	memset(oracle + sector * 512, 0, sectors * 512ul);
	note_written(sector, sectors);
	disk_add(driver_queue(&guest, 0), &io, false);
}

/* Beside each other, so that many meet in one cluster while it is brought over. */
static unsigned add_some(void)
{
	unsigned added = 0;

	next_sector = draw(size / 512 - 300);
	for (; added < AT_ONCE; added++) {
		uint32_t sectors = (uint32_t)(1 + draw(draw(3) ? 24 : 300));

		if (next_sector + sectors > size / 512)
			break;
		if (draw(6))
			add_write(next_sector, sectors);
		else
			add_clear(next_sector, sectors);
		next_sector += sectors + draw(3);
	}
	return added;
}

static void wait_for(unsigned requests)
{
	driver_kick(driver_queue(&guest, 0));
	while (requests--)
		ck_assert(driver_wait_used(driver_queue(&guest, 0), NULL, NULL, DRIVER_WAIT_MS));
}

static void write_some(void)
{
	uint64_t heap = guest.heap_next;

	wait_for(add_some());
	memset(driver_host(&guest, heap, guest.heap_next - heap), 0, guest.heap_next - heap);
	guest.heap_next = heap;
}

static void flush(void)
{
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	memcpy(flushed, oracle, MOST);
	memset(unsure, 0, sizeof(unsure));
}

static void expect_read(uint64_t sector, uint32_t sectors)
{
	uint64_t heap = guest.heap_next;
	struct disk_io io =
		disk_make_io(VIRTIO_BLK_T_IN, sector, sectors * 512, 512, draw(4) ? 0 : 4);

	ck_assert_uint_eq(disk_run(&io, true), VIRTIO_BLK_S_OK);
	if (memcmp(disk_data(&io), oracle + sector * 512, io.len) != 0)
		ck_abort_msg("sectors %llu + %u differ", (unsigned long long)sector, sectors);
	memset(driver_host(&guest, heap, guest.heap_next - heap), 0, guest.heap_next - heap);
	guest.heap_next = heap;
}

static void expect_all(void)
{
	for (uint64_t sector = 0; sector < size / 512; sector += 1000)
		expect_read(sector, (uint32_t)min_u64(1000, size / 512 - sector));
}

START_TEST(an_overlay_reads_as_it_was_written_and_its_base_stays)
{
	_cleanup_free_ uint8_t *base = malloc(BASE_SIZE);
	int fd;

	make_base();
	for (unsigned life = 0; life < 3; life++) {
		start_overlay(disk_caches[_i]);
		expect_all();
		for (unsigned round = 0; round < 25; round++) {
			uint64_t sector;

			write_some();
			sector = draw(size / 512 - 300);
			expect_read(sector, (uint32_t)(1 + draw(300)));
			if (!draw(5))
				flush();
		}
		expect_all();
		disk_end();
	}
	fd = open(base_path, O_RDONLY);
	ck_assert_int_eq(pread(fd, base, BASE_SIZE, 0), BASE_SIZE);
	disk_expect_pattern(base, 0, BASE_SIZE);
	close(fd);
}
END_TEST

/* The file as it is now is what a killed monitor leaves. */
static void expect_crash_keeps_what_was_flushed(bool stable)
{
	_cleanup_free_ uint8_t *got = aligned_alloc(4096, align_up(MOST, 4096));
	struct blk_overlay *overlay;
	char command[256];
	int fd;

	snprintf(
		command, sizeof(command), "cp --sparse=always '%s' '%s'", overlay_path, crash_path);
	ck_assert_int_eq(system(command), 0);
	fd = open(crash_path, O_RDWR);
	ck_assert_msg(
		blk_overlay_open(&overlay, fd, crash_path, base_path, &err) == 0, "%s", err.text);
	ck_assert_int_eq(blk_overlay_read(overlay, got, size, 0), 0);
	for (uint64_t i = 0; i < size; i++)
		if (got[i] != oracle[i] &&
			(stable || (got[i] != flushed[i] && !unsure[i / 512]) || !unsure[i / 512]))
			ck_abort_msg("byte %llu is neither", (unsigned long long)i);
	blk_overlay_close(overlay);
	close(fd);
}

START_TEST(whatever_was_flushed_is_in_the_file_at_any_moment)
{
	enum blk_cache cache = _i ? BLK_CACHE_WRITETHROUGH : BLK_CACHE_AUTO;

	make_base();
	start_overlay(cache);
	for (unsigned round = 0; round < 15; round++) {
		unsigned requests;
		uint64_t heap = guest.heap_next;

		write_some();
		expect_crash_keeps_what_was_flushed(_i);
		requests = add_some();
		driver_kick(driver_queue(&guest, 0));
		if (!_i)
			expect_crash_keeps_what_was_flushed(false);
		wait_for(requests);
		if (draw(3))
			flush();
		guest.heap_next = heap;
		memset(driver_host(&guest, heap, MIB(8)), 0, MIB(8));
		expect_crash_keeps_what_was_flushed(_i);
	}
	disk_end();
}
END_TEST

START_TEST(an_overlay_grows_beyond_its_base_and_is_zero_there)
{
	make_base();
	start_overlay(BLK_CACHE_AUTO);
	write_some();
	size += 100 * 4096;
	ck_assert_msg(blk_resize(guest.device, &size, &err) == 0, "%s", err.text);
	expect_all();
	for (unsigned round = 0; round < 20; round++)
		write_some();
	expect_all();
	flush();
	expect_crash_keeps_what_was_flushed(true);
	disk_end();
	start_overlay(BLK_CACHE_AUTO);
	ck_assert_uint_eq(blk_size(guest.device), size);
	expect_all();
	disk_end();
}
END_TEST

START_TEST(a_reset_in_mid_flight_leaves_an_overlay_that_goes_on)
{
	make_base();
	start_overlay(BLK_CACHE_AUTO);
	for (unsigned round = 0; round < 15; round++) {
		uint64_t heap = guest.heap_next;

		add_some();
		driver_kick(driver_queue(&guest, 0));
		driver_reset(&guest);
		guest.heap_next = heap;
		memset(driver_host(&guest, heap, MIB(8)), 0, MIB(8));
		ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 256));
		/* What of them was written is not known: write it all again. */
		for (uint64_t at = 0; at < size / 512; at += 2048) {
			heap = guest.heap_next;
			add_write(at, (uint32_t)min_u64(2048, size / 512 - at));
			wait_for(1);
			memset(driver_host(&guest, heap, guest.heap_next - heap), 0,
				guest.heap_next - heap);
			guest.heap_next = heap;
		}
		expect_all();
	}
	disk_end();
}
END_TEST

/* The smaller one must not bring the base's content over what the larger one is writing. */
START_TEST(writes_that_overlap_in_flight_leave_either_and_nothing_older)
{
	make_base();
	start_overlay(BLK_CACHE_AUTO);
	for (unsigned round = 0; round < 15; round++) {
		struct disk_io large = disk_make_io(
			VIRTIO_BLK_T_OUT, round * 256, 2 * BLK_OVERLAY_CLUSTER, 512, 0);
		struct disk_io small =
			disk_make_io(VIRTIO_BLK_T_OUT, round * 256 + draw(200), 512, 512, 0);
		struct disk_io in =
			disk_make_io(VIRTIO_BLK_T_IN, round * 256, 2 * BLK_OVERLAY_CLUSTER, 512, 0);

		memset(disk_data(&large), 0xaa, large.len);
		memset(disk_data(&small), 0xbb, small.len);
		disk_add(driver_queue(&guest, 0), &large, false);
		driver_kick(driver_queue(&guest, 0));
		for (unsigned spin = 0; spin < draw(20000); spin++)
			__asm__ volatile("");
		disk_add(driver_queue(&guest, 0), &small, false);
		wait_for(2);
		ck_assert_uint_eq(disk_run(&in, true), VIRTIO_BLK_S_OK);
		for (uint32_t i = 0; i < in.len; i++)
			ck_assert(disk_data(&in)[i] == 0xaa || disk_data(&in)[i] == 0xbb);
	}
	disk_end();
}
END_TEST

START_TEST(an_overlay_is_copied_as_the_disk_that_it_is)
{
	struct disk_copy_config config = {.mode = DISK_COPY_REFLINK, .file = crash_path};
	struct disk_copy *copy;
	struct disk_copy_result result;
	_cleanup_free_ uint8_t *got = malloc(BASE_SIZE);
	int fd;

	make_base();
	start_overlay(BLK_CACHE_AUTO);
	write_some();
	config.dev = guest.device;
	config.dirfd = open(".", O_RDONLY | O_DIRECTORY);
	ck_assert_int_lt(disk_copy_start(&config, &copy, &err), 0);
	ck_assert_msg(strstr(err.text, "overlay") && strstr(err.hint, "copy"), "%s", err.text);
	config.mode = DISK_COPY_FULL;
	ck_assert_int_eq(disk_copy_start(&config, &copy, &err), 0);
	ck_assert_int_eq(disk_copy_prepare(copy, &err), 0);
	for (unsigned i = 0; i < 5; i++)
		write_some();
	ck_assert_int_eq(disk_copy_final(copy, &err), 0);
	memcpy(flushed, oracle, MOST);
	write_some();
	ck_assert_int_eq(disk_copy_finish(copy, &result, &err), 0);
	fd = open(crash_path, O_RDONLY);
	ck_assert_int_eq(pread(fd, got, BASE_SIZE, 0), BASE_SIZE);
	ck_assert(!memcmp(got, flushed, BASE_SIZE));
	close(fd);
	disk_copy_destroy(copy);
	disk_end();
}
END_TEST

START_TEST(an_overlay_made_flat_is_the_same_disk_without_its_base)
{
	_cleanup_free_ uint8_t *got = malloc(MOST);
	int fd;

	make_base();
	start_overlay(BLK_CACHE_AUTO);
	size += 77 * 512;
	ck_assert_msg(blk_resize(guest.device, &size, &err) == 0, "%s", err.text);
	for (unsigned round = 0; round < 10; round++)
		write_some();
	ck_assert_int_lt(disk_flatten(overlay_path, base_path, crash_path, NULL, &err), 0);
	ck_assert_msg(strstr(err.text, "in use"), "%s", err.text);
	disk_end();
	ck_assert_msg(
		disk_flatten(overlay_path, base_path, crash_path, NULL, &err) == 0, "%s", err.text);
	fd = open(crash_path, O_RDONLY);
	ck_assert_uint_eq((uint64_t)lseek(fd, 0, SEEK_END), size);
	ck_assert_int_eq(pread(fd, got, size, 0), (ssize_t)size);
	ck_assert(!memcmp(got, oracle, size));
	close(fd);
}
END_TEST

static void expect_counts(const char *path, uint64_t own, uint64_t stray)
{
	struct blk_overlay_info info;
	int fd = open(path, O_RDONLY);

	ck_assert_msg(blk_overlay_inspect(fd, path, base_path, &info, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(info.own, own);
	ck_assert_uint_eq(info.stray, stray);
	ck_assert_uint_eq(info.clusters, (size + 65535) / 65536);
	ck_assert_str_eq(info.base, base_path);
	close(fd);
}

START_TEST(an_overlay_tells_what_is_its_own_and_what_was_never_flushed)
{
	make_base();
	start_overlay(BLK_CACHE_WRITEBACK);
	expect_counts(overlay_path, 0, 0);
	add_write(3, 2);
	add_write(128 * 7 - 1, 2); /* in two clusters */
	wait_for(2);
	expect_counts(overlay_path, 0, 3);
	flush();
	expect_counts(overlay_path, 3, 0);
	add_write(128 * 20, 128);
	wait_for(1);
	expect_counts(overlay_path, 3, 1);
	disk_end();
	expect_counts(overlay_path, 4, 0);
}
END_TEST

/* ---- what is refused ---- */

static void expect_refused(enum error_kind kind, const char *words)
{
	struct blk_config config = disk_defaults();
	struct virtio_device *dev;

	config.path = overlay_path;
	config.base = base_path;
	driver_create(&guest, DISK_RAM);
	ck_assert_int_lt(blk_create(&config, &guest.memory, guest.main_loop, &dev, &err), 0);
	ck_assert_int_eq(err.kind, kind);
	ck_assert_msg(strstr(err.text, words), "'%s' does not say '%s'", err.text, words);
	loop_destroy(guest.main_loop);
	guest_memory_destroy(&guest.memory);
}

static void change_byte(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	uint8_t byte;

	ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
	byte ^= 1;
	ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

START_TEST(another_base_and_a_damaged_overlay_are_refused)
{
	static const off_t header[] = {8, 12, 16, 24, 32, 40, 100, 4080};

	make_base();
	ck_assert_int_eq(blk_overlay_create(overlay_path, base_path, 0, &err), 0);
	ck_assert_int_lt(blk_overlay_create(overlay_path, base_path, 0, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_ALREADY_EXISTS);
	change_byte(base_path, 0);
	expect_refused(ERROR_BAD_REQUEST, "is not the base");
	change_byte(base_path, 0);
	ck_assert_int_eq(truncate(base_path, BASE_SIZE + 512), 0);
	expect_refused(ERROR_BAD_REQUEST, "is not the base");
	ck_assert_int_eq(truncate(base_path, BASE_SIZE), 0);
	change_byte(overlay_path, 0);
	expect_refused(ERROR_BAD_REQUEST, "no overlay");
	change_byte(overlay_path, 0);
	change_byte(overlay_path, 8);
	expect_refused(ERROR_INCOMPATIBLE, "version");
	change_byte(overlay_path, 8);
	for (unsigned i = 1; i < ARRAY_SIZE(header); i++) {
		change_byte(overlay_path, header[i]);
		expect_refused(ERROR_CORRUPT, "damaged");
		change_byte(overlay_path, header[i]);
	}
	change_byte(overlay_path, (off_t)BLK_OVERLAY_BITMAP + 20);
	expect_refused(ERROR_CORRUPT, "bitmap");
	change_byte(overlay_path, (off_t)BLK_OVERLAY_BITMAP + 20);
	ck_assert_int_eq(truncate(overlay_path, (off_t)BLK_OVERLAY_DATA + BASE_SIZE - 512), 0);
	expect_refused(ERROR_CORRUPT, "shorter");
	unlink(base_path);
	expect_refused(ERROR_NOT_FOUND, "base");
}
END_TEST

START_TEST(a_base_is_shared_by_readers_and_locked_against_a_writer)
{
	struct blk_config config = disk_defaults();
	struct blk_overlay *sibling;
	struct virtio_device *dev;
	char path[128];
	int fd;

	make_base();
	snprintf(path, sizeof(path), "%s.sibling", overlay_path);
	ck_assert_int_eq(blk_overlay_create(path, base_path, 0, &err), 0);
	fd = open(path, O_RDWR);
	ck_assert_int_eq(blk_overlay_open(&sibling, fd, path, base_path, &err), 0);
	start_overlay(BLK_CACHE_AUTO);
	config.path = base_path;
	config.impatient = true;
	ck_assert_int_lt(blk_create(&config, &guest.memory, guest.main_loop, &dev, &err), 0);
	ck_assert_msg(strstr(err.text, "in use"), "%s", err.text);
	disk_end();
	blk_overlay_close(sibling);
	close(fd);
	driver_create(&guest, DISK_RAM);
	ck_assert_int_eq(blk_create(&config, &guest.memory, guest.main_loop, &dev, &err), 0);
	config = disk_defaults();
	config.path = path;
	config.base = base_path;
	config.impatient = true;
	{
		struct virtio_device *other;

		ck_assert_int_lt(
			blk_create(&config, &guest.memory, guest.main_loop, &other, &err), 0);
		ck_assert_msg(strstr(err.text, "being written"), "%s", err.text);
		config.queues = 2;
		ck_assert_int_lt(
			blk_create(&config, &guest.memory, guest.main_loop, &other, &err), 0);
		ck_assert_msg(strstr(err.text, "one queue"), "%s", err.text);
	}
	virtio_device_destroy(dev);
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_loop_test(
		tc, an_overlay_reads_as_it_was_written_and_its_base_stays, 0, DISK_CACHES);
	tcase_add_loop_test(tc, whatever_was_flushed_is_in_the_file_at_any_moment, 0, 2);
	tcase_add_test(tc, an_overlay_grows_beyond_its_base_and_is_zero_there);
	tcase_add_test(tc, a_reset_in_mid_flight_leaves_an_overlay_that_goes_on);
	tcase_add_test(tc, writes_that_overlap_in_flight_leave_either_and_nothing_older);
	tcase_add_test(tc, an_overlay_is_copied_as_the_disk_that_it_is);
	tcase_add_test(tc, an_overlay_made_flat_is_the_same_disk_without_its_base);
	tcase_add_test(tc, an_overlay_tells_what_is_its_own_and_what_was_never_flushed);
	tcase_add_test(tc, another_base_and_a_damaged_overlay_are_refused);
	tcase_add_test(tc, a_base_is_shared_by_readers_and_locked_against_a_writer);
}

int main(void)
{
	return disk_test_main("blk_overlay", add_tests);
}
