/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec: a command in a process group of its own, its output as notifications while it runs.
 *
 * A run is known to its client by `id`, which the client chooses or is told by exec.started. Output comes as
 * exec.output {id, stream, data}: `data` is base64, so that any bytes survive. A pipe is read only while the
 * connection's output is below its mark; after that the command waits in its own write(), which is all the flow control
 * there is, and keeps the agent's memory bounded whatever the command prints.
 *
 * The exec request is answered when the command has ended and its output is sent. What the command left running in its
 * process group is killed then, and so is the whole group when the time is up (SIGTERM, two seconds later SIGKILL)
 * or the connection goes. Only `detach` lets a command live on: it is answered once it runs, and its output goes nowhere.
 *
 * exec.write is answered when the pipe has taken the bytes: a client that waits for its answers needs no other flow control.
 */
#include "guest/agent/exec.h"

#include "guest/agent/process.h"
#include "guest/agent/server.h"
#include "vmm/base/base64.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define PIECE	      KIB(24)
#define KILL_AFTER_MS 2000
#define DRAIN_MS                                                                                   \
	300 /* for output that is in the pipe when the command ends, where another process holds it open */
#define RUNS_MAX  256
#define INPUT_MAX KIB(704)

struct exec_params {
	struct schema_texts argv, env;
	char *cwd, *user, *input;
	struct schema_bytes input_bytes;
	bool input_open, detach;
	uint64_t timeout_ms;
	char id[SCHEMA_ID_SIZE];
};

enum stream { STREAM_OUT, STREAM_ERROR, STREAM_COUNT };

/* Bytes on their way into the command, from the exec request or an exec.write. */
struct input {
	struct input *next;
	struct rpc_call *call; /* answered when they are in; NULL: exec's own */
	const uint8_t *bytes;
	size_t left;
};

struct run {
	struct run *next;
	struct conn_user user;
	struct conn *conn; /* NULL: gone */
	struct rpc_call *call;
	struct child child;
	struct event started; /* closes when the command runs, or says why not */
	struct event in, out[STREAM_COUNT];
	struct timer timer, drain;
	struct input first, *inputs;
	uint64_t bytes[STREAM_COUNT];
	char id[SCHEMA_ID_SIZE];
	bool input_open, detach, exited, timed_out, terminated;
	int code, status; /* of waitid() */
};

static struct run *runs;
static unsigned run_count, run_number;

unsigned exec_count(void)
{
	return run_count;
}

static void close_event(struct event *event)
{
	if (event->fd < 0)
		return;
	event_watch(event, 0);
	close(event->fd);
	event->fd = -1;
}

static void fail_inputs(struct run *run)
{
	struct input *input;
	struct error err;

	error_set(
		&err, ERROR_WRONG_STATE, "the command '%s' does not take any more input", run->id);
	while ((input = run->inputs)) {
		run->inputs = input->next;
		if (!input->call)
			continue;
		rpc_fail(input->call, &err);
		free(input);
	}
}

static void run_free(struct run *run)
{
	struct run **at = &runs;

	while (*at != run)
		at = &(*at)->next;
	*at = run->next;
	run_count--;
	child_forget(&run->child);
	timer_clear(&run->timer);
	timer_clear(&run->drain);
	close_event(&run->started);
	close_event(&run->in);
	for (unsigned i = 0; i < STREAM_COUNT; i++)
		close_event(&run->out[i]);
	fail_inputs(run);
	if (run->conn)
		conn_leave(run->conn, &run->user);
	free(run);
}

static void kill_group(const struct run *run, int signal)
{
	if (!run->exited && run->child.pid > 0 && kill(-run->child.pid, signal) < 0)
		kill(run->child.pid, signal); /* it has not come to setsid() yet */
}

/* Everything has been said: answer. */
static void run_finish(struct run *run)
{
	struct rpc_call *call = run->call;
	bool killed = run->code != CLD_EXITED;
	json_t *result = json_pack("{s:s, s:b, s:I, s:I}", "id", run->id, "timed_out",
		run->timed_out, "stdout_bytes", (json_int_t)run->bytes[STREAM_OUT], "stderr_bytes",
		(json_int_t)run->bytes[STREAM_ERROR]);

	if (result && killed && sigabbrev_np(run->status))
		json_object_set_new(result, "signal", json_string(sigabbrev_np(run->status)));
	else if (result)
		json_object_set_new(
			result, killed ? "signal" : "status", json_integer(run->status));
	run->call = NULL;
	run_free(run);
	rpc_reply(call, result);
}

