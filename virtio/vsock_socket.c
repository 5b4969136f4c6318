/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of one stream: a connected Unix socket, non-blocking.
 *
 * The guest's bytes are written to it straight out of the guest's buffers. What the socket does not
 * take is copied to a ring of the size that we advertised as buf_alloc, allocated only then and freed when
 * empty, so the guest's credit (virtio 1.2 §5.10.6.3) bounds it: vsock_tx.c has checked that the bytes
 * fit. Rings are mapped, not taken from malloc(): what free() does on a thread's own heap (it may read a
 * file in /proc) is more than an I/O thread's system-call filter allows. A few are kept for reuse. They count as forwarded when the socket has them; the guest is told when it believes that more
 * than half of the buffer is in use, and with every other packet.
 *
 * Reading is up to vsock_rx.c: here is only noted that there may be something.
 *
 * A host program that no longer reads makes writing fail. That closes one direction only: what it
 * had written before is still there to be read, so its bytes reach the guest and the guest's are dropped.
 */
#include "virtio/vsock_private.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

static ssize_t send_segments(struct vsock_stream *s, struct iovec *segments, size_t count)
{
	struct msghdr msg = {.msg_iov = segments, .msg_iovlen = count};
	ssize_t n;

	do
		n = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n;
}

/* ---- the ring of what waits ---- */

