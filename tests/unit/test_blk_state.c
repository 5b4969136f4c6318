/* SPDX-License-Identifier: Apache-2.0 */
/* A disk's state: saved, and loaded by another device over the same guest memory; and every kind of file that lies. */
#include "tests/unit/blk_disk.h"

#include "virtio/blk_queue.h"

#include <linux/virtio_config.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define BATCH 60

static struct disk_io batch[BATCH];
static unsigned completed_of_head[256], completed;
static struct blk_config config;

static void create(void)
{
	struct error err;

	ck_assert_msg(blk_create(&config, &guest.memory, guest.main_loop, &guest.device, &err) == 0,
		"%s", err.text);
	driver_plug(&guest);
}

static void start(uint64_t features)
{
	config = disk_defaults();
	config.queues = 2;
	disk_make_file(DISK_SIZE);
	driver_create(&guest, DISK_RAM);
	create();
	ck_assert(driver_start(&guest, features, 256));
}

static void save(struct state_writer *out)
{
	driver_quiesce(&guest);
	driver_save(&guest, out);
}

/* The device ends, another one takes its place. */
static void move(void)
{
	struct state_writer saved, again;
	struct error err;

	save(&saved);
	driver_unplug(&guest);
	create();
	ck_assert_msg(driver_load(&guest, saved.bytes, saved.size, &err) == 0, "%s", err.text);
	driver_save(&guest, &again);
	ck_assert_uint_eq(saved.size, again.size);
	ck_assert_mem_eq(saved.bytes, again.bytes, saved.size);
	state_release(&saved);
	state_release(&again);
	driver_unquiesce(&guest);
}

/* All 16-bit positions of the ring, driver's and device's, are about to wrap. */
static void wrap_soon(struct driver_queue *q)
{
	struct virtqueue *ring = &guest.device->queues[q->index].ring;

	driver_quiesce(&guest);
	q->next_avail = q->kicked_avail = q->seen_used = 65500;
	q->avail->idx = q->used->idx = 65500;
	q->avail->ring[q->size] = 65500;
	ring->next_avail = ring->next_used = ring->signalled_used = 65500;
	driver_unquiesce(&guest);
}

static void add_batch(uint64_t seed)
{
	struct driver_queue *q = driver_queue(&guest, 0);

	memset(completed_of_head, 0, sizeof(completed_of_head));
	completed = 0;
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

static bool take_one(unsigned ms)
{
	uint16_t head;

	if (!driver_wait_used(driver_queue(&guest, 0), &head, NULL, ms))
		return false;
	ck_assert_uint_eq(completed_of_head[head]++, 0);
	completed++;
	return true;
}

static void finish_batch(void)
{
	uint8_t file[16384];

	while (completed < BATCH)
		ck_assert(take_one(DRIVER_WAIT_MS));
	usleep(500);
	ck_assert(!take_one(0));
	for (unsigned i = 0; i < BATCH; i++) {
		ck_assert_uint_eq(disk_status(&batch[i]), VIRTIO_BLK_S_OK);
		if (!batch[i].len || i % 2)
			continue;
		disk_file_read(i * 64 * 512, file, sizeof(file));
		ck_assert_mem_eq(file, disk_data(&batch[i]), sizeof(file));
	}
}

START_TEST(requests_in_flight_complete_once_whoever_has_the_disk_then)
{
	uint64_t features[] = {
		DRIVER_ALL_FEATURES, DRIVER_ALL_FEATURES & ~(1ull << VIRTIO_RING_F_EVENT_IDX)};
	uint64_t heap;

	start(features[_i]);
	heap = guest.heap_next;
	wrap_soon(driver_queue(&guest, 0));
	for (unsigned round = 0; round < 12; round++) {
		add_batch(round);
		for (unsigned i = 0; i < round % 4; i++) {
			usleep(round * 30);
			move();
		}
		if (round % 3 == 2)
			take_one(DRIVER_WAIT_MS);
		finish_batch();
		guest.heap_next = heap;
	}
	disk_end();
}
END_TEST

/* What the limiter had taken is not in the ring's future any more: it goes along by name. */
START_TEST(requests_that_a_limit_holds_back_go_along)
{
	start(DRIVER_ALL_FEATURES);
	for (unsigned round = 0; round < 5; round++) {
		config.iops = 40;
		move();
		add_batch(round);
		while (!take_one(DRIVER_WAIT_MS))
			;
		move();
		ck_assert_uint_lt(completed, BATCH);
		move(); /* one that never started has them still */
		config.iops = 0;
		move();
		finish_batch();
		driver_reset(&guest);
		memset(driver_host(&guest, 4096, DISK_RAM - 4096), 0, DISK_RAM - 4096);
		guest.heap_next = 4096;
		ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 256));
	}
	disk_end();
}
END_TEST

