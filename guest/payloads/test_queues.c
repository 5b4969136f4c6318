/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains of every legal shape through rings of every size (virtio 1.2 §2.7.4, §2.7.5.3).
 *
 * The data of each request is verified when it is read back. A line "DISK sector count generation"
 * tells the host what it will find in the image.
 */
#include "guest/payloads/lib/blk.h"
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"
#include "guest/payloads/tests.h"

#define DEFAULT_REQUESTS 70000 /* more than 2^16 */
#define LAST_GENERATION	 7777
#define LAST_SECTORS	 64

static struct blk blk;

/* A request in one piece, so that two descriptors do: all that a queue of size 2 can hold. */
struct slot {
	struct virtio_blk_outhdr header;
	uint8_t data[SECTOR];
	uint8_t status;
	bool writing;
	uint64_t generation, sector;
};

static void submit(struct slot *slot)
{
	const struct segment write[] = {
		{&slot->header, sizeof(slot->header) + SECTOR},
		{&slot->status, 1},
	};
	const struct segment read[] = {
		{&slot->header, sizeof(slot->header)},
		{slot->data, SECTOR + 1},
	};

	slot->header.type = slot->writing ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	slot->header.sector = slot->sector;
	slot->status = 0xff;
	if (slot->writing)
		pattern_fill(slot->data, slot->sector, 1, slot->generation);
	else
		memset(slot->data, 0, SECTOR);
	check(virtq_add(&blk.queue, slot->writing ? write : read, 1, 1, (uint64_t)slot),
		"no descriptor free");
}

static void completed(struct slot *slot, uint32_t len)
{
	check(slot->status == VIRTIO_BLK_S_OK, "sector %lu: status %u", slot->sector, slot->status);
	check(len == (slot->writing ? 1 : SECTOR + 1), "sector %lu: used length %u", slot->sector,
		len);
	if (!slot->writing)
		check(pattern_is(slot->data, slot->sector, 1, slot->generation),
			"sector %lu: wrong data, round %lu", slot->sector, slot->generation);
}

/* Leave something on the disk that the host can verify. */
static void leave_pattern(void)
{
	struct slot *slot = memory_alloc(sizeof(*slot), 16);

	for (unsigned i = 0; i < LAST_SECTORS; i++) {
		*slot = (struct slot){.writing = true, .generation = LAST_GENERATION, .sector = i};
		submit(slot);
		virtq_kick(&blk.queue);
		virtq_wait(&blk.queue, NULL);
		check(slot->status == VIRTIO_BLK_S_OK, "the last pattern: status %u", slot->status);
	}
	print("DISK 0 %u %u", LAST_SECTORS, LAST_GENERATION);
}

/* Each slot writes a sector, reads it back, goes on to another. */
void test_queue_wrap(void)
{
	uint16_t size = (uint16_t)boot_number("size", 256);
	uint64_t left = boot_number("requests", DEFAULT_REQUESTS);
	uint64_t features = boot_number("event_idx", 1) ? FEATURE(VIRTIO_RING_F_EVENT_IDX) : 0;
	unsigned count = size / 2, busy = count;
	struct slot *slots;

	blk_open(&blk, 0, size, features);
	slots = memory_alloc(sizeof(*slots) * count, 16);
	for (unsigned i = 0; i < count; i++) {
		slots[i] = (struct slot){.writing = true, .sector = i, .generation = 1};
		submit(&slots[i]);
	}
	virtq_kick(&blk.queue);
	while (busy) {
		uint32_t len;
		struct slot *slot = (void *)virtq_wait(&blk.queue, &len);

		completed(slot, len);
		if (!slot->writing) {
			slot->generation++;
			slot->sector = (slot->sector + count) % (blk.capacity / count * count);
		}
		slot->writing = !slot->writing;
		if (left) {
			left--;
			submit(slot);
			virtq_kick(&blk.queue);
		} else {
			busy--;
		}
	}
	leave_pattern();
}

/* ---- shapes ---- */

#define SEGMENTS_MAX 256

struct shape {
	struct segment segments[SEGMENTS_MAX + 2];
	unsigned out, in;
};

static struct blk_request request;
static struct vring_desc table[SEGMENTS_MAX] __attribute__((aligned(16)));

static void add_out(struct shape *shape, const void *data, uint32_t len)
{
	shape->segments[shape->out++] = (struct segment){data, len};
}

static void add_in(struct shape *shape, const void *data, uint32_t len)
{
	shape->segments[shape->out + shape->in++] = (struct segment){data, len};
}

/* `count` pieces of `data`, the first ones of `piece` bytes, the last of what is left. */
static void add_pieces(
	struct shape *shape, bool write, const uint8_t *data, uint32_t len, uint32_t piece)
{
	while (len) {
		uint32_t here = piece < len ? piece : len;

		(write ? add_out : add_in)(shape, data, here);
		data += here;
		len -= here;
	}
}

