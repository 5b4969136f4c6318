/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk over time: reset and end in mid-flight, limits, a growing file. */
#include "tests/unit/blk_disk.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- reset in mid-flight ---- */

/* After the status reads 0 the guest's memory is its own: nothing may be written to it any more. */
START_TEST(a_reset_in_mid_flight_ends_every_access_to_guest_memory)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	_cleanup_free_ uint8_t *copy = malloc(DISK_RAM);

	disk_start_default(disk_caches[_i]);
	for (unsigned round = 0; round < 20; round++) {
		uint64_t heap = guest.heap_next;

		for (unsigned i = 0; i < 60; i++) {
			struct disk_io io = disk_make_io(i % 10 == 9 ? VIRTIO_BLK_T_FLUSH
							 : i % 2     ? VIRTIO_BLK_T_IN
								     : VIRTIO_BLK_T_OUT,
				i * 64, i % 10 == 9 ? 0 : 16384, 512, i % 3 == 0);

			disk_add(q, &io, i % 2);
		}
		driver_kick(q);
		if (round % 2)
			usleep(round * 50);
		driver_reset(&guest);
		memcpy(copy, guest.memory.regions[0].host, DISK_RAM);
		usleep(2000);
		ck_assert(!memcmp(copy, guest.memory.regions[0].host, DISK_RAM));
		memset(driver_host(&guest, heap, guest.heap_next - heap), 0,
			guest.heap_next - heap);
		guest.heap_next = heap;
		ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 256));
	}
	disk_round_trip(0, 4096, 0);
	disk_end();
}
END_TEST

START_TEST(a_disk_can_be_destroyed_in_mid_flight)
{
	for (unsigned round = 0; round < 10; round++) {
		disk_start_default(disk_caches[_i]);
		for (unsigned i = 0; i < 60; i++) {
			struct disk_io io = disk_make_io(
				i % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, i * 64, 16384, 512, 0);

			disk_add(driver_queue(&guest, 0), &io, i % 2);
		}
		driver_kick(driver_queue(&guest, 0));
		driver_destroy(&guest);
	}
}
END_TEST

/* Batches of writes and flushes; says so on `ready` after the first. */
static _Noreturn void write_for_ever(int ready)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	uint64_t heap = guest.heap_next;

	for (;;) {
		for (unsigned i = 0; i < 60; i++) {
			bool flush = i % 9 == 8;
			struct disk_io io =
				disk_make_io(flush ? VIRTIO_BLK_T_FLUSH : VIRTIO_BLK_T_OUT, i * 8,
					flush ? 0 : 4096, 512, 0);

			disk_add(q, &io, false);
		}
		driver_kick(q);
		for (unsigned i = 0; i < 60; i++)
			if (!driver_wait_used(q, NULL, NULL, DRIVER_WAIT_MS))
				_exit(1);
		guest.heap_next = heap;
		if (ready >= 0 && write(ready, "", 1) != 1)
			_exit(1);
		ready = -1;
	}
}

/* A VM that is started again right after its monitor died must find its disk free. */
START_TEST(a_disk_can_be_started_again_as_soon_as_its_monitor_was_killed)
{
	struct blk_config config = disk_defaults();
	int ready[2], status;
	char byte;
	pid_t pid;

	config.cache = disk_caches[_i];
	disk_make_file(DISK_SIZE);
	for (unsigned round = 0; round < 10; round++) {
		ck_assert_int_eq(pipe(ready), 0);
		pid = fork();
		if (pid == 0) {
			disk_start(&config, DRIVER_ALL_FEATURES);
			write_for_ever(ready[1]);
		}
		ck_assert_int_eq(read(ready[0], &byte, 1), 1);
		usleep(round * 300);
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		disk_start(&config, DRIVER_ALL_FEATURES);
		disk_end();
		close(ready[0]);
		close(ready[1]);
	}
}
END_TEST

/* ---- limits ---- */

static void add_reads(unsigned n, uint32_t len)
{
	for (unsigned i = 0; i < n; i++) {
		struct disk_io io = disk_make_io(VIRTIO_BLK_T_IN, 0, len, 4096, 0);

		disk_add(driver_queue(&guest, 0), &io, true);
	}
	driver_kick(driver_queue(&guest, 0));
}

static void wait_all(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		ck_assert(driver_wait_used(driver_queue(&guest, 0), NULL, NULL, DRIVER_WAIT_MS));
}

