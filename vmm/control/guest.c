/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's agent, asked: for the client by the methods guest.*, and for other methods by ask_guest().
 *
 * The agent listens on a port of the guest's vsock, which the monitor already bridges to a Unix socket: so we are one more
 * client of our own bridge, with a connection for each call, and an agent that hangs or lies harms that call
 * only. Parameters were checked by our table; they go on as they are, under the agent's own name of the method. What a
 * command of guest.exec prints is gathered here, up to OUTPUT_MAX of each stream.
 *
 * A question ends once, by settle(): with the agent's answer, the end of its connection, time, or its client's end.
 */
#include "vmm/base/base64.h"
#include "vmm/control/control_private.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define AGENT_PORT "1024"
#define OUTPUT_MAX MIB(1)
#define INPUT_MAX  MIB(2) /* a line of the agent's has at most one */
#define GRACE_MS   5000u  /* for the way there and back, beside what a call itself may take */

struct text {
	char *bytes;
	size_t used, room;
};

struct guest_call {
	struct guest_call *next;
	struct control *control;
	const char *name;	   /* "guest.exec": in messages */
	struct rpc_call *call;	   /* who asked: a client, */
	struct guest_asker *asker; /* or one of us */
	struct loop_poll poll;
	struct loop_timer timer;
	bool greeted;
	struct text to, from, out, err;
	size_t sent;
	bool truncated;
};

static bool text_add(struct text *text, const void *bytes, size_t size)
{
	size_t room = text->room ? text->room : KIB(1);
	char *larger;

	while (room < text->used + size)
		room *= 2;
	larger = room > text->room ? realloc(text->bytes, room) : text->bytes;
	if (!larger)
		return false;
	text->bytes = larger;
	text->room = room;
	memcpy(text->bytes + text->used, bytes, size);
	text->used += size;
	return true;
}

static void guest_call_free(struct guest_call *g)
{
	struct guest_call **at = &g->control->guest_calls;

	while (*at != g)
		at = &(*at)->next;
	*at = g->next;
	close(g->poll.fd);
	free(g->to.bytes);
	free(g->from.bytes);
	free(g->out.bytes);
	free(g->err.bytes);
	free(g);
}

static void poll_stopped(struct loop_poll *poll)
{
	guest_call_free(container_of(poll, struct guest_call, poll));
}

/* The call is answered: with `err`, or else with `result`, which is taken over. `g` is gone afterwards. */
static void settle(struct guest_call *g, json_t *result, const struct error *err)
{
	struct rpc_call *call = g->call;
	struct guest_asker *asker = g->asker;

	loop_timer_clear(g->control->loop, &g->timer);
	loop_poll_stop(&g->poll, poll_stopped);
	if (asker) {
		asker->question = NULL;
		asker->answered(asker, result, err);
		json_decref(result);
	} else if (err) {
		rpc_fail(call, err);
	} else {
		rpc_reply(call, result);
	}
}

static void settle_absent(struct guest_call *g, const char *why)
{
	struct error err;

	machine_note_agent(g->control->machine, MACHINE_AGENT_ABSENT);
	error_set(&err, ERROR_AGENT_ABSENT, "%s: %s", g->name, why);
	error_hint(&err, "bulkhead-agent must run in the guest, which may still be starting");
	settle(g, NULL, &err);
}

static void settle_gone(struct guest_call *g)
{
	settle_absent(g, g->greeted ? "the agent has gone" : "nobody answers in the guest");
}

static void timed_out(struct loop_timer *timer)
{
	struct guest_call *g = container_of(timer, struct guest_call, timer);
	struct error err;

	machine_note_agent(g->control->machine, MACHINE_AGENT_SILENT);
	error_set(&err, ERROR_GUEST_TIMEOUT, "%s: the agent did not answer in time", g->name);
	settle(g, NULL, &err);
}

static void client_gone(struct rpc_call *call)
{
	struct error err;

	error_set(&err, ERROR_CANCELLED, "%s: the client has gone", call->method->name);
	settle(call->user, NULL, &err);
}

/* ---- what the agent says ---- */

static void gather(struct guest_call *g, const json_t *params)
{
	const char *stream = json_string_value(json_object_get(params, "stream"));
	const json_t *data = json_object_get(params, "data");
	struct text *text = stream && !strcmp(stream, "stderr") ? &g->err : &g->out;
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t len = json_string_length(data), size;

	bytes = malloc(len / 4 * 3 + 1);
	if (!bytes || !base64_decode(json_string_value(data) ?: "", len, bytes, &size))
		return;
	if (size > OUTPUT_MAX - text->used) {
		size = OUTPUT_MAX - text->used;
		g->truncated = true;
	}
	g->truncated |= size && !text_add(text, bytes, size);
}

