/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a chain becomes a virtio-blk request (virtio 1.2 §5.2.6): all that the driver says is judged here,
 * once, from copies, before anything is done.
 *
 * Segments end where the driver likes (§2.7.4.1): the header is the first 16 readable bytes, the
 * status the last writable one, the data what lies between. A chain without room for both cannot
 * be answered and breaks the device; whatever else is wrong gets a status.
 */
#include "virtio/blk_queue.h"

#include "vmm/base/util.h"

#include <endian.h>

#define PENDING UINT8_MAX /* no status yet */

static bool in_range(const struct blk *blk, uint64_t sector, uint64_t sectors)
{
	uint64_t capacity = atomic_load_explicit(&blk->capacity, memory_order_relaxed);
	uint64_t align = (blk->image.block_size >> BLK_SECTOR_SHIFT) - 1;

	return sector <= capacity && sectors <= capacity - sector && !((sector | sectors) & align);
}

/* Keep `total` bytes of the guest's segments, from byte `skip` on. */
static void keep_segments(
	struct blk_request *req, const struct iovec *from, unsigned n, size_t skip, uint64_t total)
{
	const struct blk_image *image = &req->queue->blk->image;
	uintptr_t unaligned = 0;

	for (; n && skip >= from->iov_len; from++, n--)
		skip -= from->iov_len;
	if (n > BLK_INLINE)
		req->segments = blk_pool_take(&req->queue->segment_blocks);
	for (; total; from++) {
		struct iovec *to = &req->segments[req->count++];

		to->iov_base = (uint8_t *)from->iov_base + skip;
		to->iov_len = min_u64(from->iov_len - skip, total);
		total -= to->iov_len;
		skip = 0;
		unaligned |= ((uintptr_t)to->iov_base & (image->memory_align - 1)) |
			     (to->iov_len & (image->block_size - 1));
	}
	req->bounced = unaligned && image->cache == BLK_CACHE_NONE;
}

static uint8_t start_rw(
	struct blk_request *req, const struct descriptor_chain *chain, uint64_t sector)
{
	struct blk *blk = req->queue->blk;
	const size_t header = sizeof(struct virtio_blk_outhdr);
	uint64_t len =
		req->kind == BLK_READ ? chain->writable_len - 1 : chain->readable_len - header;

	if (req->kind == BLK_WRITE && blk->image.readonly)
		return VIRTIO_BLK_S_IOERR;
	if (len % (1u << BLK_SECTOR_SHIFT) || !in_range(blk, sector, len >> BLK_SECTOR_SHIFT))
		return VIRTIO_BLK_S_IOERR;
	if (!len)
		return VIRTIO_BLK_S_OK;
	req->offset = sector << BLK_SECTOR_SHIFT;
	req->left = req->bytes = req->owed_bytes = len;
	if (req->kind == BLK_READ)
		keep_segments(req, chain->segments + chain->readable, chain->writable, 0, len);
	else
		keep_segments(req, chain->segments, chain->readable, header, len);
	blk_request_admit(req);
	return PENDING;
}

static uint8_t start_flush(struct blk_request *req)
{
	struct blk *blk = req->queue->blk;

	if (blk->image.readonly)
		return VIRTIO_BLK_S_OK;
	if (atomic_load(&blk->flush_lost))
		return VIRTIO_BLK_S_IOERR;
	blk_request_admit(req);
	return PENDING;
}

