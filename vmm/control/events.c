/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happened, for those who subscribed. Every event has a number, one more than the last; the newest
 * EVENTS_KEPT are kept, so that a client that was away asks for what came after the last it saw. Where that
 * is no longer kept, the answer's `first` is greater than the number it asked for, and it knows.
 */
#include "vmm/control/control_private.h"

#include <string.h>
#include <time.h>

const char *const event_names[EVENT_TYPES + 1] = {
	[EVENT_VM_STATE] = "vm.state",
	[EVENT_DISK_RESIZED] = "disk.resized",
	[EVENT_DEVICE_ATTACHED] = "device.attached",
	[EVENT_DEVICE_DETACHED] = "device.detached",
	[EVENT_JOB_PROGRESS] = "job.progress",
	[EVENT_JOB_DONE] = "job.done",
	[EVENT_JOB_FAILED] = "job.failed",
};

static uint64_t first_kept(const struct events *events)
{
	return events->last < EVENTS_KEPT ? 1 : events->last - EVENTS_KEPT + 1;
}

void events_add(struct control *control, enum event_type type, json_t *params)
{
	struct events *events = &control->events;
	struct event *event = &events->kept[(events->last + 1) % EVENTS_KEPT];
	struct timespec now;

	if (!params)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	events->last++;
	json_object_set_new(params, "seq", json_integer((json_int_t)events->last));
	json_object_set_new(
		params, "time_ns", json_integer((json_int_t)now.tv_sec * 1000000000 + now.tv_nsec));
	json_decref(event->params);
	event->type = type;
	event->params = params;
	for (struct connection *c = control->connections; c; c = c->next)
		if (c->events >> type & 1)
			rpc_peer_notify(&c->peer, event_names[type], json_incref(params));
}

void events_release(struct events *events)
{
	for (unsigned i = 0; i < EVENTS_KEPT; i++)
		json_decref(events->kept[i].params);
}

static int read_types(const struct schema_texts *types, unsigned *mask, struct error *err)
{
	*mask = types->items ? 0 : (1u << EVENT_TYPES) - 1;
	for (unsigned i = 0; types->items && i < types->count; i++) {
		unsigned type = 0;

		while (type < EVENT_TYPES && strcmp(types->items[i], event_names[type]) != 0)
			type++;
		if (type == EVENT_TYPES)
			return error_set(err, ERROR_BAD_REQUEST,
				"types[%u]: '%.64s' is no type of event (see rpc.discover)", i,
				types->items[i]);
		*mask |= 1u << type;
	}
	return 0;
}

void serve_events_subscribe(struct rpc_call *call)
{
	const struct subscribe_params *params = call->params;
	struct connection *c = call->peer->user;
	struct events *events = &c->control->events;
	uint64_t from = params->since == UINT64_MAX ? events->last + 1 : params->since + 1;
	struct error err;
	unsigned mask;

	if (read_types(&params->types, &mask, &err)) {
		rpc_fail(call, &err);
		return;
	}
	if (from > events->last + 1)
		from = 1; /* what it has seen was another VM on this socket */
	if (from < first_kept(events))
		from = first_kept(events);
	c->events = mask;
	/* The answer comes before what it promises; it frees the call, the connection stays. */
	rpc_reply(call, json_pack("{s:I, s:I}", "first", (json_int_t)from, "last",
				(json_int_t)events->last));
	for (; from <= events->last; from++) {
		const struct event *event = &events->kept[from % EVENTS_KEPT];

		if (mask >> event->type & 1)
			rpc_peer_notify(
				&c->peer, event_names[event->type], json_incref(event->params));
	}
}