/* What the agent answered to `exec` is without what the command printed: that came before. */
static json_t *with_output(struct guest_call *g, json_t *result)
{
	if (strcmp(g->name, "guest.exec") != 0)
		return result;
	json_object_del(result, "id");
	json_object_set_new(result, "stdout", rpc_text(g->out.bytes ?: "", g->out.used));
	json_object_set_new(result, "stderr", rpc_text(g->err.bytes ?: "", g->err.used));
	json_object_set_new(result, "truncated", json_boolean(g->truncated));
	return result;
}

static uint64_t figure(const json_t *object, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(object, name));

	return value > 0 ? (uint64_t)value : 0;
}

/* What guest.info says of memory is kept for the metrics: they cost the guest nothing by themselves. */
static void note_memory(struct machine_guest *guest, const json_t *info)
{
	const json_t *pressure = json_object_get(json_object_get(info, "pressure"), "memory");

	guest->memory_ns = now_ns();
	guest->memory_available = figure(json_object_get(info, "memory"), "available");
	guest->some_us = figure(json_object_get(pressure, "some"), "total_us");
	guest->full_us = figure(json_object_get(pressure, "full"), "total_us");
}

static void note_answer(struct guest_call *g, const json_t *result)
{
	machine_note_agent(g->control->machine, MACHINE_AGENT_ANSWERS);
	if (result && !strcmp(g->name, "guest.info"))
		note_memory(machine_guest(g->control->machine), result);
}

/* Returns false when the call is settled. */
static bool take_line(struct guest_call *g, const char *line, size_t len)
{
	json_t *object, *answer;
	struct error err;

	if (!g->greeted) {
		g->greeted = len > 3 && !memcmp(line, "OK ", 3);
		if (!g->greeted)
			settle_absent(g, "what answers on the agent's port is no agent");
		return g->greeted;
	}
	object = json_loadb(line, len, JSON_ALLOW_NUL, NULL);
	if (json_object_get(object, "method")) {
		gather(g, json_object_get(object, "params"));
		json_decref(object);
		return true;
	}
	answer = json_incref(json_object_get(object, "result"));
	if (answer) {
		note_answer(g, answer);
		settle(g, with_output(g, answer), NULL);
	} else if (json_object_get(object, "error")) {
		note_answer(g, NULL);
		rpc_error_read(json_object_get(object, "error"), &err);
		settle(g, NULL, &err);
	} else {
		settle_absent(g, "the agent answered with what is no answer");
	}
	json_decref(object);
	return false;
}

/* Returns false when the call is settled. */
static bool take_lines(struct guest_call *g)
{
	size_t start = 0;
	char *end;

	while ((end = memchr(g->from.bytes + start, '\n', g->from.used - start))) {
		size_t from = start;

		start = (size_t)(end - g->from.bytes) + 1;
		if (!take_line(g, g->from.bytes + from, start - 1 - from))
			return false;
	}
	g->from.used -= start;
	memmove(g->from.bytes, g->from.bytes + start, g->from.used);
	if (g->from.used < INPUT_MAX)
		return true;
	settle_absent(g, "the agent's answer has no end");
	return false;
}

static bool send_request(struct guest_call *g)
{
	while (g->sent < g->to.used) {
		ssize_t n = send(g->poll.fd, g->to.bytes + g->sent, g->to.used - g->sent,
			MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		g->sent += (size_t)n;
	}
	return true;
}

static void ready(struct loop_poll *poll, uint32_t revents)
{
	struct guest_call *g = container_of(poll, struct guest_call, poll);
	char *bytes = g->control->guest_bytes;
	ssize_t n;

	(void)revents;
	if (!send_request(g)) {
		settle_gone(g);
		return;
	}
	while ((n = recv(poll->fd, bytes, CONTROL_READ_SIZE, MSG_DONTWAIT)) > 0)
		if (!text_add(&g->from, bytes, (size_t)n)) {
			settle_absent(g, "memory is short");
			return;
		} else if (!take_lines(g)) {
			return;
		}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		settle_gone(g);
}

/* ---- asking ---- */

/* "CONNECT PORT" and the request, in one piece: the bridge takes its line, the rest is the agent's. Takes `params` over. */
static bool make_request(struct guest_call *g, const char *method, json_t *params)
{
	json_t *request = json_pack("{s:s, s:i, s:s, s:o}", "jsonrpc", "2.0", "id", 1, "method",
		method, "params", params);
	_cleanup_free_ char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;

	json_decref(request);
	return text &&
	       text_add(&g->to, "CONNECT " AGENT_PORT "\n", sizeof("CONNECT " AGENT_PORT)) &&
	       text_add(&g->to, text, strlen(text)) && text_add(&g->to, "\n", 1);
}

static int connect_agent(const struct control *control, int *out, struct error *err)
{
	const struct machine_config *config = machine_config(control->machine);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;

	if (!config->vsock_cid) {
		machine_note_agent(control->machine, MACHINE_AGENT_ABSENT);
		return error_set(err, ERROR_AGENT_ABSENT, "the VM has no vsock (see --vsock)");
	}
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", config->vsock_socket);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_errno(err, errno, "cannot make a socket");
	if (!control_may_keep(control, fd))
		return error_set(err, ERROR_NO_RESOURCE,
			"no descriptor is left for another call (RLIMIT_NOFILE)");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		machine_note_agent(control->machine, MACHINE_AGENT_ABSENT);
		return error_set(err, ERROR_AGENT_ABSENT,
			"the vsock's socket does not take connections: %s", strerrordesc_np(errno));
	}
	*out = steal_fd(&fd);
	return 0;
}

