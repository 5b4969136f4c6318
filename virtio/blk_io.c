/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-blk request's steps on the io_uring: one entry at a time, and what its completion means.
 *
 * What comes back short goes out again for the rest; a write is confirmed only when every byte is
 * written. Reads past the end of a file that somebody cut off fail: zeros in place of data would be
 * believed.
 *
 * Stable writes. A write is stable when it completes if the cache is writethrough (as configured, as
 * the driver chose by CONFIG_WCE, or because it negotiated no FLUSH: §5.2.6.2), by RWF_DSYNC. Otherwise
 * FLUSH is an fdatasync submitted after the writes that completed before it, hence covers them. A
 * failed fdatasync may have dropped what it was to write, and the next one would succeed: so after one
 * failure every FLUSH fails, until the disk is attached anew.
 *
 * Discard and write zeroes are fallocate() calls, range by range; where the file cannot, zeros are
 * written, in steps that count against the bandwidth limit.
 */
#include "virtio/blk_queue.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/memory/dirty.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>

#define RETRIES_MAX 100 /* of one step that the kernel asks to repeat */

static void fail(struct blk_request *req, const char *what, int errnum)
{
	log_guest("disk '%s': %s of %" PRIu64 " bytes at %" PRIu64 " failed: %s",
		req->queue->blk->dev.id, what, req->left, req->offset,
		errnum ? strerror(errnum) : "the file ends before");
	blk_request_finish(req, VIRTIO_BLK_S_IOERR);
}

/* ---- moving data ---- */

static void advance(struct blk_request *req, uint64_t n)
{
	req->offset += n;
	req->left -= n;
	while (n) {
		struct iovec *segment = &req->segments[req->at];
		size_t here = min_u64(segment->iov_len, n);

		segment->iov_base = (uint8_t *)segment->iov_base + here;
		segment->iov_len -= here;
		n -= here;
		if (!segment->iov_len)
			req->at++;
	}
}

/* What was read is in guest RAM, and of a read that failed some part may be; whatever becomes of the request. */
static void mark_read(struct blk_request *req, int32_t res)
{
	if (req->kind == BLK_READ)
		guest_memory_mark_segments(req->queue->blk->dev.memory, &req->segments[req->at],
			(unsigned)req->count - req->at, res < 0 ? req->left : (uint64_t)res);
}

/* Copy `len` bytes between the bounce buffer and what is left of the guest's segments. */
static void copy_bounce(struct blk_request *req, uint64_t len, bool to_guest)
{
	uint8_t *at = req->bounce;

	for (unsigned i = req->at; len; i++) {
		size_t here = min_u64(req->segments[i].iov_len, len);

		if (to_guest)
			memcpy(req->segments[i].iov_base, at, here);
		else
			memcpy(at, req->segments[i].iov_base, here);
		at += here;
		len -= here;
	}
}

/* False when it has to wait for one. */
static bool have_bounce(struct blk_request *req)
{
	if (!req->bounce)
		req->bounce = blk_pool_take(&req->queue->bounces);
	if (!req->bounce)
		blk_fifo_add(&req->queue->starved, req);
	return req->bounce;
}

/* How many of them lie in `len` bytes; one that is longer counts. */
static unsigned whole_segments(const struct iovec *segments, unsigned count, uint64_t len)
{
	unsigned n = 0;

	while (n < count && segments[n].iov_len <= len)
		len -= segments[n++].iov_len;
	return n ?: 1;
}

/* `len` bytes of the request, or fewer, are in one piece at `offset` of `file`. */
static void prep_rw(
	struct blk_request *req, struct io_uring_sqe *sqe, int file, uint64_t offset, uint64_t len)
{
	const struct iovec *first = &req->segments[req->at];
	struct iovec bounce = {.iov_base = req->bounce, .iov_len = min_u64(len, BLK_BOUNCE_SIZE)};
	unsigned n = (unsigned)req->count - req->at;

	if (len < req->left)
		n = whole_segments(first, n, len);
	if (req->bounce) {
		first = &bounce;
		n = 1;
		if (req->kind == BLK_WRITE)
			copy_bounce(req, bounce.iov_len, false);
	}
	if (n == 1) {
		unsigned here = (unsigned)min_u64(min_u64(first->iov_len, len), INT32_MAX & ~4095);

		if (req->kind == BLK_READ)
			io_uring_prep_read(sqe, file, first->iov_base, here, offset);
		else
			io_uring_prep_write(sqe, file, first->iov_base, here, offset);
	} else if (req->kind == BLK_READ) {
		io_uring_prep_readv(sqe, file, first, n, offset);
	} else {
		io_uring_prep_writev(sqe, file, first, n, offset);
	}
	/* Asked again at each submission, so that a change of mode covers what is submitted after it. */
	if (req->kind == BLK_WRITE && !atomic_load(&req->queue->blk->writeback))
		sqe->rw_flags = RWF_DSYNC;
}