START_TEST(limits_hold_and_are_used_up)
{
	struct blk_config config = disk_defaults();
	uint64_t start, took, counters[BLK_COUNTERS];

	disk_make_file(DISK_SIZE);
	if (_i)
		config.bps = 100 * 4096;
	else
		config.iops = 100;
	disk_start(&config, DRIVER_ALL_FEATURES);
	start = now_ns();
	add_reads(60, 4096);
	wait_all(60);
	took = (now_ns() - start) / 1000000;
	/*
	 * 10 at once by the burst, the others 10 ms apart: 490 to 500 ms, and what a busy machine adds. One a tick of 100 ms
	 * would take 5000.
	 */
	ck_assert_uint_ge(took, 480);
	ck_assert_uint_le(took, 4500);
	blk_get_counters(guest.device, counters);
	ck_assert_uint_eq(counters[BLK_READS], 60);
	ck_assert_uint_ge(counters[BLK_PARKED], 40);
	disk_end();
}
END_TEST

static void wait_until_in_flight_at_most(uint64_t n)
{
	uint64_t end = now_ns() + DRIVER_WAIT_MS * 1000000ull;

	while (blk_in_flight(guest.device) > n) {
		ck_assert_msg(now_ns() < end, "%lu in flight, more than %lu",
			(unsigned long)blk_in_flight(guest.device), (unsigned long)n);
		usleep(1000);
	}
}

START_TEST(what_the_limits_hold_is_in_flight_and_its_wait_is_part_of_its_latency)
{
	struct blk_config config = disk_defaults();
	struct histogram_sums sums = {0};
	uint64_t held_ns, held, count = 0;

	disk_make_file(DISK_SIZE);
	config.iops = 1;
	disk_start(&config, DRIVER_ALL_FEATURES);
	add_reads(50, 4096);
	wait_all(1);
	wait_until_in_flight_at_most(49);
	held_ns = now_ns();
	usleep(20000);
	held_ns = now_ns() - held_ns;
	held = blk_in_flight(guest.device); /* 49, unless this took a second */
	ck_assert_uint_gt(held, 0);
	blk_set_limits(guest.device, 0, 0);
	wait_all(49);
	wait_until_in_flight_at_most(0);
	blk_add_latency(guest.device, BLK_LATENCY_READ, &sums);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		count += sums.counts[i];
	ck_assert_uint_eq(count, 50);
	ck_assert_uint_ge(sums.sum_ns, held * held_ns);
	disk_end();
}
END_TEST

START_TEST(each_request_that_succeeds_is_in_the_latencies_of_its_kind_and_no_other)
{
	static const uint64_t expected[BLK_LATENCIES] = {
		[BLK_LATENCY_READ] = 3, [BLK_LATENCY_WRITE] = 2, [BLK_LATENCY_FLUSH] = 1};

	disk_start_default(BLK_CACHE_AUTO);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_IN, 8 * i, 4096), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 8 * i, 4096), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_IN, DISK_SECTORS, 4096), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
	for (unsigned kind = 0; kind < BLK_LATENCIES; kind++) {
		struct histogram_sums sums = {0};
		uint64_t count = 0;

		blk_add_latency(guest.device, kind, &sums);
		for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
			count += sums.counts[i];
		ck_assert_uint_eq(count, expected[kind]);
	}
	wait_until_in_flight_at_most(0);
	disk_end();
}
END_TEST

START_TEST(a_request_larger_than_the_limit_passes)
{
	struct blk_config config = disk_defaults();

	disk_make_file(DISK_SIZE);
	config.bps = 4096;
	disk_start(&config, DRIVER_ALL_FEATURES);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_IN, 0, 65536), VIRTIO_BLK_S_OK);
	disk_end();
}
END_TEST

START_TEST(lifting_a_limit_frees_what_it_held_at_once)
{
	struct blk_config config = disk_defaults();
	uint64_t start;

	disk_make_file(DISK_SIZE);
	config.iops = 1;
	disk_start(&config, DRIVER_ALL_FEATURES);
	add_reads(50, 4096);
	ck_assert(driver_wait_used(driver_queue(&guest, 0), NULL, NULL, DRIVER_WAIT_MS));
	usleep(100000);
	ck_assert_uint_gt(blk_in_flight(guest.device), 0);
	start = now_ns();
	blk_set_limits(guest.device, 0, 0);
	wait_all(49);
	ck_assert_uint_lt(now_ns() - start, 20000000000u); /* at one a second they would take 49 */
	disk_end();
}
END_TEST

