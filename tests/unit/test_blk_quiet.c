/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that is made to stand still under load and goes on; and quiescing in each state of a device's life. */
#include "tests/unit/blk_disk.h"

#include "virtio/blk_queue.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>

#define BATCH 60

static struct disk_io batch[BATCH];
static unsigned completed_of_head[256];

static void add_batch(uint64_t seed)
{
	struct driver_queue *q = driver_queue(&guest, 0);

	memset(completed_of_head, 0, sizeof(completed_of_head));
	for (unsigned i = 0; i < BATCH; i++) {
		bool flush = i % 10 == 9, read = i % 2;

		batch[i] = disk_make_io(flush  ? VIRTIO_BLK_T_FLUSH
					: read ? VIRTIO_BLK_T_IN
					       : VIRTIO_BLK_T_OUT,
			i * 64, flush ? 0 : 16384, 512, i % 3 == 0);
		if (!read && !flush)
			disk_fill(disk_data(&batch[i]), 16384, seed + i);
		disk_add(q, &batch[i], read);
	}
	driver_kick(q);
}

/* Every request of the batch completes, once, and did what it says. */
static void finish_batch(void)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	uint8_t file[16384];
	uint16_t head;

	for (unsigned i = 0; i < BATCH; i++) {
		ck_assert(driver_wait_used(q, &head, NULL, DRIVER_WAIT_MS));
		ck_assert_uint_eq(completed_of_head[head]++, 0);
	}
	ck_assert(!driver_poll_used(q, NULL, NULL));
	for (unsigned i = 0; i < BATCH; i++) {
		ck_assert_uint_eq(disk_status(&batch[i]), VIRTIO_BLK_S_OK);
		if (!batch[i].len || i % 2)
			continue;
		disk_file_read(i * 64 * 512, file, sizeof(file));
		ck_assert_mem_eq(file, disk_data(&batch[i]), sizeof(file));
	}
}

START_TEST(a_quiet_disk_leaves_guest_memory_alone_and_loses_and_repeats_no_request)
{
	_cleanup_free_ uint8_t *copy = malloc(DISK_RAM);
	uint64_t heap;

	if (disk_caches[_i] == BLK_CACHE_NONE && !disk_direct_works())
		return;
	disk_start_default(disk_caches[_i]);
	heap = guest.heap_next;
	for (unsigned round = 0; round < 12; round++) {
		add_batch(round);
		if (round % 3)
			usleep(round * 20);
		driver_quiesce(&guest);
		memcpy(copy, guest.memory.regions[0].host, guest.heap_next);
		if (round % 2)
			virtio_device_kick(guest.device, 0); /* a late one */
		usleep(2000);
		ck_assert(!memcmp(copy, guest.memory.regions[0].host, guest.heap_next));
		driver_unquiesce(&guest);
		finish_batch();
		guest.heap_next = heap;
	}
	disk_end();
}
END_TEST

START_TEST(what_was_queued_while_the_disk_stood_still_is_served_after)
{
	if (disk_caches[_i] == BLK_CACHE_NONE && !disk_direct_works())
		return;
	disk_start_default(disk_caches[_i]);
	disk_round_trip(0, 4096, 0);
	driver_quiesce(&guest);
	add_batch(7);
	usleep(2000);
	ck_assert(!driver_poll_used(driver_queue(&guest, 0), NULL, NULL));
	driver_unquiesce(&guest);
	finish_batch();
	disk_end();
}
END_TEST

/* The vCPUs' state is saved after this: an interrupt must not come later. */
START_TEST(what_completed_before_the_disk_stood_still_has_been_signalled)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	uint64_t heap;

	disk_start_default(BLK_CACHE_WRITEBACK);
	heap = guest.heap_next;
	for (unsigned round = 0; round < 20; round++) {
		unsigned before = atomic_load(&guest.interrupts[0]), after;

		add_batch(round);
		driver_quiesce(&guest);
		after = atomic_load(&guest.interrupts[0]);
		if (q->used->idx != q->seen_used)
			ck_assert_uint_gt(after, before);
		usleep(200);
		ck_assert_uint_eq(atomic_load(&guest.interrupts[0]), after);
		driver_unquiesce(&guest);
		finish_batch();
		guest.heap_next = heap;
	}
	disk_end();
}
END_TEST

