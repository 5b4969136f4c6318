/* SPDX-License-Identifier: Apache-2.0 */
/* See blk.h. */
#include "guest/payloads/lib/blk.h"

#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"

#define WORDS (SECTOR / 8)

static void start(struct blk *blk, uint64_t features)
{
	virtio_negotiate(&blk->dev, features);
	virtq_attach(&blk->queue, &blk->dev, 0);
	virtio_driver_ok(&blk->dev);
	check(!(virtio_status(&blk->dev) & VIRTIO_CONFIG_S_NEEDS_RESET),
		"disk in slot %u is broken", blk->dev.pci.slot);
}

void blk_open(struct blk *blk, unsigned nth, uint16_t queue_size, uint64_t features)
{
	virtio_open(&blk->dev, VIRTIO_ID_BLOCK, nth);
	virtq_alloc(&blk->queue, queue_size);
	start(blk, features | FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_SEG_MAX));
	blk->capacity =
		virtio_config(&blk->dev, offsetof(struct virtio_blk_config, capacity), 4) |
		virtio_config(&blk->dev, offsetof(struct virtio_blk_config, capacity) + 4, 4) << 32;
	blk->seg_max =
		(uint32_t)virtio_config(&blk->dev, offsetof(struct virtio_blk_config, seg_max), 4);
}

void blk_restart(struct blk *blk)
{
	start(blk, blk->dev.features);
}

bool blk_add(struct blk *blk, struct blk_request *request, bool write, uint64_t sector,
	const void *data, uint32_t len)
{
	const struct segment segments[] = {
		{&request->header, sizeof(request->header)},
		{data, len},
		{&request->status, 1},
	};

	request->header.type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	request->header.sector = sector;
	request->status = 0xff;
	return virtq_add(&blk->queue, segments, write ? 2 : 1, write ? 1 : 2, (uint64_t)request);
}

uint8_t blk_do(struct blk *blk, uint32_t type, uint64_t sector, const void *data, uint32_t len)
{
	static struct blk_request request;
	struct segment segments[3] = {{&request.header, sizeof(request.header)}};
	bool write = type != VIRTIO_BLK_T_IN && type != VIRTIO_BLK_T_GET_ID;
	unsigned n = 1;

	request.header = (struct virtio_blk_outhdr){.type = type, .sector = sector};
	request.status = 0xff;
	if (len)
		segments[n++] = (struct segment){data, len};
	segments[n++] = (struct segment){&request.status, 1};
	check(virtq_add(&blk->queue, segments, write ? n - 1 : 1, write ? 1 : n - 1, 0),
		"the queue is full");
	virtq_kick(&blk->queue);
	virtq_wait(&blk->queue, NULL);
	return *(volatile uint8_t *)&request.status;
}

void blk_read(struct blk *blk, uint64_t sector, void *data, uint32_t len)
{
	uint8_t status = blk_do(blk, VIRTIO_BLK_T_IN, sector, data, len);

	check(status == VIRTIO_BLK_S_OK, "reading %u bytes at sector %lu: status %u", len, sector,
		status);
}

void blk_write(struct blk *blk, uint64_t sector, const void *data, uint32_t len)
{
	uint8_t status = blk_do(blk, VIRTIO_BLK_T_OUT, sector, data, len);

	check(status == VIRTIO_BLK_S_OK, "writing %u bytes at sector %lu: status %u", len, sector,
		status);
}

void blk_flush(struct blk *blk)
{
	uint8_t status = blk_do(blk, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);

	check(status == VIRTIO_BLK_S_OK, "flush: status %u", status);
}

static uint64_t pattern_word(uint64_t sector, unsigned word, uint64_t generation)
{
	return sector * 0x9e3779b97f4a7c15ull + generation * 0xc2b2ae3d27d4eb4full +
	       word * 0x165667b19e3779f9ull;
}

void pattern_fill(void *data, uint64_t sector, unsigned sectors, uint64_t generation)
{
	uint64_t *words = data;

	for (unsigned s = 0; s < sectors; s++)
		for (unsigned w = 0; w < WORDS; w++)
			*words++ = pattern_word(sector + s, w, generation);
}

bool pattern_is(const void *data, uint64_t sector, unsigned sectors, uint64_t generation)
{
	const uint64_t *words = data;

	for (unsigned s = 0; s < sectors; s++)
		for (unsigned w = 0; w < WORDS; w++)
			if (*words++ != pattern_word(sector + s, w, generation))
				return false;
	return true;
}

/* Marsaglia's xorshift64. */
uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}