START_TEST(a_reset_drops_what_the_limits_hold)
{
	struct blk_config config = disk_defaults();
	uint64_t start;

	disk_make_file(DISK_SIZE);
	config.iops = 1;
	disk_start(&config, DRIVER_ALL_FEATURES);
	add_reads(50, 4096);
	usleep(10000);
	start = now_ns();
	driver_reset(&guest);
	ck_assert_uint_lt(now_ns() - start, 20000000000u); /* at one a second they would take 49 */
	blk_set_limits(guest.device, 0, 0);
	ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 256));
	disk_round_trip(0, 4096, 0);
	disk_end();
}
END_TEST

/* ---- size ---- */

static uint64_t capacity(void)
{
	uint64_t sectors;

	driver_config_read(&guest, 0, &sectors, 8);
	return sectors;
}

START_TEST(a_grown_file_is_a_grown_disk)
{
	struct error err;
	unsigned interrupts;
	uint8_t generation;
	uint64_t size = 0;

	disk_start_default(BLK_CACHE_AUTO);
	ck_assert_uint_eq(capacity(), DISK_SECTORS);
	interrupts = atomic_load(&guest.config_interrupts);
	generation = atomic_load(&guest.device->config_generation);
	ck_assert_int_eq(truncate(disk_path, DISK_SIZE * 2), 0);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, DISK_SECTORS, 4096), VIRTIO_BLK_S_IOERR);
	ck_assert_int_eq(blk_resize(guest.device, &size, &err), 0);
	ck_assert_uint_eq(size, DISK_SIZE * 2);
	ck_assert_uint_eq(capacity(), DISK_SECTORS * 2);
	ck_assert_uint_eq(atomic_load(&guest.config_interrupts), interrupts + 1);
	ck_assert_uint_ne(atomic_load(&guest.device->config_generation), generation);
	disk_round_trip(DISK_SECTORS * 2 - 8, 4096, 0);
	/* not smaller, and not odd: refused in words, nothing changed */
	ck_assert_int_eq(truncate(disk_path, DISK_SIZE), 0);
	size = 0;
	ck_assert_int_lt(blk_resize(guest.device, &size, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "would shrink"));
	ck_assert_int_eq(truncate(disk_path, DISK_SIZE * 2 + 100), 0);
	ck_assert_int_lt(blk_resize(guest.device, &size, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "not a multiple of 512"));
	ck_assert_uint_eq(capacity(), DISK_SECTORS * 2);
	disk_end();
}
END_TEST

START_TEST(a_disk_is_grown_by_its_new_size_and_never_shrunk)
{
	struct error err;
	uint64_t size = DISK_SIZE * 2;
	struct stat st;

	disk_start_default(BLK_CACHE_AUTO);
	ck_assert_int_eq(blk_resize(guest.device, &size, &err), 0);
	ck_assert_uint_eq(size, DISK_SIZE * 2);
	ck_assert_uint_eq(capacity(), DISK_SECTORS * 2);
	ck_assert_int_eq(stat(disk_path, &st), 0);
	ck_assert_int_eq(st.st_size, DISK_SIZE * 2);
	disk_round_trip(DISK_SECTORS * 2 - 8, 4096, 0);
	size = DISK_SIZE;
	ck_assert_int_lt(blk_resize(guest.device, &size, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_WRONG_STATE);
	size = DISK_SIZE * 3 + 1;
	ck_assert_int_lt(blk_resize(guest.device, &size, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "not a multiple of 512"));
	ck_assert_uint_eq(capacity(), DISK_SECTORS * 2);
	disk_end();
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_loop_test(tc, a_reset_in_mid_flight_ends_every_access_to_guest_memory, 0, 3);
	tcase_add_loop_test(tc, a_disk_can_be_destroyed_in_mid_flight, 0, 3);
	tcase_add_loop_test(
		tc, a_disk_can_be_started_again_as_soon_as_its_monitor_was_killed, 0, 3);
	tcase_add_loop_test(tc, limits_hold_and_are_used_up, 0, 2);
	tcase_add_test(tc, what_the_limits_hold_is_in_flight_and_its_wait_is_part_of_its_latency);
	tcase_add_test(tc, each_request_that_succeeds_is_in_the_latencies_of_its_kind_and_no_other);
	tcase_add_test(tc, a_request_larger_than_the_limit_passes);
	tcase_add_test(tc, lifting_a_limit_frees_what_it_held_at_once);
	tcase_add_test(tc, a_reset_drops_what_the_limits_hold);
	tcase_add_test(tc, a_grown_file_is_a_grown_disk);
	tcase_add_test(tc, a_disk_is_grown_by_its_new_size_and_never_shrunk);
}

int main(void)
{
	return disk_test_main("blk_life", add_tests);
}