static unsigned completed(void)
{
	const struct driver_queue *q = driver_queue(&guest, 0);

	return (uint16_t)(__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) - q->seen_used);
}

START_TEST(a_limit_does_not_keep_a_disk_from_standing_still)
{
	struct blk_config config = disk_defaults();

	disk_make_file(DISK_SIZE);
	if (_i)
		config.bps = 4096;
	else
		config.iops = 1;
	disk_start(&config, DRIVER_ALL_FEATURES);
	add_batch(1);
	driver_quiesce(&guest); /* gives up after seconds: at this rate the batch needs a minute */
	ck_assert_uint_lt(completed(), BATCH);
	blk_set_limits(guest.device, 0, 0);
	usleep(2000);
	ck_assert_uint_lt(completed(), BATCH);
	driver_unquiesce(&guest);
	finish_batch();
	disk_end();
}
END_TEST

/* Where the file cannot be told to be zero, zeros are written, a step at a time. */
START_TEST(a_request_of_many_steps_stops_between_two_and_goes_on)
{
	struct blk_config config = disk_defaults();
	struct virtio_blk_discard_write_zeroes range = {.num_sectors = DISK_SECTORS};
	struct driver_queue *q = driver_queue(&guest, 0);
	static uint8_t file[DISK_SIZE];
	struct disk_io io;
	struct blk *blk;

	disk_make_file(DISK_SIZE);
	disk_start(&config, DRIVER_ALL_FEATURES);
	blk = container_of(guest.device, struct blk, dev);
	atomic_store(&blk->image.cannot[BLK_CLEAR_ZERO], true);
	for (unsigned round = 0; round < 20; round++) {
		io = disk_make_io(VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(range), 8, 0);
		memcpy(disk_data(&io), &range, sizeof(range));
		disk_add(q, &io, false);
		driver_kick(q);
		driver_quiesce(&guest);
		driver_unquiesce(&guest);
		ck_assert(driver_wait_used(q, NULL, NULL, DRIVER_WAIT_MS));
		ck_assert_uint_eq(disk_status(&io), VIRTIO_BLK_S_OK);
	}
	disk_file_read(0, file, sizeof(file));
	for (size_t i = 0; i < sizeof(file); i++)
		ck_assert_uint_eq(file[i], 0);
	disk_end();
}
END_TEST

/* ---- the device's life ---- */

/* After a reset the guest's RAM is its driver's to lay out anew. */
static void start_anew(void)
{
	memset(driver_host(&guest, 4096, guest.heap_next - 4096), 0, guest.heap_next - 4096);
	guest.heap_next = 4096;
	ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 256));
}

START_TEST(a_device_that_nobody_drives_stands_still_at_once)
{
	struct blk_config config = disk_defaults();
	struct error err;

	disk_make_file(DISK_SIZE);
	driver_create(&guest, DISK_RAM);
	ck_assert_int_eq(
		blk_create(&config, &guest.memory, guest.main_loop, &guest.device, &err), 0);
	driver_quiesce(&guest);
	driver_unquiesce(&guest);
	driver_unquiesce(&guest);
	ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 64));
	disk_round_trip(0, 4096, 0);
	disk_end();
}
END_TEST

START_TEST(a_device_set_going_just_before_starts_when_it_may)
{
	disk_start_default(BLK_CACHE_WRITEBACK);
	for (unsigned round = 0; round < 10; round++) {
		driver_reset(&guest);
		if (round % 2) {
			virtio_device_quiesce(guest.device, NULL, NULL);
			start_anew();
		} else {
			start_anew();
			driver_quiesce(&guest);
		}
		add_batch(round);
		driver_turn(&guest);
		usleep(1000);
		ck_assert_uint_eq(completed(), 0);
		driver_unquiesce(&guest);
		finish_batch();
	}
	disk_end();
}
END_TEST

