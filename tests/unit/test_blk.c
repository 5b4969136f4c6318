/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk's requests: any layout, any cache mode, and what is refused or fails. */
#include "tests/unit/blk_disk.h"

#include <linux/virtio_config.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define FEATURE(f) (1ull << VIRTIO_BLK_F_##f)

START_TEST(what_is_written_is_in_the_file_and_comes_back)
{
	if (disk_caches[_i] == BLK_CACHE_NONE && !disk_direct_works())
		return;
	disk_start_default(disk_caches[_i]);
	disk_round_trip(0, 512, 0);
	disk_round_trip(7, 4096, 0);
	disk_round_trip(100, 1 << 20, 0);
	disk_round_trip(DISK_SECTORS - 1, 512, 0);
	disk_end();
}
END_TEST

START_TEST(unaligned_buffers_bounce)
{
	static const uint32_t misalign[] = {1, 3, 511, 513};

	if (!disk_direct_works())
		return;
	disk_start_default(BLK_CACHE_NONE);
	for (unsigned i = 0; i < ARRAY_SIZE(misalign); i++) {
		disk_round_trip(8 * i, 512, misalign[i]);
		disk_round_trip(
			1000, 300 * 1024 + 512, misalign[i]); /* several bounce buffers long */
	}
	disk_end();
}
END_TEST

START_TEST(more_unaligned_requests_than_bounce_buffers_all_complete)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	struct disk_io ios[60];

	if (!disk_direct_works())
		return;
	disk_start_default(BLK_CACHE_NONE);
	for (unsigned i = 0; i < ARRAY_SIZE(ios); i++) {
		ios[i] = disk_make_io(VIRTIO_BLK_T_IN, i * 100, 72 * 1024, 4096, 1);
		disk_add(q, &ios[i], true);
	}
	driver_kick(q);
	for (unsigned i = 0; i < ARRAY_SIZE(ios); i++)
		ck_assert(driver_wait_used(q, NULL, NULL, DRIVER_WAIT_MS));
	for (unsigned i = 0; i < ARRAY_SIZE(ios); i++) {
		ck_assert_uint_eq(disk_status(&ios[i]), VIRTIO_BLK_S_OK);
		disk_expect_pattern(disk_data(&ios[i]), i * 100 * 512, ios[i].len);
	}
	disk_end();
}
END_TEST

/* §2.7.4.1, §5.2.6: segments end where the driver likes; no meaning is tied to them. */
START_TEST(a_header_may_be_split_anywhere)
{
	for (uint32_t cut = 1; cut < 16; cut++) {
		struct driver_segment segments[] = {{.len = cut}, {.len = 16 - cut},
			{.len = 4096, .writable = true}, {.len = 1, .writable = true}};
		struct disk_io io;

		disk_start_default(_i ? BLK_CACHE_WRITEBACK : BLK_CACHE_AUTO);
		io = disk_make_io(VIRTIO_BLK_T_IN, 8, 4096, 4096, 0);
		/* the second part stands elsewhere in DISK_RAM */
		segments[0].gpa = io.header;
		segments[1].gpa = driver_alloc(&guest, 16, 1);
		memcpy(driver_host(&guest, segments[1].gpa, 16 - cut),
			driver_host(&guest, io.header + cut, 16 - cut), 16 - cut);
		memset(driver_host(&guest, io.header + cut, 16 - cut), 0xff, 16 - cut);
		segments[2].gpa = io.data;
		segments[3].gpa = io.status;
		driver_add(driver_queue(&guest, 0), segments, 4);
		driver_kick(driver_queue(&guest, 0));
		ck_assert(driver_wait_used(driver_queue(&guest, 0), NULL, NULL, DRIVER_WAIT_MS));
		ck_assert_uint_eq(disk_status(&io), VIRTIO_BLK_S_OK);
		disk_expect_pattern(disk_data(&io), 4096, 4096);
		disk_end();
	}
}
END_TEST

START_TEST(status_may_share_a_segment_with_data)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	struct driver_segment in[2] = {{.len = 16}, {.len = 4097, .writable = true}};
	uint8_t *data;

	disk_start_default(disk_caches[_i]);
	in[0].gpa = driver_alloc(&guest, 16, 8);
	in[1].gpa = driver_alloc(&guest, 4097, 4096);
	data = driver_host(&guest, in[1].gpa, 4097);
	data[4096] = 0xee;
	disk_set_header(in[0].gpa, VIRTIO_BLK_T_IN, 16);
	driver_add(q, in, 2);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, DRIVER_WAIT_MS));
	ck_assert_uint_eq(data[4096], VIRTIO_BLK_S_OK);
	disk_expect_pattern(data, 16 * 512, 4096);
	disk_end();
}
END_TEST

