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

#include "guest/agent/exec_run.h"

#include <signal.h>
#include <string.h>

#define RUNS_MAX 256

unsigned exec_count(void)
{
	return run_total();
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
	if (p->id[0] && run_find(conn_of(call->peer), p->id))
		return error_set(err, ERROR_ALREADY_EXISTS,
			"id: a command '%s' of this connection is running", p->id);
	if (run_total() >= RUNS_MAX)
		return error_set(err, ERROR_NO_RESOURCE, "%u commands are running", run_total());
	return 0;
}

static void serve_exec(struct rpc_call *call)
{
	struct error err = {0};

	if (check_exec(call, &err))
		rpc_fail(call, &err);
	else
		run_exec(call);
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
	struct run *run = run_find(conn_of(call->peer), p->id);
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

	if (run)
		run_write(run, call, &p->data);
}

static void serve_close(struct rpc_call *call)
{
	struct run *run = target(call);

	if (!run)
		return;
	run_close_input(run);
	rpc_reply(call, json_object());
}

static void serve_kill(struct rpc_call *call)
{
	const struct target_params *p = call->params;
	struct run *run = target(call);

	if (!run)
		return;
	run_signal(run, (int)p->signal);
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
		.max = EXEC_INPUT_MAX,
		.help = "text for its standard input"},
	{.name = "stdin_base64",
		.type = SCHEMA_BYTES,
		EXEC(input_bytes),
		.max = EXEC_INPUT_MAX,
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
		.max = EXEC_INPUT_MAX,
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
