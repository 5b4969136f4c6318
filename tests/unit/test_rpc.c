/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The promises of the RPC floor: what a line gets for an answer, whatever pieces it comes in, and that nothing
 * refused is carried out. Most cases are rows of a table: a line, and words of the answer that must come.
 */
#include "tests/unit/runner.h"
#include "vmm/base/base64.h"
#include "vmm/base/util.h"
#include "vmm/rpc/rpc.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

struct wire {
	char text[8192];
	size_t used;
	unsigned served, cancelled;
	struct rpc_call *held[8];
	unsigned held_count;
};

static void wire_write(struct rpc_peer *peer, const char *bytes, size_t size)
{
	struct wire *wire = peer->user;

	ck_assert_uint_lt(wire->used + size, sizeof(wire->text));
	memcpy(wire->text + wire->used, bytes, size);
	wire->used += size;
	wire->text[wire->used] = '\0';
}

struct add_params {
	unsigned left, right;
	char *note;
	struct schema_texts words;
	struct schema_bytes data;
};

static const struct schema add_schema[] = {
	{.name = "left",
		.type = SCHEMA_NUMBER,
		.max = 100,
		.offset = offsetof(struct add_params, left),
		.required = true,
		.help = "a number"},
	{.name = "right",
		.type = SCHEMA_NUMBER,
		.max = 100,
		.offset = offsetof(struct add_params, right),
		.value = "1",
		.help = "a number"},
	{.name = "note",
		.type = SCHEMA_STRING,
		.max = 20,
		.offset = offsetof(struct add_params, note),
		.help = "a text"},
	{.name = "words",
		.type = SCHEMA_TEXTS,
		.min = 1,
		.max = 3,
		.offset = offsetof(struct add_params, words),
		.help = "texts"},
	{.name = "data",
		.type = SCHEMA_BYTES,
		.max = 6,
		.offset = offsetof(struct add_params, data),
		.help = "bytes"},
	{.name = NULL},
};

static void serve_add(struct rpc_call *call)
{
	const struct add_params *params = call->params;
	struct wire *wire = call->peer->user;

	wire->served++;
	rpc_reply(
		call, json_pack("{s:i, s:i, s:i}", "sum", (int)(params->left + params->right),
			      "words", (int)params->words.count, "bytes", (int)params->data.size));
}

static void serve_fail(struct rpc_call *call)
{
	struct error err;

	error_set(&err, ERROR_NOT_FOUND, "no such thing: \xff");
	error_hint(&err, "look elsewhere");
	rpc_fail(call, &err);
}

static void hold_cancel(struct rpc_call *call)
{
	((struct wire *)call->user)->cancelled++;
}

static void serve_hold(struct rpc_call *call)
{
	struct wire *wire = call->peer->user;

	call->cancel = hold_cancel;
	call->user = wire;
	wire->held[wire->held_count++] = call;
}

static const struct rpc_method methods[] = {
	{"add", serve_add, add_schema, sizeof(struct add_params), "adds", "the sum"},
	{"fail", serve_fail, NULL, 0, "fails", "never"},
	{"hold", serve_hold, NULL, 0, "waits", "later"},
	{.name = NULL},
};

static void peer_open(struct rpc_peer *peer, struct wire *wire, unsigned calls_max)
{
	*wire = (struct wire){0};
	*peer = (struct rpc_peer){
		.methods = methods, .calls_max = calls_max, .write = wire_write, .user = wire};
	rpc_peer_open(peer);
}

static void say(struct rpc_peer *peer, const char *line)
{
	rpc_peer_receive(peer, line, strlen(line));
}

#define CALL(params) "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"add\",\"params\":" params "}"

