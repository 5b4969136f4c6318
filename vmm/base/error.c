/* SPDX-License-Identifier: Apache-2.0 */
/* The error type: filling, wrapping and naming. See error.h for the contract. */
#include "vmm/base/error.h"

/* What the header tells the analyser about the callers must not wrap the functions themselves. */
#undef error_set
#undef error_errno
#undef error_prefix
#undef error_hint

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int code;
} kinds[ERROR_KIND_COUNT] = {
	[ERROR_INTERNAL] = {"internal", EIO},
	[ERROR_BAD_REQUEST] = {"bad_request", EINVAL},
	[ERROR_UNKNOWN_METHOD] = {"unknown_method", ENOSYS},
	[ERROR_WRONG_STATE] = {"wrong_state", EBUSY},
	[ERROR_NOT_FOUND] = {"not_found", ENOENT},
	[ERROR_ALREADY_EXISTS] = {"already_exists", EEXIST},
	[ERROR_NO_RESOURCE] = {"no_resource", ENOMEM},
	[ERROR_GUEST_TIMEOUT] = {"guest_timeout", ETIMEDOUT},
	[ERROR_GUEST_REFUSED] = {"guest_refused", EBUSY},
	[ERROR_AGENT_ABSENT] = {"agent_absent", ENOTCONN},
	[ERROR_IO] = {"io_error", EIO},
	[ERROR_CORRUPT] = {"corrupt", EBADMSG},
	[ERROR_INCOMPATIBLE] = {"incompatible", EOPNOTSUPP},
	[ERROR_CANCELLED] = {"cancelled", ECANCELED},
};

static enum error_kind kind_of_errno(int errnum)
{
	switch (errnum) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return ERROR_NOT_FOUND;
	case EEXIST:
	case EADDRINUSE:
		return ERROR_ALREADY_EXISTS;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case ENOSPC:
	case EDQUOT:
	case EBUSY:
	case EAGAIN:
		return ERROR_NO_RESOURCE;
	case EINVAL:
	case EACCES:
	case EPERM:
	case EISDIR:
	case ENOTDIR:
	case ENAMETOOLONG:
		return ERROR_BAD_REQUEST;
	case ECANCELED:
		return ERROR_CANCELLED;
	default:
		return ERROR_IO;
	}
}

int error_set(struct error *err, enum error_kind kind, const char *fmt, ...)
{
	va_list args;

	err->kind = kind;
	err->code = kinds[kind].code;
	err->hint[0] = '\0';
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	return -err->code;
}

int error_errno(struct error *err, int errnum, const char *fmt, ...)
{
	va_list args;
	size_t used;

	err->code = errnum > 0 ? errnum : EIO;
	err->kind = kind_of_errno(err->code);
	err->hint[0] = '\0';
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	used = strlen(err->text);
	snprintf(err->text + used, sizeof(err->text) - used, ": %s",
		strerrordesc_np(err->code) ?: "unknown error");
	return -err->code;
}

int error_prefix(struct error *err, const char *fmt, ...)
{
	char inner[sizeof(err->text)];
	va_list args;
	size_t used;

	memcpy(inner, err->text, sizeof(inner));
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	used = strlen(err->text);
	snprintf(err->text + used, sizeof(err->text) - used, ": %s", inner);
	return -err->code;
}

int error_hint(struct error *err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(err->hint, sizeof(err->hint), fmt, args);
	va_end(args);
	return -err->code;
}

const char *error_kind_name(enum error_kind kind)
{
	return kind < ERROR_KIND_COUNT ? kinds[kind].name : "internal";
}

const char *error_format(const struct error *err, char *buf, unsigned long size)
{
	if (err->hint[0])
		snprintf(buf, size, "%s (%s)", err->text, err->hint);
	else
		snprintf(buf, size, "%s", err->text);
	return buf;
}
