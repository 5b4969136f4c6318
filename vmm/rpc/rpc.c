/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A peer: lines out of bytes, calls out of lines, answers. See rpc.h for what it promises.
 *
 * Input is kept in one buffer up to its line's end; `scanned` says how much of it is known to hold
 * none, so that a line that comes byte by byte is not searched again from its start each time. A line over
 * RPC_LINE_MAX is answered as soon as that is known and its rest thrown away as it comes.
 */
#include "vmm/rpc/rpc.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>

#define INPUT_KEPT KIB(4) /* an empty buffer larger than this is given back */

static void send_object(struct rpc_peer *peer, json_t *object)
{
	_cleanup_free_ char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0;

	json_decref(object);
	if (!text) {
		log_error("an answer was lost: memory is short");
		return;
	}
	text[len] = '\n'; /* in the NUL's place */
	peer->write(peer, text, len + 1);
}

static void send_error(struct rpc_peer *peer, json_t *id, const struct error *err, int code)
{
	json_t *object = rpc_error_json(err);

	if (code && object)
		json_object_set_new(object, "code", json_integer(code));
	send_object(
		peer, json_pack("{s:s, s:O?, s:o}", "jsonrpc", "2.0", "id", id, "error", object));
}

static void call_free(struct rpc_call *call)
{
	struct rpc_peer *peer = call->peer;

	if (peer) {
		struct rpc_call **at = &peer->calls;

		while (*at != call)
			at = &(*at)->next;
		*at = call->next;
		peer->call_count--;
	}
	if (call->params && call->method->params)
		schema_release(call->method->params, call->params);
	free(call->params);
	json_decref(call->id);
	free(call);
}

static void serve_lines(struct rpc_peer *peer);

/* There is room for another call. */
static void call_over(struct rpc_peer *peer)
{
	if (!peer)
		return;
	serve_lines(peer);
	if (peer->answered)
		peer->answered(peer);
}

void rpc_reply(struct rpc_call *call, json_t *result)
{
	struct rpc_peer *peer = call->peer;
	struct error err;

	if (!result) {
		error_errno(&err, ENOMEM, "%s", call->method->name);
		rpc_fail(call, &err);
		return;
	}
	if (peer && call->id)
		send_object(peer, json_pack("{s:s, s:O, s:O}", "jsonrpc", "2.0", "id", call->id,
					  "result", result));
	json_decref(result);
	call_free(call);
	call_over(peer);
}

void rpc_fail(struct rpc_call *call, const struct error *err)
{
	struct rpc_peer *peer = call->peer;

	if (peer && call->id)
		send_error(peer, call->id, err, 0);
	call_free(call);
	call_over(peer);
}

/* Fill in the parameters; what fails is answered here. */
static void start_call(struct rpc_peer *peer, const struct rpc_request *request)
{
	static const struct schema none[] = {{.name = NULL}};
	const struct rpc_method *method = request->method;
	const struct schema *table = method->params ? method->params : none;
	struct rpc_call *call = calloc(1, sizeof(*call));
	json_t *empty = json_object();
	struct error err = {0};
	int ret = 0;

	BUG_ON(!call || !empty); /* a few bytes: the kernel would have ended us before */
	call->params = calloc(1, method->params_size ? method->params_size : 1);
	call->method = method;
	call->peer = peer;
	call->id = request->id ? json_incref(request->id) : NULL;
	call->next = peer->calls;
	peer->calls = call;
	peer->call_count++;
	if (call->params && method->params_blank)
		memcpy(call->params, method->params_blank, method->params_size);
	if (!call->params)
		ret = error_errno(&err, ENOMEM, "%s", method->name);
	else
		ret = schema_fill(
			table, request->params ? request->params : empty, call->params, "", &err);
	json_decref(empty);
	if (ret)
		rpc_fail(call, &err);
	else
		method->serve(call);
}

