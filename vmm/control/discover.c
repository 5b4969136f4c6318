/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rpc.discover: the table of methods as an OpenRPC 1.2 document (spec.open-rpc.org), with a JSON schema for each
 * parameter, from which clients in other languages are generated. Results are described in words and as objects that
 * may grow: a client must ignore members that it does not know.
 */
#include "vmm/control/control_private.h"

/* The JSON type of a parameter, with its range; the server checks by the same table. */
static json_t *describe_type(const struct schema *s)
{
	json_t *names;

	switch (s->type) {
	case SCHEMA_BOOL:
		return json_pack("{s:s}", "type", "boolean");
	case SCHEMA_NUMBER:
		return json_pack("{s:s, s:I, s:I}", "type", "integer", "minimum",
			(json_int_t)s->min, "maximum", (json_int_t)s->max);
	case SCHEMA_SIZE:
		return json_pack("{s:[{s:s, s:I}, {s:s, s:s}]}", "oneOf", "type", "integer",
			"minimum", (json_int_t)s->min, "type", "string", "pattern",
			"^[0-9]+[KMGT]?$");
	case SCHEMA_TEXTS:
		return json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "string");
	case SCHEMA_LIST:
		return json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "object");
	case SCHEMA_JSON:
	case SCHEMA_OBJECT:
		return json_pack("{s:s}", "type", "object");
	case SCHEMA_ID:
		return json_pack(
			"{s:s, s:s}", "type", "string", "pattern", "^[a-z0-9][a-z0-9._-]{0,62}$");
	case SCHEMA_CHOICE:
	case SCHEMA_WORD:
		names = json_array();
		for (const struct schema_choice *c = s->choices; c->name; c++)
			json_array_append_new(names, json_string(c->name));
		return json_pack("{s:s, s:o}", "type", "string", "enum", names);
	default:
		return json_pack("{s:s}", "type", "string");
	}
}

static json_t *describe_params(const struct schema *params)
{
	json_t *list = json_array();

	for (; params && params->name; params++) {
		const char *fallback = params->fallback ? params->fallback : params->value;
		json_t *one = json_pack("{s:s, s:b, s:o, s:o}", "name", params->name, "required",
			params->required ? 1 : 0, "description",
			fallback ? json_sprintf("%s; default: %s", params->help, fallback)
				 : json_string(params->help),
			"schema", describe_type(params));

		json_array_append_new(list, one);
	}
	return list;
}

static json_t *describe_errors(void)
{
	json_t *errors = json_object();

	for (unsigned kind = 0; kind < ERROR_KIND_COUNT; kind++)
		json_object_set_new(errors, error_kind_name(kind),
			json_pack("{s:i, s:s, s:{s:s}}", "code", rpc_error_code(kind), "message",
				"one sentence", "data", "kind", error_kind_name(kind)));
	return errors;
}

static json_t *describe_events(void)
{
	json_t *events = json_array();

	for (unsigned i = 0; i < EVENT_TYPES; i++)
		json_array_append_new(events, json_string(event_names[i]));
	return events;
}

json_t *control_describe_methods(void)
{
	json_t *methods = json_array();

	for (const struct rpc_method *m = control_methods; m->name; m++)
		json_array_append_new(
			methods, json_pack("{s:s, s:s, s:s, s:o, s:{s:s, s:s, s:{s:s}}}", "name",
					 m->name, "summary", m->summary, "paramStructure",
					 "by-name", "params", describe_params(m->params), "result",
					 "name", "result", "description", m->result, "schema",
					 "type", *m->result == '{' ? "object" : "string"));
	return json_pack("{s:s, s:{s:s, s:s}, s:o, s:{s:o}, s:o}", "openrpc", "1.2.6", "info",
		"title", "Bulkhead", "version", BULKHEAD_VERSION, "methods", methods, "components",
		"errors", describe_errors(), "x-events", describe_events());
}

void serve_discover(struct rpc_call *call)
{
	rpc_reply(call, control_describe_methods());
}
