/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of virtio-blk: the device (blk.c), its queues (blk_queue.c), how a chain becomes a
 * request (blk_request.c), and a request's steps on the ring (blk_io.c).
 *
 * Threads: struct blk is set up before queues start; what changes afterwards is atomic. A struct
 * blk_queue belongs to its queue's I/O thread, but for the fields that say otherwise.
 */
#pragma once

#include "virtio/blk.h"
#include "virtio/blk_image.h"
#include "virtio/token_bucket.h"
#include "vmm/base/histogram.h"

#include <linux/virtio_blk.h>
#include <string.h>

#define BLK_QUEUE_SIZE	 256
#define BLK_SEG_MAX	 (BLK_QUEUE_SIZE - 2) /* header and status take a segment each */
#define BLK_INLINE	 8		      /* segments or ranges held in the request itself */
#define BLK_RANGES_MAX	 BLK_INLINE	      /* of one discard or write-zeroes request */
#define BLK_BOUNCE_SIZE	 KIB(64)
#define BLK_BOUNCES	 8		 /* a queue */
#define BLK_DISCARD_MAX	 (GIB(2) >> 9)	 /* sectors in one range */
#define BLK_ZEROES_MAX	 (MIB(256) >> 9) /* less: it may come down to writing zeros */
#define BLK_SECTOR_SHIFT 9

/* Objects of one size, handed out last-in first-out and touched only when first needed. */
struct blk_pool {
	uint8_t *base;
	size_t object_size;
	unsigned count, fresh; /* objects from `fresh` on have never been touched */
	void *free;
};

/* Of requests, in the order of arrival. */
struct blk_fifo {
	struct blk_request *first, **end;
};

struct blk_queue {
	struct device_queue *dq;
	struct blk *blk;
	struct blk_pool requests, segment_blocks, bounces;
	unsigned in_flight; /* requests with an entry on the ring */
	struct blk_fifo
		parked; /* waiting for the limits, or for the end of a pause, in the order of arrival */
	struct blk_fifo blocked; /* of an overlay: another write has claimed a cluster of theirs */
	struct blk_request
		*claims; /* of an overlay: writes of whole clusters that it does not own yet */
	struct blk_fifo starved;   /* waiting for a bounce buffer */
	struct loop_timer granted; /* when the first parked request may go */
	struct loop_job round_end; /* one interrupt for the completions of a round */
	bool stop_asked;	   /* device_queue_stopped() is owed */
	bool pause_asked;	   /* device_queue_paused() is */

	/* shared: set when the thread first serves the queue, used by whoever changes the limits */
	_Atomic(struct loop *) loop;
	struct loop_job limits_job;
	_Atomic bool limits_posted;

	/* shared: written by the thread, read by anyone */
	_Atomic uint64_t counters[BLK_COUNTERS];
	_Atomic uint32_t held; /* requests taken and not let go of */
	struct histogram latencies[BLK_LATENCIES];

	struct iovec scratch[BLK_QUEUE_SIZE]; /* the chain just taken */
};

struct blk_flush;

struct blk {
	struct virtio_device dev;
	struct blk_image image;
	struct blk_queue *queues;
	void *pools; /* one mapping behind all queues' pools */
	size_t pools_size;
	struct token_bucket iops, bps;
	struct blk_dirty dirty;
	char serial[BLK_SERIAL_LEN];
	_Atomic uint64_t capacity; /* sectors; changes under dev.lock */
	_Atomic bool
		writeback; /* completed writes may be volatile until a flush; changes under dev.lock */
	_Atomic bool flush_lost;   /* a flush failed: none may ever be confirmed again */
	struct blk_flush *flushes; /* the host's own, under way; main thread only */
};

enum blk_kind { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_ZERO, BLK_IDENTIFY };

struct blk_request {
	struct loop_op op;
	struct blk_queue *queue;
	struct blk_request *next; /* in a fifo */
	uint8_t *status;	  /* in guest RAM */
	uint8_t *bounce;	  /* or NULL */
	struct iovec *segments;	  /* what is left to move: from segments[at] on */
	uint64_t offset, left;	  /* in the file; of the data, or of the range being cleared */
	uint64_t owed_bytes;	  /* not yet granted by the limits */
	uint64_t bytes;
	uint64_t taken_ns;		  /* when the round that took it began */
	uint32_t written;		  /* for the used ring */
	uint64_t range_offset, range_len; /* of an overlay: what it writes, all steps together */
	uint64_t overlay_mark;
	struct blk_request *next_claim;
	uint16_t head;
	uint16_t at, count; /* segments, or ranges */
	uint8_t kind;
	uint8_t clear; /* enum blk_clear: how the present range is cleared */
	uint8_t retries;
	bool owed_op;
	bool bounced;	       /* needs a bounce buffer */
	bool prepared, claims; /* of an overlay: it may be written, and others wait for that */
	bool syncing;	       /* the fdatasync behind a clearing */
	union {
		struct iovec inline_segments[BLK_INLINE];
		struct virtio_blk_discard_write_zeroes ranges[BLK_RANGES_MAX];
	};
};

