/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-blk driver (virtio 1.2 §5.2), and the pattern that tests write and verify, on both sides. */
#pragma once

#include "guest/payloads/lib/virtio.h"

#include <linux/virtio_blk.h>

#define SECTOR 512

struct blk {
	struct virtio dev;
	struct virtq queue; /* number 0 */
	uint64_t capacity;  /* sectors */
	uint32_t seg_max;
};

/* What a request needs beside its data; must stay until it is complete. */
struct blk_request {
	struct virtio_blk_outhdr header;
	uint8_t status;
};

/* The nth disk, negotiated with FLUSH, SEG_MAX and `features`, one queue of `queue_size`, running. */
void blk_open(struct blk *blk, unsigned nth, uint16_t queue_size, uint64_t features);

/* Reset it and set it up again, with the same memory. */
void blk_restart(struct blk *blk);

/* Make a read or write of one buffer available: header, data, status. False when the queue is full. */
bool blk_add(struct blk *blk, struct blk_request *request, bool write, uint64_t sector,
	const void *data, uint32_t len);

/* One request, waited for. Returns its status. */
uint8_t blk_do(struct blk *blk, uint32_t type, uint64_t sector, const void *data, uint32_t len);
void blk_read(struct blk *blk, uint64_t sector, void *data, uint32_t len);
void blk_write(struct blk *blk, uint64_t sector, const void *data, uint32_t len);
void blk_flush(struct blk *blk);

/* Sectors whose words all depend on the sector's number and on `generation`. tests/payload/run knows it too. */
void pattern_fill(void *data, uint64_t sector, unsigned sectors, uint64_t generation);
bool pattern_is(const void *data, uint64_t sector, unsigned sectors, uint64_t generation);

/* Numbers that look random: the same ones for the same seed. */
uint64_t random_next(uint64_t *state);