/* Ask on a connection of its own, `fd`. Takes `params` over. */
static struct guest_call *question(struct control *control, int fd, const char *name)
{
	struct guest_call *g = calloc(1, sizeof(*g));

	BUG_ON(!g); /* a few hundred bytes */
	g->control = control;
	g->name = name;
	g->next = control->guest_calls;
	control->guest_calls = g;
	g->timer.fire = timed_out;
	g->poll.fd = fd;
	g->poll.events = POLLIN | POLLOUT | POLLRDHUP;
	g->poll.ready = ready;
	loop_poll_start(control->loop, &g->poll);
	return g;
}

/* `within_ms`: how long the agent may take for it; 0: as long as it wants. Takes `params` over. */
static void put(struct guest_call *g, const char *method, json_t *params, unsigned within_ms)
{
	struct error err;

	if (!make_request(g, method, params)) {
		error_errno(&err, ENOMEM, "%s", g->name);
		settle(g, NULL, &err);
		return;
	}
	if (within_ms)
		loop_timer_set(g->control->loop, &g->timer,
			now_ns() + ((uint64_t)within_ms + GRACE_MS) * 1000000);
}

/* `name` is the agent's for it. Takes `params` over. */
static void ask_agent_for(
	struct rpc_call *call, const char *name, json_t *params, unsigned within_ms)
{
	const struct rpc_method *method = call->method;
	struct control *control = control_of(call);
	struct guest_call *g;
	struct error err;
	int fd = -1;

	if (connect_agent(control, &fd, &err)) {
		json_decref(params);
		error_prefix(&err, "%s", method->name);
		rpc_fail(call, &err);
		return;
	}
	g = question(control, fd, method->name);
	g->call = call;
	call->user = g;
	call->cancel = client_gone;
	put(g, name, params, within_ms);
}

static void ask_agent(struct rpc_call *call, unsigned within_ms)
{
	const struct rpc_method *method = call->method;

	ask_agent_for(call, method->name + strlen("guest."),
		method->params ? schema_dump(method->params, call->params) : json_object(),
		within_ms);
}

void ask_guest(struct control *control, struct guest_asker *asker, const char *name,
	const char *method, json_t *params, unsigned within_ms)
{
	struct error err;
	int fd = -1;

	if (connect_agent(control, &fd, &err)) {
		json_decref(params);
		error_prefix(&err, "%s", name);
		asker->answered(asker, NULL, &err);
		return;
	}
	asker->question = question(control, fd, name);
	asker->question->asker = asker;
	put(asker->question, method, params, within_ms);
}

void stop_asking(struct guest_asker *asker)
{
	struct guest_call *g = asker->question;

	if (!g)
		return;
	asker->question = NULL;
	loop_timer_clear(g->control->loop, &g->timer);
	loop_poll_stop(&g->poll, poll_stopped);
}

void serve_guest_ping(struct rpc_call *call)
{
	ask_agent(call, 1);
}

void serve_guest_info(struct rpc_call *call)
{
	ask_agent(call, GRACE_MS);
}

void serve_guest_exec(struct rpc_call *call)
{
	const struct exec_params *params = call->params;

	ask_agent(call, params->timeout_ms);
}

void serve_guest_freeze(struct rpc_call *call)
{
	const struct freeze_params *params = call->params;

	ask_agent(call, params->timeout_ms);
}

void serve_guest_thaw(struct rpc_call *call)
{
	ask_agent(call, 60000);
}

/* What only the host can know, where it was not given: the time, and bytes that no other guest gets. */
void guest_complete_identity(json_t *params)
{
	uint8_t bytes[64];
	char text[BASE64_SIZE(sizeof(bytes))];
	struct timespec now;

	if (!json_object_get(params, "entropy") &&
		getrandom(bytes, sizeof(bytes), 0) == (ssize_t)sizeof(bytes)) {
		base64_encode(bytes, sizeof(bytes), text);
		json_object_set_new(params, "entropy", json_string(text));
	}
	if (!json_integer_value(json_object_get(params, "time_ns"))) {
		clock_gettime(CLOCK_REALTIME, &now);
		json_object_set_new(params, "time_ns",
			json_integer((json_int_t)now.tv_sec * 1000000000 + now.tv_nsec));
	}
}

void serve_guest_identify(struct rpc_call *call)
{
	json_t *params = schema_dump(call->method->params, call->params);

	guest_complete_identity(params);
	ask_agent_for(call, "identity.change", params, 15000);
}
