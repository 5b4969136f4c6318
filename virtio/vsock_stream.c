/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection between the guest and a host program: its states, and how it ends (virtio 1.2
 * §5.10.6.5 to §5.10.6.7). Bytes are moved elsewhere: vsock_rx.c and vsock_socket.c.
 *
 *   host begins:   GREETING -> REQUESTED -> OPEN        guest begins:   (DIALLING ->) OPEN
 *   OPEN -> RESETTING -> DEAD      we end it, or both ends have closed both ways
 *   OPEN -> FLUSHING -> DEAD       the guest ended it while the host program had not read all
 *   any  -> DEAD                   the guest's RST, or the device is reset
 *
 * What a stream owes the guest is a set of flags, not a queue: however often a packet is due, it is
 * sent once, so what is pending is bounded by the number of streams. REQUEST and RESPONSE go out
 * before data because control packets go first, and a SHUTDOWN that promises "no more data" is owed
 * only once the socket's end has been read, which is after the last data went out.
 *
 * Half-close. guest_shut is what the guest said with SHUTDOWN, host_shut what we found out about the
 * host program: SEND when its end of stream has been read, RCV when writing to it fails or it has
 * hung up. The guest's SEND becomes shutdown(SHUT_WR) behind the last buffered byte. A stream that
 * the guest closed both ways gets its RST then (Linux holds the port until it comes); one that the
 * host closed both ways waits for the guest's, so that the guest can read in peace, but not for ever.
 *
 * Nothing is freed in the middle of a callback: the dead are gathered and freed at the end of a run.
 */
#include "virtio/vsock_private.h"

#include "vmm/base/log.h"

#include <string.h>
#include <sys/socket.h>

/* ---- the table of streams, by port pair ---- */

static struct vsock_stream **bucket_of(struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	uint64_t mixed = ((uint64_t)host_port << 32 | guest_port) * 0x9e3779b97f4a7c15ull;

	return &v->buckets[mixed >> 32 & (VSOCK_BUCKETS - 1)];
}

struct vsock_stream *vsock_stream_find(struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_stream *s = *bucket_of(v, host_port, guest_port);

	while (s && (s->host_port != host_port || s->guest_port != guest_port))
		s = s->bucket_next;
	return s;
}

void vsock_stream_insert(struct vsock_stream *s, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_stream **bucket = bucket_of(s->vsock, host_port, guest_port);

	s->host_port = host_port;
	s->guest_port = guest_port;
	s->bucket_next = *bucket;
	s->in_table = true;
	*bucket = s;
}

static void table_remove(struct vsock_stream *s)
{
	struct vsock_stream **at = bucket_of(s->vsock, s->host_port, s->guest_port);

	if (!s->in_table)
		return;
	while (*at != s)
		at = &(*at)->bucket_next;
	*at = s->bucket_next;
	s->in_table = false;
}

static uint32_t unused_host_port(struct vsock *v, uint32_t guest_port)
{
	uint32_t port;

	/* Ends: there are far more ports than streams. */
	do {
		if (v->next_host_port < VSOCK_HOST_PORT_FIRST ||
			v->next_host_port > VSOCK_HOST_PORT_LAST)
			v->next_host_port = VSOCK_HOST_PORT_FIRST;
		port = v->next_host_port++;
	} while (vsock_stream_find(v, port, guest_port));
	return port;
}

/* ---- what is owed, what is ready ---- */

void vsock_stream_owe(struct vsock_stream *s, enum vsock_owed packet)
{
	if (!s->owes)
		TAILQ_INSERT_TAIL(&s->vsock->owing, s, owing);
	s->owes |= (uint8_t)packet;
	vsock_schedule(s->vsock);
}

static void owe_nothing(struct vsock_stream *s)
{
	if (s->owes)
		TAILQ_REMOVE(&s->vsock->owing, s, owing);
	s->owes = 0;
}

