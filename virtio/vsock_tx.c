/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock, packets from the guest (virtio 1.2 §5.10.6.1, §5.10.6.2): checked, then handed to their
 * stream.
 *
 * Three kinds of wrong. A buffer that cannot be a packet (shorter than a header, or than the length
 * which the header claims) breaks the device. A packet that is well-formed but belongs to nothing
 * gets an RST, as §5.10.6.4 asks. One that its stream may not carry now, or bytes beyond the
 * credit, cost the guest that stream.
 *
 * RSTs for no stream wait in a ring of their own until the guest has an RX buffer for them. While it
 * is full no packet is taken: a guest that does not receive cannot make us remember more.
 */
#include "virtio/vsock_private.h"

#include "vmm/base/log.h"

#include <sys/socket.h>

static void refuse(struct vsock *v, const struct virtio_vsock_hdr *hdr)
{
	if (hdr->op == VIRTIO_VSOCK_OP_RST)
		return; /* two sides must not answer each other's refusals */
	v->refusals[(v->refusal_first + v->refusal_count) % VSOCK_REFUSALS] =
		(struct vsock_refusal){
			.host_cid = hdr->dst_cid,
			.host_port = hdr->dst_port,
			.guest_port = hdr->src_port,
			.type = hdr->type,
		};
	v->refusal_count++;
}

static void take_credit(struct vsock_stream *s, const struct virtio_vsock_hdr *hdr)
{
	s->peer_buf_alloc = hdr->buf_alloc;
	s->peer_forwarded = hdr->fwd_cnt;
	if (vsock_rx_credit(s))
		s->credit_asked = false;
	vsock_stream_check_ready(s);
}

static void begin(struct vsock *v, const struct virtio_vsock_hdr *hdr)
{
	struct vsock_stream *s = vsock_stream_create(v, VSOCK_DIALLING);

	if (!s) {
		refuse(v, hdr);
		return;
	}
	vsock_stream_insert(s, hdr->dst_port, hdr->src_port);
	take_credit(s, hdr);
	s->dial_deadline = now_ns() + VSOCK_DIAL_NS;
	vsock_bridge_dial(s);
}

static void receive(struct vsock_stream *s, const struct descriptor_chain *chain, uint32_t len)
{
	if (s->guest_shut & VSOCK_SHUT_SEND || len > s->buf_alloc - (s->received - s->forwarded))
		vsock_stream_reset(s);
	else
		vsock_socket_send(s, chain, VSOCK_HEADER, len);
}

static void guest_shut(struct vsock_stream *s, uint32_t flags)
{
	uint8_t added = (uint8_t)(flags & VSOCK_SHUT_BOTH & (uint8_t)~s->guest_shut);

	s->guest_shut |= added;
	if (added & VSOCK_SHUT_RCV)
		shutdown(s->fd, SHUT_RD); /* the host program's next write fails */
	vsock_stream_settle(s);
}

static void open_packet(struct vsock_stream *s, const struct virtio_vsock_hdr *hdr,
	const struct descriptor_chain *chain)
{
	switch (hdr->op) {
	case VIRTIO_VSOCK_OP_RW:
		receive(s, chain, hdr->len);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		guest_shut(s, hdr->flags);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		vsock_stream_owe(s, VSOCK_OWES_UPDATE);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	default:
		vsock_stream_reset(s);
		break;
	}
}

static void stream_packet(struct vsock_stream *s, const struct virtio_vsock_hdr *hdr,
	const struct descriptor_chain *chain)
{
	if (hdr->op == VIRTIO_VSOCK_OP_RST) {
		vsock_stream_forgotten(s);
		return;
	}
	if (s->state == VSOCK_RESETTING)
		return; /* crossed our RST */
	take_credit(s, hdr);
	if (s->state == VSOCK_OPEN)
		open_packet(s, hdr, chain);
	else if (s->state == VSOCK_REQUESTED && !(s->owes & VSOCK_OWES_REQUEST) &&
		 hdr->op == VIRTIO_VSOCK_OP_RESPONSE)
		vsock_bridge_accepted(s);
	else
		vsock_stream_reset(s);
}

static void dispatch(
	struct vsock *v, const struct virtio_vsock_hdr *hdr, const struct descriptor_chain *chain)
{
	struct vsock_stream *s;

	if (hdr->src_cid != v->cid || hdr->dst_cid != VSOCK_HOST_CID ||
		hdr->type != VIRTIO_VSOCK_TYPE_STREAM) {
		refuse(v, hdr);
		return;
	}
	s = vsock_stream_find(v, hdr->dst_port, hdr->src_port);
	if (s)
		stream_packet(s, hdr, chain);
	else if (hdr->op == VIRTIO_VSOCK_OP_REQUEST)
		begin(v, hdr);
	else
		refuse(v, hdr);
}

static bool packet(struct vsock *v)
{
	struct device_queue *tx = vsock_queue(v, VSOCK_TX);
	struct descriptor_chain chain = {
		.segments = v->chain_segments, .capacity = VSOCK_QUEUE_SIZE};
	struct virtio_vsock_hdr hdr;

	if (v->refusal_count == VSOCK_REFUSALS || !device_queue_pop(tx, &chain))
		return false;
	if (chain_read(&chain, 0, &hdr, sizeof(hdr)) < sizeof(hdr)) {
		virtio_device_break(&v->device, "a packet is shorter than its header");
		return false;
	}
	if (hdr.len > chain.readable_len - sizeof(hdr)) {
		virtio_device_break(&v->device, "a packet is shorter than its header says");
		return false;
	}
	dispatch(v, &hdr, &chain);
	virtqueue_push(&tx->ring, chain.head, 0);
	return true;
}

bool vsock_tx_turn(struct vsock *v)
{
	unsigned done = 0;

	while (done < VSOCK_TURN_PACKETS && packet(v))
		done++;
	if (done)
		device_queue_signal(vsock_queue(v, VSOCK_TX));
	return done;
}