static void count_up(struct virtio_device *dev, void *arg)
{
	unsigned *count = arg;

	(void)dev;
	(*count)++;
}

START_TEST(a_quiescing_taken_back_is_never_reported_and_the_disk_goes_on)
{
	uint64_t heap;
	unsigned told = 0;

	disk_start_default(BLK_CACHE_WRITEBACK);
	heap = guest.heap_next;
	for (unsigned round = 0; round < 20; round++) {
		add_batch(round);
		virtio_device_quiesce(guest.device, count_up, &told);
		if (round % 2)
			usleep(500); /* the answer is in the loop */
		virtio_device_unquiesce(guest.device);
		if (round % 4 > 1) {
			driver_quiesce(&guest);
			driver_unquiesce(&guest);
		}
		driver_turn(&guest);
		for (unsigned i = 0; i < 50 && completed() < BATCH; i++) {
			usleep(1000);
			driver_turn(&guest);
		}
		finish_batch();
		ck_assert_uint_eq(told, 0);
		guest.heap_next = heap;
	}
	disk_end();
}
END_TEST

START_TEST(a_reset_and_a_quiescing_end_both_in_any_order)
{
	unsigned reset, quiet;

	disk_start_default(BLK_CACHE_WRITEBACK);
	for (unsigned round = 0; round < 40; round++) {
		reset = quiet = 0;
		add_batch(round);
		if (round & 1)
			virtio_device_quiesce(guest.device, count_up, &quiet);
		if (round & 2)
			usleep(round * 10);
		if (round & 4)
			driver_turn(&guest);
		virtio_device_reset(guest.device, count_up, &reset);
		if (round & 8)
			driver_turn(&guest);
		if (!(round & 1))
			virtio_device_quiesce(guest.device, count_up, &quiet);
		for (unsigned i = 0; i < 10000 && !(reset && quiet); i++) {
			driver_turn(&guest);
			usleep(200);
		}
		ck_assert_uint_eq(reset, 1);
		ck_assert_uint_eq(quiet, 1);
		if (round & 16)
			driver_unquiesce(&guest);
		start_anew();
		if (!(round & 16))
			driver_unquiesce(&guest);
		disk_round_trip(0, 4096, 0);
	}
	disk_end();
}
END_TEST

START_TEST(a_broken_device_stands_still_and_can_be_reset)
{
	struct driver_queue *q = driver_queue(&guest, 0);

	disk_start_default(BLK_CACHE_WRITEBACK);
	for (unsigned round = 0; round < 10; round++) {
		add_batch(round);
		q->avail->ring[q->next_avail & (q->size - 1)] = UINT16_MAX;
		__atomic_store_n(&q->avail->idx, (uint16_t)(q->next_avail + 1), __ATOMIC_RELEASE);
		virtio_device_kick(guest.device, 0);
		if (round % 2)
			while (!(atomic_load(&guest.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET))
				usleep(100);
		driver_quiesce(&guest);
		driver_unquiesce(&guest);
		if (round % 3)
			driver_quiesce(&guest);
		driver_reset(&guest);
		driver_unquiesce(&guest);
		start_anew();
		disk_round_trip(0, 4096, 0);
	}
	disk_end();
}
END_TEST

START_TEST(a_quiet_device_can_be_destroyed)
{
	for (unsigned round = 0; round < 10; round++) {
		disk_start_default(BLK_CACHE_WRITEBACK);
		add_batch(round);
		if (round % 2)
			driver_quiesce(&guest);
		else
			virtio_device_quiesce(guest.device, NULL, NULL);
		driver_destroy(&guest);
	}
}
END_TEST

/* ---- the host's own flush ---- */

static int flush_result;

static void flushed(struct virtio_device *dev, int ret, void *arg)
{
	(void)dev;
	flush_result = ret;
	(*(unsigned *)arg)++;
}

static int flush_now(void)
{
	unsigned told = 0;

	blk_flush(guest.device, flushed, &told);
	ck_assert_uint_eq(told, 0);
	for (unsigned i = 0; i < DRIVER_WAIT_MS && !told; i++) {
		driver_turn(&guest);
		usleep(1000);
	}
	ck_assert_uint_eq(told, 1);
	return flush_result;
}

START_TEST(the_host_flushes_a_quiet_disk_and_a_busy_one)
{
	disk_start_default(BLK_CACHE_WRITEBACK);
	ck_assert_int_eq(flush_now(), 0);
	add_batch(1);
	ck_assert_int_eq(flush_now(), 0);
	driver_quiesce(&guest);
	ck_assert_int_eq(flush_now(), 0);
	driver_unquiesce(&guest);
	finish_batch();
	disk_end();
}
END_TEST

START_TEST(a_flush_that_failed_once_is_not_confirmed_to_anyone)
{
	struct blk *blk;

	disk_start_default(BLK_CACHE_WRITEBACK);
	blk = container_of(guest.device, struct blk, dev);
	atomic_store(&blk->flush_lost, true); /* as flush_done() leaves it */
	ck_assert_int_eq(flush_now(), -EIO);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_IOERR);
	disk_end();
}
END_TEST

