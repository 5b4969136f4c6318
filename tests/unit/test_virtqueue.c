/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The split virtqueue alone: what a driver puts in comes out, whatever wraps; interrupts and kicks
 * are asked for exactly when the specification says; and no ring content makes the device side read
 * or write outside guest RAM, loop, or go on after a violation.
 */
#include "tests/unit/runner.h"
#include "virtio/virtqueue.h"
#include "vmm/base/util.h"

#include <check.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>

#define RAM		 MIB(1)
#define DESC		 0x1000
#define AVAIL		 0x6000
#define USED		 0x8000
#define INDIRECT	 0xc000
#define BUFFERS		 0x40000
#define EVENT_IDX	 (1ull << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT_FEATURE (1ull << VIRTIO_RING_F_INDIRECT_DESC)

static struct guest_memory memory;
static struct virtqueue q;
static struct vring_desc *desc;
static struct vring_avail *avail;
static struct vring_used *used;
static struct iovec segments[16];
static struct descriptor_chain chain;

static void setup(void)
{
	const struct guest_memory_config config = {
		.region_count = 1, .regions = {{.gpa = 0, .size = RAM}}, .pages = MEMORY_PAGES_OFF};
	struct error err;

	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), 0);
	desc = (void *)guest_memory_view(&memory, DESC, 0x4000);
	avail = (void *)guest_memory_view(&memory, AVAIL, 0x1000);
	used = (void *)guest_memory_view(&memory, USED, 0x3000);
	chain = (struct descriptor_chain){.segments = segments, .capacity = ARRAY_SIZE(segments)};
}

static void teardown(void)
{
	guest_memory_destroy(&memory);
}

static int start(uint16_t size, uint64_t features)
{
	const struct virtqueue_registers registers = {
		.size = size, .desc = DESC, .driver = AVAIL, .device = USED};

	return virtqueue_start(&q, &memory, &registers, features);
}

static void set_desc(unsigned i, uint64_t gpa, uint32_t len, uint16_t flags, uint16_t next)
{
	desc[i] = (struct vring_desc){.addr = gpa, .len = len, .flags = flags, .next = next};
}

static void offer(uint16_t head)
{
	avail->ring[avail->idx % q.size] = head;
	avail->idx++;
}

START_TEST(a_queue_carries_every_chain_in_order_through_many_wraps_of_ring_and_index)
{
	const uint16_t size = 8;

	ck_assert_int_eq(start(size, 0), 0);
	/* 70,000 chains wrap the 16-bit index too; in each round all slots are used. */
	for (unsigned n = 0; n < 70000; n++) {
		uint16_t head = (uint16_t)(n % size);

		set_desc(head, BUFFERS + 64 * head, n % 64 + 1, 0, 0);
		offer(head);
		ck_assert_int_eq(virtqueue_pop(&q, &chain), 1);
		ck_assert_uint_eq(chain.head, head);
		ck_assert_uint_eq(chain.readable_len, n % 64 + 1);
		ck_assert_ptr_eq(
			segments[0].iov_base, guest_memory_view(&memory, BUFFERS + 64 * head, 1));
		virtqueue_push(&q, head, n);
		ck_assert_uint_eq(used->idx, (uint16_t)(n + 1));
		ck_assert_uint_eq(used->ring[n % size].id, head);
		ck_assert_uint_eq(used->ring[n % size].len, n);
		ck_assert_int_eq(virtqueue_pop(&q, &chain), 0);
	}
}
END_TEST

