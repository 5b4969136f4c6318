/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock's insides, shared by vsock.c (device, scheduling), vsock_rx.c and vsock_tx.c (packets
 * to and from the guest), vsock_stream.c (a connection's states), vsock_socket.c (its host side) and
 * vsock_bridge.c (how connections begin on the host); nobody else includes it but tests.
 *
 * Threads: everything belongs to the device's one I/O thread while `open`, else to the main thread,
 * but for what is marked.
 */
#pragma once

#include "virtio/vsock.h"
#include "vmm/base/unix_listener.h"
#include "vmm/base/util.h"

#include <linux/virtio_vsock.h>
#include <sys/queue.h>

#define VSOCK_HOST_CID	 2u
#define VSOCK_QUEUE_SIZE 256u
#define VSOCK_HEADER	 ((uint32_t)sizeof(struct virtio_vsock_hdr))

/* Bounds. Buffers: the first VSOCK_LARGE streams may each have 256 KiB of the guest's data waiting
 * for a slow host program, the others 64 KiB: 112 MiB when all are full, nothing while none waits. */
#define VSOCK_STREAMS_MAX   1024u
#define VSOCK_GREETINGS_MAX 64u
#define VSOCK_LARGE	    256u
#define VSOCK_BUFFER_LARGE  (256u * 1024u)
#define VSOCK_BUFFER_SMALL  (64u * 1024u)
#define VSOCK_SPARES	    4u
#define VSOCK_BUCKETS	    512u
#define VSOCK_REFUSALS	    64u
#define VSOCK_BACKLOG	    256

/* PATH, "_", the port's digits. */
#define VSOCK_PATH_MAX (UNIX_PATH_MAX - 11)

/* One turn of a stream; and of each direction, after which the other has its turn. */
#define VSOCK_TURN_BYTES   65536u
#define VSOCK_TURN_PACKETS 16u
#define VSOCK_TURN_CHAINS  32u
/* Host ports of connections that host programs begin (§5.10 leaves the choice to us). */
#define VSOCK_HOST_PORT_FIRST 0x40000000u
#define VSOCK_HOST_PORT_LAST  0x7fffffffu

#define VSOCK_GREETING_NS 5000000000ull	 /* from connect() to a whole greeting */
#define VSOCK_REQUEST_NS  5000000000ull	 /* the guest's answer to a request */
#define VSOCK_DIAL_NS	  2000000000ull	 /* room in a host program's listen queue */
#define VSOCK_REDIAL_NS	  10000000ull	 /* between two tries of that */
#define VSOCK_LINGER_NS	  8000000000ull	 /* the guest's reset, when the host side is done */
#define VSOCK_FLUSH_NS	  30000000000ull /* a host program that reads nothing of a past stream */
#define VSOCK_ACCEPT_NS	  100000000ull	 /* until accept() is tried again after a failure */

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

enum vsock_state {
	VSOCK_GREETING,	 /* a host program connected, its CONNECT line is not there yet; no ports */
	VSOCK_REQUESTED, /* the guest was asked, or will be */
	VSOCK_DIALLING,	 /* the host program's listen queue is full: tried again soon */
	VSOCK_OPEN,
	VSOCK_FLUSHING, /* over for the guest; what it sent is still on its way to the host program */
	VSOCK_RESETTING, /* over for the host; the RST for the guest waits for an RX buffer */
	VSOCK_DEAD,	 /* over; freed when the kernel has let go of the socket */
};

/* Packets that a stream owes the guest, in the order in which they go out. */
enum vsock_owed {
	VSOCK_OWES_REQUEST = 1 << 0,
	VSOCK_OWES_RESPONSE = 1 << 1,
	VSOCK_OWES_UPDATE = 1 << 2,
	VSOCK_OWES_CREDIT_REQUEST = 1 << 3,
	VSOCK_OWES_SHUTDOWN = 1 << 4,
	VSOCK_OWES_RST = 1 << 5,
};

#define VSOCK_SHUT_RCV	VIRTIO_VSOCK_SHUTDOWN_RCV  /* "I shall receive no more" */
#define VSOCK_SHUT_SEND VIRTIO_VSOCK_SHUTDOWN_SEND /* "I shall send no more" */
#define VSOCK_SHUT_BOTH (VSOCK_SHUT_RCV | VSOCK_SHUT_SEND)

struct vsock;

struct vsock_stream {
	struct vsock *vsock;
	TAILQ_ENTRY(vsock_stream) all;
	TAILQ_ENTRY(vsock_stream) owing, ready; /* linked while owes != 0 / is_ready */
	struct vsock_stream *bucket_next;
	enum vsock_state state;
	uint32_t host_port, guest_port;
	bool in_table, large, is_ready;
	uint8_t owes;

	/* Credit (§5.10.6.3), free-running: what the guest may still send, and what we may. */
	uint32_t buf_alloc, received, forwarded, forwarded_told;
	uint32_t peer_buf_alloc, peer_forwarded, sent;
	bool credit_asked;

	/* How each end has closed so far, VSOCK_SHUT_*. */
	uint8_t guest_shut, host_shut, host_shut_told;
	bool fin_sent; /* shutdown(SHUT_WR) was called */

	int fd;
	bool readable; /* the socket may have data or its end */
	bool write_polled, closing;
	uint8_t polls_held; /* while closing: that the kernel has not let go of */
	struct loop_poll input, output;
	struct loop_timer timer;
	uint64_t dial_deadline;

	/* What the socket did not take: buffer[at ..), `waiting` bytes, wrapping; NULL when none. */
	uint8_t *buffer;
	uint32_t at, waiting;
};

TAILQ_HEAD(vsock_streams, vsock_stream);

/* An RST for a packet that belongs to no stream. */
struct vsock_refusal {
	uint64_t host_cid;
	uint32_t host_port, guest_port;
	uint16_t type;
};

struct vsock {
	struct virtio_device device;
	uint64_t cid;
	struct unix_listener listener;
	struct loop_poll refuse; /* on the main loop: connects while no driver is there */
	_Atomic bool open;	 /* shared: both data queues run and none has been asked to stop */
	_Atomic bool reset_posted; /* shared: transport_job is in the loop */

	struct loop *loop;
	uint8_t started, stop_asked, paused; /* queues, as bits */
	bool listening;			     /* the ring has the listener's poll */
	bool accept_waits;		     /* there may be somebody in the listen queue */
	bool rx_starved;		     /* something waits for an RX buffer */
	bool event_waits;		     /* a TRANSPORT_RESET waits for an event buffer */
	bool resumed; /* by a loaded state: the next opening begins with one */
	struct loop_poll listen;
	struct loop_job run_job, transport_job;
	struct loop_timer again, accept_again;

	struct vsock_stream *unused; /* free ones of the slab, linked by bucket_next ... */
	unsigned slab_used;	     /* ... and from here on it has never been touched */
	struct vsock_streams streams;
	struct vsock_streams owing; /* with control packets to send, first come first served */
	struct vsock_streams ready; /* with data to send, in turn */
	struct vsock_streams dead;  /* to be freed; linked like `owing` */
	struct vsock_stream *buckets[VSOCK_BUCKETS];
	unsigned stream_count, greeting_count, large_count;
	uint32_t next_host_port;

	uint8_t *spare[VSOCK_SPARES]; /* large buffers, for the next stream that needs one */
	unsigned spare_count;

	struct vsock_refusal refusals[VSOCK_REFUSALS];
	unsigned refusal_first, refusal_count;

	struct iovec chain_segments[2 * VSOCK_QUEUE_SIZE];
	struct iovec io_segments[2 * VSOCK_QUEUE_SIZE];

	/* All streams there may be. A page costs memory from its first use on. (No malloc() on the I/O
	 * thread: what free() may do on a thread's own heap its system-call filter does not allow.) */
	struct vsock_stream slab[VSOCK_STREAMS_MAX];
};

/* ---- vsock.c ---- */

static inline struct device_queue *vsock_queue(struct vsock *v, unsigned index)
{
	return &v->device.queues[index];
}

/* Look at everything that waits, once, at the end of this round of the loop. */
void vsock_schedule(struct vsock *v);

/* Answer the stops that were asked for, once nothing of ours is left on the loop. */
void vsock_check_stopped(struct vsock *v);

/* ---- vsock_tx.c: packets from the guest ---- */

/* Handle up to VSOCK_TURN_PACKETS; whether there was one. */
bool vsock_tx_turn(struct vsock *v);

/* ---- vsock_rx.c: packets to the guest ---- */

/* Send what waits, control packets first, each ready stream once; whether anything was sent. */
bool vsock_rx_turn(struct vsock *v);

/* Bytes that the guest will take of a stream now. */
uint32_t vsock_rx_credit(const struct vsock_stream *s);

/* ---- vsock_stream.c ---- */

/* NULL when there are too many, or no memory. */
struct vsock_stream *vsock_stream_create(struct vsock *v, enum vsock_state state);
struct vsock_stream *vsock_stream_find(struct vsock *v, uint32_t host_port, uint32_t guest_port);
void vsock_stream_insert(struct vsock_stream *s, uint32_t host_port, uint32_t guest_port);
/* Ask the guest for its port, from an unused port of ours. */
void vsock_stream_request(struct vsock_stream *s, uint32_t guest_port);

void vsock_stream_owe(struct vsock_stream *s, enum vsock_owed packet);
/* The packets in `owed` went out. */
void vsock_stream_paid(struct vsock_stream *s, uint8_t owed);
void vsock_stream_timeout(struct vsock_stream *s, uint64_t after_ns);

/* Put it in the row of those with data for the guest, if it has any and may send it. */
void vsock_stream_check_ready(struct vsock_stream *s);
void vsock_stream_unready(struct vsock_stream *s);

/* Both sides agreed: data may flow. */
void vsock_stream_open(struct vsock_stream *s);
/* Act on what the two ends have closed so far. After each change of guest_shut, host_shut, waiting. */
void vsock_stream_settle(struct vsock_stream *s);
/* End it: RST to the guest, close to the host. */
void vsock_stream_reset(struct vsock_stream *s);
/* End it without a word to the guest (which ended it, or never heard of it). */
void vsock_stream_drop(struct vsock_stream *s);
/* The guest has no such stream any more. */
void vsock_stream_forgotten(struct vsock_stream *s);
/* Its socket is closed. */
void vsock_stream_released(struct vsock_stream *s);
void vsock_drop_all(struct vsock *v);
/* Free the dead ones. */
void vsock_reap(struct vsock *v);

/* ---- vsock_socket.c: a stream's host side ---- */

/* Start to watch s->fd. */
void vsock_socket_start(struct vsock_stream *s);
/* Send `len` bytes of the chain from `offset` on, or keep them for later. */
void vsock_socket_send(
	struct vsock_stream *s, const struct descriptor_chain *chain, size_t offset, uint32_t len);
/* Give back the buffers that are kept for reuse. */
void vsock_socket_trim(struct vsock *v);
/* Drop what waits and close, once the kernel lets go. */
void vsock_socket_close(struct vsock_stream *s);

/* ---- vsock_bridge.c: how connections begin on the host ---- */

void vsock_bridge_start(struct vsock *v);
void vsock_bridge_stop(struct vsock *v);
/* Take up to VSOCK_TURN_PACKETS connections out of the listen queue; whether there was one. */
bool vsock_bridge_accept(struct vsock *v);
/* Close those that wait there. Any thread. */
void vsock_bridge_refuse(struct vsock *v);
/* Bytes may have come in from a stream in VSOCK_GREETING; `ended`: no more will. */
void vsock_bridge_greet(struct vsock_stream *s, bool ended);
/* The guest accepted: say so to the host program. */
void vsock_bridge_accepted(struct vsock_stream *s);
/* The guest asks for host port s->host_port. */
void vsock_bridge_dial(struct vsock_stream *s);
