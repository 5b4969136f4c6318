/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.create: vmm/transfer/snapshot.h as a job. It is answered at once with the job's number; how it goes and how it
 * ended is told by events and job.list. Who says `wait` is answered at its end instead.
 *
 * Where the disks are copied too and the guest's agent is there, its file systems are frozen around the point in time, so that
 * the copies are clean by themselves; without an agent they are what a power cut would leave. Memory needs no such thing.
 */
#include "vmm/transfer/snapshot.h"
#include "vmm/control/control_private.h"

#include <errno.h>

#define FREEZE_MS 10000 /* how long the guest may hold what it froze, and take to answer */

struct snapshot_task {
	struct control *control;
	struct job *job;
	struct snapshot *snapshot;
	struct snapshot_user user;
	struct snapshot_options options;
	struct guest_asker agent;
	bool frozen;
	bool freezing; /* the agent was asked to, and is to be asked to thaw */
	char *path;
};

static void task_free(struct snapshot_task *task)
{
	stop_asking(&task->agent);
	task->control->snapshot = NULL;
	free(task->path);
	free(task);
}

static void progress(struct snapshot_user *user, const char *phase, uint64_t done, uint64_t total)
{
	struct snapshot_task *task = container_of(user, struct snapshot_task, user);
	json_t *what = json_pack("{s:s}", "phase", phase);

	if (total) {
		json_object_set_new(what, "done", json_integer((json_int_t)done));
		json_object_set_new(what, "total", json_integer((json_int_t)total));
	}
	job_progress(task->job, what);
}

static json_t *describe(const struct snapshot_task *task, const struct snapshot_report *report)
{
	const struct snapshot_pause *p = &report->pause;
	json_t *object = json_pack(
		"{s:s, s:s, s:b, s:I, s:I, s:I, s:f, s:f, s:{s:f, s:f, s:f, s:f, s:f}}", "id",
		report->id, "path", report->path, "background", report->background, "bytes",
		(json_int_t)report->data_bytes, "passes", (json_int_t)report->passes, "pause_bytes",
		(json_int_t)report->pause_bytes, "slowed_ms", (double)report->slowed_ns / 1e6,
		"elapsed_ms", (double)report->elapsed_ns / 1e6, "pause_ms", "total",
		(double)p->total / 1e6, "quiesce", (double)p->quiesce / 1e6, "state",
		(double)p->state / 1e6, "memory", (double)p->memory / 1e6, "disks",
		(double)p->disks / 1e6);

	if (object && task->options.disks != SNAPSHOT_DISK_NONE)
		json_object_set_new(object, "frozen", json_boolean(task->frozen));
	if (object && *report->parent)
		json_object_set_new(object, "parent", json_string(report->parent));
	return object;
}

/* ---- the guest's file systems ---- */

static void answered(struct guest_asker *asker, json_t *result, const struct error *err)
{
	struct snapshot_task *task = container_of(asker, struct snapshot_task, agent);

	(void)result;
	if (!task->freezing)
		return; /* to the thaw; it thaws by itself, too, when its time is up */
	task->frozen = !err;
	snapshot_hold(task->snapshot);
}

static bool about_to_hold(struct snapshot_user *user)
{
	struct snapshot_task *task = container_of(user, struct snapshot_task, user);
	struct control *control = task->control;

	if (task->options.disks == SNAPSHOT_DISK_NONE ||
		machine_state(control->machine) != MACHINE_RUNNING)
		return true;
	task->freezing = true;
	ask_guest(control, &task->agent, "snapshot.create", "freeze",
		json_pack("{s:i}", "timeout_ms", FREEZE_MS), FREEZE_MS);
	return false;
}

static void released(struct snapshot_user *user)
{
	struct snapshot_task *task = container_of(user, struct snapshot_task, user);

	task->freezing = false;
	stop_asking(&task->agent);
	if (machine_state(task->control->machine) == MACHINE_RUNNING)
		ask_guest(task->control, &task->agent, "snapshot.create", "thaw", json_object(),
			FREEZE_MS);
}

static void ended(
	struct snapshot_user *user, const struct snapshot_report *report, const struct error *err)
{
	struct snapshot_task *task = container_of(user, struct snapshot_task, user);
	json_t *result = err ? NULL : describe(task, report);
	struct job *job = task->job;
	struct error named;

	if (err) {
		named = *err;
		error_prefix(&named, "snapshot.create");
	}
	task_free(task);
	if (err)
		job_fail(job, &named);
	else
		job_done(job, result);
}

static void begin(struct snapshot_task *task)
{
	struct control *control = task->control;
	struct error err;

	if (snapshot_begin(control->machine, &control->series, &task->options, &task->user,
		    &task->snapshot, &err) < 0)
		ended(&task->user, NULL, &err);
}

static void cancel(struct job *job)
{
	struct snapshot_task *task = job->owner;

	snapshot_cancel(task->snapshot);
}

/* Answered now; it goes on by itself. */
static void answer_at_once(struct rpc_call *call, struct job *job)
{
	job->call = NULL;
	call->cancel = NULL;
	rpc_reply(call, json_pack("{s:I}", "job", (json_int_t)job->id));
}

void serve_snapshot_create(struct rpc_call *call)
{
	const struct snapshot_params *params = call->params;
	struct control *control = control_of(call);
	struct snapshot_task *task;
	bool wait = params->wait;
	struct error err;

	if (control->snapshot) {
		error_set(&err, ERROR_WRONG_STATE, "snapshot.create: a snapshot is being taken");
		error_hint(&err, "job.list says which; it can be cancelled");
		rpc_fail(call, &err);
		return;
	}
	task = calloc(1, sizeof(*task));
	BUG_ON(!task); /* some hundred bytes */
	task->control = control;
	task->path = strdup(params->path);
	BUG_ON(!task->path);
	task->user.progress = progress;
	task->user.ended = ended;
	task->user.about_to_hold = about_to_hold;
	task->user.released = released;
	task->agent.answered = answered;
	task->options = params->options;
	task->options.path = task->path;
	task->job = job_open(call, cancel, task);
	control->snapshot = task;
	if (!wait)
		answer_at_once(call, task->job);
	begin(task);
}

void snapshots_release(struct control *control)
{
	if (control->snapshot)
		snapshot_release(control->snapshot->snapshot);
}
