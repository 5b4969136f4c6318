/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line into a request: every refusal that needs no knowledge of the method's parameters.
 *
 * The JSON library recurses as deep as its input nests and spends a hundred bytes on a value of two
 * ("[]"), so the line is looked over first, knowing no more of JSON than where its texts begin and
 * end, and refused where it nests too deep or holds too many values.
 */
#include "vmm/base/nearest.h"
#include "vmm/base/util.h"
#include "vmm/rpc/rpc.h"

#include <stdio.h>
#include <string.h>

#define CODE_PARSE   (-32700)
#define CODE_REQUEST (-32600)
#define CODE_METHOD  (-32601)

#define METHODS_MAX 128

static int refuse_shape(
	struct rpc_request *request, const char *line, size_t len, struct error *err)
{
	unsigned depth = 0, values = 0;
	bool text = false;

	request->code = CODE_REQUEST;
	for (size_t i = 0; i < len; i++) {
		char c = line[i];

		if (text) {
			if (c == '\\')
				i++;
			else if (c == '"')
				text = false;
			continue;
		}
		text = c == '"';
		if (c == '{' || c == '[') {
			if (++depth > RPC_DEPTH_MAX)
				return error_set(err, ERROR_BAD_REQUEST,
					"the request nests deeper than %d", RPC_DEPTH_MAX);
			values++;
		} else if (c == '}' || c == ']') {
			depth -= depth > 0;
		} else if (c == ',') {
			values++;
		}
		if (values > RPC_VALUES_MAX)
			return error_set(err, ERROR_BAD_REQUEST,
				"the request has more than %d values", RPC_VALUES_MAX);
	}
	return 0;
}

static int refuse_member(const char *key, struct error *err)
{
	static const char *const members[] = {"jsonrpc", "id", "method", "params"};
	const char *nearest = nearest_word(key, members, ARRAY_SIZE(members));

	error_set(err, ERROR_BAD_REQUEST,
		"'%.64s': no such member of a request; there are jsonrpc, id, method, params", key);
	return nearest ? error_hint(err, "did you mean '%s'?", nearest) : -err->code;
}

static bool is_id(const json_t *id)
{
	return json_is_integer(id) || json_is_null(id) ||
	       (json_is_string(id) && json_string_length(id) <= RPC_ID_MAX);
}

static int check_members(struct rpc_request *request, struct error *err)
{
	static const char *const known[] = {"jsonrpc", "id", "method", "params"};
	const char *version, *key;
	json_t *id, *value;

	if (json_is_array(request->root))
		return error_set(err, ERROR_BAD_REQUEST,
			"batches are not served: send each request as a line of its own");
	if (!json_is_object(request->root))
		return error_set(err, ERROR_BAD_REQUEST, "the request is not an object");
	id = json_object_get(request->root, "id");
	if (id && !is_id(id))
		return error_set(err, ERROR_BAD_REQUEST,
			"id: is neither text of at most %d bytes nor a whole number", RPC_ID_MAX);
	request->id = id;
	json_object_foreach(request->root, key, value)
	{
		bool found = false;

		for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
			found = found || !strcmp(key, known[i]);
		if (!found)
			return refuse_member(key, err);
	}
	version = json_string_value(json_object_get(request->root, "jsonrpc"));
	if (!version || strcmp(version, "2.0") != 0)
		return error_set(err, ERROR_BAD_REQUEST, "jsonrpc: is not \"2.0\"");
	request->params = json_object_get(request->root, "params");
	if (request->params && !json_is_object(request->params))
		return error_set(err, ERROR_BAD_REQUEST,
			"params: is not an object: parameters are given by name");
	return 0;
}

static int find_method(
	struct rpc_request *request, const struct rpc_method *methods, struct error *err)
{
	const json_t *value = json_object_get(request->root, "method");
	const char *name = json_string_value(value), *nearest;
	const char *words[METHODS_MAX];
	size_t count = 0;

	if (!name)
		return error_set(err, ERROR_BAD_REQUEST, "method: is not a text");
	for (const struct rpc_method *m = methods; m->name; m++) {
		if (!strcmp(m->name, name)) {
			request->method = m;
			return 0;
		}
		if (count < METHODS_MAX)
			words[count++] = m->name;
	}
	request->code = CODE_METHOD;
	nearest = nearest_word(name, words, count);
	error_set(err, ERROR_UNKNOWN_METHOD, "'%.64s': no such method", name);
	return nearest ? error_hint(err, "did you mean '%s'?", nearest) : -err->code;
}

int rpc_request_parse(struct rpc_request *request, const struct rpc_method *methods,
	const char *line, size_t len, struct error *err)
{
	json_error_t reason;
	int ret;

	*request = (struct rpc_request){0};
	ret = refuse_shape(request, line, len, err);
	if (ret)
		return ret;
	/* Texts with an escaped NUL are refused by the library, which is right: no C string can hold one. */
	request->root = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &reason);
	if (!request->root) {
		request->code = CODE_PARSE;
		return error_set(err, ERROR_BAD_REQUEST, "the line is no JSON: %s, at byte %d",
			reason.text, reason.position);
	}
	ret = check_members(request, err);
	return ret ? ret : find_method(request, methods, err);
}

void rpc_request_release(struct rpc_request *request)
{
	json_decref(request->root);
	*request = (struct rpc_request){0};
}
