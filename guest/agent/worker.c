/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers. See worker.h.
 *
 * The pipe carries lines of one JSON object each: {"part": …} any number of times, then {"result": …} or
 * {"error": …}. The end of the pipe ends the wait, not the end of the process: that may come much later.
 */
#include "guest/agent/worker.h"

#include "guest/agent/events.h"
#include "guest/agent/process.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define ANSWER_MAX MIB(4)
#define GRACE_MS   1000 /* between SIGKILL and being called stuck */

struct worker {
	struct child child;
	struct event event;
	struct timer timer;
	char what[48];
	uint64_t timeout_ms;
	char *answer;
	size_t used, room;
	bool answered, exited, stuck;
	void (*done)(void *user, json_t *result, const struct error *err);
	void *user;
};

static unsigned workers, stuck_workers;
static int part_fd = -1;

unsigned worker_count(void)
{
	return workers;
}

unsigned worker_stuck_count(void)
{
	return stuck_workers;
}

static void write_line(int fd, const char *key, json_t *value)
{
	json_t *object = json_pack("{s:o}", key, value);
	_cleanup_free_ char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0;

	json_decref(object);
	if (!text)
		return;
	text[len++] = '\n';
	for (size_t at = 0; at < len;) {
		ssize_t n = write(fd, text + at, len - at);

		if (n <= 0 && errno != EINTR)
			return;
		at += n > 0 ? (size_t)n : 0;
	}
}

void worker_part(json_t *part)
{
	write_line(part_fd, "part", part);
}

/* Returns the worker's pid, or a negative errno. *fd is the reading end. */
static pid_t fork_worker(worker_run *run, const void *params, int *fd, struct error *err)
{
	json_t *result;
	int pipes[2];
	pid_t pid;

	if (workers >= WORKERS_MAX)
		return error_set(err, ERROR_NO_RESOURCE,
			"%u workers are busy, %u of them stuck in the kernel", workers,
			stuck_workers);
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	pid = process_fork();
	if (pid < 0) {
		close(pipes[0]);
		close(pipes[1]);
		return error_errno(err, errno, "cannot fork a worker");
	}
	if (!pid) {
		part_fd = pipes[1];
		close(pipes[0]);
		process_become_worker(pipes[1]);
		result = run(params, err);
		if (result)
			write_line(pipes[1], "result", result);
		else
			write_line(pipes[1], "error", rpc_error_json(err));
		_exit(0);
	}
	close(pipes[1]);
	*fd = pipes[0];
	return pid;
}

/* What the lines say: the result with the parts merged in, or NULL with *err filled. */
static json_t *read_answer(const char *what, char *text, struct error *err)
{
	json_t *merged = NULL, *result = NULL;
	bool failed = false;

	error_set(err, ERROR_INTERNAL, "%s: the worker died without an answer", what);
	for (char *line; text && (line = strsep(&text, "\n")) && *line;) {
		json_t *object = json_loads(line, 0, NULL), *part = json_object_get(object, "part");

		if (part && !merged)
			merged = json_incref(part);
		else if (part)
			json_object_update(merged, part);
		if (json_object_get(object, "result")) {
			json_decref(result);
			result = json_incref(json_object_get(object, "result"));
		}
		if (json_object_get(object, "error")) {
			rpc_error_read(json_object_get(object, "error"), err);
			failed = true;
		}
		json_decref(object);
	}
	if (merged && result) {
		json_object_update(merged, result);
		json_decref(result);
		return merged;
	}
	if (merged && !failed) {
		json_object_set_new(merged, "incomplete", json_string(err->text));
		return merged;
	}
	json_decref(merged);
	return result;
}

static void worker_free(struct worker *worker)
{
	if (!worker->answered || !worker->exited)
		return;
	timer_clear(&worker->timer);
	workers--;
	stuck_workers -= worker->stuck;
	free(worker->answer);
	free(worker);
}

static void worker_answer(struct worker *worker, bool late)
{
	struct error err = {0};
	json_t *result;

	event_watch(&worker->event, 0);
	close(worker->event.fd);
	worker->answered = true;
	if (worker->answer)
		worker->answer[worker->used] = '\0';
	result = read_answer(worker->what, worker->answer, &err);
	if (late) {
		error_set(&err, ERROR_GUEST_TIMEOUT, "%s: did not end within %llu ms", worker->what,
			(unsigned long long)worker->timeout_ms);
		if (result)
			json_object_set_new(result, "incomplete", json_string(err.text));
	}
	worker->done(worker->user, result, &err);
	json_decref(result);
}

