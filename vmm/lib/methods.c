/* SPDX-License-Identifier: Apache-2.0 */
/* The control API's methods as functions. Made by vmm/lib/generate: do not edit. See typed.c. */
#include "vmm/lib/private.h"

#include <bulkhead-methods.h>

static const struct typed_method bulkhead_call_vm_info_method = {"vm.info", NULL};

int bulkhead_call_vm_info(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_vm_info_method, NULL, done, user, err);
}

int bulkhead_call_vm_info_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_vm_info_method, NULL, timeout_ms, result, err);
}

static const struct typed_method bulkhead_call_vm_start_method = {"vm.start", NULL};

int bulkhead_call_vm_start(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_vm_start_method, NULL, done, user, err);
}

int bulkhead_call_vm_start_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_vm_start_method, NULL, timeout_ms, result, err);
}

static const struct typed_method bulkhead_call_vm_pause_method = {"vm.pause", NULL};

int bulkhead_call_vm_pause(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_vm_pause_method, NULL, done, user, err);
}

int bulkhead_call_vm_pause_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_vm_pause_method, NULL, timeout_ms, result, err);
}

static const struct typed_method bulkhead_call_vm_resume_method = {"vm.resume", NULL};

int bulkhead_call_vm_resume(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_vm_resume_method, NULL, done, user, err);
}

int bulkhead_call_vm_resume_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_vm_resume_method, NULL, timeout_ms, result, err);
}

static const struct typed_method bulkhead_call_vm_reset_method = {"vm.reset", NULL};

int bulkhead_call_vm_reset(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_vm_reset_method, NULL, done, user, err);
}

int bulkhead_call_vm_reset_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_vm_reset_method, NULL, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_vm_shutdown_params[] = {
	{"timeout_ms", TYPED_NUMBER, false, offsetof(struct bulkhead_call_vm_shutdown, timeout_ms),
		sizeof(((struct bulkhead_call_vm_shutdown *)0)->timeout_ms)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_vm_shutdown_method = {
	"vm.shutdown", bulkhead_call_vm_shutdown_params};

int bulkhead_call_vm_shutdown(struct bulkhead_vm *vm,
	const struct bulkhead_call_vm_shutdown *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_vm_shutdown_method, params, done, user, err);
}

int bulkhead_call_vm_shutdown_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_vm_shutdown *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_vm_shutdown_method, params, timeout_ms, result, err);
}

static const struct typed_method bulkhead_call_vm_kill_method = {"vm.kill", NULL};

int bulkhead_call_vm_kill(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_vm_kill_method, NULL, done, user, err);
}

int bulkhead_call_vm_kill_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_vm_kill_method, NULL, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_cpu_resize_params[] = {
	{"count", TYPED_NUMBER, true, offsetof(struct bulkhead_call_cpu_resize, count),
		sizeof(((struct bulkhead_call_cpu_resize *)0)->count)},
	{"timeout_ms", TYPED_NUMBER, false, offsetof(struct bulkhead_call_cpu_resize, timeout_ms),
		sizeof(((struct bulkhead_call_cpu_resize *)0)->timeout_ms)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_cpu_resize_method = {
	"cpu.resize", bulkhead_call_cpu_resize_params};

int bulkhead_call_cpu_resize(struct bulkhead_vm *vm, const struct bulkhead_call_cpu_resize *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_cpu_resize_method, params, done, user, err);
}

int bulkhead_call_cpu_resize_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_cpu_resize *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_cpu_resize_method, params, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_memory_resize_params[] = {
	{"size", TYPED_NUMBER, true, offsetof(struct bulkhead_call_memory_resize, size),
		sizeof(((struct bulkhead_call_memory_resize *)0)->size)},
	{"timeout_ms", TYPED_NUMBER, false,
		offsetof(struct bulkhead_call_memory_resize, timeout_ms),
		sizeof(((struct bulkhead_call_memory_resize *)0)->timeout_ms)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_memory_resize_method = {
	"memory.resize", bulkhead_call_memory_resize_params};

int bulkhead_call_memory_resize(struct bulkhead_vm *vm,
	const struct bulkhead_call_memory_resize *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_memory_resize_method, params, done, user, err);
}

int bulkhead_call_memory_resize_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_memory_resize *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_memory_resize_method, params, timeout_ms, result, err);
}

static const struct typed_method bulkhead_call_disk_list_method = {"disk.list", NULL};

int bulkhead_call_disk_list(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_disk_list_method, NULL, done, user, err);
}