void vsock_stream_unready(struct vsock_stream *s)
{
	if (s->is_ready)
		TAILQ_REMOVE(&s->vsock->ready, s, ready);
	s->is_ready = false;
}

void vsock_stream_check_ready(struct vsock_stream *s)
{
	if (s->state != VSOCK_OPEN || !s->readable || s->host_shut & VSOCK_SHUT_SEND ||
		s->guest_shut & VSOCK_SHUT_RCV) {
		vsock_stream_unready(s);
		return;
	}
	if (!vsock_rx_credit(s)) {
		vsock_stream_unready(s);
		if (!s->credit_asked) {
			s->credit_asked = true;
			vsock_stream_owe(s, VSOCK_OWES_CREDIT_REQUEST);
		}
		return;
	}
	if (s->is_ready)
		return;
	s->is_ready = true;
	TAILQ_INSERT_TAIL(&s->vsock->ready, s, ready);
	vsock_schedule(s->vsock);
}

void vsock_stream_timeout(struct vsock_stream *s, uint64_t after_ns)
{
	loop_timer_set(s->vsock->loop, &s->timer, now_ns() + after_ns);
}

static void timed_out(struct loop_timer *timer)
{
	struct vsock_stream *s = container_of(timer, struct vsock_stream, timer);

	switch (s->state) {
	case VSOCK_DIALLING:
		vsock_bridge_dial(s);
		break;
	case VSOCK_REQUESTED:
	case VSOCK_OPEN:
		vsock_stream_reset(s);
		break;
	default:
		vsock_stream_drop(s);
		break;
	}
}

/* ---- life ---- */

struct vsock_stream *vsock_stream_create(struct vsock *v, enum vsock_state state)
{
	struct vsock_stream *s = v->unused;

	if (s)
		v->unused = s->bucket_next;
	else if (v->slab_used < VSOCK_STREAMS_MAX)
		s = &v->slab[v->slab_used++];
	else
		return NULL;
	memset(s, 0, sizeof(*s));
	s->vsock = v;
	s->state = state;
	s->fd = -1;
	s->timer.fire = timed_out;
	s->large = v->large_count < VSOCK_LARGE;
	s->buf_alloc = s->large ? VSOCK_BUFFER_LARGE : VSOCK_BUFFER_SMALL;
	v->large_count += s->large;
	v->greeting_count += state == VSOCK_GREETING;
	v->stream_count++;
	TAILQ_INSERT_TAIL(&v->streams, s, all);
	return s;
}

static void set_state(struct vsock_stream *s, enum vsock_state state)
{
	struct vsock *v = s->vsock;

	if (s->state == VSOCK_GREETING && state != VSOCK_GREETING) {
		v->greeting_count--;
		if (v->accept_waits)
			vsock_schedule(v);
	}
	s->state = state;
}

void vsock_stream_request(struct vsock_stream *s, uint32_t guest_port)
{
	vsock_stream_insert(s, unused_host_port(s->vsock, guest_port), guest_port);
	set_state(s, VSOCK_REQUESTED);
	vsock_stream_timeout(s, VSOCK_REQUEST_NS);
	vsock_stream_owe(s, VSOCK_OWES_REQUEST);
}

void vsock_stream_open(struct vsock_stream *s)
{
	loop_timer_clear(s->vsock->loop, &s->timer);
	set_state(s, VSOCK_OPEN);
	s->readable = true;
	vsock_stream_check_ready(s);
}

static void bury(struct vsock_stream *s)
{
	TAILQ_INSERT_TAIL(&s->vsock->dead, s, owing);
	vsock_schedule(s->vsock);
}

void vsock_stream_drop(struct vsock_stream *s)
{
	if (s->state == VSOCK_DEAD)
		return;
	loop_timer_clear(s->vsock->loop, &s->timer);
	table_remove(s);
	owe_nothing(s);
	vsock_stream_unready(s);
	vsock_socket_close(s);
	set_state(s, VSOCK_DEAD);
	if (s->fd < 0)
		bury(s);
}

