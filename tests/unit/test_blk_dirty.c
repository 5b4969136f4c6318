/* SPDX-License-Identifier: Apache-2.0 */
/* Which blocks of a disk have changed: taken and given back against a naive oracle, and marks by every kind of request. */
#include "tests/unit/blk_disk.h"

#include <string.h>

/* ---- taking ---- */

#define MOST 700 /* blocks */

static uint64_t seed;
static struct error err;

static uint64_t draw(uint64_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % below;
}

static void expect_set(const struct page_set *set, const bool *oracle)
{
	uint64_t first = 0, count = 0, in = 0, at = 0;
	bool seen[MOST] = {false};

	for (uint64_t i = 0; i < set->count; i++) {
		ck_assert_int_eq(page_set_has(set, i), oracle[i]);
		in += oracle[i];
	}
	ck_assert_uint_eq(page_set_size(set), in);
	for (; page_set_next_range(set, at, &first, &count); at = first + count) {
		ck_assert_uint_ge(first, at);
		ck_assert_uint_gt(count, 0);
		ck_assert_uint_le(first + count, set->count);
		for (uint64_t i = first; i < first + count; i++)
			seen[i] = true;
	}
	ck_assert(!memcmp(seen, oracle, sizeof(seen)));
}

START_TEST(what_is_taken_is_given_back_and_what_grew_is_always_changed)
{
	for (unsigned round = 0; round < 200; round++) {
		struct blk_dirty dirty = {NULL};
		struct page_set set = {0};
		bool oracle[MOST] = {false};
		uint64_t count = 1 + draw(MOST / 2), grown = count + draw(3) * draw(100);

		ck_assert_int_eq(
			blk_dirty_start(&dirty, (count << BLK_DIRTY_SHIFT) - draw(2) * 512), 0);
		ck_assert_int_eq(block_set_grow(&set, grown, &err), 0);
		for (unsigned step = 0; step < 20; step++) {
			uint64_t offset = draw(grown << BLK_DIRTY_SHIFT), len = draw(MIB(3));

			blk_dirty_mark(&dirty, offset, len);
			for (uint64_t at = offset; len && at < offset + len; at++) {
				if (at >> BLK_DIRTY_SHIFT < count)
					oracle[at >> BLK_DIRTY_SHIFT] = true;
				at |= BLK_DIRTY_BLOCK - 1;
			}
		}
		for (uint64_t i = count; i < grown; i++)
			oracle[i] = true;
		for (unsigned again = 0; again < 2; again++) {
			ck_assert_int_eq(block_set_grow(&set, grown, &err), 0);
			blk_dirty_take(&dirty, &set);
			expect_set(&set, oracle);
			ck_assert_uint_eq(
				blk_dirty_pending(&dirty, grown << BLK_DIRTY_SHIFT), grown - count);
			blk_dirty_give_back(&dirty, &set);
			ck_assert_uint_eq(blk_dirty_pending(&dirty, grown << BLK_DIRTY_SHIFT),
				page_set_size(&set));
			page_set_destroy(&set);
		}
		free(blk_dirty_stop(&dirty));
	}
}
END_TEST

/* ---- marks ---- */

static enum blk_cache usable_cache(int i)
{
	bool direct = disk_caches[i] != BLK_CACHE_NONE || disk_direct_works();

	return direct ? disk_caches[i] : BLK_CACHE_AUTO;
}

static struct page_set taken;

static void expect_changed(uint64_t first, uint64_t count)
{
	uint64_t got_first, got_count;

	ck_assert_int_eq(block_set_grow(&taken, block_count(DISK_SIZE), &err), 0);
	blk_dirty_take(blk_dirty(guest.device), &taken);
	if (!count) {
		ck_assert(!page_set_next_range(&taken, 0, &got_first, &got_count));
		return;
	}
	ck_assert(page_set_next_range(&taken, 0, &got_first, &got_count));
	ck_assert_uint_eq(got_first, first);
	ck_assert_uint_eq(got_count, count);
	ck_assert(!page_set_next_range(&taken, first + count, &got_first, &got_count));
	page_set_destroy(&taken);
}

static uint8_t clear(uint32_t type, uint64_t sector, uint32_t sectors)
{
	struct disk_io io =
		disk_make_io(type, 0, sizeof(struct virtio_blk_discard_write_zeroes), 8, 0);
	struct virtio_blk_discard_write_zeroes range = {.sector = sector, .num_sectors = sectors};

	memcpy(disk_data(&io), &range, sizeof(range));
	return disk_run(&io, false);
}