static void serve_line(struct rpc_peer *peer, const char *line, size_t len)
{
	struct rpc_request request;
	struct error err = {0};
	bool answered;

	if (len && line[len - 1] == '\r')
		len--;
	if (!len)
		return; /* an empty line is nobody's request */
	if (len > RPC_LINE_MAX) {
		error_set(
			&err, ERROR_BAD_REQUEST, "the line is longer than %zu bytes", RPC_LINE_MAX);
		send_error(peer, NULL, &err, -32600);
		return;
	}
	if (!rpc_request_parse(&request, peer->methods, line, len, &err)) {
		start_call(peer, &request);
	} else {
		/* Without an id only what was a good request otherwise is known to be a notification. */
		answered = request.id || !request.method;
		if (request.code == -32601 && !request.id)
			answered = false;
		if (answered)
			send_error(peer, request.id, &err, request.code);
	}
	rpc_request_release(&request);
}

/* Drop the first `count` bytes, and the buffer where it has become much too large. */
static void consume(struct rpc_peer *peer, size_t count)
{
	if (!peer->input)
		return; /* closed meanwhile */
	peer->used -= count;
	memmove(peer->input, peer->input + count, peer->used);
	peer->scanned = 0;
	if (!peer->used && peer->room > INPUT_KEPT) {
		free(peer->input);
		peer->input = NULL;
		peer->room = 0;
	}
}

/* A line's end has not come yet: is it too long already? */
static void cut_long_line(struct rpc_peer *peer)
{
	struct error err;

	peer->scanned = peer->used;
	if (peer->skipping) {
		consume(peer, peer->used);
	} else if (peer->used > RPC_LINE_MAX + 1) {
		error_set(
			&err, ERROR_BAD_REQUEST, "the line is longer than %zu bytes", RPC_LINE_MAX);
		send_error(peer, NULL, &err, -32600);
		peer->skipping = true;
		consume(peer, peer->used);
	}
}

static void serve_lines(struct rpc_peer *peer)
{
	size_t done = 0;

	if (peer->serving)
		return; /* an answer from within a call: the loop below goes on after it */
	peer->serving = true;
	while (peer->input && rpc_peer_ready(peer)) {
		size_t from = done > peer->scanned ? done : peer->scanned;
		const char *end = memchr(peer->input + from, '\n', peer->used - from);
		size_t start = done;

		if (!end)
			break;
		done = (size_t)(end - peer->input) + 1;
		if (peer->skipping)
			peer->skipping = false;
		else
			serve_line(peer, peer->input + start, done - 1 - start);
	}
	if (done)
		consume(peer, done);
	if (peer->used && rpc_peer_ready(peer))
		cut_long_line(peer);
	peer->serving = false;
}

void rpc_peer_receive(struct rpc_peer *peer, const char *bytes, size_t size)
{
	while (size) {
		/* In pieces, so that what is skipped, or many short lines, need no more than a line's room. */
		size_t piece = min_u64(size, KIB(64)), room = peer->room ? peer->room : KIB(1);

		while (room < peer->used + piece)
			room *= 2;
		if (room > peer->room) {
			char *larger = realloc(peer->input, room);

			if (!larger) {
				log_error("a peer's input was dropped: memory is short");
				return;
			}
			peer->input = larger;
			peer->room = room;
		}
		memcpy(peer->input + peer->used, bytes, piece);
		peer->used += piece;
		bytes += piece;
		size -= piece;
		serve_lines(peer);
	}
}

bool rpc_peer_ready(const struct rpc_peer *peer)
{
	return !peer->blocked && peer->call_count < peer->calls_max;
}

void rpc_peer_resume(struct rpc_peer *peer)
{
	peer->blocked = false;
	serve_lines(peer);
}

void rpc_peer_notify(struct rpc_peer *peer, const char *method, json_t *params)
{
	if (params)
		send_object(peer, json_pack("{s:s, s:s, s:o}", "jsonrpc", "2.0", "method", method,
					  "params", params));
}

void rpc_peer_open(struct rpc_peer *peer)
{
	BUG_ON(!peer->methods || !peer->calls_max || !peer->write);
}

void rpc_peer_close(struct rpc_peer *peer)
{
	struct rpc_call *call;

	while ((call = peer->calls)) {
		peer->calls = call->next;
		peer->call_count--;
		call->peer = NULL;
		if (call->cancel)
			call->cancel(call);
	}
	free(peer->input);
	peer->input = NULL;
	peer->used = peer->room = peer->scanned = 0;
}
