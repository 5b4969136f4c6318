/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The methods that attach and detach disks and networks.
 *
 * Linux takes a disk away from a mounted file system when it is told to let go of it, and the file system is broken from
 * then on. So before the guest is asked for a disk its agent is: while anything mounts it, swaps to it or has claimed it,
 * the call waits, and when its time is up the disk is as it was. Where no agent answers, what the disk itself says counts: an
 * ext4 file system notes that it is mounted (blk_is_mounted()). A client that knows better says `force`.
 */
#include "vmm/control/control_private.h"

#include "virtio/blk.h"

#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGENT_MS 1u	      /* beside what a question has anyway */
#define LOOK_NS	 250000000ull /* between two looks at a disk in use */

static void look(struct plug_task *task);

static uint16_t type_of(const struct plug_task *task)
{
	return task->kind == PLUG_DISK || task->kind == UNPLUG_DISK ? VIRTIO_ID_BLOCK
								    : VIRTIO_ID_NET;
}

static bool attaches(const struct plug_task *task)
{
	return task->kind == PLUG_DISK || task->kind == PLUG_NET;
}

/* The one that it is about, or NULL: there is none of that name. */
static struct virtio_pci *device_of(const struct plug_task *task)
{
	return machine_devices_find(
		machine_devices(task->control->machine), type_of(task), task->id);
}

unsigned plug_task_timeout(const struct plug_task *task)
{
	switch (task->kind) {
	case PLUG_DISK:
		return task->params.disk.timeout_ms;
	case PLUG_NET:
		return task->params.net.timeout_ms;
	default:
		return task->params.detach.timeout_ms;
	}
}

void plug_task_release(struct plug_task *task)
{
	schema_release(plug_task_schema(task->kind), &task->params);
	json_decref(task->undo);
	task->undo = NULL;
}

/* ---- the end of a task ---- */

static void end(struct plug_task *task, json_t *result, const struct error *err)
{
	struct plug_task **at = &task->control->plug_tasks;

	while (*at != task)
		at = &(*at)->next;
	*at = task->next;
	loop_timer_clear(task->control->loop, &task->again);
	stop_asking(&task->asker);
	task->plug = NULL;
	task->done(task, result, err);
}

static void plugged(void *owner, struct virtio_pci *device, const struct error *err)
{
	struct plug_task *task = owner;
	const char *type = type_of(task) == VIRTIO_ID_BLOCK ? "disk" : "net";
	json_t *address;

	if (err) {
		end(task, NULL, err);
		return;
	}
	if (!attaches(task)) {
		events_add(task->control, EVENT_DEVICE_DETACHED,
			json_pack("{s:s, s:s}", "id", task->id, "type", type));
		end(task, json_pack("{s:s}", "id", task->id), NULL);
		return;
	}
	snprintf(task->id, sizeof(task->id), "%s", virtio_pci_device(device)->id);
	task->slot = (int)virtio_pci_function(device)->slot;
	address = control_address(device);
	events_add(task->control, EVENT_DEVICE_ATTACHED,
		json_pack("{s:s, s:s, s:O}", "id", task->id, "type", type, "address", address));
	end(task, json_pack("{s:s, s:o}", "id", task->id, "address", address), NULL);
}

/* ---- asking the machine ---- */

static struct machine_plug_request request_of(struct plug_task *task)
{
	uint64_t now = now_ns();
	uint64_t left = task->deadline_ns > now ? (task->deadline_ns - now) / 1000000 : 0;

	return (struct machine_plug_request){
		.slot = task->slot,
		.timeout_ms = (unsigned)left,
		.done = plugged,
		.owner = task,
	};
}

/* What a device opens, at once and when a driver sets it going: see descriptors_kept(). */
static unsigned descriptors_of(const struct plug_task *task)
{
	const struct net_options *net = &task->params.net.net;

	if (task->kind == PLUG_DISK)
		return 4 * task->params.disk.disk.queues + 2;
	return (net->vhost ? 10 : 7) * net->queues + 3;
}

static void attach(struct plug_task *task)
{
	const struct machine_plug_request request = request_of(task);
	struct machine *machine = task->control->machine;
	struct machine_plug *plug = NULL;
	struct error err;
	int ret;

	if (!control_may_open(task->control, descriptors_of(task)))
		ret = error_set(&err, ERROR_NO_RESOURCE,
			"the descriptors that are left are for what the VM has (RLIMIT_NOFILE)");
	else if (task->kind == PLUG_DISK)
		ret = machine_attach_disk(machine, &task->params.disk.disk, &request, &plug, &err);
	else if (task->params.net.net.fd >= 0) /* it would be a number of ours, not the client's */
		ret = error_set(&err, ERROR_BAD_REQUEST,
			"fd: a descriptor can only be inherited at the start; give the tap's name");
	else
		ret = machine_attach_net(machine, &task->params.net.net, &request, &plug, &err);
	if (ret < 0)
		end(task, NULL, &err);
	else if (plug)
		task->plug = plug; /* else it has ended, and the task may be gone */
}

/* What a batch needs to bring it back. */
static json_t *options_of(struct plug_task *task)
{
	const struct machine_config *config = machine_config(task->control->machine);

	for (unsigned i = 0; task->kind == UNPLUG_DISK && i < config->disk_count; i++)
		if (!strcmp(config->disks[i].id, task->id))
			return schema_dump(machine_disk_schema, &config->disks[i]);
	for (unsigned i = 0; task->kind == UNPLUG_NET && i < config->net_count; i++)
		if (!strcmp(config->nets[i].id, task->id))
			return schema_dump(machine_net_schema, &config->nets[i]);
	return NULL;
}

