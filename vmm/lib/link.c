/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A handle's connection to the control socket. See private.h.
 *
 * Nothing here blocks: what the socket does not take waits in `out`, and what is not there yet is asked for by the epoll.
 * When the connection breaks, open calls fail, since nobody knows what became of them, and a timer tries to connect again; what is
 * called meanwhile waits. A VM of our own tells its end by itself: until then its calls are kept, for they are to fail with
 * the reason of that end.
 */
#include "vmm/lib/private.h"

#include "vmm/base/util.h"
#include "vmm/rpc/rpc.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define OBJECTS_ONCE	     64 /* served by one dispatch */
#define RECONNECT_DEFAULT_MS 10000
#define PAUSE_FIRST_NS	     1000000ull
#define PAUSE_MAX_NS	     200000000ull

/* ---- bytes out ---- */

static void want_room(struct bulkhead_vm *vm, bool wanted)
{
	struct epoll_event event = {
		.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.u32 = SOURCE_LINK};

	if (vm->wants_room == wanted)
		return;
	vm->wants_room = wanted;
	epoll_ctl(vm->epoll_fd, EPOLL_CTL_MOD, vm->client.fd, &event);
}

/* Errors are left for the reading side to find: what was answered before comes first. */
static void send_waiting(struct bulkhead_vm *vm)
{
	while (vm->client.fd >= 0 && vm->sent < vm->used) {
		ssize_t n =
			send(vm->client.fd, vm->out + vm->sent, vm->used - vm->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			want_room(vm, errno == EAGAIN);
			return;
		}
		vm->sent += (size_t)n;
	}
	if (vm->client.fd < 0)
		return;
	want_room(vm, false);
	free(vm->out);
	vm->out = NULL;
	vm->used = vm->sent = vm->room = 0;
}

static int make_room(struct bulkhead_vm *vm, size_t len)
{
	size_t room = vm->room ? vm->room : KIB(1);
	char *larger;

	while (room < vm->used + len)
		room *= 2;
	if (room == vm->room)
		return 0;
	larger = realloc(vm->out, room);
	if (!larger)
		return -ENOMEM;
	vm->out = larger;
	vm->room = room;
	return 0;
}

static void keep_call(struct bulkhead_vm *vm, struct call *call, bool first)
{
	if (first) { /* nothing has been sent on this connection yet */
		call->next = vm->calls;
		vm->calls = call;
		if (!call->next)
			vm->calls_end = &call->next;
	} else {
		call->next = NULL;
		*vm->calls_end = call;
		vm->calls_end = &call->next;
	}
}

int link_send(struct bulkhead_vm *vm, struct call *call, const char *method, json_t *params,
	bool first, struct bulkhead_error *err)
{
	_cleanup_free_ char *line = NULL;
	size_t len;

	call->id = ++vm->client.last_id;
	line = control_request_line(method, params, call->id, &len);
	if (!line)
		return fail(err, BULKHEAD_BAD_REQUEST, EINVAL,
			"the method or its parameters are no text in UTF-8");
	if (len - 1 > RPC_LINE_MAX)
		return fail(err, BULKHEAD_BAD_REQUEST, EMSGSIZE,
			"the call is longer than %zu bytes", RPC_LINE_MAX);
	if (make_room(vm, len) < 0)
		return fail_errno(err, ENOMEM, "cannot keep the call");
	if (first)
		memmove(vm->out + len, vm->out, vm->used);
	memcpy(first ? vm->out : vm->out + vm->used, line, len);
	vm->used += len;
	keep_call(vm, call, first);
	send_waiting(vm);
	return 0;
}

/* ---- connecting ---- */

static const struct bulkhead_error *broken(struct bulkhead_error *err)
{
	fail(err, BULKHEAD_DISCONNECTED, ECONNRESET,
		"the connection to the VM broke; whether the call was carried out is not known");
	return err;
}

static void set_timer(struct bulkhead_vm *vm, uint64_t in_ns)
{
	struct itimerspec when = {.it_value = {.tv_sec = (time_t)(in_ns / 1000000000),
					  .tv_nsec = (long)(in_ns % 1000000000)}};

	timerfd_settime(vm->timer_fd, 0, &when, NULL);
}

int link_use(struct bulkhead_vm *vm, int fd, struct bulkhead_error *err)
{
	struct bulkhead_error broke;
	int ret = handle_watch(vm, SOURCE_LINK, fd, err);

	if (ret < 0) {
		close(fd);
		return ret;
	}
	vm->client.fd = fd;
	vm->wants_room = false;
	vm->give_up_ns = vm->pause_ns = 0;
	set_timer(vm, 0);
	/* What was sent on an earlier connection is not answered on this one. */
	calls_fail(vm, vm->lost_id, broken(&broke));
	return vm->doomed ? 0 : events_subscribe(vm, err);
}

int link_connect(struct bulkhead_vm *vm, struct bulkhead_error *err)
{
	struct error why;
	int fd = control_connect(vm->path, SOCK_NONBLOCK, &why);

	return fd < 0 ? fail_from(err, &why) : link_use(vm, fd, err);
}