static const struct {
	const char *line, *words[4];
} answers[] = {
	{CALL("{\"left\":2,\"right\":3}"), {"\"id\":7", "\"sum\":5"}},
	{CALL("{\"left\":2}"), {"\"sum\":3"}},
	{CALL("{\"left\":2}") "\r", {"\"sum\":3"}},
	{CALL("{\"left\":2,\"note\":\"a\\nb\",\"words\":[\"x\",\"\"],\"data\":\"AAEC\"}"),
		{"\"words\":2", "\"bytes\":3"}},
	{CALL("{\"left\":2,\"words\":[]}"), {"words: 0 are given", "-32602"}},
	{CALL("{\"left\":2,\"words\":[\"x\",5]}"), {"words[1]: 5 is not text"}},
	{CALL("{\"left\":2,\"words\":\"x\"}"), {"words: 'x' is not a list of texts"}},
	{CALL("{\"left\":2,\"data\":\"AAE\"}"), {"data: is not base64"}},
	{CALL("{\"left\":2,\"data\":\"AAECAAECAAEC\"}"), {"data: has 9 bytes"}},
	{CALL("{\"left\":2,\"data\":7}"), {"data: 7 is not bytes"}},
	{CALL("{\"left\":2,\"note\":\"more than twenty bytes\"}"), {"note: is 22 bytes long"}},
	{CALL("{\"left\":\"2\"}"), {"-32602", "bad_request", "left: '2' is not a whole number"}},
	{CALL("{\"left\":2.0}"), {"bad_request", "left: 2 is not"}},
	{CALL("{\"left\":101}"), {"bad_request", "from 0 to 100"}},
	{CALL("{\"right\":1}"), {"bad_request", "left: is required"}},
	{CALL("{\"left\":1,\"rihgt\":2}"),
		{"-32602", "rihgt: no such key", "did you mean 'right'?"}},
	{CALL("{\"left\":1,\"left\":2}"), {"-32700", "duplicate"}},
	{CALL("[1,2]"), {"-32600", "params: is not an object"}},
	{CALL("null"), {"-32600", "params: is not an object"}},
	{"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"ad\"}",
		{"-32601", "unknown_method", "did you mean 'add'?", "\"id\":\"x\""}},
	{"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"fail\"}",
		{"\"id\":null", "-32002", "not_found",
			"no such thing: \xef\xbf\xbd (look elsewhere)"}},
	{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"fail\",\"params\":{\"a\":1}}",
		{"a: no such key"}},
	{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}", {"-32600", "method: is not a text"}},
	{"{\"jsonrpc\":\"2.0\",\"id\":1}", {"-32600", "method: is not a text"}},
	{"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"fail\"}", {"-32600", "jsonrpc: is not"}},
	{"{\"id\":1,\"method\":\"fail\"}", {"-32600", "jsonrpc: is not"}},
	{"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"fail\"}",
		{"-32600", "id: is neither", "\"id\":null"}},
	{"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"fail\"}", {"-32600", "id: is neither"}},
	{"{\"jsonrpc\":\"2.0\",\"id\":1,\"metod\":\"fail\"}",
		{"-32600", "'metod': no such member", "did you mean 'method'?"}},
	{"[" CALL("{\"left\":1}") "]", {"-32600", "batches are not served", "\"id\":null"}},
	{"5", {"-32600", "not an object"}},
	{"\"text\"", {"-32600", "not an object"}},
	{"{\"jsonrpc\"", {"-32700", "bad_request", "no JSON"}},
	{"\xff\xfe\x01 garbage", {"-32700", "no JSON"}},
	{CALL("{\"left\":1}") " x", {"-32700", "no JSON"}},
	{CALL("{\"note\":\"\\u0000\"}"), {"-32700", "no JSON"}},
	{"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", {"-32600", "nests deeper than 32"}},
};

START_TEST(a_line_gets_the_documented_answer)
{
	struct rpc_peer peer;
	struct wire wire;

	peer_open(&peer, &wire, 4);
	say(&peer, answers[_i].line);
	ck_assert_uint_eq(wire.used, 0);
	say(&peer, "\n");
	for (unsigned i = 0; i < 4 && answers[_i].words[i]; i++) {
		const char *word = answers[_i].words[i];

		ck_assert_msg(strstr(wire.text, word), "no '%s' in %s", word, wire.text);
	}
	ck_assert_ptr_eq(strchr(wire.text, '\n'), wire.text + wire.used - 1);
	ck_assert_uint_eq(wire.served, strstr(wire.text, "\"sum\"") ? 1 : 0);
	ck_assert(rpc_peer_ready(&peer));
	rpc_peer_close(&peer);
}
END_TEST

START_TEST(pieces_of_one_byte_make_the_same_lines)
{
	static const char lines[] = "\n\r\n" CALL("{\"left\":1}") "\n" CALL("{\"left\":2}") "\n";
	struct rpc_peer peer;
	struct wire wire;

	peer_open(&peer, &wire, 1);
	for (size_t i = 0; i < sizeof(lines) - 1; i++)
		rpc_peer_receive(&peer, lines + i, 1);
	ck_assert_uint_eq(wire.served, 2);
	ck_assert_ptr_nonnull(strstr(wire.text, "\"sum\":2"));
	ck_assert_ptr_nonnull(strstr(wire.text, "\"sum\":3"));
	rpc_peer_close(&peer);
}
END_TEST

