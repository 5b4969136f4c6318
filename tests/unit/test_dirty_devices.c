/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever a device writes to guest RAM is marked: every page that differs from a copy of it that was made before is, but
 * for those that hold the driver's own rings.
 */
#include "tests/unit/blk_disk.h"
#include "tests/unit/net_wire.h"
#include "tests/unit/vsock_guest.h"
#include "vmm/memory/dirty.h"
#include "vmm/memory/pages.h"

#include <string.h>

static struct guest vsock_guest;
static struct driver *watched;
static uint64_t *before;
static struct page_set marked, changed;

/* What the test still writes itself, as the driver, must be in the driver's rings. */
static void watch(struct driver *d)
{
	struct guest_memory *memory = &d->memory;
	struct error err;

	watched = d;
	ck_assert_int_eq(page_set_create(&marked, guest_memory_pages(memory), &err), 0);
	ck_assert_int_eq(page_set_create(&changed, guest_memory_pages(memory), &err), 0);
	ck_assert_int_eq(guest_memory_follow(memory, &err), 0);
	before = driver_copy_ram(d);
}

static void forget(void)
{
	free(before);
	page_set_destroy(&marked);
	page_set_destroy(&changed);
}

/* Descriptors and available ring lie right before the used ring, which has pages of its own. */
static bool is_drivers(uint64_t page)
{
	for (unsigned i = 0; i < watched->queue_count; i++) {
		const struct virtqueue_registers *r = &watched->queues[i].registers;

		if (page >= r->desc / KIB(4) && page < r->device / KIB(4))
			return true;
	}
	return false;
}

static void judge(void)
{
	const struct guest_memory *memory = &watched->memory;

	guest_memory_marked(memory, &marked);
	for (uint64_t page = 0; page < changed.count; page++)
		if (driver_page_differs(watched, before, page) && !is_drivers(page))
			page_set_add(&changed, page, 1);
	ck_assert(!page_set_is_empty(&changed));
	for (uint64_t page = 0; page < changed.count; page++)
		ck_assert_msg(!page_set_has(&changed, page) || page_set_has(&marked, page),
			"page %llu was written and is not marked", (unsigned long long)page);
	forget();
}

static uint64_t pages_of(uint64_t gpa, uint64_t len)
{
	ck_assert_uint_eq(page_set_size_of(&marked, gpa / KIB(4), (len - 1) / KIB(4) + 1),
		(len - 1) / KIB(4) + 1);
	return (len - 1) / KIB(4) + 1;
}

START_TEST(a_disk_marks_what_it_reads_and_nothing_else)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	struct disk_io io;
	uint64_t expected;

	if (disk_caches[_i] == BLK_CACHE_NONE && !disk_direct_works())
		return;
	disk_start_default(disk_caches[_i]);
	io = disk_make_io(VIRTIO_BLK_T_IN, 8, KIB(200) + 512, 4096, 0);
	driver_alloc(&guest, 0, 4096);
	watch(&guest);
	disk_add(q, &io, true);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, DRIVER_WAIT_MS));
	guest_memory_marked(&guest.memory, &marked);
	expected = pages_of(io.data, io.len) + pages_of(io.status, 1) +
		   pages_of(q->registers.device, 6 + 8u * q->size);
	ck_assert_uint_eq(page_set_size(&marked), expected);
	judge();
	disk_end();
}
END_TEST

START_TEST(a_disk_marks_what_it_reads_through_a_bounce_buffer)
{
	struct driver_queue *q = driver_queue(&guest, 0);
	struct disk_io io;

	if (!disk_direct_works())
		return;
	disk_start_default(BLK_CACHE_NONE);
	io = disk_make_io(VIRTIO_BLK_T_IN, 8, KIB(300), 4096, 513);
	watch(&guest);
	disk_add(q, &io, true);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, DRIVER_WAIT_MS));
	judge();
	disk_end();
}
END_TEST

START_TEST(a_disk_marks_its_answers_to_other_requests)
{
	static const uint32_t types[] = {
		VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_OUT, 77};
	struct driver_queue *q = driver_queue(&guest, 0);

	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		struct disk_io io;

		disk_start_default(BLK_CACHE_AUTO);
		io = disk_make_io(types[i], 0, types[i] == VIRTIO_BLK_T_OUT ? 512 : 20, 4096, 0);
		watch(&guest);
		disk_add(q, &io, types[i] != VIRTIO_BLK_T_OUT);
		driver_kick(q);
		ck_assert(driver_wait_used(q, NULL, NULL, DRIVER_WAIT_MS));
		judge();
		disk_end();
	}
}
END_TEST

START_TEST(a_read_that_a_reset_overtakes_is_marked_all_the_same)
{
	struct driver_queue *q = driver_queue(&guest, 0);

	disk_start_default(BLK_CACHE_AUTO);
	struct disk_io io = disk_make_io(VIRTIO_BLK_T_IN, 8, MIB(1), 4096, 0);

	watch(&guest);
	disk_add(q, &io, true);
	driver_kick(q);
	driver_reset(&guest);
	/* Or nothing was read, where the reset was first. */
	if (driver_page_differs(&guest, before, io.data / KIB(4)))
		judge();
	else
		forget();
	driver_destroy(&guest);
}
END_TEST