static bool output_is_over(const struct run *run)
{
	return run->out[STREAM_OUT].fd < 0 && run->out[STREAM_ERROR].fd < 0;
}

static void run_check(struct run *run)
{
	if (run->exited && output_is_over(run))
		run_finish(run);
}

static void drain_late(struct timer *timer)
{
	struct run *run = container_of(timer, struct run, drain);

	/* A slow client is waited for: only time in which nothing held the pipes up counts. */
	if (run->conn && conn_is_full(run->conn)) {
		timer_set(timer, DRAIN_MS);
		return;
	}
	for (unsigned i = 0; i < STREAM_COUNT; i++)
		close_event(&run->out[i]);
	run_check(run);
}

static void run_exited(struct child *child, const siginfo_t *info)
{
	struct run *run = container_of(child, struct run, child);

	if (!run->detach)
		kill_group(run, SIGKILL); /* while it is a zombie the group is still its own */
	run->exited = true;
	run->code = info->si_code;
	run->status = info->si_status;
	timer_clear(&run->timer);
	close_event(&run->in);
	fail_inputs(run);
	if (run->detach || !run->call) {
		if (run->started.fd < 0)
			run_free(run);
		return;
	}
	timer_set(&run->drain, DRAIN_MS);
	if (run->started.fd < 0)
		run_check(run);
}

static void run_late(struct timer *timer)
{
	struct run *run = container_of(timer, struct run, timer);

	run->timed_out = run->timed_out || !run->terminated;
	kill_group(run, run->terminated ? SIGKILL : SIGTERM);
	if (!run->terminated)
		timer_set(timer, KILL_AFTER_MS);
	run->terminated = true;
}

static void send_output(struct run *run, unsigned stream, const char *bytes, size_t size)
{
	static char text[BASE64_SIZE(PIECE)];

	base64_encode(bytes, size, text);
	run->bytes[stream] += size;
	rpc_peer_notify(&run->conn->peer, "exec.output",
		json_pack("{s:s, s:s, s:s}", "id", run->id, "stream",
			stream == STREAM_OUT ? "stdout" : "stderr", "data", text));
}

static void out_ready(struct run *run, unsigned stream)
{
	struct event *event = &run->out[stream];
	char bytes[PIECE];
	ssize_t n;

	if (run->conn && conn_is_full(run->conn)) {
		event_watch(event, 0); /* until run_drained() */
		return;
	}
	n = read(event->fd, bytes, sizeof(bytes));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && run->conn) {
		if (run->exited)
			timer_set(&run->drain, DRAIN_MS);
		send_output(run, stream, bytes, (size_t)n);
	} else if (n <= 0) {
		close_event(event);
		run_check(run);
	}
}

static void stdout_ready(struct event *event, uint32_t events)
{
	(void)events;
	out_ready(container_of(event, struct run, out[STREAM_OUT]), STREAM_OUT);
}

static void stderr_ready(struct event *event, uint32_t events)
{
	(void)events;
	out_ready(container_of(event, struct run, out[STREAM_ERROR]), STREAM_ERROR);
}

static void run_drained(struct conn_user *user)
{
	struct run *run = container_of(user, struct run, user);

	for (unsigned i = 0; i < STREAM_COUNT; i++)
		if (run->out[i].fd >= 0 && run->started.fd < 0)
			event_watch(&run->out[i], EPOLLIN);
}

/* The client has gone, and with it whoever could want this. */
static void run_closed(struct conn_user *user)
{
	struct run *run = container_of(user, struct run, user);
	struct error err;

	run->conn = NULL;
	if (run->detach)
		return;
	kill_group(run, SIGKILL);
	error_set(&err, ERROR_CANCELLED, "the connection has gone");
	fail_inputs(run);
	if (run->call)
		rpc_fail(run->call, &err);
	run->call = NULL;
	close_event(&run->in);
	for (unsigned i = 0; i < STREAM_COUNT; i++)
		close_event(&run->out[i]);
	if (run->exited)
		run_free(run);
}

static void in_ready(struct event *event, uint32_t events)
{
	struct run *run = container_of(event, struct run, in);
	struct input *input;

	(void)events;
	while ((input = run->inputs)) {
		ssize_t n = input->left ? write(event->fd, input->bytes, input->left) : 0;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			close_event(event);
			fail_inputs(run);
			return;
		}
		input->bytes += n;
		input->left -= (size_t)n;
		if (input->left)
			continue;
		run->inputs = input->next;
		if (input->call) {
			rpc_reply(input->call, json_object());
			free(input);
		}
	}
	event_watch(event, 0);
	if (!run->input_open)
		close_event(event);
}