START_TEST(a_request_without_id_is_served_and_never_answered)
{
	struct rpc_peer peer;
	struct wire wire;

	peer_open(&peer, &wire, 1);
	say(&peer, "{\"jsonrpc\":\"2.0\",\"method\":\"add\",\"params\":{\"left\":1}}\n");
	ck_assert_uint_eq(wire.served, 1);
	say(&peer, "{\"jsonrpc\":\"2.0\",\"method\":\"add\",\"params\":{\"lefty\":1}}\n");
	say(&peer,
		"{\"jsonrpc\":\"2.0\",\"method\":\"fail\"}\n{\"jsonrpc\":\"2.0\",\"method\":\"nothing\"}\n");
	ck_assert_uint_eq(wire.served, 1);
	ck_assert_uint_eq(wire.used, 0);
	rpc_peer_close(&peer);
}
END_TEST

/* A line of the given length, and a good one behind it. */
static void long_line(size_t len, bool too_long)
{
	char *line = malloc(len + 1);
	struct rpc_peer peer;
	struct wire wire;

	ck_assert_ptr_nonnull(line);
	memset(line, ' ', len);
	memcpy(line, CALL("{\"left\":4}"), strlen(CALL("{\"left\":4}")));
	line[len] = '\n';
	peer_open(&peer, &wire, 1);
	rpc_peer_receive(&peer, line, len + 1);
	ck_assert_msg(
		!!strstr(wire.text, "longer than 1048576") == too_long, "%zu: %s", len, wire.text);
	ck_assert_uint_eq(wire.served, !too_long);
	ck_assert_uint_le(peer.room, 2 * RPC_LINE_MAX);
	say(&peer, CALL("{\"left\":5}") "\n");
	ck_assert_uint_eq(wire.served, 1 + !too_long);
	ck_assert_ptr_nonnull(strstr(wire.text, "\"sum\":6"));
	rpc_peer_close(&peer);
	free(line);
}

START_TEST(a_line_over_the_limit_is_refused_once_and_the_next_one_is_served)
{
	long_line(RPC_LINE_MAX - 1, false);
	long_line(RPC_LINE_MAX, false);
	long_line(RPC_LINE_MAX + 1, true);
	long_line(RPC_LINE_MAX + 2, true);
	long_line(5 * RPC_LINE_MAX, true);
}
END_TEST

START_TEST(more_values_than_allowed_are_refused_before_they_cost_memory)
{
	size_t len = (size_t)RPC_VALUES_MAX * 3;
	char *line = malloc(len + 1);
	struct rpc_peer peer;
	struct wire wire;

	ck_assert_ptr_nonnull(line);
	for (size_t i = 0; i < len; i += 3)
		memcpy(line + i, "[],", 3);
	line[len] = '\n';
	peer_open(&peer, &wire, 1);
	rpc_peer_receive(&peer, line, len + 1);
	ck_assert_ptr_nonnull(strstr(wire.text, "more than 32768 values"));
	rpc_peer_close(&peer);
	free(line);
}
END_TEST

START_TEST(with_one_call_at_a_time_answers_keep_the_order)
{
	struct rpc_peer peer;
	struct wire wire;

	peer_open(&peer, &wire, 1);
	say(&peer, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\"}\n" CALL(
			   "{\"left\":1}") "\n" CALL("{\"left\":2}") "\n");
	ck_assert(!rpc_peer_ready(&peer));
	ck_assert_uint_eq(wire.served, 0);
	ck_assert_uint_eq(wire.used, 0);
	rpc_reply(wire.held[0], json_true());
	ck_assert_uint_eq(wire.served, 2);
	ck_assert_ptr_eq(strstr(wire.text, "\"result\":true"), strstr(wire.text, "\"result\""));
	rpc_peer_close(&peer);
}
END_TEST

START_TEST(with_more_calls_a_late_answer_holds_nothing_up)
{
	struct rpc_peer peer;
	struct wire wire;

	peer_open(&peer, &wire, 3);
	say(&peer,
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\"}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"hold\"}\n");
	say(&peer, CALL("{\"left\":1}") "\n");
	ck_assert_uint_eq(wire.served, 1);
	rpc_reply(wire.held[0], json_true());
	rpc_reply(wire.held[1], NULL);
	ck_assert_ptr_nonnull(strstr(wire.text, "no_resource"));
	rpc_peer_close(&peer);
	ck_assert_uint_eq(wire.cancelled, 0);
}
END_TEST