static void run_shape(struct shape *shape, bool indirect, const char *what, unsigned n)
{
	bool added;

	request.status = 0xff;
	if (indirect)
		added = virtq_add_indirect(
			&blk.queue, table, shape->segments, shape->out, shape->in, 0);
	else
		added = virtq_add(&blk.queue, shape->segments, shape->out, shape->in, 0);
	check(added, "no descriptors for %u segments", shape->out + shape->in);
	virtq_kick(&blk.queue);
	virtq_wait(&blk.queue, NULL);
	check(*(volatile uint8_t *)&request.status == VIRTIO_BLK_S_OK, "%s of %u: status %u", what,
		n, request.status);
}

/* One request with the data in pieces. */
static void transfer(
	bool write, bool indirect, uint64_t sector, uint8_t *data, uint32_t len, uint32_t piece)
{
	struct shape shape = {0};

	request.header = (struct virtio_blk_outhdr){
		.type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
		.sector = sector,
	};
	add_out(&shape, &request.header, sizeof(request.header));
	add_pieces(&shape, write, data, len, piece);
	add_in(&shape, &request.status, 1);
	run_shape(&shape, indirect, "pieces", piece);
}

/* Through indirect tables of every length up to the longest, 1 + seg_max + 1. */
void test_indirect_chains(void)
{
	uint8_t *out, *in;

	blk_open(&blk, 0, 256,
		FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | FEATURE(VIRTIO_RING_F_EVENT_IDX));
	check(blk.dev.features & FEATURE(VIRTIO_RING_F_INDIRECT_DESC),
		"INDIRECT_DESC is not offered");
	check(blk.seg_max == 254, "seg_max is %u", blk.seg_max);
	out = memory_alloc(SECTOR * blk.seg_max, 4096);
	in = memory_alloc(SECTOR * blk.seg_max, 4096);
	for (unsigned n = 1; n <= blk.seg_max; n++) {
		uint64_t sector = n % 8 * blk.seg_max;

		pattern_fill(out, sector, n, n);
		transfer(true, true, sector, out, n * SECTOR, SECTOR);
		memset(in, 0, n * SECTOR);
		transfer(false, true, sector, in, n * SECTOR, n % 3 ? SECTOR : n * SECTOR);
		check(pattern_is(in, sector, n, n), "wrong data through %u segments", n);
	}
	/* Direct chains between them. */
	for (unsigned n = 1; n <= 64; n++) {
		pattern_fill(out, n, 1, 1000 + n);
		transfer(true, n & 1, n, out, SECTOR, 128);
		transfer(false, !(n & 1), n, in, SECTOR, 64);
		check(pattern_is(in, n, 1, 1000 + n), "wrong data where direct follows indirect");
	}
	pattern_fill(out, 0, LAST_SECTORS, LAST_GENERATION);
	transfer(true, true, 0, out, LAST_SECTORS * SECTOR, SECTOR);
	print("DISK 0 %u %u", LAST_SECTORS, LAST_GENERATION);
}

/* The header in single bytes, data in pieces of any length, the status beside it: framing means nothing (§2.7.4.1). */
static void odd_shape(bool write, bool indirect, uint64_t sector, uint8_t *data,
	unsigned head_piece, unsigned piece)
{
	struct shape shape = {0};

	request.header = (struct virtio_blk_outhdr){
		.type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
		.sector = sector,
	};
	add_pieces(&shape, true, (void *)&request.header, sizeof(request.header), head_piece);
	add_pieces(&shape, write, data, SECTOR, piece);
	add_in(&shape, &request.status, 1);
	run_shape(&shape, indirect, "odd pieces", piece);
}

void test_split_segments(void)
{
	static const unsigned head_pieces[] = {1, 3, 8, 15, 16};
	static const unsigned pieces[] = {3, 5, 7, 100, 255, 511, 512};
	uint8_t *out, *in;
	uint64_t n = 0;

	blk_open(&blk, 0, 256, FEATURE(VIRTIO_RING_F_INDIRECT_DESC));
	out = memory_alloc(SECTOR * 254, 4096);
	in = memory_alloc(SECTOR * 254 + 1, 1);
	for (unsigned h = 0; h < sizeof(head_pieces) / sizeof(*head_pieces); h++) {
		for (unsigned p = 0; p < sizeof(pieces) / sizeof(*pieces); p++, n++) {
			pattern_fill(out, n, 1, n + 1);
			odd_shape(true, n & 1, n, out, head_pieces[h], pieces[p]);
			memset(in, 0, SECTOR);
			odd_shape(false, n & 2, n, in + 1, head_pieces[h], pieces[p]);
			memmove(in, in + 1, SECTOR);
			check(pattern_is(in, n, 1, n + 1),
				"wrong data in pieces of %u behind a header of %u", pieces[p],
				head_pieces[h]);
		}
	}
	/* The longest direct chain that there can be: all 256 descriptors. */
	pattern_fill(out, 0, 254, 5);
	transfer(true, false, 0, out, 254 * SECTOR, SECTOR);
	transfer(false, false, 0, in, 254 * SECTOR, SECTOR);
	check(pattern_is(in, 0, 254, 5), "wrong data through 256 descriptors");
	print("DISK 0 254 5");
}
