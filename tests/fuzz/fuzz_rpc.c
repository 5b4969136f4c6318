/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RPC floor under bytes of any kind: the first byte says in which pieces the rest comes, and how many calls may
 * be open. What is served checks that its parameters keep what the table promised; every line sent must be an answer
 * that is JSON; and the buffer must stay within its bound.
 */
#include "vmm/base/util.h"
#include "vmm/rpc/rpc.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool kept)
{
	if (!kept)
		abort();
}

struct params {
	unsigned number;
	uint64_t big;
	bool flag;
	char *text, *string, *path, *word;
	char id[SCHEMA_ID_SIZE];
	uint8_t mac[6];
	struct schema_texts texts;
	struct schema_bytes bytes;
	struct item {
		char *name;
		struct schema_texts texts;
	} items[3];
	unsigned item_count;
};

static const struct schema_choice words[] = {{"red", 0}, {"green", 1}, {.name = NULL}};
static const struct schema item_schema[] = {
	{.name = "name",
		.type = SCHEMA_TEXT,
		.max = 8,
		.offset = offsetof(struct item, name),
		.required = true,
		.help = "h"},
	{.name = "texts", .type = SCHEMA_TEXTS, .max = 4, .offset = offsetof(struct item, texts)},
	{.name = NULL},
};
static const struct schema schema[] = {
	{.name = "number",
		.type = SCHEMA_NUMBER,
		.min = 3,
		.max = 70,
		.offset = offsetof(struct params, number),
		.value = "5"},
	{.name = "big",
		.type = SCHEMA_SIZE,
		.max = UINT64_MAX,
		.offset = offsetof(struct params, big)},
	{.name = "flag", .type = SCHEMA_BOOL, .offset = offsetof(struct params, flag)},
	{.name = "text",
		.type = SCHEMA_TEXT,
		.min = 1,
		.max = 9,
		.offset = offsetof(struct params, text)},
	{.name = "string",
		.type = SCHEMA_STRING,
		.max = 9,
		.offset = offsetof(struct params, string)},
	{.name = "path", .type = SCHEMA_PATH, .max = 9, .offset = offsetof(struct params, path)},
	{.name = "word",
		.type = SCHEMA_WORD,
		.choices = words,
		.offset = offsetof(struct params, word)},
	{.name = "id", .type = SCHEMA_ID, .offset = offsetof(struct params, id)},
	{.name = "mac", .type = SCHEMA_MAC, .offset = offsetof(struct params, mac)},
	{.name = "texts",
		.type = SCHEMA_TEXTS,
		.min = 1,
		.max = 4,
		.offset = offsetof(struct params, texts)},
	{.name = "bytes",
		.type = SCHEMA_BYTES,
		.max = 16,
		.offset = offsetof(struct params, bytes)},
	{.name = "items",
		.type = SCHEMA_LIST,
		.max = 3,
		.offset = offsetof(struct params, items),
		.size = sizeof(struct item),
		.extra = offsetof(struct params, item_count),
		.members = item_schema},
	{.name = NULL},
};

static struct rpc_call *held;
static unsigned cancelled;

static void serve_all(struct rpc_call *call)
{
	const struct params *p = call->params;

	must(p->number >= 3 && p->number <= 70 && p->item_count <= 3 && !(p->mac[0] & 1));
	must(!p->text || (strlen(p->text) >= 1 && strlen(p->text) <= 9));
	must(!p->string || strlen(p->string) <= 9);
	must(!p->texts.items ||
		(p->texts.count >= 1 && p->texts.count <= 4 && !p->texts.items[p->texts.count]));
	must(p->bytes.size <= 16 && (!p->bytes.size || p->bytes.data));
	for (unsigned i = 0; i < p->item_count; i++)
		must(p->items[i].name && p->items[i].texts.count <= 4);
	rpc_reply(call, json_true());
}

static void hold_cancel(struct rpc_call *call)
{
	cancelled++;
	must(call == held);
}

/* Answered by the next call of it, or never: the peer goes first. */
static void serve_hold(struct rpc_call *call)
{
	struct rpc_call *before = held;

	call->cancel = hold_cancel;
	held = call;
	if (before)
		rpc_reply(before, json_null());
}

static const struct rpc_method methods[] = {
	{.name = "all", .serve = serve_all, .params = schema, .params_size = sizeof(struct params)},
	{.name = "hold", .serve = serve_hold},
	{.name = NULL},
};

static void check_line(struct rpc_peer *peer, const char *bytes, size_t size)
{
	json_t *line = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, NULL);

	(void)peer;
	must(line && bytes[size - 1] == '\n' && !memchr(bytes, '\n', size - 1));
	must(!json_object_get(line, "result") != !json_object_get(line, "error"));
	must(json_object_get(line, "id") != NULL);
	json_decref(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rpc_peer peer = {.methods = methods, .write = check_line};
	struct error err;
	size_t piece;

	if (!size)
		return 0;
	held = NULL;
	peer.calls_max = 1 + (data[0] & 3);
	piece = 1 + (data[0] >> 2) * (data[0] >> 2);
	rpc_peer_open(&peer);
	for (size_t at = 1; at < size; at += piece) {
		rpc_peer_receive(&peer, (const char *)data + at, min_u64(piece, size - at));
		must(peer.room <= 2 * RPC_LINE_MAX + size && peer.call_count <= peer.calls_max);
	}
	cancelled = 0;
	rpc_peer_close(&peer);
	must(cancelled == (held != NULL));
	error_set(&err, ERROR_CANCELLED, "gone");
	if (held)
		rpc_fail(held, &err);
	return 0;
}