/* The command runs, or the child has said why not. */
static void started_ready(struct event *event, uint32_t events)
{
	struct run *run = container_of(event, struct run, started);
	struct rpc_call *call = run->call;
	struct error err = {0};
	ssize_t n = read(event->fd, &err, sizeof(err));

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	close_event(event);
	if (n == (ssize_t)sizeof(err)) {
		err.text[sizeof(err.text) - 1] = err.hint[sizeof(err.hint) - 1] = '\0';
		run->call = NULL;
		run_free(run);
		if (call)
			rpc_fail(call, &err);
		return;
	}
	if (!run->conn && !run->detach) {
		if (run->exited)
			run_free(run);
		return;
	}
	if (run->detach) {
		json_t *result = json_pack("{s:s, s:i}", "id", run->id, "pid", (int)run->child.pid);

		run->call = NULL;
		if (run->conn)
			conn_leave(run->conn, &run->user);
		run->conn = NULL;
		if (run->exited)
			run_free(run);
		if (call)
			rpc_reply(call, result);
		return;
	}
	rpc_peer_notify(&run->conn->peer, "exec.started",
		json_pack("{s:s, s:i}", "id", run->id, "pid", (int)run->child.pid));
	if (run->in.fd >= 0) /* it may have ended already */
		event_watch(&run->in, EPOLLOUT);
	run_drained(&run->user);
	run_check(run);
}

static struct run *find_run(const struct conn *conn, const char *id)
{
	for (struct run *run = runs; run; run = run->next)
		if (run->conn == conn && !strcmp(run->id, id))
			return run;
	return NULL;
}

/* Three pipes for the command and one for its start; with detach, /dev/null. */
struct pipes {
	int in[2], out[2], error[2], start[2];
};

