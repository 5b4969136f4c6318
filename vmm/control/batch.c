/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The method batch: several attaches and detaches as one, all of them or none.
 *
 * All parameters are checked before the first call begins. Then the calls are carried out one after the other, each as if it
 * had been made alone; when one fails, those before it are undone, the last first: what was attached is detached, and what was
 * detached is attached again, in its slot. The error is that of the call that failed, with its number; where undoing
 * fails too, it says what stayed.
 */
#include "vmm/control/control_private.h"

#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct batch {
	struct job *job;
	struct control *control;
	unsigned count, next; /* of the calls; which is carried out */
	struct plug_task tasks[BATCH_MAX];
	struct plug_task undo;	 /* the one that is under way, */
	bool undoing, cancelled; /* then `next` counts down */
	json_t *results;
	struct error err; /* why it is undone */
	char left[160];	  /* what could not be */
};

static void go_on(struct batch *batch);

static void batch_end(struct batch *batch)
{
	if (!batch->undoing) {
		job_done(batch->job, json_pack("{s:o}", "results", batch->results));
	} else {
		if (*batch->left)
			error_hint(&batch->err, "not all could be undone: %s", batch->left);
		json_decref(batch->results);
		job_fail(batch->job, &batch->err);
	}
	for (unsigned i = 0; i < batch->count; i++)
		plug_task_release(&batch->tasks[i]);
	free(batch);
}

static void fail(struct batch *batch, const struct error *err)
{
	batch->undoing = true;
	batch->err = *err;
	error_prefix(&batch->err, "batch: calls[%u]", batch->next);
}

static void task_done(struct plug_task *task, json_t *result, const struct error *err)
{
	struct batch *batch = task->owner;

	if (err) {
		fail(batch, err);
	} else {
		json_array_append_new(batch->results, result);
		batch->next++;
		job_progress(batch->job,
			json_pack("{s:i, s:i}", "done", (int)batch->next, "of", (int)batch->count));
	}
	go_on(batch);
}

/* ---- undoing ---- */

static void undone(struct plug_task *task, json_t *result, const struct error *err)
{
	struct batch *batch = task->owner;
	size_t used = strlen(batch->left);

	json_decref(result);
	if (err)
		snprintf(batch->left + used, sizeof(batch->left) - used, "%s%s", used ? "; " : "",
			err->text);
	plug_task_release(task);
	go_on(batch);
}

/* The opposite of a call that was carried out. */
static int reverse(struct plug_task *undo, const struct plug_task *task, struct error *err)
{
	bool disk = task->kind == PLUG_DISK || task->kind == UNPLUG_DISK;

	if (task->kind == PLUG_DISK || task->kind == PLUG_NET) {
		undo->kind = disk ? UNPLUG_DISK : UNPLUG_NET;
		snprintf(undo->params.detach.id, SCHEMA_ID_SIZE, "%s", task->id);
		undo->params.detach.timeout_ms = plug_task_timeout(task);
		undo->slot = -1;
		return 0;
	}
	undo->kind = disk ? PLUG_DISK : PLUG_NET;
	undo->slot = task->slot;
	if (!disk)
		undo->params.net.net.fd = -1;
	return schema_fill(plug_task_schema(undo->kind), task->undo, &undo->params, "", err);
}

static void undo_one(struct batch *batch)
{
	struct plug_task *undo = &batch->undo;
	struct error err;

	batch->next--;
	memset(undo, 0, sizeof(*undo));
	undo->control = batch->control;
	undo->done = undone;
	undo->owner = batch;
	if (reverse(undo, &batch->tasks[batch->next], &err) < 0)
		undone(undo, NULL, &err);
	else
		plug_task_start(undo);
}

static void go_on(struct batch *batch)
{
	struct error err;

	if (batch->cancelled && !batch->undoing && batch->next < batch->count) {
		error_set(&err, ERROR_CANCELLED, "cancelled");
		fail(batch, &err);
	}
	if (batch->undoing && batch->next)
		undo_one(batch);
	else if (batch->undoing || batch->next == batch->count)
		batch_end(batch);
	else
		plug_task_start(&batch->tasks[batch->next]);
}

static void cancel(struct job *job)
{
	struct batch *batch = job->owner;

	if (batch->cancelled || batch->undoing)
		return;
	batch->cancelled = true;
	plug_task_cancel(&batch->tasks[batch->next]);
}

/* ---- beginning ---- */

static int prepare(struct batch *batch, const struct batch_params *params, struct error *err)
{
	char path[40];
	int ret = 0;

	for (unsigned i = 0; i < params->count && ret == 0; i++) {
		struct plug_task *task = &batch->tasks[i];

		task->control = batch->control;
		task->kind = params->calls[i].kind;
		task->slot = -1;
		task->done = task_done;
		task->owner = batch;
		if (task->kind == PLUG_NET)
			task->params.net.net.fd = -1;
		batch->count++;
		snprintf(path, sizeof(path), "calls[%u].params", i);
		ret = schema_fill(plug_task_schema(task->kind), params->calls[i].params,
			&task->params, path, err);
	}
	return ret;
}

void serve_batch(struct rpc_call *call)
{
	struct batch *batch = calloc(1, sizeof(*batch));
	struct error err;

	BUG_ON(!batch); /* some KiB */
	batch->control = control_of(call);
	if (prepare(batch, call->params, &err) < 0) {
		for (unsigned i = 0; i < batch->count; i++)
			plug_task_release(&batch->tasks[i]);
		free(batch);
		rpc_fail(call, &err);
		return;
	}
	batch->results = json_array();
	batch->job = job_open(call, cancel, batch);
	go_on(batch);
}
