/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON-RPC 2.0, one JSON object a line, UTF-8, without a transport: bytes that came go in by
 * rpc_peer_receive(), lines to send come out by a callback. The control socket runs it on its
 * io_uring loop, the guest agent on epoll.
 *
 * A `struct rpc_peer` is one connection's state, a `struct rpc_method` table says what can be called:
 * name, the table of its parameters, a function. Before the function runs, everything has been
 * checked: the line's length, nesting and number of values, its JSON (a key given twice is an
 * error), the request's members, the method's name, and every parameter against its table. An unknown
 * parameter is an error that names the nearest known one, never ignored. The function answers at
 * once or later, by rpc_reply() or rpc_fail(), exactly once.
 *
 * Within the specification (jsonrpc.org/specification) these choices were ours:
 *  - parameters are an object; a list (by position) is refused;
 *  - a batch (a line that is a list) is refused in words: each request is a line of its own;
 *  - an id is text of at most 128 bytes, a whole number, or null;
 *  - a request without id is carried out and never answered, even when it was wrong;
 *  - requests are begun in the order they came. At most `calls_max` are open at once and the rest
 *    waits; so with calls_max 1 they are also answered in order.
 *
 * An error object has `code`, `message` (one sentence, the mend in parentheses) and `data.kind`, the
 * name of the error's kind: see rpc_error_code().
 *
 * Memory of a peer is bounded: RPC_LINE_MAX and one piece of what came for input, calls_max calls. Output is
 * the transport's; it blocks a peer whose output it cannot get rid of.
 * Not thread-safe: a peer belongs to one thread, and so do its calls.
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/schema/schema.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define RPC_LINE_MAX   ((size_t)1 << 20) /* without the line's end */
#define RPC_DEPTH_MAX  32
#define RPC_VALUES_MAX 32768 /* in one line: each costs many times its text in memory */
#define RPC_ID_MAX     128

struct rpc_peer;

/* A request that is being served. Freed by its answer. */
struct rpc_call {
	struct rpc_peer *peer; /* NULL: the peer has gone, the answer will be dropped */
	struct rpc_call *next;
	const struct rpc_method *method;
	json_t *id;   /* NULL: not to be answered */
	void *params; /* as the method's table stored them */
	/* For whoever serves it: called when the peer goes before the answer. rpc_fail() is still owed. */
	void (*cancel)(struct rpc_call *call);
	void *user;
};

struct rpc_method {
	const char *name; /* NULL ends a table */
	void (*serve)(struct rpc_call *call);
	const struct schema *params; /* NULL: it has none */
	size_t params_size;	     /* of the structure that they are stored in */
	const char *summary;	     /* one sentence, for documents */
	const char *result;	     /* what it answers, for documents */
	const void *params_blank;    /* what it holds where nothing is given; NULL: zeros */
};

struct rpc_peer {
	const struct rpc_method *methods; /* up to a NULL name */
	unsigned calls_max;
	/* A line to send, its end included. It may not free the peer. */
	void (*write)(struct rpc_peer *peer, const char *bytes, size_t size);
	/* May be NULL: a call was answered or dropped, so it may be ready again. It may not free the peer. */
	void (*answered)(struct rpc_peer *peer);
	void *user;
	/* Set by the transport while it cannot get rid of more output: requests wait until rpc_peer_resume(). */
	bool blocked;
	/* Private from here. */
	char *input;
	size_t used, room, scanned;
	bool skipping; /* the rest of a line that is too long */
	bool serving;  /* a guard against answers that start the next request from within */
	struct rpc_call *calls;
	unsigned call_count;
};

/* `peer` is zeroed but for what is not private. */
void rpc_peer_open(struct rpc_peer *peer);
/* Give up the connection: open calls are cancelled, and their answers dropped. */
void rpc_peer_close(struct rpc_peer *peer);

/* True when it can serve more: else what it is given is only kept, and its transport should wait. */
bool rpc_peer_ready(const struct rpc_peer *peer);

/* What has come, in pieces of any size. Serves each line as it is complete. */
void rpc_peer_receive(struct rpc_peer *peer, const char *bytes, size_t size);

/* The transport can send again: go on with what waits. */
void rpc_peer_resume(struct rpc_peer *peer);

/* Send a notification. `params` is taken over; NULL means memory was short, and nothing is sent. */
void rpc_peer_notify(struct rpc_peer *peer, const char *method, json_t *params);

/* Answer. `result` is taken over; NULL means that memory was short, and answers so. */
void rpc_reply(struct rpc_call *call, json_t *result);
void rpc_fail(struct rpc_call *call, const struct error *err);

/* The JSON-RPC code that goes with a kind; the kind is the finer one. */
int rpc_error_code(enum error_kind kind);
/* {"code", "message", "data": {"kind"}} */
json_t *rpc_error_json(const struct error *err);
/* The way back: the error that such an object describes. Unknown kinds become internal. */
void rpc_error_read(const json_t *object, struct error *err);

/* Text of unknown origin as a JSON string: what is not UTF-8, or NUL, becomes U+FFFD. */
json_t *rpc_text(const char *bytes, size_t len);

/* One line, checked and taken apart. `id` is what an error is answered with, even when refused. */
struct rpc_request {
	json_t *root;
	json_t *id; /* borrowed from root; NULL: a notification */
	const struct rpc_method *method;
	const json_t *params; /* borrowed; NULL: none given */
	int code; /* after a refusal: the JSON-RPC code, where the kind does not say enough */
};

/* Returns 0 or a negative errno; in both cases rpc_request_release() follows. */
int rpc_request_parse(struct rpc_request *request, const struct rpc_method *methods,
	const char *line, size_t len, struct error *err);
void rpc_request_release(struct rpc_request *request);