static void close_pair(int pair[2])
{
	for (unsigned i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
}

static void pipes_close(struct pipes *pipes)
{
	close_pair(pipes->in);
	close_pair(pipes->out);
	close_pair(pipes->error);
	close_pair(pipes->start);
}

static int pipes_open(struct pipes *pipes, bool detach, struct error *err)
{
	*pipes = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
	if (pipe2(pipes->start, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	if (detach) {
		pipes->in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		pipes->out[1] = open("/dev/null", O_WRONLY | O_CLOEXEC);
		pipes->error[1] = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (pipes->in[0] >= 0 && pipes->out[1] >= 0 && pipes->error[1] >= 0)
			return 0;
	} else if (!pipe2(pipes->in, O_CLOEXEC) && !pipe2(pipes->out, O_CLOEXEC) &&
		   !pipe2(pipes->error, O_CLOEXEC)) {
		return 0;
	}
	error_errno(err, errno, "cannot make a pipe");
	pipes_close(pipes);
	return -err->code;
}

static _Noreturn void become_command(const struct exec_params *p, const struct pipes *pipes)
{
	struct program program = {
		.argv = p->argv.items,
		.env = p->env.items,
		.cwd = p->cwd,
		.user = p->user,
		.in = pipes->in[0],
		.out = pipes->out[1],
		.error = pipes->error[1],
		.dies_with_us = !p->detach,
	};
	struct error err = {0};
	ssize_t ignored;

	process_exec(&program, pipes->start[1], &err);
	ignored = write(pipes->start[1], &err, sizeof(err));
	(void)ignored; /* then the end of the pipe speaks for us */
	_exit(127);
}

static void take_pipe(struct event *event, int *fd, void (*ready)(struct event *, uint32_t))
{
	*event = (struct event){.fd = steal_fd(fd), .ready = ready};
	if (event->fd >= 0)
		fcntl(event->fd, F_SETFL, O_NONBLOCK);
}

static void run_start(struct rpc_call *call, pid_t pid, struct pipes *pipes, struct run *run)
{
	const struct exec_params *p = call->params;

	run->call = call;
	run->conn = conn_of(call->peer);
	run->detach = p->detach;
	run->input_open = p->input_open;
	run->user = (struct conn_user){.drained = run_drained, .closed = run_closed};
	run->child = (struct child){.pid = pid, .exited = run_exited};
	run->timer.fire = run_late;
	run->drain.fire = drain_late;
	take_pipe(&run->started, &pipes->start[0], started_ready);
	take_pipe(&run->in, &pipes->in[1], in_ready);
	take_pipe(&run->out[STREAM_OUT], &pipes->out[0], stdout_ready);
	take_pipe(&run->out[STREAM_ERROR], &pipes->error[0], stderr_ready);
	run->first.bytes = p->input ? (const uint8_t *)p->input : p->input_bytes.data;
	run->first.left = p->input ? strlen(p->input) : p->input_bytes.size;
	run->inputs = p->detach ? NULL : &run->first;
	run->next = runs;
	runs = run;
	run_count++;
	conn_join(run->conn, &run->user);
	child_watch(&run->child);
	event_watch(&run->started, EPOLLIN);
	if (p->timeout_ms)
		timer_set(&run->timer, p->timeout_ms);
}

static int check_exec(const struct rpc_call *call, struct error *err)
{
	const struct exec_params *p = call->params;

	if (!p->argv.items[0][0])
		return error_set(err, ERROR_BAD_REQUEST, "argv[0]: is empty");
	for (unsigned i = 0; i < p->env.count; i++)
		if (!strchr(p->env.items[i], '=') || p->env.items[i][0] == '=')
			return error_set(err, ERROR_BAD_REQUEST, "env[%u]: is not NAME=VALUE", i);
	if (p->input && p->input_bytes.data)
		return error_set(err, ERROR_BAD_REQUEST,
			"stdin and stdin_base64 are given, only one is possible");
	if (p->detach && (p->input || p->input_bytes.data || p->input_open))
		return error_set(
			err, ERROR_BAD_REQUEST, "detach: a detached command has no standard input");
	if (p->detach && p->timeout_ms)
		return error_set(err, ERROR_BAD_REQUEST,
			"detach: nobody waits for a detached command, so timeout_ms means nothing");
	if (p->id[0] && find_run(conn_of(call->peer), p->id))
		return error_set(err, ERROR_ALREADY_EXISTS,
			"id: a command '%s' of this connection is running", p->id);
	if (run_count >= RUNS_MAX)
		return error_set(err, ERROR_NO_RESOURCE, "%u commands are running", run_count);
	return 0;
}

static void serve_exec(struct rpc_call *call)
{
	const struct exec_params *p = call->params;
	struct run *run = NULL;
	struct error err = {0};
	struct pipes pipes;
	pid_t pid;

	if (check_exec(call, &err) || pipes_open(&pipes, p->detach, &err)) {
		rpc_fail(call, &err);
		return;
	}
	run = calloc(1, sizeof(*run));
	pid = run ? process_fork() : -1;
	if (!pid)
		become_command(p, &pipes);
	if (pid < 0) {
		error_errno(&err, errno, "cannot fork");
		pipes_close(&pipes);
		free(run);
		rpc_fail(call, &err);
		return;
	}
	if (p->id[0])
		snprintf(run->id, sizeof(run->id), "%s", p->id);
	else
		snprintf(run->id, sizeof(run->id), "exec-%u", ++run_number);
	run_start(call, pid, &pipes, run);
	pipes_close(&pipes);
}

struct target_params {
	char id[SCHEMA_ID_SIZE];
	struct schema_bytes data;
	unsigned signal;
};

/* The run that the request names, or NULL after answering. */
static struct run *target(struct rpc_call *call)
{
	const struct target_params *p = call->params;
	struct run *run = find_run(conn_of(call->peer), p->id);
	struct error err;

	if (run)
		return run;
	error_set(
		&err, ERROR_NOT_FOUND, "id: no command '%s' of this connection is running", p->id);
	rpc_fail(call, &err);
	return NULL;
}

static void serve_write(struct rpc_call *call)
{
	const struct target_params *p = call->params;
	struct run *run = target(call);
	struct input *input, **at;
	struct error err;

	if (!run)
		return;
	if (run->in.fd < 0 || !run->input_open) {
		error_set(&err, ERROR_WRONG_STATE, "the standard input of '%s' is closed", run->id);
		rpc_fail(call, &err);
		return;
	}
	input = calloc(1, sizeof(*input));
	if (!input) {
		error_errno(&err, ENOMEM, "exec.write");
		rpc_fail(call, &err);
		return;
	}
	*input = (struct input){.call = call, .bytes = p->data.data, .left = p->data.size};
	for (at = &run->inputs; *at; at = &(*at)->next) {
	}
	*at = input;
	if (run->started.fd < 0)
		event_watch(&run->in, EPOLLOUT);
}

static void serve_close(struct rpc_call *call)
{
	struct run *run = target(call);

	if (!run)
		return;
	run->input_open = false; /* what was written before still goes in */
	if (run->in.fd >= 0 && run->started.fd < 0)
		event_watch(&run->in, EPOLLOUT);
	rpc_reply(call, json_object());
}

static void serve_kill(struct rpc_call *call)
{
	const struct target_params *p = call->params;
	struct run *run = target(call);

	if (!run)
		return;
	kill_group(run, (int)p->signal);
	rpc_reply(call, json_object());
}

#define EXEC(member) .offset = offsetof(struct exec_params, member)

static const struct schema exec_schema[] = {
	{.name = "argv",
		.type = SCHEMA_TEXTS,
		EXEC(argv),
		.min = 1,
		.max = 1024,
		.required = true,
		.help = "the program, looked for in PATH, and its arguments"},
	{.name = "env",
		.type = SCHEMA_TEXTS,
		EXEC(env),
		.max = 1024,
		.help = "NAME=VALUE texts, beside PATH, HOME, USER and LANG"},
	{.name = "cwd",
		.type = SCHEMA_PATH,
		EXEC(cwd),
		.max = 4095,
		.fallback = "/",
		.help = "the folder to run in"},
	{.name = "user",
		.type = SCHEMA_TEXT,
		EXEC(user),
		.min = 1,
		.max = 63,
		.fallback = "the agent's own",
		.help = "a name or number of /etc/passwd, or UID:GID"},
	{.name = "stdin",
		.type = SCHEMA_STRING,
		EXEC(input),
		.max = INPUT_MAX,
		.help = "text for its standard input"},
	{.name = "stdin_base64",
		.type = SCHEMA_BYTES,
		EXEC(input_bytes),
		.max = INPUT_MAX,
		.help = "bytes for its standard input"},
	{.name = "stdin_open",
		.type = SCHEMA_BOOL,
		EXEC(input_open),
		.value = "off",
		.help = "leave its standard input open for exec.write"},
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		EXEC(timeout_ms),
		.size = 8,
		.max = 604800000,
		.value = "0",
		.help = "end it after this long; 0: never"},
	{.name = "detach",
		.type = SCHEMA_BOOL,
		EXEC(detach),
		.value = "off",
		.help = "answer at once and let it outlive the connection; its output is dropped"},
	{.name = "id",
		.type = SCHEMA_ID,
		EXEC(id),
		.fallback = "chosen by the agent",
		.help = "the command's name on this connection"},
	{.name = NULL},
};

#define TARGET_ID                                                                                  \
	{                                                                                          \
		.name = "id", .type = SCHEMA_ID, .offset = offsetof(struct target_params, id),     \
		.required = true, .help = "the command's name on this connection"                  \
	}

static const struct schema write_schema[] = {
	TARGET_ID,
	{.name = "data",
		.type = SCHEMA_BYTES,
		.offset = offsetof(struct target_params, data),
		.max = INPUT_MAX,
		.required = true,
		.help = "bytes for its standard input"},
	{.name = NULL},
};

static const struct schema close_schema[] = {TARGET_ID, {.name = NULL}};

static const struct schema_choice signals[] = {{"HUP", SIGHUP}, {"INT", SIGINT}, {"QUIT", SIGQUIT},
	{"KILL", SIGKILL}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"TERM", SIGTERM},
	{"CONT", SIGCONT}, {"STOP", SIGSTOP}, {"WINCH", SIGWINCH}, {.name = NULL}};

static const struct schema kill_schema[] = {
	TARGET_ID,
	{.name = "signal",
		.type = SCHEMA_CHOICE,
		.offset = offsetof(struct target_params, signal),
		.choices = signals,
		.value = "TERM",
		.help = "what to send to its process group"},
	{.name = NULL},
};

const struct rpc_method exec_methods[] = {
	{"exec", serve_exec, exec_schema, sizeof(struct exec_params),
		"Runs a command. While it runs: exec.started {id, pid}, exec.output {id, stream, data}, data in base64.",
		"{id, status or signal, timed_out, stdout_bytes, stderr_bytes}; with detach {id, pid}"},
	{"exec.write", serve_write, write_schema, sizeof(struct target_params),
		"Writes to a command's standard input; answered when it is in the pipe.", "{}"},
	{"exec.close_stdin", serve_close, close_schema, sizeof(struct target_params),
		"Closes a command's standard input behind what was written.", "{}"},
	{"exec.kill", serve_kill, kill_schema, sizeof(struct target_params),
		"Sends a signal to a command's process group.", "{}"},
	{.name = NULL},
};
