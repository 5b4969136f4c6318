/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events, in order and without gaps across connections.
 *
 * Each connection begins with events.subscribe and the number of the last event that was delivered. The answer tells what
 * the VM still has: `first` is the number of the first event that follows, `last` its newest so far. Where first is
 * greater than wanted, those between are lost, and the caller is told which. Where our number has not been reached there,
 * it is another VM, which begins from 1.
 */
#include "vmm/lib/private.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>

int events_subscribe(struct bulkhead_vm *vm, struct bulkhead_error *err)
{
	struct call *call = calloc(1, sizeof(*call));
	json_t *params = json_object();
	int ret;

	if (params && !vm->from_now)
		json_object_set_new(params, "since", json_integer((json_int_t)vm->seq));
	if (!call || !params) {
		free(call);
		json_decref(params);
		return fail_errno(err, ENOMEM, "cannot ask for events");
	}
	call->internal = true;
	ret = link_send(vm, call, "events.subscribe", params, true, err);
	if (ret < 0)
		free(call);
	return ret;
}

static void tell(struct bulkhead_vm *vm, const char *type, uint64_t time_ns, const json_t *params)
{
	_cleanup_free_ char *text =
		vm->config.event ? json_dumps(params, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	struct bulkhead_event event = {
		.type = type, .seq = vm->seq, .time_ns = time_ns, .params = text};

	if (text)
		vm->config.event(vm, &event, vm->config.user);
}

static void tell_of_gap(struct bulkhead_vm *vm, const char *type, json_t *params)
{
	if (params)
		tell(vm, type, 0, params);
	json_decref(params);
}

void events_subscribed(struct bulkhead_vm *vm, const json_t *result)
{
	json_int_t first = json_integer_value(json_object_get(result, "first"));
	json_int_t last = json_integer_value(json_object_get(result, "last"));
	uint64_t wanted = vm->seq + 1;
	bool from_now = vm->from_now;

	if (first < 1 || last < 0)
		return; /* a server that says so is none of ours */
	vm->from_now = false;
	vm->seq = (uint64_t)first - 1;
	if (from_now)
		return;
	if ((uint64_t)last + 1 < wanted) {
		vm->told = BULKHEAD_GONE;
		tell_of_gap(vm, "events.restarted", json_object());
	} else if ((uint64_t)first > wanted && wanted > 1) {
		tell_of_gap(vm, "events.lost",
			json_pack("{s:I, s:I}", "from", (json_int_t)wanted, "to", first - 1));
	}
}

/* What the VM says of its own end is the best account of it. */
static void note_end(struct bulkhead_vm *vm, const json_t *params)
{
	static const struct {
		const char *name;
		enum bulkhead_how how;
	} names[] = {
		{"poweroff", BULKHEAD_POWEROFF},
		{"crash", BULKHEAD_CRASHED},
		{"killed", BULKHEAD_KILLED},
		{"failed", BULKHEAD_FAILED},
		{"moved", BULKHEAD_MOVED},
	};
	const char *how = json_string_value(json_object_get(params, "how"));

	for (unsigned i = 0; how && i < ARRAY_SIZE(names); i++)
		if (!strcmp(how, names[i].name))
			vm->told = names[i].how;
}

void events_take(struct bulkhead_vm *vm, const char *type, json_t *params)
{
	json_int_t seq = json_integer_value(json_object_get(params, "seq"));
	json_int_t time_ns = json_integer_value(json_object_get(params, "time_ns"));

	if (seq <= 0 || (uint64_t)seq <= vm->seq)
		return;
	vm->seq = (uint64_t)seq;
	if (!strcmp(type, "vm.state"))
		note_end(vm, params);
	tell(vm, type, time_ns > 0 ? (uint64_t)time_ns : 0, params);
}
