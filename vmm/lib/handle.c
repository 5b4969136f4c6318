/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handle: an epoll descriptor that watches the connection, the log, a timer for reconnection and the VM's end; what
 * is ready is served in that order, so that the end is told last.
 *
 * A callback may free the handle: it is only marked then, and goes when the dispatch that called it returns.
 */
#include "vmm/lib/private.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

const char *bulkhead_version(void)
{
	return BULKHEAD_VERSION;
}

/* What the caller's structure holds, whichever version of it that is. */
static int copy_config(
	struct bulkhead_config *to, const struct bulkhead_config *from, struct bulkhead_error *err)
{
	static const struct bulkhead_config none;
	const char *bytes = (const char *)from;

	*to = none;
	if (!from)
		return 0;
	if (from->size < offsetof(struct bulkhead_config, config) + sizeof(from->config))
		return fail(err, BULKHEAD_BAD_REQUEST, EINVAL,
			"bulkhead_config: `size` is %zu: set it to sizeof(struct bulkhead_config)",
			from->size);
	for (size_t i = sizeof(*to); i < from->size; i++)
		if (bytes[i])
			return fail(err, BULKHEAD_INCOMPATIBLE, ENOTSUP,
				"bulkhead_config: it asks for what version %s does not know",
				BULKHEAD_VERSION);
	memcpy(to, from, min_u64(sizeof(*to), from->size));
	return 0;
}