void vsock_stream_released(struct vsock_stream *s)
{
	if (s->state == VSOCK_DEAD)
		bury(s);
}

void vsock_stream_reset(struct vsock_stream *s)
{
	switch (s->state) {
	case VSOCK_DEAD:
	case VSOCK_RESETTING:
		return;
	case VSOCK_GREETING:
	case VSOCK_FLUSHING:
		vsock_stream_drop(s);
		return;
	default:
		break;
	}
	if (s->owes & VSOCK_OWES_REQUEST) { /* the guest never heard of it */
		vsock_stream_drop(s);
		return;
	}
	loop_timer_clear(s->vsock->loop, &s->timer);
	vsock_stream_unready(s);
	owe_nothing(s);
	vsock_stream_owe(s, VSOCK_OWES_RST);
	set_state(s, VSOCK_RESETTING);
	vsock_socket_close(s);
}

void vsock_stream_forgotten(struct vsock_stream *s)
{
	/* Linux gives a closed stream up after 8 s; its program still believes that all was sent. */
	if (s->state != VSOCK_OPEN || !s->waiting || !(s->guest_shut & VSOCK_SHUT_SEND)) {
		vsock_stream_drop(s);
		return;
	}
	table_remove(s);
	owe_nothing(s);
	vsock_stream_unready(s);
	set_state(s, VSOCK_FLUSHING);
	vsock_stream_timeout(s, VSOCK_FLUSH_NS);
}

void vsock_stream_settle(struct vsock_stream *s)
{
	if (s->state == VSOCK_FLUSHING && !s->waiting)
		vsock_stream_drop(s);
	if (s->state != VSOCK_OPEN)
		return;
	if (s->guest_shut & VSOCK_SHUT_SEND && !s->waiting && !s->fin_sent) {
		s->fin_sent = true;
		shutdown(s->fd, SHUT_WR);
	}
	if (s->guest_shut == VSOCK_SHUT_BOTH && !s->waiting) {
		vsock_stream_reset(s);
		return;
	}
	/* The host program is gone, and the guest does not want what it may have left. */
	if (s->guest_shut & VSOCK_SHUT_RCV && s->host_shut & VSOCK_SHUT_RCV)
		s->host_shut = VSOCK_SHUT_BOTH;
	vsock_stream_check_ready(s);
	/* While it is being read its end may be a moment away: one packet for both, then. */
	if (s->host_shut & (uint8_t)~s->host_shut_told &&
		(s->host_shut & VSOCK_SHUT_SEND || !s->is_ready))
		vsock_stream_owe(s, VSOCK_OWES_SHUTDOWN);
}

void vsock_stream_paid(struct vsock_stream *s, uint8_t owed)
{
	s->owes &= (uint8_t)~owed;
	if (!s->owes)
		TAILQ_REMOVE(&s->vsock->owing, s, owing);
	if (owed & VSOCK_OWES_RST)
		vsock_stream_drop(s);
	else if (owed & VSOCK_OWES_SHUTDOWN && s->host_shut_told == VSOCK_SHUT_BOTH)
		vsock_stream_timeout(s, VSOCK_LINGER_NS);
}

void vsock_drop_all(struct vsock *v)
{
	for (struct vsock_stream *s = TAILQ_FIRST(&v->streams); s; s = TAILQ_NEXT(s, all))
		vsock_stream_drop(s);
}

void vsock_reap(struct vsock *v)
{
	struct vsock_stream *s;

	while ((s = TAILQ_FIRST(&v->dead))) {
		TAILQ_REMOVE(&v->dead, s, owing);
		TAILQ_REMOVE(&v->streams, s, all);
		v->stream_count--;
		v->large_count -= s->large;
		s->bucket_next = v->unused;
		v->unused = s;
	}
	if (!v->stream_count)
		vsock_socket_trim(v);
}