/* Where the next step goes. False: it does not go on the ring now, or not at all. */
static bool find_place(struct blk_request *req, int *file, uint64_t *offset, uint64_t *len)
{
	struct blk_overlay *overlay = req->queue->blk->image.overlay;
	bool flushes = req->kind == BLK_FLUSH || req->syncing;
	int ret = 1;

	*file = req->queue->blk->image.fd;
	*offset = req->offset;
	*len = req->left;
	if (!overlay)
		return true;
	if (flushes) {
		req->overlay_mark = blk_overlay_mark(overlay);
		return true;
	}
	if (req->kind != BLK_READ)
		ret = blk_overlay_io_prepare(req);
	if (ret < 0)
		fail(req, "bringing a cluster over from the base", -ret);
	if (ret <= 0)
		return false;
	*len = blk_overlay_io_place(req, file, offset);
	while (*file < 0) {
		advance(req, *len);
		if (!req->left) {
			blk_request_finish(req, VIRTIO_BLK_S_OK);
			return false;
		}
		*len = blk_overlay_io_place(req, file, offset);
	}
	return true;
}

void blk_io_submit(struct blk_request *req)
{
	struct blk_queue *bq = req->queue;
	struct io_uring_sqe *sqe;
	uint64_t offset, len;
	int file;

	if (bq->dq->pausing) {
		blk_fifo_add(&bq->parked, req);
		return;
	}
	if (!find_place(req, &file, &offset, &len) || (req->bounced && !have_bounce(req)))
		return;
	sqe = loop_sqe(bq->dq->loop);
	if (req->kind == BLK_FLUSH || req->syncing)
		io_uring_prep_fsync(sqe, file, IORING_FSYNC_DATASYNC);
	else if (req->kind == BLK_READ || req->kind == BLK_WRITE)
		prep_rw(req, sqe, file, offset, len);
	else
		blk_image_prep_clear(sqe, file, req->clear, offset, req->left);
	loop_bind(sqe, &req->op);
	bq->in_flight++;
}

/* The data is where it belongs; that it belongs there must be as stable as it. */
static void overlay_written(struct blk_request *req)
{
	struct blk *blk = req->queue->blk;
	int ret = blk_overlay_io_written(req);

	if (ret < 0) {
		fail(req, "a write", -ret);
		return;
	}
	req->syncing = !atomic_load(&blk->writeback) && blk_overlay_is_ahead(blk->image.overlay);
	if (req->syncing)
		blk_io_submit(req);
	else
		blk_request_finish(req, VIRTIO_BLK_S_OK);
}

static void rw_done(struct blk_request *req, int32_t res)
{
	/* Direct I/O whose rules for buffers are stricter than the file said: once more, through ours. */
	if (res == -EINVAL && req->queue->blk->image.cache == BLK_CACHE_NONE && !req->bounced) {
		req->bounced = true;
		blk_io_submit(req);
		return;
	}
	if (res <= 0) {
		fail(req, req->kind == BLK_READ ? "a read" : "a write", -res);
		return;
	}
	if (req->bounce && req->kind == BLK_READ) {
		copy_bounce(req, (uint64_t)res, true);
		mark_read(req, res);
	}
	advance(req, (uint64_t)res);
	if (req->left)
		blk_io_submit(req);
	else if (req->kind == BLK_WRITE && req->queue->blk->image.overlay)
		overlay_written(req);
	else
		blk_request_finish(req, VIRTIO_BLK_S_OK);
}

/* ---- flush ---- */