START_TEST(a_chain_has_its_readable_part_before_its_writable_part)
{
	ck_assert_int_eq(start(8, 0), 0);
	set_desc(0, BUFFERS, 16, VRING_DESC_F_NEXT, 3);
	set_desc(3, BUFFERS + 100, 20, VRING_DESC_F_NEXT, 5);
	set_desc(5, BUFFERS + 200, 30, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	set_desc(1, BUFFERS + 300, 1, VRING_DESC_F_WRITE, 0);
	offer(0);
	ck_assert_int_eq(virtqueue_pop(&q, &chain), 1);
	ck_assert_uint_eq(chain.readable, 2);
	ck_assert_uint_eq(chain.writable, 2);
	ck_assert_uint_eq(chain.readable_len, 36);
	ck_assert_uint_eq(chain.writable_len, 31);
}
END_TEST

START_TEST(an_indirect_chain_is_the_same_as_a_direct_one)
{
	struct vring_desc *table = (void *)guest_memory_view(&memory, INDIRECT, 64);

	ck_assert_int_eq(start(8, INDIRECT_FEATURE), 0);
	table[0] = (struct vring_desc){
		.addr = BUFFERS, .len = 16, .flags = VRING_DESC_F_NEXT, .next = 2};
	table[2] = (struct vring_desc){.addr = BUFFERS + 64, .len = 8, .flags = VRING_DESC_F_WRITE};
	set_desc(4, INDIRECT, 48, VRING_DESC_F_INDIRECT, 0);
	offer(4);
	ck_assert_int_eq(virtqueue_pop(&q, &chain), 1);
	ck_assert_uint_eq(chain.head, 4);
	ck_assert_uint_eq(chain.readable_len, 16);
	ck_assert_uint_eq(chain.writable_len, 8);
}
END_TEST

/* Shown by the undefined-behaviour sanitizer: the table has no alignment of its own. */
START_TEST(an_indirect_table_may_lie_at_any_address)
{
	const struct vring_desc table[2] = {
		{.addr = BUFFERS, .len = 16, .flags = VRING_DESC_F_NEXT, .next = 1},
		{.addr = BUFFERS + 64, .len = 8, .flags = VRING_DESC_F_WRITE}};

	ck_assert_int_eq(start(8, INDIRECT_FEATURE), 0);
	for (unsigned shift = 0; shift < 16; shift++) {
		memcpy(guest_memory_view(&memory, INDIRECT + shift, sizeof(table)), table,
			sizeof(table));
		set_desc(4, INDIRECT + shift, sizeof(table), VRING_DESC_F_INDIRECT, 0);
		offer(4);
		ck_assert_int_eq(virtqueue_pop(&q, &chain), 1);
		ck_assert_uint_eq(chain.readable_len, 16);
		ck_assert_uint_eq(chain.writable_len, 8);
	}
}
END_TEST

START_TEST(unpop_gives_chains_back_in_the_same_order)
{
	ck_assert_int_eq(start(8, 0), 0);
	for (uint16_t i = 0; i < 5; i++) {
		set_desc(i, BUFFERS, i + 1u, VRING_DESC_F_WRITE, 0);
		offer(i);
	}
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(virtqueue_pop(&q, &chain), 1);
	virtqueue_unpop(&q, 3);
	ck_assert_int_eq(virtqueue_pop(&q, &chain), 1);
	ck_assert_uint_eq(chain.head, 2);
}
END_TEST

/* Each: a ring that breaks one rule, and the words for it. */
struct violation {
	const char *words;
	void (*make)(void);
};

static void head_out_of_range(void)
{
	offer(8);
}

static void index_ran_ahead(void)
{
	avail->idx = 9;
}

static void loop_of_two(void)
{
	set_desc(0, BUFFERS, 1, VRING_DESC_F_NEXT, 1);
	set_desc(1, BUFFERS, 1, VRING_DESC_F_NEXT, 0);
	offer(0);
}

static void next_out_of_range(void)
{
	set_desc(0, BUFFERS, 1, VRING_DESC_F_NEXT, 8);
	offer(0);
}

static void buffer_past_the_end(void)
{
	set_desc(0, RAM - 8, 9, 0, 0);
	offer(0);
}

static void buffer_that_wraps(void)
{
	set_desc(0, UINT64_MAX - 3, 8, 0, 0);
	offer(0);
}

static void readable_after_writable(void)
{
	set_desc(0, BUFFERS, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	set_desc(1, BUFFERS, 1, 0, 0);
	offer(0);
}

static void indirect_with_next(void)
{
	set_desc(0, INDIRECT, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
	offer(0);
}

static void indirect_of_odd_size(void)
{
	set_desc(0, INDIRECT, 17, VRING_DESC_F_INDIRECT, 0);
	offer(0);
}

static void indirect_too_long(void)
{
	set_desc(0, INDIRECT, 16 * 9, VRING_DESC_F_INDIRECT, 0);
	offer(0);
}

static void indirect_outside(void)
{
	set_desc(0, RAM - 8, 16, VRING_DESC_F_INDIRECT, 0);
	offer(0);
}

static void indirect_in_indirect(void)
{
	struct vring_desc *table = (void *)guest_memory_view(&memory, INDIRECT, 16);

	table[0] = (struct vring_desc){.addr = INDIRECT, .len = 16, .flags = VRING_DESC_F_INDIRECT};
	set_desc(0, INDIRECT, 16, VRING_DESC_F_INDIRECT, 0);
	offer(0);
}

static void more_segments_than_offered(void)
{
	chain.capacity = 2;
	for (uint16_t i = 0; i < 3; i++)
		set_desc(i, BUFFERS, 1, i < 2 ? VRING_DESC_F_NEXT : 0, (uint16_t)(i + 1));
	offer(0);
}

static const struct violation violations[] = {
	{"head is out of range", head_out_of_range},
	{"ran ahead", index_ran_ahead},
	{"loops", loop_of_two},
	{"index is out of range", next_out_of_range},
	{"outside guest RAM", buffer_past_the_end},
	{"outside guest RAM", buffer_that_wraps},
	{"readable buffer follows", readable_after_writable},
	{"indirect descriptor where none may be", indirect_with_next},
	{"wrong size", indirect_of_odd_size},
	{"wrong size", indirect_too_long},
	{"outside guest RAM", indirect_outside},
	{"indirect descriptor where none may be", indirect_in_indirect},
	{"more segments", more_segments_than_offered},
};

START_TEST(a_violation_breaks_the_queue_for_good_and_says_why)
{
	const struct violation *v = &violations[_i];

	ck_assert_int_eq(start(8, INDIRECT_FEATURE), 0);
	v->make();
	ck_assert_int_eq(virtqueue_pop(&q, &chain), -EPROTO);
	ck_assert_msg(q.fault && strstr(q.fault, v->words), "said: %s", q.fault);
	/* Mending the ring does not help: only a reset does. */
	set_desc(0, BUFFERS, 1, 0, 0);
	offer(0);
	ck_assert_int_eq(virtqueue_pop(&q, &chain), -EPROTO);
	ck_assert(!virtqueue_needs_interrupt(&q));
	ck_assert(!virtqueue_enable_kicks(&q));
}
END_TEST

START_TEST(an_indirect_descriptor_not_negotiated_is_a_violation)
{
	ck_assert_int_eq(start(8, 0), 0);
	set_desc(0, INDIRECT, 16, VRING_DESC_F_INDIRECT, 0);
	offer(0);
	ck_assert_int_eq(virtqueue_pop(&q, &chain), -EPROTO);
}
END_TEST

START_TEST(impossible_registers_are_refused)
{
	static const struct virtqueue_registers bad[] = {
		{.size = 0, .desc = DESC, .driver = AVAIL, .device = USED},
		{.size = 3, .desc = DESC, .driver = AVAIL, .device = USED},
		{.size = 2 * VIRTQUEUE_SIZE_MAX, .desc = DESC, .driver = AVAIL, .device = USED},
		{.size = 8, .desc = DESC + 8, .driver = AVAIL, .device = USED},
		{.size = 8, .desc = DESC, .driver = AVAIL + 1, .device = USED},
		{.size = 8, .desc = DESC, .driver = AVAIL, .device = USED + 2},
		{.size = 8, .desc = RAM - 112, .driver = AVAIL, .device = USED},
		{.size = 8, .desc = DESC, .driver = RAM - 20, .device = USED},
		{.size = 8, .desc = DESC, .driver = AVAIL, .device = RAM - 68},
		{.size = 8, .desc = UINT64_MAX - 15, .driver = AVAIL, .device = USED},
	};

	ck_assert_int_eq(virtqueue_start(&q, &memory, &bad[_i], 0), -EINVAL);
	ck_assert_ptr_nonnull(q.fault);
}
END_TEST

/* §2.7.7.2, by the definition: interrupt when the completion numbered `event` is among those added. */
static bool wanted(uint16_t event, uint16_t before, uint16_t after)
{
	for (uint16_t n = before; n != after; n++)
		if (n == event)
			return true;
	return false;
}

START_TEST(interrupts_come_exactly_when_the_event_index_is_passed)
{
	unsigned seed = 1, fired = 0;

	ck_assert_int_eq(start(8, EVENT_IDX), 0);
	for (unsigned round = 0; round < 50000; round++) {
		uint16_t before = q.next_used, count = (uint16_t)(rand_r(&seed) % 8);
		uint16_t event = (uint16_t)(before + rand_r(&seed) % 12 - 2);
		bool got;

		avail->ring[8] = event;
		for (unsigned i = 0; i < count; i++)
			virtqueue_push(&q, 0, 0);
		got = virtqueue_needs_interrupt(&q);
		ck_assert_int_eq(got, wanted(event, before, q.next_used));
		fired += got;
	}
	ck_assert_uint_gt(fired, 1000);
}
END_TEST

START_TEST(without_event_index_the_flag_silences_interrupts)
{
	ck_assert_int_eq(start(8, 0), 0);
	ck_assert(!virtqueue_needs_interrupt(&q)); /* nothing pushed */
	virtqueue_push(&q, 0, 0);
	ck_assert(virtqueue_needs_interrupt(&q));
	ck_assert(!virtqueue_needs_interrupt(&q));
	avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	virtqueue_push(&q, 0, 0);
	ck_assert(!virtqueue_needs_interrupt(&q));
}
END_TEST

START_TEST(enabling_kicks_reports_chains_that_came_in_meanwhile)
{
	uint64_t features = _i ? EVENT_IDX : 0;

	ck_assert_int_eq(start(8, features), 0);
	virtqueue_disable_kicks(&q);
	if (!_i)
		ck_assert_uint_eq(used->flags, VRING_USED_F_NO_NOTIFY);
	set_desc(0, BUFFERS, 1, 0, 0);
	offer(0);
	ck_assert(virtqueue_enable_kicks(&q));
	ck_assert_int_eq(virtqueue_pop(&q, &chain), 1);
	ck_assert(!virtqueue_enable_kicks(&q));
	ck_assert_uint_eq(used->flags, 0);
	if (_i) /* "kick me at the next one": chain number 1 */
		ck_assert_uint_eq(*(uint16_t *)(void *)&used->ring[8], 1);
}
END_TEST

START_TEST(chain_copies_cross_segments_and_stop_at_the_end)
{
	uint8_t pattern[40], back[64];
	size_t n;

	for (unsigned i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i + 1);
	ck_assert_int_eq(start(8, 0), 0);
	guest_memory_write(&memory, BUFFERS, pattern, 10);
	guest_memory_write(&memory, BUFFERS + 100, pattern + 10, 30);
	set_desc(0, BUFFERS, 10, VRING_DESC_F_NEXT, 1);
	set_desc(1, BUFFERS + 100, 30, VRING_DESC_F_NEXT, 2);
	set_desc(2, BUFFERS + 200, 4, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 3);
	set_desc(3, BUFFERS + 300, 4, VRING_DESC_F_WRITE, 0);
	offer(0);
	ck_assert_int_eq(virtqueue_pop(&q, &chain), 1);
	n = chain_read(&chain, 5, back, sizeof(back));
	ck_assert_uint_eq(n, 35);
	ck_assert_mem_eq(back, pattern + 5, 35);
	ck_assert_uint_eq(chain_write(&chain, 2, pattern, 10), 6);
	ck_assert_mem_eq(guest_memory_view(&memory, BUFFERS + 300, 4), pattern + 2, 4);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("split ring");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(
		tc, a_queue_carries_every_chain_in_order_through_many_wraps_of_ring_and_index);
	tcase_add_test(tc, a_chain_has_its_readable_part_before_its_writable_part);
	tcase_add_test(tc, an_indirect_chain_is_the_same_as_a_direct_one);
	tcase_add_test(tc, an_indirect_table_may_lie_at_any_address);
	tcase_add_test(tc, unpop_gives_chains_back_in_the_same_order);
	tcase_add_loop_test(
		tc, a_violation_breaks_the_queue_for_good_and_says_why, 0, ARRAY_SIZE(violations));
	tcase_add_test(tc, an_indirect_descriptor_not_negotiated_is_a_violation);
	tcase_add_loop_test(tc, impossible_registers_are_refused, 0, 10);
	tcase_add_test(tc, interrupts_come_exactly_when_the_event_index_is_passed);
	tcase_add_test(tc, without_event_index_the_flag_silences_interrupts);
	tcase_add_loop_test(tc, enabling_kicks_reports_chains_that_came_in_meanwhile, 0, 2);
	tcase_add_test(tc, chain_copies_cross_segments_and_stop_at_the_end);
	return run_tests("virtqueue", tc, NULL);
}
