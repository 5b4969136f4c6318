/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock (virtio 1.2 §5.10) with a minimal driver: one stream, connected from either side, a
 * stream of bytes there and back, with credit kept in both directions, and an orderly end.
 *
 * vsock_connect: the payload connects to port 5000 of the host, which echoes; it verifies the echo.
 * vsock_listen:  the host connects to port 1234 here; what it sends comes back.
 */
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"
#include "guest/payloads/lib/virtio.h"
#include "guest/payloads/tests.h"

#include <linux/virtio_vsock.h>

#define HOST_CID     2
#define HOST_PORT    5000
#define GUEST_PORT   1234
#define CLIENT_PORT  40000
#define QUEUE_SIZE   32
#define BUFFER_SIZE  4096
#define WINDOW	     (QUEUE_SIZE * BUFFER_SIZE)
#define WAIT_MS	     20000
#define SHUTDOWN_ALL 3

struct packet {
	struct virtio_vsock_hdr header;
	uint8_t data[BUFFER_SIZE];
};

static struct virtio dev;
static struct virtq rx, tx, events;
static struct packet *buffers, *outgoing;
static uint64_t guest_cid;

/* The one stream. */
static struct {
	uint64_t peer_cid;
	uint32_t peer_port, port;
	uint32_t sent, received; /* bytes of data, free-running */
	uint32_t peer_window, peer_taken;
} stream;

static void offer(struct packet *packet)
{
	const struct segment segment = {packet, sizeof(*packet)};

	check(virtq_add(&rx, &segment, 0, 1, (uint64_t)packet), "the receive queue is full");
	virtq_kick(&rx);
}

static void open_device(void)
{
	virtio_open(&dev, VIRTIO_ID_VSOCK, 0);
	virtq_alloc(&rx, QUEUE_SIZE);
	virtq_alloc(&tx, QUEUE_SIZE);
	virtq_alloc(&events, QUEUE_SIZE);
	virtio_negotiate(&dev, FEATURE(VIRTIO_RING_F_EVENT_IDX));
	virtq_attach(&rx, &dev, 0);
	virtq_attach(&tx, &dev, 1);
	virtq_attach(&events, &dev, 2);
	virtio_driver_ok(&dev);
	guest_cid = virtio_config(&dev, 0, 4);
	buffers = memory_alloc(sizeof(*buffers) * QUEUE_SIZE, 16);
	outgoing = memory_alloc(sizeof(*outgoing), 16);
	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		offer(&buffers[i]);
}

static void send(uint16_t op, uint32_t flags, uint32_t len)
{
	const struct segment segment = {outgoing, (uint32_t)sizeof(outgoing->header) + len};

	outgoing->header = (struct virtio_vsock_hdr){
		.src_cid = guest_cid,
		.dst_cid = stream.peer_cid,
		.src_port = stream.port,
		.dst_port = stream.peer_port,
		.len = len,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.flags = flags,
		.buf_alloc = WINDOW,
		.fwd_cnt = stream.received,
	};
	check(virtq_add(&tx, &segment, 1, 0, 0), "the transmit queue is full");
	virtq_kick(&tx);
	virtq_wait(&tx, NULL);
	if (op == VIRTIO_VSOCK_OP_RW)
		stream.sent += len;
}

static struct packet *take(void)
{
	struct packet *packet;
	uint64_t token;
	uint32_t len;

	if (!virtq_take(&rx, &token, &len))
		return NULL;
	packet = (struct packet *)token;
	check(len >= sizeof(packet->header) && len == sizeof(packet->header) + packet->header.len,
		"a packet of %u bytes says %u", len, packet->header.len);
	check(packet->header.src_cid == HOST_CID && packet->header.dst_cid == guest_cid,
		"a packet from %lu to %lu", (uint64_t)packet->header.src_cid,
		(uint64_t)packet->header.dst_cid);
	return packet;
}

/* The next packet that is not about credit, if there is one; give it back with offer(). */
static struct packet *receive(void)
{
	struct packet *packet = take();
	uint16_t op;

	if (!packet)
		return NULL;
	stream.peer_window = packet->header.buf_alloc;
	stream.peer_taken = packet->header.fwd_cnt;
	op = packet->header.op;
	if (op != VIRTIO_VSOCK_OP_CREDIT_UPDATE && op != VIRTIO_VSOCK_OP_CREDIT_REQUEST)
		return packet;
	offer(packet);
	if (op == VIRTIO_VSOCK_OP_CREDIT_REQUEST)
		send(VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, 0);
	return NULL;
}

static struct packet *receive_wait(const char *what)
{
	struct packet *packet = NULL;

	check(wait_until((packet = receive()), WAIT_MS), "waiting for %s: no packet from the host",
		what);
	return packet;
}

static uint32_t credit(void)
{
	return stream.peer_window - (stream.sent - stream.peer_taken);
}

/* The end: either side may be first to say so; the answer to a full shutdown is a reset. */
static void wait_for_reset(void)
{
	for (;;) {
		struct packet *packet = receive_wait("the end");
		uint16_t op = packet->header.op;

		offer(packet);
		if (op == VIRTIO_VSOCK_OP_RST)
			return;
		check(op != VIRTIO_VSOCK_OP_RW, "data after the end");
	}
}

