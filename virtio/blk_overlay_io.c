/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to a disk that is an overlay (blk_overlay.h), on its one queue's thread.
 *
 * Before a write goes on the ring, the clusters that it covers in part are brought over, here and now: a cluster costs that once. Those
 * that it covers whole become the overlay's own when it is complete; until then it has a claim on them. A write to a cluster that is
 * claimed waits (`blocked`): to bring that cluster over would put the base's content over what is on its way. Reads never wait.
 */
#include "virtio/blk_queue.h"

#include "vmm/base/util.h"
#include "vmm/memory/dirty.h"

static struct blk_overlay *overlay_of(const struct blk_request *req)
{
	return req->queue->blk->image.overlay;
}

static uint64_t first_of(const struct blk_request *req)
{
	return req->range_offset >> BLK_OVERLAY_SHIFT;
}

static uint64_t last_of(const struct blk_request *req)
{
	return (req->range_offset + req->range_len - 1) >> BLK_OVERLAY_SHIFT;
}

static bool is_claimed(const struct blk_request *req)
{
	for (const struct blk_request *c = req->queue->claims; c; c = c->next_claim)
		if (first_of(c) <= last_of(req) && first_of(req) <= last_of(c))
			return true;
	return false;
}

static int prepare(struct blk_request *req)
{
	struct blk *blk = req->queue->blk;
	bool whole;
	int ret = blk_overlay_prepare(overlay_of(req), req->range_offset, req->range_len,
		atomic_load(&blk->capacity) << BLK_SECTOR_SHIFT, &whole);

	if (ret < 0)
		return ret;
	if (whole) {
		req->claims = true;
		req->next_claim = req->queue->claims;
		req->queue->claims = req;
	}
	return 1;
}

int blk_overlay_io_prepare(struct blk_request *req)
{
	int ret = 1;

	if (req->prepared)
		return 1;
	req->range_offset = req->offset;
	req->range_len = req->left;
	if (!blk_overlay_owns(overlay_of(req), req->offset, req->left)) {
		if (is_claimed(req)) {
			blk_fifo_add(&req->queue->blocked, req);
			return 0;
		}
		ret = prepare(req);
	}
	req->prepared = ret > 0;
	return ret;
}

int blk_overlay_io_written(struct blk_request *req)
{
	int ret = blk_overlay_own(overlay_of(req), req->range_offset, req->range_len);

	req->prepared = false;
	blk_overlay_io_unclaim(req);
	return ret;
}

void blk_overlay_io_unclaim(struct blk_request *req)
{
	struct blk_queue *bq = req->queue;
	struct blk_request **at = &bq->claims, *waiting, *next;

	if (!req->claims)
		return;
	while (*at != req)
		at = &(*at)->next_claim;
	*at = req->next_claim;
	req->claims = false;
	if (!device_queue_usable(bq->dq))
		return; /* they are dropped with the queue */
	/* All of them, once: one that is still in another's way waits anew. */
	waiting = bq->blocked.first;
	blk_fifo_init(&bq->blocked);
	for (; waiting; waiting = next) {
		next = waiting->next;
		blk_io_submit(waiting);
	}
}

static void zero(struct blk_request *req, uint64_t len)
{
	guest_memory_mark_segments(req->queue->blk->dev.memory, &req->segments[req->at],
		(unsigned)req->count - req->at, len);
	for (unsigned i = req->at; len; i++) {
		size_t here = min_u64(req->segments[i].iov_len, len);

		memset(req->segments[i].iov_base, 0, here);
		len -= here;
	}
}

uint64_t blk_overlay_io_place(struct blk_request *req, int *file, uint64_t *offset)
{
	uint64_t len = req->left;

	if (req->kind != BLK_READ) {
		*file = req->queue->blk->image.fd;
		*offset = BLK_OVERLAY_DATA + req->offset;
		return len;
	}
	*file = blk_overlay_find(overlay_of(req), req->offset, &len, offset);
	if (*file < 0)
		zero(req, len);
	return len;
}
