/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What callers are told: errors as `struct bulkhead_error`, and the log of a VM that is ours.
 *
 * The log comes through a pipe whose writing end does not block: where nobody dispatches, lines are lost, and the VM goes
 * on. A spawned program that cannot start says why in a line "bulkhead: what: why", which has no VM's name
 * in brackets as the log has: the last such line is the reason of its end.
 */
#include "vmm/lib/private.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define READS_ONCE 16

static const enum bulkhead_kind kinds[ERROR_KIND_COUNT] = {
	[ERROR_INTERNAL] = BULKHEAD_INTERNAL,
	[ERROR_BAD_REQUEST] = BULKHEAD_BAD_REQUEST,
	[ERROR_UNKNOWN_METHOD] = BULKHEAD_UNKNOWN_METHOD,
	[ERROR_WRONG_STATE] = BULKHEAD_WRONG_STATE,
	[ERROR_NOT_FOUND] = BULKHEAD_NOT_FOUND,
	[ERROR_ALREADY_EXISTS] = BULKHEAD_ALREADY_EXISTS,
	[ERROR_NO_RESOURCE] = BULKHEAD_NO_RESOURCE,
	[ERROR_GUEST_TIMEOUT] = BULKHEAD_GUEST_TIMEOUT,
	[ERROR_GUEST_REFUSED] = BULKHEAD_GUEST_REFUSED,
	[ERROR_AGENT_ABSENT] = BULKHEAD_AGENT_ABSENT,
	[ERROR_IO] = BULKHEAD_IO_ERROR,
	[ERROR_CORRUPT] = BULKHEAD_CORRUPT,
	[ERROR_INCOMPATIBLE] = BULKHEAD_INCOMPATIBLE,
	[ERROR_CANCELLED] = BULKHEAD_CANCELLED,
};

const char *bulkhead_kind_name(enum bulkhead_kind kind)
{
	if (kind == BULKHEAD_OK)
		return "ok";
	if (kind == BULKHEAD_TIMED_OUT)
		return "timed_out";
	if (kind == BULKHEAD_DISCONNECTED)
		return "disconnected";
	for (unsigned i = 0; i < ERROR_KIND_COUNT; i++)
		if (kinds[i] == kind)
			return error_kind_name((enum error_kind)i);
	return "unknown";
}

int fail(struct bulkhead_error *err, enum bulkhead_kind kind, int code, const char *fmt, ...)
{
	va_list args;

	if (err) {
		err->kind = kind;
		err->code = code;
		va_start(args, fmt);
		vsnprintf(err->message, sizeof(err->message), fmt, args);
		va_end(args);
	}
	return -code;
}

int fail_from(struct bulkhead_error *err, const struct error *from)
{
	if (err) {
		err->kind = kinds[from->kind];
		err->code = from->code;
		error_format(from, err->message, sizeof(err->message));
	}
	return -from->code;
}

int fail_errno(struct bulkhead_error *err, int errnum, const char *what)
{
	struct error from;

	error_errno(&from, errnum, "%s", what);
	return fail_from(err, &from);
}

int log_pipe(struct bulkhead_vm *vm, int *out, struct bulkhead_error *err)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return fail_errno(err, errno, "cannot make a pipe");
	vm->log_fd = ends[0];
	*out = ends[1];
	return handle_watch(vm, SOURCE_LOG, vm->log_fd, err);
}

static void tell_line(struct bulkhead_vm *vm)
{
	ssize_t ignored;

	vm->line[vm->line_used] = '\0';
	if (!strncmp(vm->line, "bulkhead: ", strlen("bulkhead: ")))
		snprintf(vm->reason, sizeof(vm->reason), "%.*s", (int)sizeof(vm->reason) - 1,
			vm->line + strlen("bulkhead: "));
	if (vm->doomed)
		return;
	if (vm->config.log) {
		vm->config.log(vm, vm->line, vm->config.user);
	} else {
		vm->line[vm->line_used] = '\n';
		ignored = write(STDERR_FILENO, vm->line, vm->line_used + 1);
		(void)ignored; /* nowhere to say that it cannot be said */
	}
}

static void take_bytes(struct bulkhead_vm *vm, const char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		bool full = vm->line_used == sizeof(vm->line) - 1;

		if (bytes[i] != '\n' && !full)
			vm->line[vm->line_used++] = bytes[i];
		if (bytes[i] == '\n' || full) {
			tell_line(vm);
			vm->line_used = 0;
		}
	}
}

/* False: there is nothing now, or never more. */
static bool read_some(struct bulkhead_vm *vm)
{
	char bytes[4096];
	ssize_t n = vm->log_fd < 0 ? 0 : read(vm->log_fd, bytes, sizeof(bytes));

	if (n > 0) {
		take_bytes(vm, bytes, (size_t)n);
		return true;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return errno == EINTR;
	cleanup_close(&vm->log_fd); /* its writers are gone; the epoll forgets it with that */
	vm->log_fd = -1;
	return false;
}

void log_ready(struct bulkhead_vm *vm)
{
	for (unsigned i = 0; i < READS_ONCE && !vm->doomed && read_some(vm); i++)
		;
}

void log_drain(struct bulkhead_vm *vm)
{
	while (read_some(vm))
		;
	if (vm->line_used)
		tell_line(vm);
	vm->line_used = 0;
}