int handle_watch(struct bulkhead_vm *vm, enum source source, int fd, struct bulkhead_error *err)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = source};

	if (epoll_ctl(vm->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return fail_errno(err, errno, "cannot watch a descriptor");
	return 0;
}

int handle_create(enum placement placement, const struct bulkhead_config *config,
	struct bulkhead_vm **out, struct bulkhead_error *err)
{
	struct bulkhead_vm *vm = calloc(1, sizeof(*vm));
	int ret;

	if (!vm)
		return fail_errno(err, ENOMEM, "cannot make a handle");
	vm->placement = placement;
	vm->client.fd = vm->log_fd = vm->pid_fd = -1;
	vm->calls_end = &vm->calls;
	vm->told = BULKHEAD_GONE;
	vm->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	vm->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (vm->epoll_fd < 0 || vm->timer_fd < 0)
		ret = fail_errno(err, errno, "cannot make a handle");
	else
		ret = handle_watch(vm, SOURCE_TIMER, vm->timer_fd, err);
	if (ret == 0)
		ret = copy_config(&vm->config, config, err);
	if (ret < 0) {
		handle_destroy(vm);
		return ret;
	}
	vm->from_now = vm->config.since == BULKHEAD_SINCE_NOW;
	vm->seq = vm->from_now ? 0 : vm->config.since;
	*out = vm;
	return 0;
}

void handle_destroy(struct bulkhead_vm *vm)
{
	struct call *call;

	link_close(vm);
	while ((call = vm->calls)) {
		vm->calls = call->next;
		free(call);
	}
	cleanup_close(&vm->epoll_fd);
	cleanup_close(&vm->timer_fd);
	cleanup_close(&vm->log_fd);
	cleanup_close(&vm->pid_fd);
	if (vm->folder) {
		unix_listener_remove(&vm->listener);
		rmdir(vm->folder);
	}
	free(vm->folder);
	free(vm->path);
	free(vm->out);
	free(vm);
}

int bulkhead_vm_connect(const char *path, const struct bulkhead_config *config,
	struct bulkhead_vm **out, struct bulkhead_error *err)
{
	struct bulkhead_vm *vm = NULL;
	int ret = handle_create(PLACEMENT_CONNECTED, config, &vm, err);

	if (!vm)
		return ret;
	vm->path = path ? strdup(path) : NULL;
	if (!vm->path)
		ret = fail(err, BULKHEAD_BAD_REQUEST, EINVAL, "no path is given");
	else
		ret = link_connect(vm, err);
	if (ret < 0)
		handle_destroy(vm);
	else
		*out = vm;
	return ret;
}

void handle_end(struct bulkhead_vm *vm, enum bulkhead_how how, int status,
	const struct bulkhead_error *error)
{
	struct bulkhead_error over;

	if (vm->ended || vm->doomed)
		return;
	vm->ended = true;
	vm->end.how = how;
	vm->end.status = status;
	if (error)
		vm->end.error = *error;
	link_close(vm);
	if (error && how == BULKHEAD_FAILED)
		over = *error;
	else
		fail(&over, BULKHEAD_CANCELLED, ECANCELED, "the VM has ended");
	calls_fail(vm, vm->client.last_id, &over);
	if (vm->config.ended && !vm->doomed)
		vm->config.ended(vm, &vm->end, vm->config.user);
}

const struct bulkhead_end *bulkhead_vm_end(const struct bulkhead_vm *vm)
{
	return vm->ended ? &vm->end : NULL;
}

uint64_t bulkhead_vm_seq(const struct bulkhead_vm *vm)
{
	return vm->seq;
}

pid_t bulkhead_vm_pid(const struct bulkhead_vm *vm)
{
	return vm->placement == PLACEMENT_EMBEDDED ? getpid() : vm->pid;
}

int bulkhead_vm_fd(const struct bulkhead_vm *vm)
{
	return vm->epoll_fd;
}

/* ---- dispatching ---- */

static void serve(struct bulkhead_vm *vm, enum source source)
{
	switch (source) {
	case SOURCE_LINK:
		link_ready(vm);
		break;
	case SOURCE_LOG:
		log_ready(vm);
		break;
	case SOURCE_TIMER:
		link_retry_due(vm);
		break;
	case SOURCE_END:
		if (vm->placement == PLACEMENT_SPAWNED)
			spawned_ended(vm);
		else
			embedded_ended(vm);
		break;
	case SOURCE_COUNT:
		break;
	}
}

/* End the VM where it is ours, and free the handle. */
static void put_away(struct bulkhead_vm *vm)
{
	if (vm->placement == PLACEMENT_SPAWNED)
		spawned_stop(vm);
	else if (vm->placement == PLACEMENT_EMBEDDED)
		embedded_stop(vm);
	handle_destroy(vm);
}

int bulkhead_vm_dispatch(struct bulkhead_vm *vm, struct bulkhead_error *err)
{
	struct epoll_event events[SOURCE_COUNT];
	bool ready[SOURCE_COUNT] = {false};
	int n, ret = handle_may_wait(vm, err);

	if (ret < 0)
		return ret;
	n = epoll_wait(vm->epoll_fd, events, SOURCE_COUNT, 0);
	if (n < 0 && errno != EINTR)
		return fail_errno(err, errno, "cannot ask for events");
	for (int i = 0; i < n; i++)
		ready[events[i].data.u32] = true;
	vm->dispatching = true;
	for (unsigned i = 0; i < SOURCE_COUNT && !vm->doomed; i++)
		if (ready[i])
			serve(vm, (enum source)i);
	vm->dispatching = false;
	if (vm->doomed) {
		put_away(vm);
		return 0;
	}
	return !vm->ended;
}

int handle_may_wait(const struct bulkhead_vm *vm, struct bulkhead_error *err)
{
	if (vm->dispatching)
		return fail(err, BULKHEAD_WRONG_STATE, EBUSY,
			"this cannot be done within a callback of the same handle");
	return 0;
}

uint64_t deadline_of(int timeout_ms)
{
	return timeout_ms < 0 ? 0 : now_ns() + (uint64_t)timeout_ms * 1000000;
}

int handle_turn(struct bulkhead_vm *vm, uint64_t deadline_ns, struct bulkhead_error *err)
{
	struct pollfd wait = {.fd = vm->epoll_fd, .events = POLLIN};
	uint64_t now = now_ns();
	int ret, timeout = -1;

	if (deadline_ns)
		timeout = deadline_ns > now
				  ? (int)min_u64((deadline_ns - now + 999999) / 1000000, INT32_MAX)
				  : 0;
	ret = poll(&wait, 1, timeout);
	if (ret < 0 && errno != EINTR)
		return fail_errno(err, errno, "cannot wait for events");
	if (ret == 0 && deadline_ns)
		return fail(err, BULKHEAD_TIMED_OUT, ETIMEDOUT, "the time is up");
	ret = bulkhead_vm_dispatch(vm, err);
	return ret < 0 ? ret : 0;
}

int bulkhead_vm_wait_end(struct bulkhead_vm *vm, int timeout_ms, struct bulkhead_error *err)
{
	uint64_t deadline = deadline_of(timeout_ms);
	int ret = handle_may_wait(vm, err);

	while (ret == 0 && !vm->ended)
		ret = handle_turn(vm, deadline, err);
	return ret;
}

void bulkhead_vm_free(struct bulkhead_vm *vm)
{
	struct bulkhead_error over;
	bool dispatching;

	if (!vm || vm->doomed)
		return;
	dispatching = vm->dispatching;
	vm->dispatching = vm->doomed = true; /* what is called now may neither wait nor call */
	fail(&over, BULKHEAD_CANCELLED, ECANCELED, "the handle is freed");
	calls_fail(vm, vm->client.last_id, &over);
	if (!dispatching)
		put_away(vm);
}