START_TEST(header_and_data_may_share_a_segment)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	struct driver_segment out[2] = {{.len = 16 + 1024}, {.len = 1, .writable = true}};
	uint8_t *data, file[1024];

	disk_start_default(disk_caches[_i]);
	out[0].gpa = driver_alloc(&guest, out[0].len, 8);
	out[1].gpa = driver_alloc(&guest, 1, 1);
	data = driver_host(&guest, out[0].gpa, out[0].len);
	disk_set_header(out[0].gpa, VIRTIO_BLK_T_OUT, 40);
	disk_fill(data + 16, 1024, 5);
	driver_add(q, out, 2);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, DRIVER_WAIT_MS));
	ck_assert_uint_eq(*(uint8_t *)driver_host(&guest, out[1].gpa, 1), VIRTIO_BLK_S_OK);
	disk_file_read(40 * 512, file, sizeof(file));
	ck_assert_mem_eq(file, data + 16, sizeof(file));
	disk_end();
}
END_TEST

/* As many segments as seg_max allows, of odd sizes, by an indirect table. */
START_TEST(data_may_be_scattered_over_seg_max_segments)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	struct driver_segment segments[256];
	uint32_t seg_max, total = 0;

	disk_start_default(disk_caches[_i]);
	driver_config_read(&guest, offsetof(struct virtio_blk_config, seg_max), &seg_max, 4);
	ck_assert_uint_eq(seg_max, 254);
	segments[0] = (struct driver_segment){.gpa = driver_alloc(&guest, 16, 8), .len = 16};
	disk_set_header(segments[0].gpa, VIRTIO_BLK_T_IN, 8);
	for (unsigned i = 1; i <= seg_max; i++) {
		uint32_t len = i < seg_max ? 100 + i : 512 - total % 512;

		segments[i] = (struct driver_segment){driver_alloc(&guest, len, 1), len, true};
		total += len;
	}
	segments[seg_max + 1] = (struct driver_segment){driver_alloc(&guest, 1, 1), 1, true};
	driver_add_indirect(q, segments, seg_max + 2);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, DRIVER_WAIT_MS));
	ck_assert_uint_eq(
		*(uint8_t *)driver_host(&guest, segments[seg_max + 1].gpa, 1), VIRTIO_BLK_S_OK);
	for (unsigned i = 1, at = 4096; i <= seg_max; at += segments[i++].len)
		disk_expect_pattern(
			driver_host(&guest, segments[i].gpa, segments[i].len), at, segments[i].len);
	disk_end();
}
END_TEST

START_TEST(several_queues_work_at_once)
{
	struct blk_config config = disk_defaults();
	struct disk_io ios[4][50];
	uint16_t queues;

	config.queues = 4;
	disk_make_file(DISK_SIZE);
	disk_start(&config, DRIVER_ALL_FEATURES);
	driver_config_read(&guest, offsetof(struct virtio_blk_config, num_queues), &queues, 2);
	ck_assert_uint_eq(queues, 4);
	for (unsigned i = 0; i < 50; i++)
		for (unsigned n = 0; n < 4; n++) {
			ios[n][i] = disk_make_io(VIRTIO_BLK_T_OUT, (n * 50 + i) * 8, 4096, 4096, 0);
			disk_fill(disk_data(&ios[n][i]), 4096, n * 100 + i);
			disk_add(driver_queue(&guest, n), &ios[n][i], false);
			driver_kick(driver_queue(&guest, n));
		}
	for (unsigned n = 0; n < 4; n++)
		for (unsigned i = 0; i < 50; i++)
			ck_assert(driver_wait_used(
				driver_queue(&guest, n), NULL, NULL, DRIVER_WAIT_MS));
	for (unsigned n = 0; n < 4; n++)
		for (unsigned i = 0; i < 50; i++) {
			uint8_t file[4096];

			ck_assert_uint_eq(disk_status(&ios[n][i]), VIRTIO_BLK_S_OK);
			disk_file_read((n * 50 + i) * 4096, file, 4096);
			ck_assert_mem_eq(file, disk_data(&ios[n][i]), 4096);
		}
	disk_end();
}
END_TEST

