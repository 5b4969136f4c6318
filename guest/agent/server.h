/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections: a listening vsock or Unix socket, and an RPC peer for each client.
 *
 * A client hurts only itself. Its output waits in a buffer of its own; above CONN_HIGH no more of its requests
 * are read and the commands that run for it are not read from either, so that the guest's memory is bounded however
 * slowly it reads. One that does not read at all keeps its buffer and nothing more.
 */
#pragma once

#include "guest/agent/events.h"
#include "vmm/rpc/rpc.h"

#define CONN_HIGH  (256u << 10)
#define CONN_CALLS 16
#define CONNS_MAX  512
#define AGENT_PORT 1024

/* Who wants to know about a connection's state; embedded by what lives on one. */
struct conn_user {
	struct conn_user *next;
	void (*drained)(struct conn_user *user); /* its output is below CONN_HIGH again */
	void (*closed)(struct conn_user *user);	 /* it has gone; the user is off the list already */
};

struct conn {
	struct event event;
	struct rpc_peer peer;
	struct conn *next;
	struct conn_user *users;
	char *out;
	size_t used, room;
	bool broken, eof, high;
	struct timer end; /* frees it, from the loop */
};

/* `where`: "vsock:PORT" or "unix:PATH". */
int server_open(const char *where, const struct rpc_method *methods, struct error *err);
void server_close(void);
unsigned server_conn_count(void);

static inline struct conn *conn_of(const struct rpc_peer *peer)
{
	return peer->user;
}

static inline bool conn_is_full(const struct conn *conn)
{
	return conn->used >= CONN_HIGH;
}

void conn_join(struct conn *conn, struct conn_user *user);
void conn_leave(struct conn *conn, struct conn_user *user);