static void worker_exited(struct child *child, const siginfo_t *info)
{
	struct worker *worker = container_of(child, struct worker, child);

	(void)info;
	worker->exited = true;
	worker_free(worker);
}

static void worker_late(struct timer *timer)
{
	struct worker *worker = container_of(timer, struct worker, timer);

	if (worker->answered) {
		worker->stuck = true;
		stuck_workers++;
		log_warn("%s: a worker (process %d) is stuck in the kernel and left behind",
			worker->what, (int)worker->child.pid);
		return;
	}
	kill(worker->child.pid, SIGKILL);
	worker_answer(worker, true);
	timer_set(&worker->timer, GRACE_MS);
	worker_free(worker);
}

static int take_bytes(int fd, char **buffer, size_t *used, size_t *room)
{
	ssize_t n;

	if (*used + KIB(16) + 1 > *room) {
		size_t larger = *room ? 2 * *room : KIB(32);
		char *grown = larger <= 2 * ANSWER_MAX ? realloc(*buffer, larger) : NULL;

		if (!grown)
			return 0;
		*buffer = grown;
		*room = larger;
	}
	n = read(fd, *buffer + *used, *room - *used - 1);
	if (n > 0)
		*used += (size_t)n;
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 1 : (int)n;
}

static void worker_ready(struct event *event, uint32_t events)
{
	struct worker *worker = container_of(event, struct worker, event);

	(void)events;
	if (take_bytes(event->fd, &worker->answer, &worker->used, &worker->room) > 0)
		return;
	worker_answer(worker, false);
	timer_set(&worker->timer, GRACE_MS); /* it should be gone by then */
	worker_free(worker);
}

int worker_start(const char *what, worker_run *run, const void *params, uint64_t timeout_ms,
	void (*done)(void *user, json_t *result, const struct error *err), void *user,
	struct error *err)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	int fd = -1;
	pid_t pid;

	if (!worker)
		return error_errno(err, ENOMEM, "%s", what);
	pid = fork_worker(run, params, &fd, err);
	if (pid < 0) {
		free(worker);
		return error_prefix(err, "%s", what);
	}
	workers++;
	snprintf(worker->what, sizeof(worker->what), "%s", what);
	worker->timeout_ms = timeout_ms;
	worker->done = done;
	worker->user = user;
	worker->child = (struct child){.pid = pid, .exited = worker_exited};
	worker->event = (struct event){.fd = fd, .ready = worker_ready};
	worker->timer.fire = worker_late;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	child_watch(&worker->child);
	event_watch(&worker->event, EPOLLIN);
	timer_set(&worker->timer, timeout_ms);
	return 0;
}

static void serve_done(void *user, json_t *result, const struct error *err)
{
	struct rpc_call *call = user;

	if (result)
		rpc_reply(call, json_incref(result));
	else
		rpc_fail(call, err);
}

void worker_serve(struct rpc_call *call, uint64_t timeout_ms, worker_run *run)
{
	struct error err = {0};

	if (worker_start(call->method->name, run, call->params, timeout_ms, serve_done, call, &err))
		rpc_fail(call, &err);
}

json_t *worker_wait(const char *what, worker_run *run, const void *params, uint64_t timeout_ms,
	struct error *err)
{
	uint64_t end = now_ns() + timeout_ms * 1000000u, now;
	_cleanup_free_ char *answer = NULL;
	size_t used = 0, room = 0;
	_cleanup_close_ int fd = -1;
	pid_t pid = fork_worker(run, params, &fd, err);

	if (pid < 0)
		return NULL;
	while ((now = now_ns()) < end) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};

		if (poll(&wait, 1, (int)((end - now) / 1000000u + 1)) <= 0)
			continue;
		if (take_bytes(fd, &answer, &used, &room) <= 0) {
			if (answer)
				answer[used] = '\0';
			return read_answer(what, answer, err); /* the loop reaps it */
		}
	}
	kill(pid, SIGKILL);
	error_set(err, ERROR_GUEST_TIMEOUT, "%s: did not end within %llu ms", what,
		(unsigned long long)timeout_ms);
	return NULL;
}