/* ---- queues (blk_queue.c); all on the queue's loop, but for init and limits_changed ---- */

/* Bytes of pool memory a queue needs, and handing it over. */
size_t blk_queue_pool_size(void);
void blk_queue_init(struct blk_queue *bq, struct blk *blk, unsigned index, void *pool);

/* The queue operations of struct virtio_ops, on the queue's loop. */
void blk_queue_start(struct device_queue *dq);
void blk_queue_kicked(struct device_queue *dq);
void blk_queue_stop(struct device_queue *dq);
void blk_queue_pause(struct device_queue *dq);
void blk_queue_resume(struct device_queue *dq);

/* The heads of the parked requests, while the queue stands still. Main thread. */
unsigned blk_queue_kept(struct device_queue *dq, uint16_t *heads);

/* The limits changed. Any thread. */
void blk_queue_limits_changed(struct blk_queue *bq);

/* Submit it when the limits grant what it owes: now, or parked behind those that came before. */
void blk_request_admit(struct blk_request *req);

/* Answer the driver and let go of the request. */
void blk_request_finish(struct blk_request *req, uint8_t status);

/* Requests that were taken, or let go of. One writer. */
static inline void blk_queue_hold(struct blk_queue *bq, int n)
{
	uint32_t held = atomic_load_explicit(&bq->held, memory_order_relaxed);

	atomic_store_explicit(&bq->held, held + (uint32_t)n, memory_order_relaxed);
}

/* Let go of it without an answer. */
void blk_request_release(struct blk_request *req);

/* Nothing of the queue is in flight any more: if a stop or a pause waits for that, it is complete. */
void blk_queue_idle(struct blk_queue *bq);

/* ---- taking requests (blk_request.c) ---- */

/* Make the chain a request and start it; whatever is wrong with it is answered or breaks the device. */
void blk_request_take(struct blk_queue *bq, const struct descriptor_chain *chain);

/* ---- steps on the ring (blk_io.c) ---- */

/* Put the request's next step on the ring; while the queue is to stand still, it waits with the parked ones. */
void blk_io_submit(struct blk_request *req);
void blk_io_done(struct loop_op *op, int32_t res, uint32_t flags);

/* Take up ranges[at] of a discard or write-zeroes; false when there is none left. */
bool blk_io_clear_range(struct blk_request *req);

/* ---- the host's flushes (blk_flush.c), main thread ---- */

/* The disk ends: tell those who wait. */
void blk_flush_cancel(struct blk *blk);

/* ---- state (blk_state.c) ---- */

extern const struct state_table blk_state_table;
void blk_state_save(struct virtio_device *dev, void *own);
int blk_state_check(struct virtio_device *dev, const struct virtio_device_state *shared,
	const void *own, struct error *err);
void blk_state_load(struct virtio_device *dev, const void *own);

/* ---- disks that are overlays (blk_overlay_io.c) ---- */

/* Before a range is written: 1 when it may be, 0 when it waits for another write and will be submitted again, or a negative errno. */
int blk_overlay_io_prepare(struct blk_request *req);
/* It is written: its clusters are the overlay's own, or a negative errno. */
int blk_overlay_io_written(struct blk_request *req);
/* Others may go on. The request claims nothing: nothing happens. */
void blk_overlay_io_unclaim(struct blk_request *req);
/* Where the next bytes are, and how many in one piece; *file -1: they were read just now, as zeros. */
uint64_t blk_overlay_io_place(struct blk_request *req, int *file, uint64_t *offset);

/* ---- pools and fifos ---- */

static inline void *blk_pool_take(struct blk_pool *pool)
{
	void *object = pool->free;

	if (object)
		memcpy(&pool->free, object, sizeof(void *));
	else if (pool->fresh < pool->count)
		object = pool->base + pool->object_size * pool->fresh++;
	return object;
}

static inline void blk_pool_give(struct blk_pool *pool, void *object)
{
	memcpy(object, &pool->free, sizeof(void *));
	pool->free = object;
}

static inline void blk_fifo_init(struct blk_fifo *fifo)
{
	fifo->first = NULL;
	fifo->end = &fifo->first;
}

static inline void blk_fifo_add(struct blk_fifo *fifo, struct blk_request *req)
{
	req->next = NULL;
	*fifo->end = req;
	fifo->end = &req->next;
}

static inline struct blk_request *blk_fifo_take(struct blk_fifo *fifo)
{
	struct blk_request *req = fifo->first;

	if (req && !(fifo->first = req->next))
		fifo->end = &fifo->first;
	return req;
}