START_TEST(a_network_marks_what_it_receives)
{
	static const size_t lengths[] = {1, 60, BUFFER - NET_HEADER + 1, 9014, 65550};
	uint64_t features = _i ? NO_MRG : DRIVER_ALL_FEATURES;
	struct virtio_net_hdr_v1 header;

	wire_start((struct net_config){0}, features, 256);
	wire_post_rx(RX, 200, BUFFER);
	watch(&wire_guest);
	for (unsigned i = 0; i < (_i ? 2 : ARRAY_SIZE(lengths)); i++) {
		wire_host_send(0, wire_plain, lengths[i], i);
		ck_assert_int_eq(wire_guest_receive(RX, &header, i, WAIT_MS), (ssize_t)lengths[i]);
	}
	judge();
	wire_end();
}
END_TEST

START_TEST(a_packet_that_waited_for_buffers_is_marked)
{
	struct virtio_net_hdr_v1 header;

	wire_start((struct net_config){0}, DRIVER_ALL_FEATURES, 64);
	wire_post_rx(RX, 3, BUFFER);
	/* Those that are posted later: their pages are the guest's until then. */
	watch(&wire_guest);
	wire_host_send(0, wire_plain, 20000, 5);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 5, 50), -1);
	wire_post_rx(RX, 20, BUFFER);
	ck_assert_int_eq(wire_guest_receive(RX, &header, 5, WAIT_MS), 20000);
	judge();
	wire_end();
}
END_TEST

START_TEST(a_vsock_marks_what_it_brings)
{
	static uint8_t
		data[2 * GUEST_RX_LEN]; /* to the end of a buffer: on a page without a header */
	struct connection c;
	struct packet p;
	size_t got = 0;
	int fd;

	guest_open(&vsock_guest);
	fd = host_begin(&vsock_guest, &c, 7);
	watch(&vsock_guest.driver);
	memset(data, 0x5a, sizeof(data));
	host_write(fd, data, sizeof(data));
	for (; got < sizeof(data); got += p.hdr.len)
		guest_expect(&vsock_guest, &c, VIRTIO_VSOCK_OP_RW, &p);
	judge();
	close(fd);
	guest_close(&vsock_guest);
}
END_TEST

/* A used ring over four pages. */
START_TEST(a_queue_marks_each_part_of_its_used_ring)
{
	const struct virtqueue_registers registers = {
		.size = 1024, .desc = KIB(16), .driver = KIB(40), .device = KIB(64) + 4092};
	struct guest_memory *memory = &guest.memory;
	struct virtqueue q;

	driver_create(&guest, MIB(1));
	ck_assert_int_eq(
		virtqueue_start(&q, memory, &registers, 1ull << VIRTIO_RING_F_EVENT_IDX), 0);
	watch(&guest);
	/* The index is on the first page, entry 511 on the second, 600 on the third, the event word on the fourth. */
	q.next_used = 600;
	virtqueue_fill(&q, 0, 7, 1);
	guest_memory_marked(memory, &marked);
	ck_assert_uint_eq(page_set_size(&marked), 1);
	ck_assert(page_set_has(&marked, 18));
	virtqueue_publish(&q, 1);
	guest_memory_marked(memory, &marked);
	ck_assert_uint_eq(page_set_size(&marked), 2);
	ck_assert(page_set_has(&marked, 16));
	q.next_used = 511;
	virtqueue_fill(&q, 0, 7, 1);
	guest_memory_marked(memory, &marked);
	ck_assert_uint_eq(page_set_size(&marked), 3);
	guest_memory_unmark(memory, &marked, 0, marked.count);
	virtqueue_enable_kicks(&q);
	page_set_clear(&marked);
	guest_memory_marked(memory, &marked);
	ck_assert_uint_eq(page_set_size(&marked), 1);
	ck_assert(page_set_has(&marked, (registers.device + 4 + 8 * 1024) / KIB(4)));
	forget();
	driver_destroy(&guest);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, a_disk_marks_what_it_reads_and_nothing_else, 0, DISK_CACHES);
	tcase_add_test(tc, a_disk_marks_what_it_reads_through_a_bounce_buffer);
	tcase_add_test(tc, a_disk_marks_its_answers_to_other_requests);
	tcase_add_test(tc, a_read_that_a_reset_overtakes_is_marked_all_the_same);
	tcase_add_loop_test(tc, a_network_marks_what_it_receives, 0, 2);
	tcase_add_test(tc, a_packet_that_waited_for_buffers_is_marked);
	tcase_add_test(tc, a_queue_marks_each_part_of_its_used_ring);
	tcase_add_test(tc, a_vsock_marks_what_it_brings);
}

int main(void)
{
	return disk_test_main("dirty_devices", add);
}