static void flush_done(struct blk_request *req, int32_t res)
{
	struct blk *blk = req->queue->blk;
	struct blk_overlay *overlay = blk->image.overlay;

	if (overlay && res < 0)
		blk_overlay_give_up(overlay);
	else if (overlay)
		res = blk_overlay_persist(overlay, req->overlay_mark);
	if (res < 0 && !atomic_exchange(&blk->flush_lost, true))
		log_error(
			"disk '%s': flushing to stable storage failed: %s; no flush will be confirmed until the disk "
			"is attached anew",
			blk->dev.id, strerror(-res));
	blk_request_finish(
		req, atomic_load(&blk->flush_lost) ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
}

/* ---- discard and write zeroes ---- */

/* Clear what is left of the present range by the best way that works here. */
static void clear_step(struct blk_request *req)
{
	req->clear = blk_image_clear_way(&req->queue->blk->image, req->clear);
	if (req->kind == BLK_DISCARD && req->clear != BLK_CLEAR_PUNCH) {
		blk_request_finish(req, VIRTIO_BLK_S_UNSUPP);
		return;
	}
	if (req->clear == BLK_CLEAR_WRITE) {
		req->owed_bytes = min_u64(req->left, BLK_ZEROS_SIZE);
		blk_request_admit(req);
	} else {
		blk_io_submit(req);
	}
}

bool blk_io_clear_range(struct blk_request *req)
{
	const struct virtio_blk_discard_write_zeroes *range;
	bool unmap;

	while (req->at < req->count && !req->ranges[req->at].num_sectors)
		req->at++;
	if (req->at == req->count)
		return false;
	range = &req->ranges[req->at];
	unmap = req->queue->blk->image.discard &&
		le32toh(range->flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	req->offset = le64toh(range->sector) << BLK_SECTOR_SHIFT;
	req->left = (uint64_t)le32toh(range->num_sectors) << BLK_SECTOR_SHIFT;
	req->clear = req->kind == BLK_DISCARD || unmap ? BLK_CLEAR_PUNCH : BLK_CLEAR_ZERO;
	return true;
}

/* All ranges are clear: as stable as a write must be, and then the answer. */
static void clear_end(struct blk_request *req)
{
	req->syncing = !atomic_load(&req->queue->blk->writeback);
	if (req->syncing)
		blk_io_submit(req);
	else
		blk_request_finish(req, VIRTIO_BLK_S_OK);
}

static void clear_done(struct blk_request *req, int32_t res)
{
	struct blk_image *image = &req->queue->blk->image;

	if (res == -EOPNOTSUPP && req->clear < BLK_CLEAR_WRITE) {
		atomic_store_explicit(&image->cannot[req->clear], true, memory_order_relaxed);
		clear_step(req);
		return;
	}
	if (res < 0 || (res == 0 && req->clear == BLK_CLEAR_WRITE)) {
		fail(req, req->kind == BLK_DISCARD ? "a discard" : "writing zeros",
			res ? -res : EIO);
		return;
	}
	if (req->clear == BLK_CLEAR_WRITE) {
		req->offset += (uint64_t)res;
		req->left -= (uint64_t)res;
		if (req->left) {
			clear_step(req);
			return;
		}
	}
	if (image->overlay) {
		res = blk_overlay_io_written(req);
		if (res < 0) {
			fail(req, "writing zeros", -res);
			return;
		}
	}
	req->at++;
	if (blk_io_clear_range(req))
		clear_step(req);
	else
		clear_end(req);
}

/* ---- completions ---- */

static void step_done(struct blk_request *req, int32_t res)
{
	if ((res == -EAGAIN || res == -EINTR) && ++req->retries < RETRIES_MAX) {
		blk_io_submit(req);
		return;
	}
	if (res >= 0)
		req->retries = 0;
	if (req->kind == BLK_FLUSH || req->syncing)
		flush_done(req, res);
	else if (req->kind == BLK_READ || req->kind == BLK_WRITE)
		rw_done(req, res);
	else
		clear_done(req, res);
}

/* What the step was to change has changed, wholly, in part or not at all: see blk_dirty.h for why it is now that this is noted. */
static void note_changes(struct blk_request *req)
{
	bool clears = req->kind == BLK_DISCARD || req->kind == BLK_ZERO;

	if (req->kind == BLK_WRITE || (clears && !req->syncing))
		blk_dirty_mark(&req->queue->blk->dirty, req->offset, req->left);
}

void blk_io_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct blk_request *req = container_of(op, struct blk_request, op);
	struct blk_queue *bq = req->queue;

	(void)flags;
	bq->in_flight--;
	note_changes(req);
	if (!req->bounce)
		mark_read(req, res);
	if (device_queue_usable(bq->dq))
		step_done(req, res);
	else
		blk_request_release(req);
	if (!bq->in_flight)
		blk_queue_idle(bq);
}