START_TEST(a_batch_is_answered_with_one_interrupt)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	unsigned before;

	disk_start_default(BLK_CACHE_AUTO);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
	driver_wait_interrupts(&guest, 0, 1, DRIVER_WAIT_MS); /* its own is out */
	before = atomic_load(&guest.interrupts[0]);
	for (unsigned i = 0; i < 60; i++) {
		struct disk_io io = disk_make_io(VIRTIO_BLK_T_GET_ID, 0, 20, 1, 0);

		disk_add(q, &io, true);
	}
	driver_kick(q);
	/* Nothing is taken before that: this side would ask for another, or for none. */
	driver_wait_interrupts(&guest, 0, before + 1, DRIVER_WAIT_MS);
	for (unsigned i = 0; i < 60; i++)
		ck_assert(driver_wait_used(q, NULL, NULL, DRIVER_WAIT_MS));
	usleep(20000);
	ck_assert_uint_eq(atomic_load(&guest.interrupts[0]), before + 1);
	disk_end();
}
END_TEST

/* ---- what is refused ---- */

START_TEST(requests_beyond_the_end_are_refused)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
		uint8_t status;
	} cases[] = {
		{DISK_SECTORS - 1, 512, VIRTIO_BLK_S_OK},
		{DISK_SECTORS - 8, 4096, VIRTIO_BLK_S_OK},
		{DISK_SECTORS, 512, VIRTIO_BLK_S_IOERR},
		{DISK_SECTORS - 1, 1024, VIRTIO_BLK_S_IOERR},
		{DISK_SECTORS - 7, 4096, VIRTIO_BLK_S_IOERR},
		{UINT64_MAX, 512, VIRTIO_BLK_S_IOERR},
		{UINT64_MAX / 512, 512, VIRTIO_BLK_S_IOERR},
		{UINT64_MAX / 512 + 1, 512, VIRTIO_BLK_S_IOERR}, /* times 512 it would wrap to 0 */
		{UINT64_MAX - 7, 4096, VIRTIO_BLK_S_IOERR},
		{1ull << 55, 512, VIRTIO_BLK_S_IOERR},
		{0, 511, VIRTIO_BLK_S_IOERR},
		{0, 513, VIRTIO_BLK_S_IOERR},
		{0, 1, VIRTIO_BLK_S_IOERR},
		{0, 0, VIRTIO_BLK_S_OK},
	};
	uint8_t *before = malloc(DISK_SIZE), *after = malloc(DISK_SIZE);
	struct stat st;

	disk_start_default(disk_caches[_i]);
	disk_file_read(0, before, DISK_SIZE);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_IN, cases[i].sector, cases[i].len),
			cases[i].status);
		if (cases[i].status != VIRTIO_BLK_S_OK)
			ck_assert_uint_eq(
				disk_request(VIRTIO_BLK_T_OUT, cases[i].sector, cases[i].len),
				VIRTIO_BLK_S_IOERR);
	}
	disk_file_read(0, after, DISK_SIZE);
	ck_assert_mem_eq(before, after, DISK_SIZE);
	ck_assert_int_eq(stat(disk_path, &st), 0);
	ck_assert_int_eq(st.st_size, (off_t)DISK_SIZE);
	free(before);
	free(after);
	disk_end();
}
END_TEST

START_TEST(unknown_requests_are_unsupported)
{
	static const uint32_t types[] = {2, 3, 5, 9, 10, 12, 14, 16, 0x80000000, UINT32_MAX};

	disk_start_default(BLK_CACHE_AUTO);
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
		ck_assert_uint_eq(disk_request(types[i], 0, 512), VIRTIO_BLK_S_UNSUPP);
	disk_end();
}
END_TEST

/* A chain that cannot even be answered breaks the device; a reset mends it. */
START_TEST(a_chain_without_room_for_header_or_status_breaks_the_device_only)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	struct driver_segment segments[2];

	disk_start_default(BLK_CACHE_AUTO);
	segments[0] = (struct driver_segment){
		.gpa = driver_alloc(&guest, 16, 8), .len = _i == 1 ? 15 : 16};
	segments[1] = (struct driver_segment){
		.gpa = driver_alloc(&guest, 16, 8), .len = 1, .writable = true};
	if (_i == 2)
		driver_add(q, &segments[1], 1);
	else
		driver_add(q, segments, _i == 1 ? 2 : 1);
	driver_kick(q);
	for (unsigned ms = 0; !(atomic_load(&guest.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET);
		ms++) {
		ck_assert_uint_lt(ms, DRIVER_WAIT_MS);
		usleep(1000);
	}
	ck_assert_uint_ge(atomic_load(&guest.config_interrupts), 1);
	driver_reset(&guest);
	ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 256));
	disk_round_trip(0, 4096, 0);
	disk_end();
}
END_TEST