START_TEST(a_disk_that_was_never_let_go_can_be_saved_and_moved_again)
{
	struct state_writer saved;
	struct error err;

	start(DRIVER_ALL_FEATURES);
	config.iops = 1;
	move();
	add_batch(3);
	save(&saved);
	for (unsigned i = 0; i < 3; i++) {
		driver_unplug(&guest);
		create();
		ck_assert_int_eq(driver_load(&guest, saved.bytes, saved.size, &err), 0);
		state_release(&saved);
		driver_quiesce(&guest);
		driver_save(&guest, &saved);
	}
	state_release(&saved);
	blk_set_limits(guest.device, 0, 0);
	driver_unquiesce(&guest);
	finish_batch();
	disk_end();
}
END_TEST

/* ---- every stage of a device's life ---- */

static void set_status(uint8_t status)
{
	pthread_mutex_lock(&guest.device->lock);
	virtio_device_set_status(guest.device, status);
	pthread_mutex_unlock(&guest.device->lock);
	driver_turn(&guest);
}

START_TEST(a_driver_goes_on_negotiating_where_it_was)
{
	uint8_t status = 0;

	config = disk_defaults();
	disk_make_file(DISK_SIZE);
	driver_create(&guest, DISK_RAM);
	create();
	move();
	for (unsigned bit = 0; bit < 2; bit++) {
		status |= (uint8_t)(VIRTIO_CONFIG_S_ACKNOWLEDGE << bit);
		set_status(status);
		move();
		ck_assert_uint_eq(atomic_load(&guest.device->status), status);
	}
	pthread_mutex_lock(&guest.device->lock);
	virtio_device_set_driver_features(guest.device, 0, (uint32_t)guest.device->features);
	pthread_mutex_unlock(&guest.device->lock);
	move();
	pthread_mutex_lock(&guest.device->lock);
	virtio_device_set_driver_features(
		guest.device, 1, (uint32_t)(guest.device->features >> 32));
	pthread_mutex_unlock(&guest.device->lock);
	move();
	status |= VIRTIO_CONFIG_S_FEATURES_OK;
	set_status(status);
	move();
	ck_assert_uint_eq(atomic_load(&guest.device->status), status);
	ck_assert_uint_eq(guest.device->driver_features, guest.device->features);
	set_status(0);
	move();
	ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 64));
	move();
	disk_round_trip(0, 4096, 0);
	driver_reset(&guest);
	move();
	ck_assert_uint_eq(atomic_load(&guest.device->status), 0);
	disk_end();
}
END_TEST

START_TEST(a_broken_device_stays_broken_until_it_is_reset)
{
	struct driver_queue *q = NULL;

	start(DRIVER_ALL_FEATURES);
	q = driver_queue(&guest, 0);
	add_batch(1);
	q->avail->ring[q->next_avail & (q->size - 1)] = UINT16_MAX;
	__atomic_store_n(&q->avail->idx, (uint16_t)(q->next_avail + 1), __ATOMIC_RELEASE);
	virtio_device_kick(guest.device, 0);
	while (!(atomic_load(&guest.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET))
		usleep(100);
	move();
	ck_assert(atomic_load(&guest.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET);
	virtio_device_kick(guest.device, 0);
	usleep(1000);
	driver_reset(&guest);
	memset(driver_host(&guest, 4096, DISK_RAM - 4096), 0, DISK_RAM - 4096);
	guest.heap_next = 4096;
	ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 256));
	disk_round_trip(0, 4096, 0);
	disk_end();
}
END_TEST

/* ---- interrupts ---- */

static bool pending(unsigned vector)
{
	return msix_pba_read(virtio_pci_function(guest.pci)->msix, 0, 8) >> vector & 1;
}

START_TEST(an_interrupt_that_was_pending_is_pending_still)
{
	start(DRIVER_ALL_FEATURES);
	disk_round_trip(0, 4096, 0);
	move();
	ck_assert(pending(0)); /* queue 0's; nobody unmasked it */
	ck_assert(!pending(1));
	disk_end();
}
END_TEST

START_TEST(a_disk_that_has_grown_is_announced_once_the_guest_goes_on)
{
	struct state_writer saved;
	struct error err;
	uint8_t generation;
	uint64_t capacity;

	start(DRIVER_ALL_FEATURES);
	save(&saved);
	generation = atomic_load(&guest.device->config_generation);
	driver_unplug(&guest);
	ck_assert_int_eq(truncate(disk_path, 2 * DISK_SIZE), 0);
	create();
	ck_assert_int_eq(driver_load(&guest, saved.bytes, saved.size, &err), 0);
	ck_assert_uint_ne(atomic_load(&guest.device->config_generation), generation);
	ck_assert(atomic_load(&guest.device->config_changed));
	driver_unquiesce(&guest);
	ck_assert(!atomic_load(&guest.device->config_changed));
	driver_config_read(&guest, 0, &capacity, 8);
	ck_assert_uint_eq(capacity, 2 * DISK_SECTORS);
	state_release(&saved);
	disk_end();
}
END_TEST