START_TEST(whatever_changes_a_disk_marks_its_blocks)
{
	disk_start_default(usable_cache(_i));
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 0, 4096), VIRTIO_BLK_S_OK);
	ck_assert_int_eq(blk_track(guest.device, &err), 0);
	expect_changed(0, 0);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 128 * 3, 512), VIRTIO_BLK_S_OK);
	expect_changed(3, 1);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 128 * 6 - 8, 8192), VIRTIO_BLK_S_OK);
	expect_changed(5, 2);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 128 * 10, 3 * 65536), VIRTIO_BLK_S_OK);
	expect_changed(10, 3);
	/* Through a bounce buffer where the cache is none: in steps. */
	disk_round_trip(128 * 20, 4 * 65536, 3);
	expect_changed(20, 4);
	ck_assert_uint_eq(clear(VIRTIO_BLK_T_DISCARD, 128 * 30, 256), VIRTIO_BLK_S_OK);
	expect_changed(30, 2);
	ck_assert_uint_eq(clear(VIRTIO_BLK_T_WRITE_ZEROES, 128 * 40 + 8, 8), VIRTIO_BLK_S_OK);
	expect_changed(40, 1);
	disk_end();
}
END_TEST

START_TEST(what_changes_nothing_marks_nothing)
{
	disk_start_default(usable_cache(_i));
	ck_assert_int_eq(blk_track(guest.device, &err), 0);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_IN, 0, 65536), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, DISK_SECTORS, 4096), VIRTIO_BLK_S_IOERR);
	expect_changed(0, 0);
	blk_untrack(guest.device);
	ck_assert_uint_eq(disk_request(VIRTIO_BLK_T_OUT, 0, 4096), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(blk_dirty_pending(blk_dirty(guest.device), DISK_SIZE), 0);
	disk_end();
}
END_TEST

/* What the kernel had of them may have been written, though no answer was given. */
START_TEST(requests_that_a_reset_ends_are_marked_where_they_changed_the_disk)
{
	disk_start_default(usable_cache(_i));
	ck_assert_int_eq(blk_track(guest.device, &err), 0);
	for (unsigned round = 0; round < 10; round++) {
		_cleanup_free_ uint8_t *before = malloc(DISK_SIZE), *after = malloc(DISK_SIZE);
		uint64_t heap = guest.heap_next;

		disk_file_read(0, before, DISK_SIZE);
		for (unsigned i = 0; i < 40; i++) {
			struct disk_io io = disk_make_io(
				VIRTIO_BLK_T_OUT, (i * 7 + round) % 60 * 128, 16384, 512, 0);

			disk_fill(disk_data(&io), io.len, round * 100 + i);
			disk_add(driver_queue(&guest, 0), &io, false);
		}
		driver_kick(driver_queue(&guest, 0));
		driver_reset(&guest);
		disk_file_read(0, after, DISK_SIZE);
		ck_assert_int_eq(block_set_grow(&taken, block_count(DISK_SIZE), &err), 0);
		blk_dirty_take(blk_dirty(guest.device), &taken);
		for (uint64_t i = 0; i < block_count(DISK_SIZE); i++)
			ck_assert(page_set_has(&taken, i) ||
				  !memcmp(before + i * BLK_DIRTY_BLOCK, after + i * BLK_DIRTY_BLOCK,
					  BLK_DIRTY_BLOCK));
		page_set_destroy(&taken);
		memset(driver_host(&guest, heap, guest.heap_next - heap), 0,
			guest.heap_next - heap);
		guest.heap_next = heap;
		ck_assert(driver_start(&guest, DRIVER_ALL_FEATURES, 256));
	}
	disk_end();
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, what_is_taken_is_given_back_and_what_grew_is_always_changed);
	tcase_add_loop_test(tc, whatever_changes_a_disk_marks_its_blocks, 0, DISK_CACHES);
	tcase_add_loop_test(tc, what_changes_nothing_marks_nothing, 0, DISK_CACHES);
	tcase_add_loop_test(tc, requests_that_a_reset_ends_are_marked_where_they_changed_the_disk,
		0, DISK_CACHES);
}

int main(void)
{
	return disk_test_main("blk_dirty", add_tests);
}
