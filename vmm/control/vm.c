/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The methods vm.*: what the machine is, does, and its state.
 *
 * A call that asks for a state (a reset done, the guest shut down) is answered when the machine has come
 * to it, by the machine's own account, or when its time is up; it never blocks anybody meanwhile. What ends
 * the machine ends every such wait first.
 */
#include "vmm/control/control_private.h"

#include "vmm/base/log.h"
#include "vmm/machine/filler.h"
#include "vmm/machine/metrics.h"

#include <errno.h>
#include <unistd.h>

/* vm.shutdown: how long the agent may take to say yes, before the power button is pressed; and its services to end. */
#define AGENT_MS	3000
#define SERVICES_MS	30000
#define SERVICES_MAX_MS 600000 /* the most that the agent takes */

static void reply_state(struct rpc_call *call)
{
	struct machine *machine = control_of(call)->machine;

	rpc_reply(call, json_pack("{s:s}", "state", machine_state_name(machine_state(machine))));
}

static void fail_state(struct rpc_call *call, const char *hint)
{
	struct machine *machine = control_of(call)->machine;
	struct error err;

	error_set(&err, ERROR_WRONG_STATE, "%s: the VM is %s", call->method->name,
		machine_state_name(machine_state(machine)));
	if (hint)
		error_hint(&err, "%s", hint);
	rpc_fail(call, &err);
}

void serve_vm_info(struct rpc_call *call)
{
	struct machine *machine = control_of(call)->machine;
	const struct machine_config *config = machine_config(machine);
	uint64_t started = machine_started_ns(machine), done, total;
	json_t *info = json_pack("{s:s, s:s, s:I, s:s, s:i, s:o, s:o}", "name", config->name,
		"state", machine_state_name(machine_state(machine)), "uptime_ms",
		(json_int_t)(started ? (now_ns() - started) / 1000000 : 0), "version",
		BULKHEAD_VERSION, "pid", (int)getpid(), "config",
		schema_dump(machine_config_schema, config), "devices",
		control_describe_devices(machine));

	if (info && machine_memory_filling(machine, &done, &total))
		json_object_set_new(info, "filling",
			json_pack("{s:I, s:I}", "done", (json_int_t)done, "total",
				(json_int_t)total));
	rpc_reply(call, info);
}

void serve_metrics_get(struct rpc_call *call)
{
	_cleanup_free_ char *text = metrics_text(control_of(call)->machine);

	rpc_reply(call, text ? json_string(text) : NULL);
}

void serve_vm_start(struct rpc_call *call)
{
	struct machine *machine = control_of(call)->machine;

	if (machine_state(machine) != MACHINE_CREATED) {
		fail_state(call, "it is started once, where it was made with --paused");
		return;
	}
	machine_set_paused(machine, false);
	reply_state(call);
}

void serve_vm_kill(struct rpc_call *call)
{
	struct machine *machine = control_of(call)->machine;

	machine_request(machine, MACHINE_REQUEST_STOP);
	rpc_reply(call, json_pack("{s:s}", "state", machine_state_name(MACHINE_ENDED)));
}

/* ---- waiting for a state ---- */

/* Its answer follows. */
static void waiter_free(struct waiter *waiter)
{
	struct waiter **at = &waiter->control->waiters;

	/* Else the client's next line would be served from within the answer, in the midst of whatever changed the state. */
	if (waiter->call->peer)
		waiter->call->peer->blocked = true;

	while (*at != waiter)
		at = &(*at)->next;
	*at = waiter->next;
	loop_timer_clear(waiter->control->loop, &waiter->timer);
	free(waiter);
}

static void waiter_fail(struct waiter *waiter, const struct error *err)
{
	struct rpc_call *call = waiter->call;

	waiter_free(waiter);
	rpc_fail(call, err);
}

static void waiter_timeout(struct loop_timer *timer)
{
	struct waiter *waiter = container_of(timer, struct waiter, timer);
	struct error err;

	error_set(&err, ERROR_GUEST_TIMEOUT, "%s: the guest did not react in time; it runs on",
		waiter->call->method->name);
	waiter_fail(waiter, &err);
}

/* Its client has gone. What was asked of the guest stays asked. */
static void waiter_cancelled(struct rpc_call *call)
{
	struct error err;

	error_set(&err, ERROR_CANCELLED, "%s: the client has gone", call->method->name);
	waiter_fail(call->user, &err);
}

/* Answer when the machine has been reset, or else has ended. `timeout_ms` 0: as long as it takes. */
static void wait_for_machine(struct rpc_call *call, bool reset, unsigned timeout_ms)
{
	struct control *control = control_of(call);
	struct waiter *waiter = calloc(1, sizeof(*waiter));
	struct error err;

	if (!waiter) {
		error_errno(&err, ENOMEM, "%s", call->method->name);
		rpc_fail(call, &err);
		return;
	}
	waiter->control = control;
	waiter->call = call;
	waiter->reset = reset;
	waiter->begun = reset && machine_state(control->machine) == MACHINE_RESETTING;
	waiter->timer.fire = waiter_timeout;
	waiter->next = control->waiters;
	control->waiters = waiter;
	call->user = waiter;
	call->cancel = waiter_cancelled;
	if (timeout_ms)
		loop_timer_set(
			control->loop, &waiter->timer, now_ns() + (uint64_t)timeout_ms * 1000000);
}

