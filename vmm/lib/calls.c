/* SPDX-License-Identifier: Apache-2.0 */
/* Calls by name: made, answered, waited for. See bulkhead.h. */
#include "vmm/lib/private.h"

#include "vmm/base/util.h"
#include "vmm/rpc/rpc.h"

#include <errno.h>
#include <string.h>

static void call_over(struct bulkhead_vm *vm, struct call *call, const char *result,
	const struct bulkhead_error *error)
{
	if (call->done)
		call->done(vm, result, error, call->user);
	free(call);
}

/* Out of the list. NULL: no such call. */
static struct call *take_call(struct bulkhead_vm *vm, json_int_t id)
{
	struct call **at = &vm->calls, *call;

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	call = *at;
	if (call) {
		*at = call->next;
		if (!call->next)
			vm->calls_end = at;
	}
	return call;
}

static void fail_call(struct bulkhead_vm *vm, struct call *call, const json_t *object)
{
	struct bulkhead_error error;
	struct error err;

	rpc_error_read(object, &err);
	fail_from(&error, &err);
	call_over(vm, call, NULL, &error);
}

void call_answered(struct bulkhead_vm *vm, const json_t *object)
{
	struct call *call = take_call(vm, json_integer_value(json_object_get(object, "id")));
	const json_t *failure = json_object_get(object, "error");
	const json_t *result = json_object_get(object, "result");
	struct bulkhead_error error;

	if (!call)
		return; /* not asked: a server that does this is none of ours */
	if (call->internal && !failure)
		events_subscribed(vm, result);
	if (failure) {
		fail_call(vm, call, failure);
	} else if (call->done) {
		_cleanup_free_ char *text = json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY);

		if (!text)
			fail(&error, BULKHEAD_CORRUPT, EPROTO, "an answer without a result");
		call_over(vm, call, text, text ? NULL : &error);
	} else {
		free(call);
	}
}

void calls_fail(struct bulkhead_vm *vm, json_int_t last_id, const struct bulkhead_error *error)
{
	struct call *call;

	/* Looked up anew each time: a callback may make calls, or free the handle, which fails what is left. */
	while ((call = vm->calls) && call->id <= last_id)
		call_over(vm, take_call(vm, call->id), NULL, error);
}

int call_start(struct bulkhead_vm *vm, const char *method, json_t *params, bulkhead_answer *done,
	void *user, struct bulkhead_error *err)
{
	struct call *call = NULL;
	int ret;

	if (vm->ended || vm->doomed) {
		json_decref(params);
		return fail(err, BULKHEAD_WRONG_STATE, ESRCH, "%.64s: the VM has ended", method);
	}
	if (params)
		call = calloc(1, sizeof(*call));
	if (!call) {
		json_decref(params);
		return fail_errno(err, ENOMEM, method);
	}
	call->done = done;
	call->user = user;
	ret = link_send(vm, call, method, params, false, err);
	if (ret < 0)
		free(call);
	return ret;
}

/* ---- and waiting ---- */

/* Allocated: it is left behind when the time is up, and freed by its answer. */
struct waiting {
	bool over, left;
	char *result;
	struct bulkhead_error error; /* of kind OK: none */
};

static void waited(
	struct bulkhead_vm *vm, const char *result, const struct bulkhead_error *error, void *user)
{
	struct waiting *waiting = user;

	(void)vm;
	if (waiting->left) {
		free(waiting);
		return;
	}
	waiting->over = true;
	if (error)
		waiting->error = *error;
	else if (!(waiting->result = strdup(result)))
		fail_errno(&waiting->error, ENOMEM, "cannot keep an answer");
}

/* The answer is there. */
static int settle(struct waiting *waiting, char **result, struct bulkhead_error *err)
{
	int ret = 0;

	if (waiting->error.kind != BULKHEAD_OK) {
		ret = -waiting->error.code;
		if (err)
			*err = waiting->error;
	} else if (result) {
		*result = steal_ptr(&waiting->result);
	}
	free(waiting->result);
	free(waiting);
	return ret;
}

int call_and_wait(struct bulkhead_vm *vm, const char *method, json_t *params, int timeout_ms,
	char **result, struct bulkhead_error *err)
{
	uint64_t deadline = deadline_of(timeout_ms);
	struct waiting *waiting;
	int ret = handle_may_wait(vm, err);

	if (ret < 0) {
		json_decref(params);
		return ret;
	}
	waiting = calloc(1, sizeof(*waiting));
	if (!waiting) {
		json_decref(params);
		return fail_errno(err, ENOMEM, method);
	}
	ret = call_start(vm, method, params, waited, waiting, err);
	if (ret < 0) {
		free(waiting);
		return ret;
	}
	while (ret == 0 && !waiting->over)
		ret = handle_turn(vm, deadline, err);
	if (waiting->over)
		return settle(waiting, result, err);
	waiting->left = true;
	if (ret == -ETIMEDOUT)
		fail(err, BULKHEAD_TIMED_OUT, ETIMEDOUT, "%.64s: no answer in time; it goes on",
			method);
	return ret;
}

/* ---- what callers see ---- */

static int read_params(const char *text, json_t **params, struct bulkhead_error *err)
{
	json_error_t why;

	*params = text ? json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why)
		       : json_object();
	if (!*params)
		return text ? fail(err, BULKHEAD_BAD_REQUEST, EINVAL, "the parameters: %s",
				      why.text)
			    : fail_errno(err, ENOMEM, "cannot keep a call");
	if (!json_is_object(*params)) {
		json_decref(*params);
		return fail(
			err, BULKHEAD_BAD_REQUEST, EINVAL, "the parameters are not a JSON object");
	}
	return 0;
}

int bulkhead_vm_call(struct bulkhead_vm *vm, const char *method, const char *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	json_t *object;
	int ret = read_params(params, &object, err);

	return ret < 0 ? ret : call_start(vm, method ? method : "", object, done, user, err);
}

int bulkhead_vm_call_wait(struct bulkhead_vm *vm, const char *method, const char *params,
	int timeout_ms, char **result, struct bulkhead_error *err)
{
	json_t *object;
	int ret = read_params(params, &object, err);

	return ret < 0 ? ret
		       : call_and_wait(vm, method ? method : "", object, timeout_ms, result, err);
}

int bulkhead_vm_kill(struct bulkhead_vm *vm, struct bulkhead_error *err)
{
	if (vm->ended)
		return 0;
	switch (vm->placement) {
	case PLACEMENT_SPAWNED:
		spawned_kill(vm);
		return 0;
	case PLACEMENT_EMBEDDED:
		embedded_kill(vm);
		return 0;
	case PLACEMENT_CONNECTED:
		break;
	}
	return call_start(vm, "vm.kill", json_object(), NULL, NULL, err);
}
