/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-blk queue and the life of its requests (virtio 1.2 §5.2.6).
 *
 *   taken     A chain is popped into scratch space; its header is copied once and checked, its data
 *             segments are kept in a request object of the queue's own pool. From here on nothing is
 *             read from the ring's descriptors or the header again.
 *   parked    The limits do not allow it yet: it waits in arrival order, a timer set to the moment.
 *   starved   It needs a bounce buffer (cache=none and buffers not aligned) and all are taken.
 *   in flight It has exactly one entry on the io_uring.
 *   finished  Status byte, used ring; the interrupt waits for the end of the round, one for all.
 *
 * A pass over the available ring ends: each request taken holds a pool object until it is finished,
 * and a driver that keeps us busy with requests that finish at once keeps its own queue's thread busy.
 *
 * Pause: what is on the ring is awaited, step by step; a request that has further steps, or none yet, is parked until the
 * queue goes on. So a pause takes as long as the storage needs for what it has been given, and not as long as limits would.
 *
 * Reset: entries on the ring point into guest RAM, so they are awaited, never abandoned; what is
 * parked or starved is dropped; nothing is written to the ring or the status bytes any more.
 */
#include "virtio/blk_queue.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/memory/dirty.h"

static void count(struct blk_queue *bq, enum blk_counter which, uint64_t n)
{
	/* One writer: a plain addition, atomic only so that readers never see half of it. */
	uint64_t old = atomic_load_explicit(&bq->counters[which], memory_order_relaxed);

	atomic_store_explicit(&bq->counters[which], old + n, memory_order_relaxed);
}

/* ---- the end of a request ---- */

void blk_request_release(struct blk_request *req)
{
	struct blk_queue *bq = req->queue;
	struct blk_request *waiting;

	if (req->segments != req->inline_segments)
		blk_pool_give(&bq->segment_blocks, req->segments);
	if (req->bounce)
		blk_pool_give(&bq->bounces, req->bounce);
	blk_queue_hold(bq, -1);
	blk_overlay_io_unclaim(req);
	waiting = req->bounce && device_queue_usable(bq->dq) ? blk_fifo_take(&bq->starved) : NULL;
	blk_pool_give(&bq->requests, req);
	if (waiting)
		blk_io_submit(waiting);
}

static void count_finished(const struct blk_request *req, uint8_t status)
{
	static const enum blk_counter requests[] = {
		[BLK_READ] = BLK_READS,
		[BLK_WRITE] = BLK_WRITES,
		[BLK_FLUSH] = BLK_FLUSHES,
		[BLK_DISCARD] = BLK_DISCARDS,
		[BLK_ZERO] = BLK_ZEROES,
	};

	struct blk_queue *bq = req->queue;

	if (status != VIRTIO_BLK_S_OK) {
		count(bq, BLK_ERRORS, 1);
		return;
	}
	if (req->kind < ARRAY_SIZE(requests))
		count(bq, requests[req->kind], 1);
	if (req->kind == BLK_READ)
		count(bq, BLK_READ_BYTES, req->bytes);
	else if (req->kind == BLK_WRITE)
		count(bq, BLK_WRITTEN_BYTES, req->bytes);
	if (req->kind < BLK_LATENCIES)
		histogram_count(
			&bq->latencies[req->kind], loop_round_ns(bq->dq->loop) - req->taken_ns);
}

_Static_assert((int)BLK_READ == BLK_LATENCY_READ && (int)BLK_WRITE == BLK_LATENCY_WRITE &&
		       (int)BLK_FLUSH == BLK_LATENCY_FLUSH,
	"a kind is the index of its latencies");

static void round_end(struct loop_job *job)
{
	struct blk_queue *bq = container_of(job, struct blk_queue, round_end);

	if (device_queue_usable(bq->dq))
		device_queue_signal(bq->dq);
}

void blk_request_finish(struct blk_request *req, uint8_t status)
{
	struct blk_queue *bq = req->queue;

	count_finished(req, status);
	__atomic_store_n(req->status, status, __ATOMIC_RELAXED);
	guest_memory_mark(bq->blk->dev.memory, req->status, sizeof(status));
	virtqueue_push(&bq->dq->ring, req->head, req->written);
	loop_defer(bq->dq->loop, &bq->round_end);
	blk_request_release(req);
}

/* ---- limits ---- */

/* 0 when the limits grant what the request owes, else the time to ask again. */
static uint64_t granted_at(struct blk_request *req)
{
	struct blk *blk = req->queue->blk;
	bool iops = atomic_load_explicit(&blk->iops.rate, memory_order_relaxed);
	bool bps = atomic_load_explicit(&blk->bps.rate, memory_order_relaxed);
	uint64_t now, again;

	if (!iops && !bps)
		return 0;
	now = now_ns();
	if (req->owed_op) {
		again = token_bucket_take(&blk->iops, 1, now);
		if (again)
			return again;
		req->owed_op = false;
	}
	if (req->owed_bytes) {
		again = token_bucket_take(&blk->bps, req->owed_bytes, now);
		if (again)
			return again;
		req->owed_bytes = 0;
	}
	return 0;
}

static void serve_parked(struct blk_queue *bq)
{
	while (bq->parked.first && device_queue_serving(bq->dq)) {
		uint64_t again = granted_at(bq->parked.first);

		if (again) {
			loop_timer_set(bq->dq->loop, &bq->granted, again);
			return;
		}
		blk_io_submit(blk_fifo_take(&bq->parked));
	}
}

