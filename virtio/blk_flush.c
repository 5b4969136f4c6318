/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flush that the host wants: an fdatasync on the main loop's own ring, beside the queues. It covers every write that was
 * completed before it was asked for. On a quiet disk that is the disk's point in time.
 *
 * The kernel keeps the file until it is done, so a disk may go away meanwhile; what is left of the flush then frees itself.
 */
#include "virtio/blk_queue.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdlib.h>

struct blk_flush {
	struct loop_op op;
	struct blk *blk; /* NULL: it is gone, and so is who asked */
	struct blk_flush *next;
	void (*done)(struct virtio_device *dev, int ret, void *arg);
	void *arg;
};

static void take_out(struct blk_flush *flush)
{
	struct blk_flush **at = &flush->blk->flushes;

	while (*at != flush)
		at = &(*at)->next;
	*at = flush->next;
}

static void flushed(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct blk_flush *flush = container_of(op, struct blk_flush, op);
	struct blk *blk = flush->blk;

	(void)flags;
	if (!blk) {
		free(flush);
		return;
	}
	take_out(flush);
	if (res < 0 && !atomic_exchange(&blk->flush_lost, true))
		log_error(
			"disk '%s': flushing to stable storage failed: %s; no flush will be confirmed until "
			"the disk is attached anew",
			blk->dev.id, strerrordesc_np(-res));
	flush->done(&blk->dev,
		res < 0				? res
		: atomic_load(&blk->flush_lost) ? -EIO
						: 0,
		flush->arg);
	free(flush);
}

void blk_flush(struct virtio_device *dev,
	void (*done)(struct virtio_device *dev, int ret, void *arg), void *arg)
{
	struct blk *blk = container_of(dev, struct blk, dev);
	struct blk_flush *flush = calloc(1, sizeof(*flush));
	struct io_uring_sqe *sqe;

	BUG_ON(!flush); /* some fifty bytes */
	*flush = (struct blk_flush){
		.op.done = flushed, .blk = blk, .next = blk->flushes, .done = done, .arg = arg};
	blk->flushes = flush;
	sqe = loop_sqe(dev->main_loop);
	if (blk->image.readonly)
		io_uring_prep_nop(sqe); /* there is nothing of ours to be made stable */
	else
		io_uring_prep_fsync(sqe, blk->image.fd, IORING_FSYNC_DATASYNC);
	loop_bind(sqe, &flush->op);
}

void blk_flush_cancel(struct blk *blk)
{
	struct blk_flush *flush;

	while ((flush = blk->flushes)) {
		blk->flushes = flush->next;
		flush->blk = NULL;
		flush->done(&blk->dev, -ECANCELED, flush->arg);
	}
}
