/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one error type, from the lowest floor to the command line and the JSON reply.
 *
 * A function that can fail on something the host user can mend takes a `struct error *err` as its
 * last argument and returns 0, or a negative errno after filling *err exactly once. Callers add
 * context on the way up with error_prefix() ("disk 'data': cannot open '/x': No such file"), and
 * one place prints it: `bulkhead: what failed: why (hint)`.
 *
 * The struct is a value: no allocation, copy it freely. Text that does not fit is cut, never
 * overrun. Not thread-safe by itself: an error belongs to the call that fills it.
 */
#pragma once

#include <stdbool.h>

/* The documented list of kinds; error_kind_name() gives the name used in JSON replies. */
enum error_kind {
	ERROR_INTERNAL, /* a bug or an unforeseen state; also what a zeroed struct says */
	ERROR_BAD_REQUEST,
	ERROR_UNKNOWN_METHOD,
	ERROR_WRONG_STATE,
	ERROR_NOT_FOUND,
	ERROR_ALREADY_EXISTS,
	ERROR_NO_RESOURCE,
	ERROR_GUEST_TIMEOUT,
	ERROR_GUEST_REFUSED,
	ERROR_AGENT_ABSENT,
	ERROR_IO,
	ERROR_CORRUPT,
	ERROR_INCOMPATIBLE,
	ERROR_CANCELLED,
	ERROR_KIND_COUNT,
};

struct error {
	enum error_kind kind;
	int code;	/* positive errno, never 0 once set */
	char text[512]; /* what failed: why */
	char hint[192]; /* the mend, or empty */
};

/* Fill *err: kind and a message "what failed: why". Returns a negative errno that fits the kind. */
int error_set(struct error *err, enum error_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Fill *err from errno value `errnum`; the message gets ": strerror" appended, the kind is derived. */
int error_errno(struct error *err, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "context: " in front of the message. Returns the negative errno again. */
int error_prefix(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Set the mend that is printed in parentheses behind the message. Returns the negative errno. */
int error_hint(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "bad_request", "no_resource", …: stable names, part of the control API. */
const char *error_kind_name(enum error_kind kind);

/* Write "text (hint)" into buf, always NUL-terminated. Returns buf. */
const char *error_format(const struct error *err, char *buf, unsigned long size);

#ifdef __clang_analyzer__
/* The analyser sees no bodies: tell it what the contract says, that these never return 0. */
#define ERROR_NEGATIVE(call)                                                                       \
	({                                                                                         \
		int negative_ = call;                                                              \
		if (negative_ >= 0)                                                                \
			__builtin_unreachable();                                                   \
		negative_;                                                                         \
	})
#define error_set(...)	  ERROR_NEGATIVE((error_set)(__VA_ARGS__))
#define error_errno(...)  ERROR_NEGATIVE((error_errno)(__VA_ARGS__))
#define error_prefix(...) ERROR_NEGATIVE((error_prefix)(__VA_ARGS__))
#define error_hint(...)	  ERROR_NEGATIVE((error_hint)(__VA_ARGS__))
#endif
