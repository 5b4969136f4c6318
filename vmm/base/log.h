/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: one line a message, "bulkhead[VM]: level: text", to standard error or a file, written
 * with one write(2) so that lines of several threads and processes never mix.
 *
 * Thread-safe. What a guest can provoke goes through log_guest(), which is rate-limited per call
 * site: a hostile guest cannot fill the host's disk with our words.
 *
 * Where a process has several VMs each has a sink of its own: a thread uses the one that it was given by log_use(), and
 * so do the threads that it starts. A thread without one uses the process's own, which log_open() sets.
 */
#pragma once

#include "vmm/base/error.h"

#include <stdatomic.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* One budget of messages at a call site: `burst` at once, then one a second. */
struct log_limit {
	_Atomic uint64_t next_ns;
	_Atomic uint32_t dropped;
};

/* Where messages go. It outlives the threads that use it. */
struct log_sink {
	int fd;
	enum log_level level;
	char name[64]; /* the VM's; may be empty */
};

/* Append to the file `path`; NULL: to `fallback`, a descriptor that stays the caller's. */
int log_sink_open(struct log_sink *sink, const char *vm_name, enum log_level level,
	const char *path, int fallback, struct error *err);
/* Closes what log_sink_open() opened. */
void log_sink_close(struct log_sink *sink, int fallback);

/* The process's own. `path` NULL: standard error. Called once, before threads are started. */
int log_open(const char *vm_name, enum log_level level, const char *path, struct error *err);

/* From now on this thread uses `sink`; NULL: the process's own. Whoever starts a thread hands its own on. */
void log_use(const struct log_sink *sink);
const struct log_sink *log_used(void);

bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_write_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...)                                                                              \
	do {                                                                                       \
		if (log_enabled(LOG_INFO))                                                         \
			log_write(LOG_INFO, __VA_ARGS__);                                          \
	} while (0)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_enabled(LOG_DEBUG))                                                        \
			log_write(LOG_DEBUG, __VA_ARGS__);                                         \
	} while (0)

/* For what the guest did wrong: warning level, at most one line a second from each call site. */
#define log_guest(...)                                                                             \
	do {                                                                                       \
		static struct log_limit limit_;                                                    \
		log_write_limited(&limit_, LOG_WARN, __VA_ARGS__);                                 \
	} while (0)

/* A bug of ours: says where, then aborts, in every build. */
_Noreturn void bug(const char *file, int line, const char *what);
#define BUG_ON(condition)                                                                          \
	do {                                                                                       \
		if (__builtin_expect(!!(condition), 0))                                            \
			bug(__FILE__, __LINE__, #condition);                                       \
	} while (0)