START_TEST(a_peer_that_goes_cancels_its_calls_and_drops_their_answers)
{
	struct error err;
	struct rpc_peer peer;
	struct wire wire;

	peer_open(&peer, &wire, 3);
	say(&peer,
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\"}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"hold\"}\n{\"half");
	rpc_peer_close(&peer);
	ck_assert_uint_eq(wire.cancelled, 2);
	rpc_reply(wire.held[0], json_true());
	error_set(&err, ERROR_CANCELLED, "gone");
	rpc_fail(wire.held[1], &err);
	ck_assert_uint_eq(wire.used, 0);
}
END_TEST

START_TEST(every_kind_has_a_code_of_its_own_and_finds_back)
{
	for (unsigned i = 0; i < ERROR_KIND_COUNT; i++) {
		struct error err, back;
		json_t *object;

		error_set(&err, (enum error_kind)i, "what: why");
		object = rpc_error_json(&err);
		rpc_error_read(object, &back);
		json_decref(object);
		ck_assert_int_eq(back.kind, err.kind);
		ck_assert_str_eq(back.text, err.text);
		ck_assert_int_lt(rpc_error_code(err.kind), -31999);
		for (unsigned j = 0; j < i; j++)
			ck_assert_int_ne(rpc_error_code((enum error_kind)i),
				rpc_error_code((enum error_kind)j));
	}
}
END_TEST

START_TEST(any_bytes_become_utf8_text)
{
	static const struct {
		const char *bytes, *text;
	} rows[] = {{"plain", "plain"}, {"\xc3\xa4", "\xc3\xa4"}, {"\xc3", "\xef\xbf\xbd"},
		{"a\x80z", "a\xef\xbf\xbdz"}, {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xf0\x9f\x92\xa9", "\xf0\x9f\x92\xa9"},
		{"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, {"", ""}};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		json_t *text = rpc_text(rows[i].bytes, strlen(rows[i].bytes));

		ck_assert_ptr_nonnull(text);
		ck_assert_str_eq(json_string_value(text), rows[i].text);
		json_decref(text);
	}
}
END_TEST

START_TEST(base64_is_strict_and_reversible)
{
	static const char *const refused[] = {"A", "AA", "AAA", "=AAA", "A===", "AA=A",
		"AB==", "AAB=", "AA A", "AA\n=", "AA==AAAA", "AA-_"};
	uint8_t bytes[64], back[64];
	char text[BASE64_SIZE(64)];
	size_t size;

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 37 + 11);
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		size_t chars = base64_encode(bytes, len, text);

		ck_assert_uint_eq(chars, strlen(text));
		ck_assert(base64_decode(text, chars, back, &size));
		ck_assert_uint_eq(size, len);
		ck_assert_int_eq(memcmp(bytes, back, len), 0);
	}
	ck_assert_uint_eq(base64_encode("foob", 4, text), 8);
	ck_assert_str_eq(text, "Zm9vYg==");
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
		ck_assert_msg(!base64_decode(refused[i], strlen(refused[i]), back, &size), "%s",
			refused[i]);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("rpc");

	tcase_add_loop_test(tc, a_line_gets_the_documented_answer, 0, (int)ARRAY_SIZE(answers));
	tcase_add_test(tc, pieces_of_one_byte_make_the_same_lines);
	tcase_add_test(tc, a_request_without_id_is_served_and_never_answered);
	tcase_add_test(tc, a_line_over_the_limit_is_refused_once_and_the_next_one_is_served);
	tcase_add_test(tc, more_values_than_allowed_are_refused_before_they_cost_memory);
	tcase_add_test(tc, with_one_call_at_a_time_answers_keep_the_order);
	tcase_add_test(tc, with_more_calls_a_late_answer_holds_nothing_up);
	tcase_add_test(tc, a_peer_that_goes_cancels_its_calls_and_drops_their_answers);
	tcase_add_test(tc, every_kind_has_a_code_of_its_own_and_finds_back);
	tcase_add_test(tc, any_bytes_become_utf8_text);
	tcase_add_test(tc, base64_is_strict_and_reversible);
	return run_tests("rpc", tc, NULL);
}