/* The kernel may still be at the flushes when the disk has gone, and frees them with the loop's next rounds: on memory it is soon. */
START_TEST(who_waits_for_a_flush_hears_that_the_disk_has_ended)
{
	char path[] = "/dev/shm/bulkhead-quiet-XXXXXX";
	struct blk_config config = disk_defaults();
	int fd = mkstemp(path);
	unsigned told = 0;

	ck_assert_int_eq(ftruncate(fd, MIB(1)), 0);
	config.path = path;
	config.cache = BLK_CACHE_WRITEBACK;
	disk_start(&config, DRIVER_ALL_FEATURES);
	blk_flush(guest.device, flushed, &told);
	blk_flush(guest.device, flushed, &told);
	driver_unplug(&guest);
	unlink(path);
	close(fd);
	ck_assert_uint_eq(told, 2);
	for (unsigned i = 0; i < 100; i++) {
		usleep(5000);
		driver_turn(&guest);
	}
	driver_destroy(&guest);
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, the_host_flushes_a_quiet_disk_and_a_busy_one);
	tcase_add_test(tc, a_flush_that_failed_once_is_not_confirmed_to_anyone);
	tcase_add_test(tc, who_waits_for_a_flush_hears_that_the_disk_has_ended);
	tcase_add_loop_test(tc,
		a_quiet_disk_leaves_guest_memory_alone_and_loses_and_repeats_no_request, 0,
		DISK_CACHES);
	tcase_add_loop_test(
		tc, what_was_queued_while_the_disk_stood_still_is_served_after, 0, DISK_CACHES);
	tcase_add_test(tc, what_completed_before_the_disk_stood_still_has_been_signalled);
	tcase_add_loop_test(tc, a_limit_does_not_keep_a_disk_from_standing_still, 0, 2);
	tcase_add_test(tc, a_request_of_many_steps_stops_between_two_and_goes_on);
	tcase_add_test(tc, a_device_that_nobody_drives_stands_still_at_once);
	tcase_add_test(tc, a_device_set_going_just_before_starts_when_it_may);
	tcase_add_test(tc, a_quiescing_taken_back_is_never_reported_and_the_disk_goes_on);
	tcase_add_test(tc, a_reset_and_a_quiescing_end_both_in_any_order);
	tcase_add_test(tc, a_broken_device_stands_still_and_can_be_reset);
	tcase_add_test(tc, a_quiet_device_can_be_destroyed);
}

int main(void)
{
	return disk_test_main("blk_quiet", add_tests);
}
