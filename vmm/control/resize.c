/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu.resize and memory.resize: what grows and shrinks with the guest.
 *
 * The machine says when the guest has done it. What came is then there, but not used by a stock Linux until somebody in the
 * guest says so: the agent is asked to. Where there is none the answer is without its part; it is no failure.
 */
#include "vmm/control/control_private.h"
#include "vmm/machine/hotplug.h"

#include <errno.h>

#define AGENT_MS 30000 /* for putting online */

struct resize {
	struct resize *next;
	struct control *control;
	struct job *job;
	struct machine_resize machine;
	struct guest_asker agent;
	bool of_memory;
};

static void resize_free(struct resize *r)
{
	struct resize **at = &r->control->resizes;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	machine_resize_forget(r->control->machine, &r->machine);
	stop_asking(&r->agent);
	free(r);
}

static void resize_fail(struct resize *r, const struct error *err)
{
	struct job *job = r->job;
	struct error named = *err;

	error_prefix(&named, "%s", job->method->name);
	resize_free(r);
	job_fail(job, &named);
}

/* `agent`: what it answered, or NULL. */
static void resize_reply(struct resize *r, const json_t *agent)
{
	const struct machine_config *config = machine_config(r->control->machine);
	json_t *result = r->of_memory ? json_pack("{s:I}", "size", (json_int_t)config->memory)
				      : json_pack("{s:i}", "count", (int)config->cpus);
	struct job *job = r->job;

	if (agent && result && r->of_memory)
		json_object_set(result, "online_blocks", json_object_get(agent, "memory_blocks"));
	else if (agent && result)
		json_object_set(result, "online", json_object_get(agent, "cpus"));
	resize_free(r);
	job_done(job, result);
}

static void agent_answered(struct guest_asker *asker, json_t *result, const struct error *err)
{
	(void)err; /* it is not there, or cannot: then it has put none online */
	resize_reply(container_of(asker, struct resize, agent), result);
}

static void guest_has_it(struct resize *r)
{
	json_t *params = r->of_memory ? json_pack("{s:b}", "movable", 1) : json_object();

	ask_guest(r->control, &r->agent, r->job->method->name, "online", params, AGENT_MS);
}

static void machine_done(struct machine_resize *machine, const struct error *err)
{
	struct resize *r = container_of(machine, struct resize, machine);

	if (err)
		resize_fail(r, err);
	else
		guest_has_it(r);
}

static void cancel(struct job *job)
{
	struct resize *r = job->owner;

	if (r->agent.question)
		resize_reply(r, NULL); /* the guest has it: all that is left is the agent's part */
	else
		machine_resize_cancel(r->control->machine, &r->machine);
}

static struct resize *resize_begin(struct rpc_call *call, bool of_memory)
{
	struct control *control = control_of(call);
	struct resize *r = calloc(1, sizeof(*r));

	BUG_ON(!r); /* a few dozen bytes */
	r->control = control;
	r->of_memory = of_memory;
	r->machine.done = machine_done;
	r->agent.answered = agent_answered;
	r->next = control->resizes;
	control->resizes = r;
	r->job = job_open(call, cancel, r);
	return r;
}

/* `ret`: what the machine said to it. */
static void resize_go_on(struct resize *r, int ret, const struct error *err)
{
	if (ret < 0)
		resize_fail(r, err);
	else if (ret > 0)
		resize_reply(r, NULL);
}

void serve_cpu_resize(struct rpc_call *call)
{
	const struct cpu_resize_params *params = call->params;
	struct resize *r = resize_begin(call, false);
	struct error err;
	int ret = machine_resize_cpus(
		r->control->machine, params->count, params->timeout_ms, &r->machine, &err);

	resize_go_on(r, ret, &err);
}

void serve_memory_resize(struct rpc_call *call)
{
	const struct memory_resize_params *params = call->params;
	struct resize *r = resize_begin(call, true);
	struct error err;
	int ret = machine_resize_memory(
		r->control->machine, params->size, params->timeout_ms, &r->machine, &err);

	resize_go_on(r, ret, &err);
}

void resizes_release(struct control *control)
{
	struct error err;

	while (control->resizes) {
		error_set(&err, ERROR_CANCELLED, "the VM has ended");
		resize_fail(control->resizes, &err);
	}
}