START_TEST(more_requests_than_the_queue_holds_break_the_device_only)
{
	struct blk_config config = disk_defaults();
	struct driver_queue *q = driver_queue(&guest, 0);
	struct disk_io io;
	uint16_t head;

	disk_make_file(DISK_SIZE);
	config.iops = 1; /* they stay parked */
	disk_start(&config, DRIVER_ALL_FEATURES);
	io = disk_make_io(VIRTIO_BLK_T_IN, 0, 512, 512, 0);
	head = disk_add(q, &io, true);
	/* the same chain again and again, though it is in flight */
	for (unsigned i = 0; i < 600; i++) {
		__atomic_store_n(&q->avail->ring[q->next_avail++ & 255], head, __ATOMIC_RELAXED);
		__atomic_store_n(&q->avail->idx, q->next_avail, __ATOMIC_RELEASE);
		virtio_device_kick(guest.device, 0);
		if (i % 100 == 99)
			usleep(20000);
	}
	for (unsigned ms = 0; !(atomic_load(&guest.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET);
		ms++) {
		ck_assert_uint_lt(ms, DRIVER_WAIT_MS);
		usleep(1000);
	}
	driver_reset(&guest);
	blk_set_limits(guest.device, 0, 0);
	ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 256));
	disk_round_trip(0, 4096, 0);
	disk_end();
}
END_TEST

START_TEST(a_readonly_disk_is_never_written)
{
	struct blk_config config = disk_defaults();
	uint8_t sector[512];

	config.readonly = true;
	disk_make_file(DISK_SIZE);
	ck_assert_int_eq(chmod(disk_path, 0400), 0);
	disk_start(&config, DRIVER_ALL_FEATURES);
	ck_assert(virtio_has_feature(guest.device, VIRTIO_BLK_F_RO));
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_IN, 3, 4096), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 3, 512), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_DISCARD, 0, 16), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	disk_file_read(3 * 512, sector, 512);
	disk_expect_pattern(sector, 3 * 512, 512);
	disk_end();
	chmod(disk_path, 0600);
}
END_TEST

/* ---- short transfers and failing files ---- */

/* The kernel moves at most 2 GiB - 4 KiB at once: the rest must be asked for. One DISK_RAM buffer, many times over. */
START_TEST(a_transfer_that_comes_back_short_is_resumed)
{
	struct blk_config config = disk_defaults();
	struct driver_queue *q = driver_queue(&guest, 0);
	struct driver_segment segments[140];
	uint64_t counters[BLK_COUNTERS];
	uint32_t status;
	const uint32_t piece = MIB(16);

	disk_make_file(4096);
	ck_assert_int_eq(truncate(disk_path, (off_t)GIB(3)), 0);
	disk_start(&config, DRIVER_ALL_FEATURES);
	segments[0] = (struct driver_segment){.gpa = driver_alloc(&guest, 16, 8), .len = 16};
	disk_set_header(segments[0].gpa, VIRTIO_BLK_T_IN, 0);
	status = (uint32_t)driver_alloc(&guest, 1, 1);
	segments[1] = (struct driver_segment){driver_alloc(&guest, piece, 4096), piece, true};
	for (unsigned i = 2; i < 138; i++)
		segments[i] = segments[1];
	segments[138] = (struct driver_segment){status, 1, true};
	driver_add_indirect(q, segments, 139);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, 60000));
	ck_assert_uint_eq(*(uint8_t *)driver_host(&guest, status, 1), VIRTIO_BLK_S_OK);
	blk_get_counters(guest.device, counters);
	ck_assert_uint_eq(counters[BLK_READ_BYTES], 137ull * piece);
	disk_end();
}
END_TEST

/* With a file size limit in the middle of a write, the kernel writes the first half and says so. */
START_TEST(a_write_that_can_only_be_done_in_part_is_not_confirmed)
{
	struct rlimit limit = {.rlim_cur = DISK_SIZE / 2 + 4096, .rlim_max = RLIM_INFINITY};
	uint64_t counters[BLK_COUNTERS];

	signal(SIGXFSZ, SIG_IGN);
	disk_start_default(disk_caches[_i]);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_uint_eq(
		disk_request(VIRTIO_BLK_T_OUT, DISK_SECTORS / 2, 8192), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, DISK_SECTORS / 2, 4096), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(
		disk_request(VIRTIO_BLK_T_OUT, DISK_SECTORS - 1, 512), VIRTIO_BLK_S_IOERR);
	limit.rlim_cur = RLIM_INFINITY;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, DISK_SECTORS / 2, 8192), VIRTIO_BLK_S_OK);
	blk_get_counters(guest.device, counters);
	ck_assert_uint_eq(counters[BLK_ERRORS], 2);
	ck_assert_uint_eq(counters[BLK_WRITES], 2);
	ck_assert_uint_eq(counters[BLK_WRITTEN_BYTES], 12288);
	disk_end();
}
END_TEST