int bulkhead_call_disk_list_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_disk_list_method, NULL, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_disk_attach_params[] = {
	{"path", TYPED_TEXT, true, offsetof(struct bulkhead_call_disk_attach, path),
		sizeof(((struct bulkhead_call_disk_attach *)0)->path)},
	{"id", TYPED_TEXT, false, offsetof(struct bulkhead_call_disk_attach, id),
		sizeof(((struct bulkhead_call_disk_attach *)0)->id)},
	{"readonly", TYPED_BOOL, false, offsetof(struct bulkhead_call_disk_attach, readonly),
		sizeof(((struct bulkhead_call_disk_attach *)0)->readonly)},
	{"cache", TYPED_TEXT, false, offsetof(struct bulkhead_call_disk_attach, cache),
		sizeof(((struct bulkhead_call_disk_attach *)0)->cache)},
	{"queues", TYPED_NUMBER, false, offsetof(struct bulkhead_call_disk_attach, queues),
		sizeof(((struct bulkhead_call_disk_attach *)0)->queues)},
	{"serial", TYPED_TEXT, false, offsetof(struct bulkhead_call_disk_attach, serial),
		sizeof(((struct bulkhead_call_disk_attach *)0)->serial)},
	{"discard", TYPED_BOOL, false, offsetof(struct bulkhead_call_disk_attach, discard),
		sizeof(((struct bulkhead_call_disk_attach *)0)->discard)},
	{"iops", TYPED_NUMBER, false, offsetof(struct bulkhead_call_disk_attach, iops),
		sizeof(((struct bulkhead_call_disk_attach *)0)->iops)},
	{"bps", TYPED_NUMBER, false, offsetof(struct bulkhead_call_disk_attach, bps),
		sizeof(((struct bulkhead_call_disk_attach *)0)->bps)},
	{"timeout_ms", TYPED_NUMBER, false, offsetof(struct bulkhead_call_disk_attach, timeout_ms),
		sizeof(((struct bulkhead_call_disk_attach *)0)->timeout_ms)},
	{"base", TYPED_TEXT, false, offsetof(struct bulkhead_call_disk_attach, base),
		sizeof(((struct bulkhead_call_disk_attach *)0)->base)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_disk_attach_method = {
	"disk.attach", bulkhead_call_disk_attach_params};

int bulkhead_call_disk_attach(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_attach *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_disk_attach_method, params, done, user, err);
}

int bulkhead_call_disk_attach_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_attach *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_disk_attach_method, params, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_disk_detach_params[] = {
	{"id", TYPED_TEXT, true, offsetof(struct bulkhead_call_disk_detach, id),
		sizeof(((struct bulkhead_call_disk_detach *)0)->id)},
	{"timeout_ms", TYPED_NUMBER, false, offsetof(struct bulkhead_call_disk_detach, timeout_ms),
		sizeof(((struct bulkhead_call_disk_detach *)0)->timeout_ms)},
	{"force", TYPED_BOOL, false, offsetof(struct bulkhead_call_disk_detach, force),
		sizeof(((struct bulkhead_call_disk_detach *)0)->force)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_disk_detach_method = {
	"disk.detach", bulkhead_call_disk_detach_params};

int bulkhead_call_disk_detach(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_detach *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_disk_detach_method, params, done, user, err);
}

int bulkhead_call_disk_detach_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_detach *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_disk_detach_method, params, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_disk_resize_params[] = {
	{"id", TYPED_TEXT, true, offsetof(struct bulkhead_call_disk_resize, id),
		sizeof(((struct bulkhead_call_disk_resize *)0)->id)},
	{"size", TYPED_NUMBER, false, offsetof(struct bulkhead_call_disk_resize, size),
		sizeof(((struct bulkhead_call_disk_resize *)0)->size)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_disk_resize_method = {
	"disk.resize", bulkhead_call_disk_resize_params};

int bulkhead_call_disk_resize(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_resize *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_disk_resize_method, params, done, user, err);
}

int bulkhead_call_disk_resize_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_resize *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_disk_resize_method, params, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_disk_limit_params[] = {
	{"id", TYPED_TEXT, true, offsetof(struct bulkhead_call_disk_limit, id),
		sizeof(((struct bulkhead_call_disk_limit *)0)->id)},
	{"iops", TYPED_NUMBER, false, offsetof(struct bulkhead_call_disk_limit, iops),
		sizeof(((struct bulkhead_call_disk_limit *)0)->iops)},
	{"bps", TYPED_NUMBER, false, offsetof(struct bulkhead_call_disk_limit, bps),
		sizeof(((struct bulkhead_call_disk_limit *)0)->bps)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_disk_limit_method = {
	"disk.limit", bulkhead_call_disk_limit_params};

int bulkhead_call_disk_limit(struct bulkhead_vm *vm, const struct bulkhead_call_disk_limit *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_disk_limit_method, params, done, user, err);
}

int bulkhead_call_disk_limit_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_limit *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_disk_limit_method, params, timeout_ms, result, err);
}

static const struct typed_method bulkhead_call_net_list_method = {"net.list", NULL};

int bulkhead_call_net_list(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_net_list_method, NULL, done, user, err);
}

int bulkhead_call_net_list_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_net_list_method, NULL, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_net_attach_params[] = {
	{"tap", TYPED_TEXT, false, offsetof(struct bulkhead_call_net_attach, tap),
		sizeof(((struct bulkhead_call_net_attach *)0)->tap)},
	{"fd", TYPED_NUMBER, false, offsetof(struct bulkhead_call_net_attach, fd),
		sizeof(((struct bulkhead_call_net_attach *)0)->fd)},
	{"id", TYPED_TEXT, false, offsetof(struct bulkhead_call_net_attach, id),
		sizeof(((struct bulkhead_call_net_attach *)0)->id)},
	{"mac", TYPED_TEXT, false, offsetof(struct bulkhead_call_net_attach, mac),
		sizeof(((struct bulkhead_call_net_attach *)0)->mac)},
	{"mtu", TYPED_NUMBER, false, offsetof(struct bulkhead_call_net_attach, mtu),
		sizeof(((struct bulkhead_call_net_attach *)0)->mtu)},
	{"queues", TYPED_NUMBER, false, offsetof(struct bulkhead_call_net_attach, queues),
		sizeof(((struct bulkhead_call_net_attach *)0)->queues)},
	{"vhost", TYPED_BOOL, false, offsetof(struct bulkhead_call_net_attach, vhost),
		sizeof(((struct bulkhead_call_net_attach *)0)->vhost)},
	{"pps", TYPED_NUMBER, false, offsetof(struct bulkhead_call_net_attach, pps),
		sizeof(((struct bulkhead_call_net_attach *)0)->pps)},
	{"bps", TYPED_NUMBER, false, offsetof(struct bulkhead_call_net_attach, bps),
		sizeof(((struct bulkhead_call_net_attach *)0)->bps)},
	{"timeout_ms", TYPED_NUMBER, false, offsetof(struct bulkhead_call_net_attach, timeout_ms),
		sizeof(((struct bulkhead_call_net_attach *)0)->timeout_ms)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_net_attach_method = {
	"net.attach", bulkhead_call_net_attach_params};

int bulkhead_call_net_attach(struct bulkhead_vm *vm, const struct bulkhead_call_net_attach *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_net_attach_method, params, done, user, err);
}

int bulkhead_call_net_attach_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_net_attach *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_net_attach_method, params, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_net_detach_params[] = {
	{"id", TYPED_TEXT, true, offsetof(struct bulkhead_call_net_detach, id),
		sizeof(((struct bulkhead_call_net_detach *)0)->id)},
	{"timeout_ms", TYPED_NUMBER, false, offsetof(struct bulkhead_call_net_detach, timeout_ms),
		sizeof(((struct bulkhead_call_net_detach *)0)->timeout_ms)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_net_detach_method = {
	"net.detach", bulkhead_call_net_detach_params};

int bulkhead_call_net_detach(struct bulkhead_vm *vm, const struct bulkhead_call_net_detach *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_net_detach_method, params, done, user, err);
}

int bulkhead_call_net_detach_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_net_detach *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_net_detach_method, params, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_net_limit_params[] = {
	{"id", TYPED_TEXT, true, offsetof(struct bulkhead_call_net_limit, id),
		sizeof(((struct bulkhead_call_net_limit *)0)->id)},
	{"pps", TYPED_NUMBER, false, offsetof(struct bulkhead_call_net_limit, pps),
		sizeof(((struct bulkhead_call_net_limit *)0)->pps)},
	{"bps", TYPED_NUMBER, false, offsetof(struct bulkhead_call_net_limit, bps),
		sizeof(((struct bulkhead_call_net_limit *)0)->bps)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_net_limit_method = {
	"net.limit", bulkhead_call_net_limit_params};

int bulkhead_call_net_limit(struct bulkhead_vm *vm, const struct bulkhead_call_net_limit *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_net_limit_method, params, done, user, err);
}

int bulkhead_call_net_limit_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_net_limit *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_net_limit_method, params, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_batch_params[] = {
	{"calls", TYPED_JSON, true, offsetof(struct bulkhead_call_batch, calls),
		sizeof(((struct bulkhead_call_batch *)0)->calls)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_batch_method = {"batch", bulkhead_call_batch_params};

int bulkhead_call_batch(struct bulkhead_vm *vm, const struct bulkhead_call_batch *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_batch_method, params, done, user, err);
}

int bulkhead_call_batch_wait(struct bulkhead_vm *vm, const struct bulkhead_call_batch *params,
	int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_batch_method, params, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_snapshot_create_params[] = {
	{"path", TYPED_TEXT, true, offsetof(struct bulkhead_call_snapshot_create, path),
		sizeof(((struct bulkhead_call_snapshot_create *)0)->path)},
	{"incremental", TYPED_BOOL, false,
		offsetof(struct bulkhead_call_snapshot_create, incremental),
		sizeof(((struct bulkhead_call_snapshot_create *)0)->incremental)},
	{"disks", TYPED_TEXT, false, offsetof(struct bulkhead_call_snapshot_create, disks),
		sizeof(((struct bulkhead_call_snapshot_create *)0)->disks)},
	{"background", TYPED_BOOL, false,
		offsetof(struct bulkhead_call_snapshot_create, background),
		sizeof(((struct bulkhead_call_snapshot_create *)0)->background)},
	{"compression", TYPED_TEXT, false,
		offsetof(struct bulkhead_call_snapshot_create, compression),
		sizeof(((struct bulkhead_call_snapshot_create *)0)->compression)},
	{"track", TYPED_BOOL, false, offsetof(struct bulkhead_call_snapshot_create, track),
		sizeof(((struct bulkhead_call_snapshot_create *)0)->track)},
	{"resume", TYPED_BOOL, false, offsetof(struct bulkhead_call_snapshot_create, resume),
		sizeof(((struct bulkhead_call_snapshot_create *)0)->resume)},
	{"wait", TYPED_BOOL, false, offsetof(struct bulkhead_call_snapshot_create, wait),
		sizeof(((struct bulkhead_call_snapshot_create *)0)->wait)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_snapshot_create_method = {
	"snapshot.create", bulkhead_call_snapshot_create_params};

int bulkhead_call_snapshot_create(struct bulkhead_vm *vm,
	const struct bulkhead_call_snapshot_create *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_snapshot_create_method, params, done, user, err);
}

int bulkhead_call_snapshot_create_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_snapshot_create *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_snapshot_create_method, params, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_job_list_params[] = {
	{"job", TYPED_NUMBER, false, offsetof(struct bulkhead_call_job_list, job),
		sizeof(((struct bulkhead_call_job_list *)0)->job)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_job_list_method = {
	"job.list", bulkhead_call_job_list_params};

int bulkhead_call_job_list(struct bulkhead_vm *vm, const struct bulkhead_call_job_list *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_job_list_method, params, done, user, err);
}

int bulkhead_call_job_list_wait(struct bulkhead_vm *vm, const struct bulkhead_call_job_list *params,
	int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_job_list_method, params, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_job_cancel_params[] = {
	{"job", TYPED_NUMBER, true, offsetof(struct bulkhead_call_job_cancel, job),
		sizeof(((struct bulkhead_call_job_cancel *)0)->job)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_job_cancel_method = {
	"job.cancel", bulkhead_call_job_cancel_params};

int bulkhead_call_job_cancel(struct bulkhead_vm *vm, const struct bulkhead_call_job_cancel *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_job_cancel_method, params, done, user, err);
}

int bulkhead_call_job_cancel_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_job_cancel *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_job_cancel_method, params, timeout_ms, result, err);
}

static const struct typed_method bulkhead_call_guest_ping_method = {"guest.ping", NULL};

int bulkhead_call_guest_ping(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_guest_ping_method, NULL, done, user, err);
}

int bulkhead_call_guest_ping_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_guest_ping_method, NULL, timeout_ms, result, err);
}

static const struct typed_method bulkhead_call_guest_info_method = {"guest.info", NULL};

int bulkhead_call_guest_info(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_guest_info_method, NULL, done, user, err);
}

int bulkhead_call_guest_info_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_guest_info_method, NULL, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_guest_exec_params[] = {
	{"argv", TYPED_TEXTS, true, offsetof(struct bulkhead_call_guest_exec, argv),
		sizeof(((struct bulkhead_call_guest_exec *)0)->argv)},
	{"env", TYPED_TEXTS, false, offsetof(struct bulkhead_call_guest_exec, env),
		sizeof(((struct bulkhead_call_guest_exec *)0)->env)},
	{"cwd", TYPED_TEXT, false, offsetof(struct bulkhead_call_guest_exec, cwd),
		sizeof(((struct bulkhead_call_guest_exec *)0)->cwd)},
	{"user", TYPED_TEXT, false, offsetof(struct bulkhead_call_guest_exec, user),
		sizeof(((struct bulkhead_call_guest_exec *)0)->user)},
	{"stdin", TYPED_TEXT, false, offsetof(struct bulkhead_call_guest_exec, stdin),
		sizeof(((struct bulkhead_call_guest_exec *)0)->stdin)},
	{"timeout_ms", TYPED_NUMBER, false, offsetof(struct bulkhead_call_guest_exec, timeout_ms),
		sizeof(((struct bulkhead_call_guest_exec *)0)->timeout_ms)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_guest_exec_method = {
	"guest.exec", bulkhead_call_guest_exec_params};

int bulkhead_call_guest_exec(struct bulkhead_vm *vm, const struct bulkhead_call_guest_exec *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_guest_exec_method, params, done, user, err);
}

int bulkhead_call_guest_exec_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_guest_exec *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_guest_exec_method, params, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_guest_freeze_params[] = {
	{"paths", TYPED_TEXTS, false, offsetof(struct bulkhead_call_guest_freeze, paths),
		sizeof(((struct bulkhead_call_guest_freeze *)0)->paths)},
	{"timeout_ms", TYPED_NUMBER, false, offsetof(struct bulkhead_call_guest_freeze, timeout_ms),
		sizeof(((struct bulkhead_call_guest_freeze *)0)->timeout_ms)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_guest_freeze_method = {
	"guest.freeze", bulkhead_call_guest_freeze_params};

int bulkhead_call_guest_freeze(struct bulkhead_vm *vm,
	const struct bulkhead_call_guest_freeze *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_guest_freeze_method, params, done, user, err);
}

int bulkhead_call_guest_freeze_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_guest_freeze *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_guest_freeze_method, params, timeout_ms, result, err);
}

static const struct typed_method bulkhead_call_guest_thaw_method = {"guest.thaw", NULL};

int bulkhead_call_guest_thaw(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_guest_thaw_method, NULL, done, user, err);
}

int bulkhead_call_guest_thaw_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(vm, &bulkhead_call_guest_thaw_method, NULL, timeout_ms, result, err);
}

static const struct typed_param bulkhead_call_guest_identify_params[] = {
	{"time_ns", TYPED_NUMBER, false, offsetof(struct bulkhead_call_guest_identify, time_ns),
		sizeof(((struct bulkhead_call_guest_identify *)0)->time_ns)},
	{"entropy", TYPED_TEXT, false, offsetof(struct bulkhead_call_guest_identify, entropy),
		sizeof(((struct bulkhead_call_guest_identify *)0)->entropy)},
	{"hostname", TYPED_TEXT, false, offsetof(struct bulkhead_call_guest_identify, hostname),
		sizeof(((struct bulkhead_call_guest_identify *)0)->hostname)},
	{"machine_id", TYPED_TEXT, false, offsetof(struct bulkhead_call_guest_identify, machine_id),
		sizeof(((struct bulkhead_call_guest_identify *)0)->machine_id)},
	{"interfaces", TYPED_JSON, false, offsetof(struct bulkhead_call_guest_identify, interfaces),
		sizeof(((struct bulkhead_call_guest_identify *)0)->interfaces)},
	{.name = NULL},
};
static const struct typed_method bulkhead_call_guest_identify_method = {
	"guest.identify", bulkhead_call_guest_identify_params};

int bulkhead_call_guest_identify(struct bulkhead_vm *vm,
	const struct bulkhead_call_guest_identify *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_guest_identify_method, params, done, user, err);
}

int bulkhead_call_guest_identify_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_guest_identify *params, int timeout_ms, char **result,
	struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_guest_identify_method, params, timeout_ms, result, err);
}

static const struct typed_method bulkhead_call_metrics_get_method = {"metrics.get", NULL};

int bulkhead_call_metrics_get(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	return typed_call(vm, &bulkhead_call_metrics_get_method, NULL, done, user, err);
}

int bulkhead_call_metrics_get_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err)
{
	return typed_call_wait(
		vm, &bulkhead_call_metrics_get_method, NULL, timeout_ms, result, err);
}