void link_close(struct bulkhead_vm *vm)
{
	json_int_t last_id = vm->client.last_id;

	if (vm->client.fd < 0)
		return;
	epoll_ctl(vm->epoll_fd, EPOLL_CTL_DEL, vm->client.fd, NULL);
	control_client_close(&vm->client);
	vm->client = (struct control_client){.fd = -1, .last_id = last_id};
	free(vm->out);
	vm->out = NULL;
	vm->used = vm->sent = vm->room = 0;
	vm->wants_room = false;
}

void link_retry(struct bulkhead_vm *vm, uint64_t for_ms)
{
	vm->give_up_ns = for_ms > INT64_MAX / 2000000 ? UINT64_MAX : now_ns() + for_ms * 1000000;
	vm->pause_ns = PAUSE_FIRST_NS;
	set_timer(vm, vm->pause_ns);
}

void link_retry_due(struct bulkhead_vm *vm)
{
	struct bulkhead_error why;
	uint64_t ticks;
	ssize_t ignored = read(vm->timer_fd, &ticks, sizeof(ticks));
	int ret;

	(void)ignored; /* that it is no longer readable is all that is wanted */
	if (vm->client.fd >= 0)
		link_ready(vm); /* what one dispatch left over */
	if (vm->client.fd >= 0 || vm->doomed || vm->ended || !vm->give_up_ns)
		return;
	ret = vm->placement == PLACEMENT_EMBEDDED ? embedded_relink(vm, &why)
						  : link_connect(vm, &why);
	if (ret == 0)
		return;
	if (now_ns() >= vm->give_up_ns) {
		handle_end(vm, vm->told, 0, vm->told == BULKHEAD_GONE ? &why : NULL);
		return;
	}
	vm->pause_ns = min_u64(vm->pause_ns * 2, PAUSE_MAX_NS);
	set_timer(vm, vm->pause_ns);
}

/* The other end closed, or is none of ours. */
static void link_lost(struct bulkhead_vm *vm, const struct bulkhead_error *why)
{
	uint64_t for_ms = vm->config.reconnect_ms;
	bool ours = vm->placement != PLACEMENT_CONNECTED;

	link_close(vm);
	vm->lost_id = vm->client.last_id;
	if (ours) {
		/* Most probably it is ending: its calls wait for the reason. */
		link_retry(vm, UINT64_MAX);
		return;
	}
	if (vm->told != BULKHEAD_GONE || for_ms == BULKHEAD_NO_RECONNECT) {
		handle_end(vm, vm->told, 0, vm->told == BULKHEAD_GONE ? why : NULL);
		return;
	}
	link_retry(vm, for_ms ? for_ms : RECONNECT_DEFAULT_MS);
	calls_fail(vm, vm->lost_id, why);
}

/* ---- bytes in ---- */

static void take_object(struct bulkhead_vm *vm, json_t *object)
{
	const char *method = json_string_value(json_object_get(object, "method"));
	struct bulkhead_error why;
	struct error err;

	if (method) {
		events_take(vm, method, json_object_get(object, "params"));
	} else if (json_is_integer(json_object_get(object, "id"))) {
		call_answered(vm, object);
	} else { /* an error of the connection itself: this socket is not for us */
		rpc_error_read(json_object_get(object, "error"), &err);
		fail_from(&why, &err);
		link_lost(vm, &why);
	}
}

/* What has come whole already; *budget is taken from. Returns 0, or a negative errno where it is no JSON. */
static int take_objects(struct bulkhead_vm *vm, unsigned *budget, struct error *err)
{
	json_t *object;
	int ret = 0;

	while (*budget && vm->client.fd >= 0 && !vm->doomed &&
		(ret = control_client_take(&vm->client, &object, err)) > 0) {
		--*budget;
		take_object(vm, object);
		json_decref(object);
	}
	return ret < 0 ? ret : 0;
}

/* Returns whether there may be more. */
static bool pump(struct bulkhead_vm *vm, unsigned budget)
{
	struct bulkhead_error why;
	struct error err = {0};
	int ret = take_objects(vm, &budget, &err);

	while (ret == 0 && budget && vm->client.fd >= 0 && !vm->doomed) {
		ret = control_client_receive(&vm->client, &err);
		if (ret == -EAGAIN)
			return false;
		if (ret == 0) {
			link_lost(vm, broken(&why));
			return false;
		}
		ret = ret > 0 ? take_objects(vm, &budget, &err) : ret;
	}
	if (ret < 0 && vm->client.fd >= 0 && !vm->doomed) {
		fail_from(&why, &err);
		link_lost(vm, &why);
	}
	return ret == 0 && vm->client.fd >= 0 && !vm->doomed;
}

void link_ready(struct bulkhead_vm *vm)
{
	if (vm->client.fd < 0)
		return;
	send_waiting(vm);
	if (pump(vm, OBJECTS_ONCE))
		set_timer(vm, 1); /* whole lines may be here, of which the epoll knows nothing */
}

void link_drain(struct bulkhead_vm *vm)
{
	while (vm->client.fd >= 0 && pump(vm, OBJECTS_ONCE))
		;
}