START_TEST(reading_what_was_cut_off_the_file_is_an_error_not_zeros)
{
	disk_start_default(disk_caches[_i]);
	ck_assert_int_eq(truncate(disk_path, DISK_SIZE / 2), 0);
	ck_assert_uint_eq(
		disk_request(VIRTIO_BLK_T_IN, DISK_SECTORS / 2 - 8, 4096), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(
		disk_request(VIRTIO_BLK_T_IN, DISK_SECTORS / 2 - 4, 4096), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(
		disk_request(VIRTIO_BLK_T_IN, DISK_SECTORS / 2, 4096), VIRTIO_BLK_S_IOERR);
	disk_end();
}
END_TEST

/* ---- identity, size ---- */

static void expect_serial(const char *expected)
{
	struct disk_io io = disk_make_io(VIRTIO_BLK_T_GET_ID, 0, 20, 1, 0);
	char serial[21] = "";

	memset(disk_data(&io), 0xee, 20);
	ck_assert_uint_eq(disk_run(&io, true), VIRTIO_BLK_S_OK);
	memcpy(serial, disk_data(&io), 20);
	ck_assert_str_eq(serial, expected);
}

START_TEST(the_serial_is_told)
{
	static const char *const serials[] = {NULL, "S-42", "exactly-twenty-bytes"};
	struct blk_config config = disk_defaults();

	disk_make_file(DISK_SIZE);
	config.serial = serials[_i];
	disk_start(&config, DRIVER_ALL_FEATURES);
	expect_serial(serials[_i] ? serials[_i] : "data");
	disk_end();
}
END_TEST

START_TEST(the_configuration_space_says_what_the_disk_is)
{
	struct virtio_blk_config config;

	disk_start_default(BLK_CACHE_AUTO);
	ck_assert_uint_ge(guest.device->config_size, offsetof(struct virtio_blk_config, unused1));
	memset(&config, 0, sizeof(config));
	driver_config_read(&guest, 0, &config, guest.device->config_size);
	ck_assert_uint_eq(config.capacity, DISK_SECTORS);
	ck_assert_uint_ge(config.blk_size, 512);
	ck_assert_uint_eq(
		config.blk_size << config.physical_block_exp, config.min_io_size * config.blk_size);
	ck_assert_uint_eq(config.num_queues, 1);
	ck_assert_uint_eq(config.max_discard_seg, 8);
	ck_assert_uint_eq(config.max_write_zeroes_seg, 8);
	ck_assert_uint_eq(config.write_zeroes_may_unmap, 1);
	ck_assert(!(guest.device->features & FEATURE(MQ)));
	ck_assert(!(guest.device->features & FEATURE(RO)));
	disk_end();
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_loop_test(tc, what_is_written_is_in_the_file_and_comes_back, 0, DISK_CACHES);
	tcase_add_test(tc, unaligned_buffers_bounce);
	tcase_add_test(tc, more_unaligned_requests_than_bounce_buffers_all_complete);
	tcase_add_loop_test(tc, a_header_may_be_split_anywhere, 0, 2);
	tcase_add_loop_test(tc, status_may_share_a_segment_with_data, 0, 2);
	tcase_add_loop_test(tc, header_and_data_may_share_a_segment, 0, 2);
	tcase_add_loop_test(tc, data_may_be_scattered_over_seg_max_segments, 0, 2);
	tcase_add_test(tc, several_queues_work_at_once);
	tcase_add_test(tc, a_batch_is_answered_with_one_interrupt);
	tcase_add_loop_test(tc, requests_beyond_the_end_are_refused, 0, 2);
	tcase_add_test(tc, unknown_requests_are_unsupported);
	tcase_add_loop_test(
		tc, a_chain_without_room_for_header_or_status_breaks_the_device_only, 0, 3);
	tcase_add_test(tc, more_requests_than_the_queue_holds_break_the_device_only);
	tcase_add_test(tc, a_readonly_disk_is_never_written);
	tcase_add_test(tc, a_transfer_that_comes_back_short_is_resumed);
	tcase_add_loop_test(tc, a_write_that_can_only_be_done_in_part_is_not_confirmed, 0, 3);
	tcase_add_loop_test(tc, reading_what_was_cut_off_the_file_is_an_error_not_zeros, 0, 2);
	tcase_add_loop_test(tc, the_serial_is_told, 0, 3);
	tcase_add_test(tc, the_configuration_space_says_what_the_disk_is);
}

int main(void)
{
	return disk_test_main("blk", add_tests);
}
