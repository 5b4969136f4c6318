/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead snapshot`: the call snapshot.create, its events until the job has ended, and a line that shows how far it is.
 *
 * The subscription comes before the call, so that no event of the job can be missed; and the VM's end ends the waiting too. The
 * path is made absolute here: the VM's working directory is another one.
 */
#include "vmm/cli/snapshot.h"

#include "vmm/base/util.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/report.h"
#include "vmm/control/client.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct waiting {
	struct control_client client, canceller;
	json_int_t job;
	bool terminal, drawn, cancelled;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

/* ---- the line ---- */

static void draw(struct waiting *w, const json_t *progress)
{
	const char *phase = json_string_value(json_object_get(progress, "phase"));
	json_int_t done = json_integer_value(json_object_get(progress, "done"));
	json_int_t total = json_integer_value(json_object_get(progress, "total"));

	if (!w->terminal || !phase)
		return;
	if (total)
		fprintf(stderr, "\r\033[K%s: %lld of %lld MiB (%lld %%)", phase,
			(long long)done >> 20, (long long)total >> 20,
			(long long)(100.0 * (double)done / (double)total));
	else
		fprintf(stderr, "\r\033[K%s", phase);
	fflush(stderr);
	w->drawn = true;
}

static void wipe(struct waiting *w)
{
	if (w->drawn)
		fputs("\r\033[K", stderr);
	w->drawn = false;
}

static void print_result(const json_t *result)
{
	const json_t *pause = json_object_get(result, "pause_ms");

	printf("%s: snapshot %s, %lld MiB of memory, pause %.1f ms, %.2f s\n",
		json_string_value(json_object_get(result, "path")),
		json_string_value(json_object_get(result, "id")),
		(long long)json_integer_value(json_object_get(result, "bytes")) >> 20,
		json_number_value(json_object_get(pause, "total")),
		json_number_value(json_object_get(result, "elapsed_ms")) / 1e3);
}

/* ---- waiting ---- */

static bool is_of_job(const struct waiting *w, const json_t *params)
{
	return json_integer_value(json_object_get(params, "job")) == w->job;
}

static int fail_as_told(const json_t *object, struct error *err)
{
	const char *message = json_string_value(json_object_get(object, "message"));

	return error_set(err, ERROR_INTERNAL, "%s", message ?: "the snapshot failed");
}

/* 1: it is over, and well. 0: not yet. */
static int take_event(struct waiting *w, const json_t *object, struct error *err)
{
	const char *type = json_string_value(json_object_get(object, "method")) ?: "";
	const json_t *params = json_object_get(object, "params");

	if (!strcmp(type, "vm.state") &&
		!strcmp(json_string_value(json_object_get(params, "state")) ?: "", "ended"))
		return error_set(err, ERROR_CANCELLED, "the VM has ended");
	if (!is_of_job(w, params))
		return 0;
	if (!strcmp(type, "job.progress"))
		draw(w, json_object_get(params, "progress"));
	if (!strcmp(type, "job.failed"))
		return fail_as_told(json_object_get(params, "error"), err);
	if (strcmp(type, "job.done") != 0)
		return 0;
	wipe(w);
	print_result(json_object_get(params, "result"));
	return 1;
}

/* The first interruption asks for it; the job's own end is waited for as ever. */
static void cancel(struct waiting *w)
{
	json_t *result = NULL;
	struct error err;

	if (w->cancelled)
		return;
	w->cancelled = true;
	if (control_client_call(&w->canceller, "job.cancel", json_pack("{s:I}", "job", w->job),
		    &result, &err) < 0)
		cli_report(&err); /* too late: it is about to end by itself */
	json_decref(result);
}

static int wait_for_end(struct waiting *w, struct error *err)
{
	for (;;) {
		json_t *object = NULL;
		int ret = control_client_next(&w->client, &object, err);

		if (interrupted)
			cancel(w);
		if (ret < 0 && interrupted && err->code == EINTR)
			continue;
		if (ret == 0)
			ret = error_set(err, ERROR_IO, "the VM has gone");
		if (ret > 0)
			ret = take_event(w, object, err);
		json_decref(object);
		if (ret)
			return ret < 0 ? ret : 0;
	}
}

/* ---- the call ---- */

/* Not realpath(): the folder is not there yet. */
static int absolute_path(const char *path, char whole[PATH_MAX], struct error *err)
{
	_cleanup_free_ char *cwd = *path == '/' ? strdup("") : getcwd(NULL, 0);

	if (!cwd)
		return error_errno(err, errno, "cannot tell where '%.200s' is", path);
	if (snprintf(whole, PATH_MAX, "%s%s%s", cwd, *cwd ? "/" : "", path) >= PATH_MAX)
		return error_errno(err, ENAMETOOLONG, "'%.200s'", path);
	return 0;
}

static int take(struct waiting *w, json_t *params, struct error *err)
{
	json_t *result = NULL;
	int ret = control_client_call(&w->client, "events.subscribe", json_object(), &result, err);

	json_decref(result);
	result = NULL;
	if (ret == 0)
		ret = control_client_call(
			&w->client, "snapshot.create", json_incref(params), &result, err);
	if (ret == 0) {
		w->job = json_integer_value(json_object_get(result, "job"));
		ret = wait_for_end(w, err);
	}
	json_decref(result);
	wipe(w);
	return ret;
}

static int connect_both(struct waiting *w, const char *socket, struct error *err)
{
	int ret = control_client_open(&w->client, socket, err);

	if (ret < 0)
		return ret;
	ret = control_client_open(&w->canceller, socket, err);
	if (ret < 0)
		control_client_close(&w->client);
	return ret;
}

static int snapshot(const char *socket, const char *dir, json_t *params, struct error *err)
{
	const struct sigaction action = {.sa_handler = on_interrupt};
	struct waiting w = {.terminal = isatty(STDERR_FILENO)};
	char path[PATH_MAX];
	int ret = absolute_path(dir, path, err);

	if (ret == 0)
		ret = connect_both(&w, socket, err);
	if (ret < 0)
		return ret;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	json_object_set_new(params, "path", json_string(path));
	ret = take(&w, params, err);
	control_client_close(&w.canceller);
	control_client_close(&w.client);
	return ret;
}

int snapshot_main(int argc, char *const *argv)
{
	json_t *params = NULL;
	struct error err;
	bool help = false;
	int ret;

	if (argc < 2 || argv[0][0] == '-' || argv[1][0] == '-') {
		error_set(&err, ERROR_BAD_REQUEST, "snapshot: a socket and a folder are wanted");
		error_hint(&err, "see bulkhead snapshot --help");
		cli_report(&err);
		return CLI_USAGE;
	}
	if (schema_args(
		    commands[COMMAND_SNAPSHOT].options, argc - 2, argv + 2, &params, &help, &err)) {
		cli_report(&err);
		return CLI_USAGE;
	}
	ret = snapshot(argv[0], argv[1], params, &err);
	json_decref(params);
	if (ret)
		cli_report(&err);
	return ret ? CLI_FAILED : CLI_OK;
}