static void granted_fired(struct loop_timer *timer)
{
	serve_parked(container_of(timer, struct blk_queue, granted));
}

static void limits_changed(struct loop_job *job)
{
	struct blk_queue *bq = container_of(job, struct blk_queue, limits_job);

	atomic_store(&bq->limits_posted, false);
	serve_parked(bq);
}

void blk_queue_limits_changed(struct blk_queue *bq)
{
	struct loop *loop = atomic_load(&bq->loop);

	if (loop && !atomic_exchange(&bq->limits_posted, true))
		loop_post(loop, &bq->limits_job);
}

void blk_request_admit(struct blk_request *req)
{
	struct blk_queue *bq = req->queue;
	uint64_t again = bq->parked.first ? 1 : granted_at(req);

	if (!again) {
		blk_io_submit(req);
		return;
	}
	count(bq, BLK_PARKED, 1);
	if (!bq->parked.first)
		loop_timer_set(bq->dq->loop, &bq->granted, again);
	blk_fifo_add(&bq->parked, req);
}

/* ---- the queue ---- */

static void *blk_pool_init(struct blk_pool *pool, void *base, size_t object_size, unsigned count)
{
	*pool = (struct blk_pool){.base = base, .object_size = object_size, .count = count};
	return pool->base + object_size * count;
}

static size_t pool_bytes(size_t size, unsigned n)
{
	return align_up(size * n, KIB(4));
}

size_t blk_queue_pool_size(void)
{
	return pool_bytes(BLK_BOUNCE_SIZE, BLK_BOUNCES) +
	       pool_bytes(sizeof(struct iovec) * BLK_QUEUE_SIZE, BLK_QUEUE_SIZE) +
	       pool_bytes(sizeof(struct blk_request), BLK_QUEUE_SIZE);
}

void blk_queue_init(struct blk_queue *bq, struct blk *blk, unsigned index, void *pool)
{
	bq->blk = blk;
	bq->dq = &blk->dev.queues[index];
	/* Bounce buffers first: page-aligned, as any direct I/O may ask. */
	pool = blk_pool_init(&bq->bounces, pool, BLK_BOUNCE_SIZE, BLK_BOUNCES);
	pool = blk_pool_init(
		&bq->segment_blocks, pool, sizeof(struct iovec) * BLK_QUEUE_SIZE, BLK_QUEUE_SIZE);
	blk_pool_init(&bq->requests, pool, sizeof(struct blk_request), BLK_QUEUE_SIZE);
	blk_fifo_init(&bq->parked);
	blk_fifo_init(&bq->starved);
	blk_fifo_init(&bq->blocked);
	bq->granted.fire = granted_fired;
	bq->round_end.run = round_end;
	bq->limits_job.run = limits_changed;
}

static struct blk_queue *queue_of(struct device_queue *dq)
{
	struct blk *blk = container_of(dq->device, struct blk, dev);

	return &blk->queues[dq->index];
}

void blk_queue_start(struct device_queue *dq)
{
	atomic_store(&queue_of(dq)->loop, dq->loop);
}

void blk_queue_kicked(struct device_queue *dq)
{
	struct blk_queue *bq = queue_of(dq);
	struct descriptor_chain chain = {
		.segments = bq->scratch, .capacity = ARRAY_SIZE(bq->scratch)};

	virtqueue_disable_kicks(&dq->ring);
	while (device_queue_pop(dq, &chain))
		blk_request_take(bq, &chain);
	device_queue_rest(dq);
}

void blk_queue_idle(struct blk_queue *bq)
{
	if (bq->stop_asked) {
		bq->stop_asked = false;
		device_queue_stopped(bq->dq);
	} else if (bq->pause_asked) {
		bq->pause_asked = false;
		round_end(&bq->round_end); /* the interrupt must not come after the answer */
		device_queue_paused(bq->dq);
	}
}

void blk_queue_pause(struct device_queue *dq)
{
	struct blk_queue *bq = queue_of(dq);
	struct blk_request *req;

	loop_timer_clear(dq->loop, &bq->granted);
	while ((req = blk_fifo_take(&bq->starved)) || (req = blk_fifo_take(&bq->blocked)))
		blk_fifo_add(&bq->parked, req);
	bq->pause_asked = true;
	if (!bq->in_flight)
		blk_queue_idle(bq);
}

unsigned blk_queue_kept(struct device_queue *dq, uint16_t *heads)
{
	unsigned count = 0;

	for (struct blk_request *req = queue_of(dq)->parked.first; req; req = req->next)
		heads[count++] = req->head; /* no more than the pool of requests holds */
	return count;
}

void blk_queue_resume(struct device_queue *dq)
{
	serve_parked(queue_of(dq));
}

static void drop_all(struct blk_fifo *fifo)
{
	struct blk_request *req;

	while ((req = blk_fifo_take(fifo)))
		blk_request_release(req);
}

void blk_queue_stop(struct device_queue *dq)
{
	struct blk_queue *bq = queue_of(dq);

	loop_timer_clear(dq->loop, &bq->granted);
	drop_all(&bq->parked);
	drop_all(&bq->starved);
	drop_all(&bq->blocked);
	/* Completions may have come since `stopping` was set, but only from here on may we say so. */
	bq->stop_asked = true;
	bq->pause_asked = false;
	if (!bq->in_flight)
		blk_queue_idle(bq);
}
