/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket from the command line. KEY=VALUE becomes what the parameter takes, where the method is known here;
 * else JSON where it is that, and text else. What is wrong with it the VM says. So a `ctl` of another version works as well.
 */
#include "vmm/cli/ctl.h"

#include "vmm/base/util.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/report.h"
#include "vmm/control/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int usage(const char *what)
{
	struct error err;

	error_set(&err, ERROR_BAD_REQUEST, "%s", what);
	cli_report(&err);
	return CLI_USAGE;
}

static int fail(const struct error *err)
{
	cli_report(err);
	return CLI_FAILED;
}

/* `argv` is what comes behind the method. */
static int params_of(
	const char *method, int argc, char *const *argv, json_t **params, struct error *err)
{
	json_error_t why;

	if (argc == 1 && !strcmp(argv[0], "-")) {
		*params = json_loadf(stdin, JSON_REJECT_DUPLICATES, &why);
		if (*params)
			return 0;
		return error_set(
			err, ERROR_BAD_REQUEST, "standard input, line %d: %s", why.line, why.text);
	}
	*params = json_object();
	for (int i = 0; i < argc; i++) {
		_cleanup_free_ char *key = strndup(argv[i], strcspn(argv[i], "="));
		size_t len = key ? strlen(key) : 0;
		json_t *value = len && argv[i][len]
					? control_argument(method, key, argv[i] + len + 1)
					: NULL;

		if (!value || json_object_set_new(*params, key, value)) {
			json_decref(*params);
			return error_set(err, ERROR_BAD_REQUEST,
				"'%.64s' is not KEY=VALUE with text in UTF-8", argv[i]);
		}
	}
	return 0;
}

static int print_result(const json_t *result)
{
	struct error err;

	if (json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) || putchar('\n') == EOF) {
		error_errno(&err, errno, "cannot write to standard output");
		return fail(&err);
	}
	return CLI_OK;
}

int ctl_main(int argc, char *const *argv)
{
	struct control_client client;
	json_t *params, *result = NULL;
	struct error err;
	int ret;

	if (argc < 2)
		return usage("ctl: a socket and a method are wanted (see bulkhead ctl --help)");
	if (params_of(argv[1], argc - 2, argv + 2, &params, &err)) {
		cli_report(&err);
		return CLI_USAGE;
	}
	ret = control_client_open(&client, argv[0], &err);
	if (ret) {
		json_decref(params);
		return fail(&err);
	}
	ret = control_client_call(&client, argv[1], params, &result, &err);
	control_client_close(&client);
	if (ret)
		return fail(&err);
	ret = print_result(result);
	json_decref(result);
	return ret;
}

/* {"type": …, …}: the notification without its frame. */
static void print_event(json_t *object)
{
	json_t *params = json_object_get(object, "params");

	if (json_is_object(params)) {
		json_object_set(params, "type", json_object_get(object, "method"));
		json_dumpf(params, stdout, JSON_COMPACT);
		putchar('\n');
		fflush(stdout);
	}
	json_decref(object);
}

int events_main(int argc, char *const *argv)
{
	struct control_client client;
	json_t *object, *result = NULL;
	struct error err;
	int ret;

	if (argc != 1)
		return usage("events: one socket is wanted (see bulkhead events --help)");
	if (control_client_open(&client, argv[0], &err))
		return fail(&err);
	ret = control_client_call(
		&client, "events.subscribe", json_pack("{s:i}", "since", 0), &result, &err);
	json_decref(result);
	while (ret == 0 && (ret = control_client_next(&client, &object, &err)) > 0) {
		print_event(object);
		ret = ferror(stdout) ? error_errno(&err, EPIPE, "cannot write to standard output")
				     : 0;
	}
	control_client_close(&client);
	return ret < 0 ? fail(&err) : CLI_OK;
}