static void detach(struct plug_task *task)
{
	const struct machine_plug_request request = request_of(task);
	struct machine *machine = task->control->machine;
	struct machine_plug *plug = NULL;
	struct error err;

	if (machine_detach(machine, type_of(task), task->id, &request, &plug, &err) < 0)
		end(task, NULL, &err);
	else if (plug)
		task->plug = plug;
}

/* ---- is a disk in use? ---- */

static void look_again(struct loop_timer *timer)
{
	look(container_of(timer, struct plug_task, again));
}

static void wait_for_users(struct plug_task *task)
{
	uint64_t now = now_ns();
	struct error err;

	if (now >= task->deadline_ns) {
		error_set(&err, ERROR_GUEST_TIMEOUT,
			"'%s': the guest uses it: %s; it stays attached", task->id, task->users);
		end(task, NULL, &err);
		return;
	}
	loop_timer_set(
		task->control->loop, &task->again, min_u64(now + LOOK_NS, task->deadline_ns));
}

/* Nobody in the guest to ask. */
static void ask_disk(struct plug_task *task)
{
	struct virtio_pci *vp = device_of(task);

	if (!vp || !blk_is_mounted(virtio_pci_device(vp))) {
		detach(task);
		return;
	}
	snprintf(task->users, sizeof(task->users),
		"no agent answers, and its ext4 file system says that it is mounted");
	wait_for_users(task);
}

static void agent_answered(struct guest_asker *asker, json_t *result, const struct error *err)
{
	struct plug_task *task = container_of(asker, struct plug_task, asker);
	const json_t *users = json_object_get(result, "users"), *user;
	size_t i, used = 0;

	if (err && err->kind == ERROR_NOT_FOUND) {
		detach(task); /* the guest has no disk of it */
		return;
	}
	if (err || !json_is_array(users)) {
		ask_disk(task);
		return;
	}
	if (!json_array_size(users)) {
		detach(task);
		return;
	}
	json_array_foreach(users, i, user)
	{
		const char *text = json_string_value(user);

		if (text && used + 1 < sizeof(task->users))
			used += (size_t)snprintf(task->users + used, sizeof(task->users) - used,
				"%s%.80s", used ? ", " : "", text);
	}
	wait_for_users(task);
}

static void look(struct plug_task *task)
{
	struct machine *machine = task->control->machine;
	struct virtio_pci *vp = device_of(task);

	if (!vp || task->kind != UNPLUG_DISK || task->params.detach.force ||
		machine_state(machine) != MACHINE_RUNNING || !virtio_pci_was_driven(vp)) {
		detach(task);
		return;
	}
	ask_guest(task->control, &task->asker, "disk.detach", "disk.users",
		json_pack("{s:o}", "disk",
			json_sprintf("PCI=0000:00:%02x.0", virtio_pci_function(vp)->slot)),
		AGENT_MS);
}

/* ---- tasks ---- */

void plug_task_start(struct plug_task *task)
{
	struct virtio_pci *vp;

	task->deadline_ns = now_ns() + (uint64_t)plug_task_timeout(task) * 1000000;
	task->again.fire = look_again;
	task->asker.answered = agent_answered;
	task->next = task->control->plug_tasks;
	task->control->plug_tasks = task;
	if (attaches(task)) {
		attach(task);
		return;
	}
	snprintf(task->id, sizeof(task->id), "%s", task->params.detach.id);
	vp = device_of(task);
	if (vp)
		task->slot = (int)virtio_pci_function(vp)->slot;
	task->undo = options_of(task);
	look(task);
}

void plug_task_cancel(struct plug_task *task)
{
	struct error err;

	if (task->plug) {
		machine_plug_cancel(task->control->machine, task->plug);
		return;
	}
	error_set(&err, ERROR_CANCELLED, "'%s': cancelled", task->id);
	end(task, NULL, &err);
}

void plug_tasks_release(struct control *control)
{
	struct error err;

	machine_plugs_release(control->machine);
	while (control->plug_tasks) {
		error_set(&err, ERROR_CANCELLED, "'%s': the VM has ended", control->plug_tasks->id);
		end(control->plug_tasks, NULL, &err);
	}
}

/* ---- one task, one call ---- */

struct plug_call {
	struct plug_task task;
	struct job *job;
};

static void call_done(struct plug_task *task, json_t *result, const struct error *err)
{
	struct plug_call *plug = container_of(task, struct plug_call, task);
	struct error said;

	if (err) {
		said = *err;
		error_prefix(&said, "%s", plug->job->method->name);
		job_fail(plug->job, &said);
	} else {
		job_done(plug->job, result);
	}
	plug_task_release(task);
	free(plug);
}

static void cancel_call(struct job *job)
{
	plug_task_cancel(&((struct plug_call *)job->owner)->task);
}

static void serve(struct rpc_call *call, enum plug_kind kind)
{
	struct plug_call *plug = calloc(1, sizeof(*plug));

	BUG_ON(!plug); /* some hundred bytes */
	plug->task.control = control_of(call);
	plug->task.kind = kind;
	plug->task.slot = -1;
	plug->task.done = call_done;
	plug->job = job_open(call, cancel_call, plug);
	/* The texts in it are ours from now on. */
	memcpy(&plug->task.params, call->params, call->method->params_size);
	memset(call->params, 0, call->method->params_size);
	plug_task_start(&plug->task);
}

void serve_disk_attach(struct rpc_call *call)
{
	serve(call, PLUG_DISK);
}

void serve_disk_detach(struct rpc_call *call)
{
	serve(call, UNPLUG_DISK);
}

void serve_net_attach(struct rpc_call *call)
{
	serve(call, PLUG_NET);
}

void serve_net_detach(struct rpc_call *call)
{
	serve(call, UNPLUG_NET);
}