/* §5.2.6.2: unknown flags, and any flag of a discard, are not supported; all ranges are judged before any is touched. */
static uint8_t check_ranges(const struct blk_request *req)
{
	bool discard = req->kind == BLK_DISCARD;

	for (unsigned i = 0; i < req->count; i++) {
		uint32_t flags = le32toh(req->ranges[i].flags);

		if (flags & ~(discard ? 0u : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
			return VIRTIO_BLK_S_UNSUPP;
	}
	for (unsigned i = 0; i < req->count; i++) {
		uint32_t sectors = le32toh(req->ranges[i].num_sectors);

		if (sectors > (discard ? BLK_DISCARD_MAX : BLK_ZEROES_MAX) ||
			!in_range(req->queue->blk, le64toh(req->ranges[i].sector), sectors))
			return VIRTIO_BLK_S_IOERR;
	}
	return VIRTIO_BLK_S_OK;
}

static uint8_t start_clear(struct blk_request *req, const struct descriptor_chain *chain)
{
	struct blk *blk = req->queue->blk;
	uint64_t len = chain->readable_len - sizeof(struct virtio_blk_outhdr);
	uint8_t status;

	if (blk->image.readonly)
		return VIRTIO_BLK_S_IOERR;
	if (!virtio_has_feature(&blk->dev,
		    req->kind == BLK_DISCARD ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
		return VIRTIO_BLK_S_UNSUPP;
	if (!len || len % sizeof(req->ranges[0]) || len > sizeof(req->ranges))
		return VIRTIO_BLK_S_IOERR;
	req->count = (uint16_t)(len / sizeof(req->ranges[0]));
	chain_read(chain, sizeof(struct virtio_blk_outhdr), req->ranges, len);
	status = check_ranges(req);
	if (status != VIRTIO_BLK_S_OK || !blk_io_clear_range(req))
		return status;
	blk_request_admit(req);
	return PENDING;
}

static uint8_t identify(struct blk_request *req, const struct descriptor_chain *chain)
{
	struct blk *blk = req->queue->blk;

	req->kind = BLK_IDENTIFY;
	chain_write(chain, 0, blk->serial, min_u64(sizeof(blk->serial), chain->writable_len - 1));
	return VIRTIO_BLK_S_OK;
}

static uint8_t start(struct blk_request *req, const struct descriptor_chain *chain)
{
	struct virtio_blk_outhdr header;

	chain_read(chain, 0, &header, sizeof(header));
	switch (le32toh(header.type)) {
	case VIRTIO_BLK_T_IN:
		req->kind = BLK_READ;
		return start_rw(req, chain, le64toh(header.sector));
	case VIRTIO_BLK_T_OUT:
		req->kind = BLK_WRITE;
		return start_rw(req, chain, le64toh(header.sector));
	case VIRTIO_BLK_T_FLUSH:
		req->kind = BLK_FLUSH;
		return start_flush(req);
	case VIRTIO_BLK_T_DISCARD:
		req->kind = BLK_DISCARD;
		return start_clear(req, chain);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		req->kind = BLK_ZERO;
		return start_clear(req, chain);
	case VIRTIO_BLK_T_GET_ID:
		return identify(req, chain);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

void blk_request_take(struct blk_queue *bq, const struct descriptor_chain *chain)
{
	const struct iovec *last = &chain->segments[chain->readable + chain->writable - 1];
	struct blk_request *req;
	uint8_t status;

	if (chain->readable_len < sizeof(struct virtio_blk_outhdr) || !chain->writable) {
		virtio_device_break(&bq->blk->dev, "a request without room for header and status");
		return;
	}
	req = blk_pool_take(&bq->requests);
	if (!req) {
		virtio_device_break(&bq->blk->dev, "more requests in flight than a queue can hold");
		return;
	}
	blk_queue_hold(bq, 1);
	/* All but the segments: they are written as far as they are used. */
	memset(req, 0, offsetof(struct blk_request, inline_segments));
	req->op.done = blk_io_done;
	req->taken_ns = loop_round_ns(bq->dq->loop);
	req->queue = bq;
	req->segments = req->inline_segments;
	req->owed_op = true;
	req->head = chain->head;
	req->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	/* The status is the last byte, so up to there all counts as written, whatever came of the data. */
	req->written = (uint32_t)min_u64(chain->writable_len, UINT32_MAX);
	status = start(req, chain);
	if (status != PENDING)
		blk_request_finish(req, status);
}
