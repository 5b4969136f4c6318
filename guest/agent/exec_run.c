/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a command: pipes, a process, its output as notifications, its end. See exec.c for what that means to clients.
 *
 * Between the fork and the program's start a pipe that closes on exec is open: its end says that the
 * program runs, an error in it why it does not. Only then is anything sent. The end has come when the process has ended and
 * its output is read to the end, or, where something else holds the pipes open, nothing came for a while.
 */
#include "guest/agent/exec_run.h"

#include "guest/agent/process.h"
#include "vmm/base/base64.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define PIECE	      KIB(24)
#define KILL_AFTER_MS 2000
#define DRAIN_MS                                                                                   \
	300 /* for output that is in the pipe when the command ends, where another process holds it open */

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

unsigned run_total(void)
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

void run_signal(const struct run *run, int signal)
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

/* Something of it is in a pipe, or its start is, and the loop has not come to that yet. */
static bool output_waits(const struct run *run)
{
	struct pollfd pipes[STREAM_COUNT];

	for (unsigned i = 0; i < STREAM_COUNT; i++)
		pipes[i] = (struct pollfd){.fd = run->out[i].fd, .events = POLLIN};
	if (run->started.fd >= 0)
		return true; /* its process has ended: this pipe's other end is closed */
	return poll(pipes, STREAM_COUNT, 0) > 0 &&
	       ((pipes[STREAM_OUT].revents | pipes[STREAM_ERROR].revents) & POLLIN);
}

static void drain_late(struct timer *timer)
{
	struct run *run = container_of(timer, struct run, drain);

	/*
	 * Only time in which nothing held the pipes up counts: a slow client is waited for, and in a busy guest it may
	 * have been the agent that was late.
	 */
	if ((run->conn && conn_is_full(run->conn)) || output_waits(run)) {
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
		run_signal(run, SIGKILL); /* while it is a zombie the group is still its own */
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
	run_signal(run, run->terminated ? SIGKILL : SIGTERM);
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
	run_signal(run, SIGKILL);
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

struct run *run_find(const struct conn *conn, const char *id)
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

void run_exec(struct rpc_call *call)
{
	const struct exec_params *p = call->params;
	struct run *run = NULL;
	struct error err = {0};
	struct pipes pipes;
	pid_t pid;

	if (pipes_open(&pipes, p->detach, &err)) {
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

void run_write(struct run *run, struct rpc_call *call, const struct schema_bytes *data)
{
	struct input *input = NULL, **at;
	struct error err;

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
	*input = (struct input){.call = call, .bytes = data->data, .left = data->size};
	for (at = &run->inputs; *at; at = &(*at)->next) {
	}
	*at = input;
	if (run->started.fd < 0)
		event_watch(&run->in, EPOLLOUT);
}

void run_close_input(struct run *run)
{
	run->input_open = false; /* what was written before still goes in */
	if (run->in.fd >= 0 && run->started.fd < 0)
		event_watch(&run->in, EPOLLOUT);
}
