/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock, packets to the guest (virtio 1.2 §5.10.6.1, §5.10.6.3).
 *
 * Control packets first: refusals, then what streams owe; each needs one RX buffer. Then every
 * stream that has data gets a turn: one readv() from its socket straight into as many RX buffers as
 * its credit, its turn's length and the ring allow, room for a header left in front of each. Then the
 * headers are written, the buffers that stayed empty go back to the ring, and the others become
 * visible to the guest together. A stream that may have more goes to the end of the row.
 */
#include "virtio/vsock_private.h"

#include "vmm/memory/dirty.h"

#include <errno.h>
#include <sys/uio.h>

uint32_t vsock_rx_credit(const struct vsock_stream *s)
{
	uint32_t in_flight = s->sent - s->peer_forwarded;

	return in_flight < s->peer_buf_alloc ? s->peer_buf_alloc - in_flight : 0;
}

static struct virtio_vsock_hdr header(const struct vsock_stream *s, enum virtio_vsock_op op)
{
	return (struct virtio_vsock_hdr){
		.src_cid = VSOCK_HOST_CID,
		.dst_cid = s->vsock->cid,
		.src_port = s->host_port,
		.dst_port = s->guest_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.buf_alloc = s->buf_alloc,
		.fwd_cnt = s->forwarded,
	};
}

/* ---- control packets ---- */

static bool take_chain(struct vsock *v, struct descriptor_chain *chain)
{
	if (device_queue_pop(vsock_queue(v, VSOCK_RX), chain))
		return true;
	v->rx_starved = true;
	return false;
}

static bool send_header(struct vsock *v, const struct virtio_vsock_hdr *hdr)
{
	struct descriptor_chain chain = {
		.segments = v->chain_segments, .capacity = VSOCK_QUEUE_SIZE};

	if (!take_chain(v, &chain))
		return false;
	if (chain_write(&chain, 0, hdr, sizeof(*hdr)) < sizeof(*hdr)) {
		virtio_device_break(&v->device, "a receive buffer is too small for a header");
		return false;
	}
	virtqueue_push(&vsock_queue(v, VSOCK_RX)->ring, chain.head, sizeof(*hdr));
	return true;
}

static bool send_refusal(struct vsock *v)
{
	const struct vsock_refusal *refusal = &v->refusals[v->refusal_first];
	const struct virtio_vsock_hdr hdr = {
		.src_cid = refusal->host_cid,
		.dst_cid = v->cid,
		.src_port = refusal->host_port,
		.dst_port = refusal->guest_port,
		.type = refusal->type,
		.op = VIRTIO_VSOCK_OP_RST,
	};

	if (!send_header(v, &hdr))
		return false;
	v->refusal_first = (v->refusal_first + 1) % VSOCK_REFUSALS;
	v->refusal_count--;
	return true;
}

/* The first packet that the stream owes. */
static bool send_owed(struct vsock_stream *s)
{
	static const struct {
		uint8_t owed;
		uint16_t op;
	} packets[] = {
		{VSOCK_OWES_REQUEST, VIRTIO_VSOCK_OP_REQUEST},
		{VSOCK_OWES_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE},
		{VSOCK_OWES_UPDATE, VIRTIO_VSOCK_OP_CREDIT_UPDATE},
		{VSOCK_OWES_CREDIT_REQUEST, VIRTIO_VSOCK_OP_CREDIT_REQUEST},
		{VSOCK_OWES_SHUTDOWN, VIRTIO_VSOCK_OP_SHUTDOWN},
		{VSOCK_OWES_RST, VIRTIO_VSOCK_OP_RST},
	};
	struct virtio_vsock_hdr hdr;
	unsigned i = 0;

	while (!(s->owes & packets[i].owed))
		i++;
	hdr = header(s, packets[i].op);
	if (packets[i].owed == VSOCK_OWES_SHUTDOWN)
		hdr.flags = s->host_shut;
	if (!send_header(s->vsock, &hdr))
		return false;
	s->forwarded_told = s->forwarded;
	if (packets[i].owed == VSOCK_OWES_SHUTDOWN)
		s->host_shut_told = s->host_shut;
	vsock_stream_paid(s, packets[i].owed);
	return true;
}

/* ---- data ---- */

struct batch {
	struct descriptor_chain chains[VSOCK_TURN_CHAINS];
	unsigned count, segments;
	uint64_t room;
};