static void waiter_settle(struct waiter *waiter, enum machine_state state, enum machine_exit how)
{
	struct rpc_call *call = waiter->call;
	bool ended = state == MACHINE_ENDED;
	struct error err;

	if (state == MACHINE_RESETTING)
		waiter->begun = waiter->reset;
	if (!ended && (!waiter->begun || state == MACHINE_RESETTING))
		return;
	if (ended && waiter->reset) {
		error_set(&err, ERROR_WRONG_STATE, "%s: the VM has ended", call->method->name);
		waiter_fail(waiter, &err);
		return;
	}
	waiter_free(waiter);
	rpc_reply(call, ended ? json_pack("{s:s, s:s}", "state", machine_state_name(state), "how",
					machine_exit_name(how))
			      : json_pack("{s:s}", "state", machine_state_name(state)));
}

void waiters_state_changed(struct control *control, enum machine_state state, enum machine_exit how)
{
	for (struct waiter *waiter = control->waiters, *next; waiter; waiter = next) {
		next = waiter->next;
		waiter_settle(waiter, state, how);
	}
}

void waiters_release(struct control *control)
{
	struct error err;

	while (control->waiters) {
		error_set(&err, ERROR_CANCELLED, "%s: the VM has ended",
			control->waiters->call->method->name);
		waiter_fail(control->waiters, &err);
	}
	loop_timer_clear(control->loop, &control->shutdown.timer);
	stop_asking(&control->shutdown.asker);
}

/* Pausing and resuming, as a wish that is kept also across a reset: there it is answered when that is over. */
static void set_paused(struct rpc_call *call, bool paused)
{
	struct machine *machine = control_of(call)->machine;
	enum machine_state state = machine_state(machine);

	if (state == MACHINE_CREATED || state == MACHINE_ENDED) {
		fail_state(call, state == MACHINE_CREATED && !paused ? "see vm.start" : NULL);
		return;
	}
	machine_set_paused(machine, paused);
	if (state == MACHINE_RESETTING)
		wait_for_machine(call, true, 0);
	else
		reply_state(call);
}

void serve_vm_pause(struct rpc_call *call)
{
	set_paused(call, true);
}

void serve_vm_resume(struct rpc_call *call)
{
	set_paused(call, false);
}

void serve_vm_reset(struct rpc_call *call)
{
	struct machine *machine = control_of(call)->machine;
	enum machine_state state = machine_state(machine);

	if (state != MACHINE_RUNNING && state != MACHINE_PAUSED) {
		fail_state(call, NULL);
		return;
	}
	machine_request(machine, MACHINE_REQUEST_RESET);
	wait_for_machine(call, true, 0);
}

/* ---- vm.shutdown ---- */

static void press_power_button(struct control *control, const char *why)
{
	log_info("%s; pressing the power button", why);
	if (machine_state(control->machine) == MACHINE_RUNNING)
		machine_press_power_button(control->machine);
}

static void agent_answered(struct guest_asker *asker, json_t *result, const struct error *err)
{
	struct control *control = container_of(asker, struct control, shutdown.asker);

	loop_timer_clear(control->loop, &control->shutdown.timer);
	if (!result)
		press_power_button(control, err->text);
}

static void agent_is_silent(struct loop_timer *timer)
{
	struct control *control = container_of(timer, struct control, shutdown.timer);

	stop_asking(&control->shutdown.asker);
	press_power_button(control, "vm.shutdown: the agent does not answer");
}

void shutdown_init(struct control *control)
{
	control->shutdown.asker.answered = agent_answered;
	control->shutdown.timer.fire = agent_is_silent;
}

/* A guest that is given much time may use it for its services; but never less than the agent gives them by itself. */
static void ask_agent(struct control *control, unsigned timeout_ms)
{
	struct shutdown_request *request = &control->shutdown;

	if (request->asker.question)
		return;
	loop_timer_set(control->loop, &request->timer,
		now_ns() + min_u64(timeout_ms / 2 + 1, AGENT_MS) * 1000000);
	ask_guest(control, &request->asker, "vm.shutdown", "shutdown",
		json_pack("{s:i}", "timeout_ms",
			(int)max_u64(min_u64(timeout_ms, SERVICES_MAX_MS), SERVICES_MS)),
		AGENT_MS);
}

void serve_vm_shutdown(struct rpc_call *call)
{
	const struct shutdown_params *params = call->params;
	struct control *control = control_of(call);
	unsigned timeout_ms = params->timeout_ms;

	if (machine_state(control->machine) != MACHINE_RUNNING) {
		fail_state(call, "only a running guest can shut down; vm.kill ends any");
		return;
	}
	wait_for_machine(
		call, false, timeout_ms); /* also where its client goes, it has been asked */
	ask_agent(control, timeout_ms);
}