static uint8_t stream_byte(uint32_t at)
{
	return (uint8_t)(at * 13 + (at >> 9));
}

static void verify(const struct packet *packet)
{
	check(packet->header.op == VIRTIO_VSOCK_OP_RW, "operation %u in the stream",
		packet->header.op);
	for (uint32_t i = 0; i < packet->header.len; i++)
		check(packet->data[i] == stream_byte(stream.received + i),
			"byte %u came back as %x", stream.received + i, packet->data[i]);
	stream.received += packet->header.len;
}

/* Send `size` bytes as credit allows, and verify each that comes back. */
static void exchange(uint32_t size)
{
	uint32_t told = 0;

	while (stream.received < size) {
		struct packet *packet = receive();
		uint32_t room = credit(), left = size - stream.sent;
		uint32_t n = left < BUFFER_SIZE ? left : BUFFER_SIZE;

		check(room <= stream.peer_window, "the host took more than was sent");
		if (packet) {
			verify(packet);
			offer(packet);
		}
		if (n && n <= room) {
			for (uint32_t i = 0; i < n; i++)
				outgoing->data[i] = stream_byte(stream.sent + i);
			send(VIRTIO_VSOCK_OP_RW, 0, n);
			told = stream.received;
		} else if (stream.received - told >= WINDOW / 4) {
			send(VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, 0);
			told = stream.received;
		}
	}
}

void test_vsock_connect(void)
{
	struct packet *packet;

	open_device();
	stream.peer_cid = HOST_CID;
	stream.port = CLIENT_PORT;
	/* Where nobody listens, the answer is a reset. */
	stream.peer_port = HOST_PORT + 1;
	send(VIRTIO_VSOCK_OP_REQUEST, 0, 0);
	packet = receive_wait("an answer");
	check(packet->header.op == VIRTIO_VSOCK_OP_RST, "connecting to nobody: operation %u",
		packet->header.op);
	offer(packet);

	stream.peer_port = HOST_PORT;
	send(VIRTIO_VSOCK_OP_REQUEST, 0, 0);
	packet = receive_wait("an answer");
	check(packet->header.op == VIRTIO_VSOCK_OP_RESPONSE, "connecting: operation %u",
		packet->header.op);
	offer(packet);
	exchange((uint32_t)boot_number("size", 1 << 20));
	send(VIRTIO_VSOCK_OP_SHUTDOWN, SHUTDOWN_ALL, 0);
	wait_for_reset();
}

/* What has come and is not echoed yet: never more than the window that we offer. */
static struct {
	uint8_t bytes[WINDOW];
	uint32_t in, out; /* free-running; WINDOW is a power of two */
} pending;

static void keep(const struct packet *packet)
{
	uint32_t len = packet->header.len;

	check(packet->header.op == VIRTIO_VSOCK_OP_RW, "operation %u in the stream",
		packet->header.op);
	check(pending.in - pending.out + len <= WINDOW, "the host sent more than our window holds");
	for (uint32_t i = 0; i < len; i++)
		pending.bytes[pending.in++ % WINDOW] = packet->data[i];
}

/* One packet's worth, as credit allows. True when it was something. */
static bool echo(void)
{
	uint32_t n = pending.in - pending.out;

	n = n < BUFFER_SIZE ? n : BUFFER_SIZE;
	n = n < credit() ? n : credit();
	if (!n)
		return false;
	for (uint32_t i = 0; i < n; i++)
		outgoing->data[i] = pending.bytes[pending.out++ % WINDOW];
	stream.received += n;
	send(VIRTIO_VSOCK_OP_RW, 0, n);
	return true;
}

/* Until the host says that it sends no more, and all is echoed. */
static void echo_all(void)
{
	uint64_t last = clock_ns();
	bool ended = false;

	while (!ended || pending.in != pending.out) {
		struct packet *packet = receive();

		if (packet && packet->header.op == VIRTIO_VSOCK_OP_SHUTDOWN)
			ended = true;
		else if (packet)
			keep(packet);
		if (packet)
			offer(packet);
		if (echo() || packet)
			last = clock_ns();
		check(clock_ns() - last < WAIT_MS * 1000000ull, "nothing more from the host");
	}
}

void test_vsock_listen(void)
{
	struct packet *packet;

	open_device();
	print("LISTENING");
	packet = receive_wait("an answer");
	check(packet->header.op == VIRTIO_VSOCK_OP_REQUEST && packet->header.dst_port == GUEST_PORT,
		"operation %u for port %u", packet->header.op, packet->header.dst_port);
	stream.peer_cid = packet->header.src_cid;
	stream.peer_port = packet->header.src_port;
	stream.port = GUEST_PORT;
	offer(packet);
	send(VIRTIO_VSOCK_OP_RESPONSE, 0, 0);
	echo_all();
	send(VIRTIO_VSOCK_OP_SHUTDOWN, SHUTDOWN_ALL, 0);
	wait_for_reset();
}