static void collect(struct vsock *v, struct batch *batch, uint32_t limit)
{
	batch->count = batch->segments = 0;
	batch->room = 0;
	while (batch->count < VSOCK_TURN_CHAINS && batch->room < limit &&
		ARRAY_SIZE(v->chain_segments) - batch->segments >= VSOCK_QUEUE_SIZE) {
		struct descriptor_chain *chain = &batch->chains[batch->count];

		chain->segments = v->chain_segments + batch->segments;
		chain->capacity = VSOCK_QUEUE_SIZE;
		if (!device_queue_pop(vsock_queue(v, VSOCK_RX), chain))
			break;
		batch->count++;
		batch->segments += (unsigned)chain->readable + chain->writable;
		if (chain->writable_len <= VSOCK_HEADER) {
			virtio_device_break(
				&v->device, "a receive buffer has no room behind the header");
			break;
		}
		batch->room += chain->writable_len - VSOCK_HEADER;
	}
}

/* What readv() is to fill: `limit` bytes of the batch, its headers left out. */
static int layout(struct vsock *v, const struct batch *batch, size_t limit)
{
	int count = 0;

	for (unsigned i = 0; i < batch->count; i++) {
		const struct descriptor_chain *chain = &batch->chains[i];
		size_t skip = VSOCK_HEADER;

		for (unsigned j = chain->readable;
			limit && j < (unsigned)chain->readable + chain->writable; j++) {
			struct iovec segment = chain->segments[j];
			size_t head = min_u64(skip, segment.iov_len);

			skip -= head;
			if (head == segment.iov_len)
				continue;
			segment.iov_base = (uint8_t *)segment.iov_base + head;
			segment.iov_len = min_u64(segment.iov_len - head, limit);
			limit -= segment.iov_len;
			v->io_segments[count++] = segment;
		}
	}
	return count;
}

static void deliver(struct vsock_stream *s, const struct batch *batch, size_t len)
{
	struct virtqueue *ring = &vsock_queue(s->vsock, VSOCK_RX)->ring;
	struct virtio_vsock_hdr hdr = header(s, VIRTIO_VSOCK_OP_RW);
	uint16_t used = 0;

	s->forwarded_told = s->forwarded;
	s->sent += (uint32_t)len;
	while (len) {
		const struct descriptor_chain *chain = &batch->chains[used];

		hdr.len = (uint32_t)min_u64(len, chain->writable_len - VSOCK_HEADER);
		chain_write(chain, 0, &hdr, sizeof(hdr));
		virtqueue_fill(ring, used, chain->head, VSOCK_HEADER + hdr.len);
		len -= hdr.len;
		used++;
	}
	virtqueue_unpop(ring, (uint16_t)(batch->count - used));
	virtqueue_publish(ring, used);
}

static void end_of_data(struct vsock_stream *s, ssize_t n)
{
	if (n == 0) {
		s->host_shut |= VSOCK_SHUT_SEND;
		vsock_stream_settle(s);
	} else if (errno == EAGAIN) {
		s->readable = false;
		vsock_stream_check_ready(s);
	} else {
		vsock_stream_reset(
			s); /* ECONNRESET: it left without reading all that it was sent */
	}
}

/* The stream's turn: false when there is no RX buffer. */
static bool send_data(struct vsock_stream *s)
{
	uint32_t limit = (uint32_t)min_u64(vsock_rx_credit(s), VSOCK_TURN_BYTES);
	struct vsock *v = s->vsock;
	struct batch batch;
	int count;
	ssize_t n;

	collect(v, &batch, limit);
	if (atomic_load(&v->device.broken))
		return false;
	if (!batch.count) {
		v->rx_starved = true;
		return false;
	}
	count = layout(v, &batch, limit);
	do
		n = readv(s->fd, v->io_segments, count);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		guest_memory_mark_segments(
			v->device.memory, v->io_segments, (unsigned)count, (uint64_t)n);
		deliver(s, &batch, (size_t)n);
		vsock_stream_unready(s); /* to the end of the row */
		vsock_stream_settle(s);
		return true;
	}
	virtqueue_unpop(&vsock_queue(v, VSOCK_RX)->ring, (uint16_t)batch.count);
	end_of_data(s, n);
	return true;
}

bool vsock_rx_turn(struct vsock *v)
{
	struct vsock_stream *s;
	unsigned done = 0;
	bool more = true;

	v->rx_starved = false;
	while (more && done < VSOCK_TURN_PACKETS) {
		if (v->refusal_count)
			more = send_refusal(v);
		else if ((s = TAILQ_FIRST(&v->owing)))
			more = send_owed(s);
		else if ((s = TAILQ_FIRST(&v->ready)))
			more = send_data(s);
		else
			more = false;
		done += more;
	}
	if (done)
		device_queue_signal(vsock_queue(v, VSOCK_RX));
	return done;
}