static uint8_t *take_buffer(struct vsock_stream *s)
{
	struct vsock *v = s->vsock;
	void *buffer;

	if (s->large && v->spare_count)
		return v->spare[--v->spare_count];
	buffer = mmap(
		NULL, s->buf_alloc, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return buffer == MAP_FAILED ? NULL : buffer;
}

static void give_buffer(struct vsock_stream *s)
{
	struct vsock *v = s->vsock;

	if (s->large && v->spare_count < VSOCK_SPARES)
		v->spare[v->spare_count++] = s->buffer;
	else
		munmap(s->buffer, s->buf_alloc);
	s->buffer = NULL;
}

void vsock_socket_trim(struct vsock *v)
{
	while (v->spare_count)
		munmap(v->spare[--v->spare_count], VSOCK_BUFFER_LARGE);
}

static void drop_waiting(struct vsock_stream *s)
{
	if (s->buffer)
		give_buffer(s);
	s->forwarded += s->waiting;
	s->waiting = 0;
	s->at = 0;
}

static bool keep(
	struct vsock_stream *s, const struct descriptor_chain *chain, size_t offset, uint32_t len)
{
	uint32_t size = s->buf_alloc, end, first;

	if (!s->buffer)
		s->buffer = take_buffer(s);
	if (!s->buffer)
		return false;
	end = (s->at + s->waiting) % size;
	first = (uint32_t)min_u64(len, size - end);
	chain_read(chain, offset, s->buffer + end, first);
	chain_read(chain, offset + first, s->buffer, len - first);
	s->waiting += len;
	return true;
}

static void tell_credit(struct vsock_stream *s)
{
	uint32_t in_use = s->received - s->forwarded_told; /* as the guest sees it */

	if (s->state == VSOCK_OPEN && in_use > s->buf_alloc / 2 &&
		s->forwarded != s->forwarded_told)
		vsock_stream_owe(s, VSOCK_OWES_UPDATE);
}

/* ---- writing ---- */

static void output_ready(struct loop_poll *poll, uint32_t revents);

static void wait_writable(struct vsock_stream *s)
{
	if (s->write_polled)
		return;
	s->write_polled = true;
	s->output = (struct loop_poll){.fd = s->fd, .events = POLLOUT, .ready = output_ready};
	loop_poll_start(s->vsock->loop, &s->output);
}

static void write_failed(struct vsock_stream *s)
{
	drop_waiting(s);
	s->host_shut |= VSOCK_SHUT_RCV;
}

static void flush(struct vsock_stream *s)
{
	while (s->waiting) {
		uint32_t first = (uint32_t)min_u64(s->waiting, s->buf_alloc - s->at);
		struct iovec segments[2] = {
			{.iov_base = s->buffer + s->at, .iov_len = first},
			{.iov_base = s->buffer, .iov_len = s->waiting - first},
		};
		ssize_t n = send_segments(s, segments, segments[1].iov_len ? 2 : 1);

		if (n < 0 && errno == EAGAIN) {
			wait_writable(s);
			break;
		}
		if (n < 0) {
			write_failed(s);
			break;
		}
		s->at = (uint32_t)((s->at + (size_t)n) % s->buf_alloc);
		s->waiting -= (uint32_t)n;
		s->forwarded += (uint32_t)n;
		if (s->state == VSOCK_FLUSHING)
			vsock_stream_timeout(s, VSOCK_FLUSH_NS);
	}
	if (!s->waiting)
		drop_waiting(s);
	tell_credit(s);
}

/* The first `len` bytes of the chain's readable part from `offset` on, as segments of their own. */
static size_t slice(
	struct vsock *v, const struct descriptor_chain *chain, size_t offset, size_t len)
{
	size_t count = 0;

	for (unsigned i = 0; i < chain->readable && len; i++) {
		struct iovec segment = chain->segments[i];

		if (offset >= segment.iov_len) {
			offset -= segment.iov_len;
			continue;
		}
		segment.iov_base = (uint8_t *)segment.iov_base + offset;
		segment.iov_len = min_u64(segment.iov_len - offset, len);
		len -= segment.iov_len;
		offset = 0;
		v->io_segments[count++] = segment;
	}
	return count;
}

void vsock_socket_send(
	struct vsock_stream *s, const struct descriptor_chain *chain, size_t offset, uint32_t len)
{
	ssize_t n = 0;

	s->received += len;
	if (!s->waiting && len && !(s->host_shut & VSOCK_SHUT_RCV)) {
		n = send_segments(s, s->vsock->io_segments, slice(s->vsock, chain, offset, len));
		if (n < 0 && errno == EAGAIN)
			n = 0;
		if (n < 0)
			write_failed(s);
	}
	if (s->host_shut & VSOCK_SHUT_RCV) {
		s->forwarded += len;
	} else {
		s->forwarded += (uint32_t)n;
		if ((uint32_t)n < len && !keep(s, chain, offset + (size_t)n, len - (uint32_t)n)) {
			vsock_stream_reset(s);
			return;
		}
	}
	if (s->waiting)
		wait_writable(s);
	tell_credit(s);
	vsock_stream_settle(s);
}

/* ---- events ---- */

static void hung_up(struct vsock_stream *s)
{
	if (s->state == VSOCK_REQUESTED)
		vsock_stream_reset(s);
	else if (s->state == VSOCK_OPEN || s->state == VSOCK_FLUSHING)
		write_failed(s);
}

static void output_ready(struct loop_poll *poll, uint32_t revents)
{
	struct vsock_stream *s = container_of(poll, struct vsock_stream, output);

	(void)revents; /* a hang-up shows at the write, and at the input */
	flush(s);
	vsock_stream_settle(s);
}

static void input_ready(struct loop_poll *poll, uint32_t revents)
{
	struct vsock_stream *s = container_of(poll, struct vsock_stream, input);

	s->readable = true;
	if (s->state == VSOCK_GREETING) {
		vsock_bridge_greet(s, revents & (POLLHUP | POLLRDHUP | POLLERR));
		return;
	}
	if (revents & (POLLHUP | POLLERR))
		hung_up(s);
	vsock_stream_settle(s);
}

void vsock_socket_start(struct vsock_stream *s)
{
	s->input = (struct loop_poll){.fd = s->fd, .events = POLLIN, .ready = input_ready};
	loop_poll_start(s->vsock->loop, &s->input);
}

/* ---- closing ---- */

static void let_go(struct vsock_stream *s)
{
	if (--s->polls_held)
		return;
	close(steal_fd(&s->fd));
	vsock_stream_released(s);
}

static void input_stopped(struct loop_poll *poll)
{
	let_go(container_of(poll, struct vsock_stream, input));
}

static void output_stopped(struct loop_poll *poll)
{
	let_go(container_of(poll, struct vsock_stream, output));
}

void vsock_socket_close(struct vsock_stream *s)
{
	if (s->closing || s->fd < 0)
		return;
	s->closing = true;
	drop_waiting(s);
	shutdown(s->fd, SHUT_RDWR); /* the host program need not wait for the kernel to let go */
	s->polls_held = s->write_polled ? 2 : 1;
	loop_poll_stop(&s->input, input_stopped);
	if (s->write_polled)
		loop_poll_stop(&s->output, output_stopped);
}