START_TEST(a_change_of_size_while_the_disk_stood_still_is_announced_after)
{
	uint64_t size = 2 * DISK_SIZE;
	struct error err;

	start(DRIVER_ALL_FEATURES);
	atomic_store(&((struct blk *)guest.device)->writeback, true);
	driver_quiesce(&guest);
	ck_assert_int_eq(blk_resize(guest.device, &size, &err), 0);
	ck_assert(atomic_load(&guest.device->config_changed));
	move();
	ck_assert(!atomic_load(&guest.device->config_changed));
	ck_assert_uint_eq(blk_size(guest.device), 2 * DISK_SIZE);
	disk_end();
}
END_TEST

/* ---- refusals ---- */

static void expect_refused(const struct state_writer *saved, const char *words)
{
	struct state_writer before, after;
	struct error err;

	driver_quiesce(&guest);
	driver_save(&guest, &before);
	ck_assert_int_lt(driver_load(&guest, saved->bytes, saved->size, &err), 0);
	ck_assert_msg(strstr(err.text, words), "%s", err.text);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	driver_save(&guest, &after);
	ck_assert_uint_eq(before.size, after.size);
	ck_assert_mem_eq(before.bytes, after.bytes, before.size);
	state_release(&before);
	state_release(&after);
	driver_unquiesce(&guest);
}

START_TEST(a_disk_that_cannot_be_the_guests_is_refused_in_words)
{
	struct state_writer saved;

	start(DRIVER_ALL_FEATURES);
	save(&saved);
	driver_unplug(&guest);
	config.readonly = true;
	create();
	expect_refused(&saved, "feature ");
	driver_unplug(&guest);
	config.readonly = false;
	config.discard = false;
	create();
	expect_refused(&saved, "feature 13");
	driver_unplug(&guest);
	config.discard = true;
	config.queues = 3;
	create();
	expect_refused(&saved, "2 queues");
	driver_unplug(&guest);
	config.queues = 2;
	ck_assert_int_eq(truncate(disk_path, DISK_SIZE / 2), 0);
	create();
	expect_refused(&saved, "4194304 bytes, this file only 2097152");
	state_release(&saved);
	driver_destroy(&guest);
}
END_TEST

static void reset_all(void)
{
	driver_unquiesce(&guest);
	virtio_device_reset_now(guest.device);
	pci_function_reset(virtio_pci_function(guest.pci));
}

/* Each byte of the file changed, with a checksum that fits: refused, or taken by a device that holds, and can be reset. */
START_TEST(no_byte_of_a_state_can_do_harm)
{
	struct state_writer saved, before, after;
	unsigned refused = 0, taken = 0, changed = 0;
	struct error err;

	start(DRIVER_ALL_FEATURES);
	disk_round_trip(0, 4096, 0);
	config.iops = 1;
	move();
	add_batch(1);
	save(&saved);
	driver_unplug(&guest);
	config.iops = 0;
	create();
	driver_quiesce(&guest);
	driver_save(&guest, &before);
	driver_unquiesce(&guest);
	for (size_t at = 16; at < saved.size - 8; at++) {
		uint8_t was = saved.bytes[at];
		uint64_t sum;

		saved.bytes[at] ^= (uint8_t)(at % 3 ? 1u << at % 8 : 0xffu);
		sum = XXH3_64bits(saved.bytes, saved.size - 8);
		memcpy(saved.bytes + saved.size - 8, &sum, 8);
		if (driver_load(&guest, saved.bytes, saved.size, &err) < 0) {
			refused++;
			driver_quiesce(&guest);
			driver_save(&guest, &after);
			changed += before.size != after.size ||
				   memcmp(before.bytes, after.bytes, before.size);
			state_release(&after);
			driver_unquiesce(&guest);
		} else {
			taken++;
			reset_all();
			/* A reset is no power-on: the generation of its configuration goes on. */
			state_release(&before);
			driver_quiesce(&guest);
			driver_save(&guest, &before);
			driver_unquiesce(&guest);
		}
		saved.bytes[at] = was;
	}
	ck_assert_uint_gt(refused, 1000);
	ck_assert_uint_gt(taken, 20);
	ck_assert_uint_eq(changed, 0);
	state_release(&saved);
	state_release(&before);
	driver_destroy(&guest);
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_loop_test(tc, requests_in_flight_complete_once_whoever_has_the_disk_then, 0, 2);
	tcase_add_test(tc, requests_that_a_limit_holds_back_go_along);
	tcase_add_test(tc, a_disk_that_was_never_let_go_can_be_saved_and_moved_again);
	tcase_add_test(tc, a_driver_goes_on_negotiating_where_it_was);
	tcase_add_test(tc, a_broken_device_stays_broken_until_it_is_reset);
	tcase_add_test(tc, an_interrupt_that_was_pending_is_pending_still);
	tcase_add_test(tc, a_disk_that_has_grown_is_announced_once_the_guest_goes_on);
	tcase_add_test(tc, a_change_of_size_while_the_disk_stood_still_is_announced_after);
	tcase_add_test(tc, a_disk_that_cannot_be_the_guests_is_refused_in_words);
	tcase_add_test(tc, no_byte_of_a_state_can_do_harm);
}

int main(void)
{
	return disk_test_main("blk_state", add_tests);
}
