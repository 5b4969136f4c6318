/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that take their time. See struct job.
 *
 * A job outlives its client: what was begun is carried out, and job.list tells any client how it went. JOBS_KEPT that
 * have ended are kept, the newest; those that run are all kept.
 */
#include "vmm/control/control_private.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define JOBS_KEPT 64

static int64_t real_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool has_ended(const struct job *job)
{
	return job->ended_ns;
}

static void job_free(struct job *job)
{
	json_decref(job->params);
	json_decref(job->progress);
	json_decref(job->result);
	json_decref(job->error);
	free(job);
}

static void drop_old(struct control *control)
{
	struct job **at = &control->jobs;
	unsigned ended = 0;

	while (*at) {
		struct job *job = *at;

		if (has_ended(job) && ++ended >= JOBS_KEPT) { /* with the one to come */
			*at = job->next;
			job_free(job);
		} else {
			at = &job->next;
		}
	}
}

/* Its work goes on, and can be asked for. */
static void client_gone(struct rpc_call *call)
{
	struct job *job = call->user;
	struct error err;

	job->call = NULL;
	error_set(&err, ERROR_CANCELLED, "%s: the client has gone", call->method->name);
	rpc_fail(call, &err);
}

struct job *job_open(struct rpc_call *call, void (*cancel)(struct job *job), void *owner)
{
	struct control *control = control_of(call);
	struct job *job = calloc(1, sizeof(*job));

	BUG_ON(!job); /* some hundred bytes */
	job->control = control;
	job->id = ++control->last_job;
	job->method = call->method;
	job->params = call->method->params ? schema_dump(call->method->params, call->params) : NULL;
	job->started_ns = real_ns();
	job->call = call;
	job->cancel = cancel;
	job->owner = owner;
	job->next = control->jobs;
	control->jobs = job;
	call->user = job;
	call->cancel = client_gone;
	drop_old(control);
	return job;
}

static json_t *describe(const struct job *job)
{
	const char *state = !has_ended(job) ? "running" : job->error ? "failed" : "done";
	json_t *object = json_pack("{s:I, s:s, s:s, s:I}", "job", (json_int_t)job->id, "method",
		job->method->name, "state", state, "started_ns", (json_int_t)job->started_ns);

	if (job->params)
		json_object_set(object, "params", job->params);
	if (has_ended(job))
		json_object_set_new(object, "ended_ns", json_integer((json_int_t)job->ended_ns));
	if (job->progress)
		json_object_set(object, "progress", job->progress);
	if (job->error)
		json_object_set(object, "error", job->error);
	else if (job->result)
		json_object_set(object, "result", job->result);
	return object;
}

void job_progress(struct job *job, json_t *progress)
{
	json_decref(job->progress);
	job->progress = progress;
	events_add(job->control, EVENT_JOB_PROGRESS,
		json_pack("{s:I, s:s, s:O}", "job", (json_int_t)job->id, "method",
			job->method->name, "progress", progress));
}

static void job_end(struct job *job, enum event_type type, const char *what, json_t *outcome)
{
	job->ended_ns = real_ns();
	job->cancel = NULL;
	events_add(job->control, type,
		json_pack("{s:I, s:s, s:O}", "job", (json_int_t)job->id, "method",
			job->method->name, what, outcome));
	/* Else the client's next line would be served from within the answer, in the midst of whatever ended the job. */
	if (job->call && job->call->peer)
		job->call->peer->blocked = true;
}

void job_done(struct job *job, json_t *result)
{
	struct rpc_call *call = job->call;

	job->result = result ? result : json_object();
	job_end(job, EVENT_JOB_DONE, "result", job->result);
	job->call = NULL;
	if (call)
		rpc_reply(call, json_incref(job->result));
}

void job_fail(struct job *job, const struct error *err)
{
	struct rpc_call *call = job->call;

	job->error = rpc_error_json(err);
	job_end(job, EVENT_JOB_FAILED, "error", job->error);
	job->call = NULL;
	if (call)
		rpc_fail(call, err);
}

void jobs_release(struct control *control)
{
	while (control->jobs) {
		struct job *job = control->jobs;
		struct error err;

		error_set(&err, ERROR_CANCELLED, "%s: the VM has ended", job->method->name);
		if (!has_ended(job))
			job_fail(job, &err);
		control->jobs = job->next;
		job_free(job);
	}
}

void serve_job_list(struct rpc_call *call)
{
	const struct job_params *params = call->params;
	json_t *list = json_array();

	for (const struct job *job = control_of(call)->jobs; job; job = job->next)
		if (!params->job || params->job == job->id)
			json_array_insert_new(list, 0, describe(job));
	rpc_reply(call, json_pack("{s:o}", "jobs", list));
}

void serve_job_cancel(struct rpc_call *call)
{
	const struct job_params *params = call->params;
	struct job *job = control_of(call)->jobs;
	struct error err;
	json_t *answer;

	while (job && job->id != params->job)
		job = job->next;
	if (!job || has_ended(job) || !job->cancel) {
		if (!job)
			error_set(&err, ERROR_NOT_FOUND, "job.cancel: there is no job %llu",
				(unsigned long long)params->job);
		else
			error_set(&err, ERROR_WRONG_STATE, "job.cancel: job %llu %s",
				(unsigned long long)params->job,
				has_ended(job) ? "has ended" : "cannot be cancelled");
		rpc_fail(call, &err);
		return;
	}
	job->cancel(job);
	answer = describe(job); /* it may have ended by that, or end later */
	rpc_reply(call, answer);
}
