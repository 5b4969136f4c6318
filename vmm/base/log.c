/* SPDX-License-Identifier: Apache-2.0 */
/* The log. The process's sink is set before threads start and only read afterwards; a VM's own belongs to its threads. */
#include "vmm/base/log.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

static struct log_sink process_sink = {.fd = STDERR_FILENO, .level = LOG_WARN};
static _Thread_local const struct log_sink *own_sink; /* NULL: the process's */

static const char *const level_names[] = {"error", "warn", "info", "debug"};

int log_sink_open(struct log_sink *sink, const char *vm_name, enum log_level level,
	const char *path, int fallback, struct error *err)
{
	sink->fd = fallback;
	sink->level = level;
	snprintf(sink->name, sizeof(sink->name), "%s", vm_name);
	if (path) {
		sink->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
		if (sink->fd < 0)
			return error_errno(err, errno, "cannot open the log file '%s'", path);
	}
	return 0;
}

void log_sink_close(struct log_sink *sink, int fallback)
{
	if (sink->fd >= 0 && sink->fd != fallback)
		close(sink->fd);
	sink->fd = fallback;
}

int log_open(const char *vm_name, enum log_level level, const char *path, struct error *err)
{
	struct log_sink sink;
	int ret = log_sink_open(&sink, vm_name, level, path, STDERR_FILENO, err);

	if (ret == 0) {
		log_sink_close(&process_sink, STDERR_FILENO);
		process_sink = sink;
	}
	return ret;
}

void log_use(const struct log_sink *sink)
{
	own_sink = sink;
}

const struct log_sink *log_used(void)
{
	return own_sink;
}

static const struct log_sink *current_sink(void)
{
	return own_sink ? own_sink : &process_sink;
}

bool log_enabled(enum log_level level)
{
	return level <= current_sink()->level;
}

static void write_line(enum log_level level, const char *fmt, va_list args)
{
	const struct log_sink *sink = current_sink();
	char line[1024];
	int used = sink->name[0]
			   ? snprintf(line, sizeof(line), "bulkhead[%s]: %s: ", sink->name,
				     level_names[level])
			   : snprintf(line, sizeof(line), "bulkhead: %s: ", level_names[level]);
	int body = vsnprintf(line + used, sizeof(line) - (size_t)used - 1, fmt, args);
	size_t len;
	ssize_t ignored;

	len = (size_t)used + (size_t)(body > 0 ? body : 0);
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';
	ignored = write(sink->fd, line, len);
	(void)ignored; /* there is nowhere left to report that the log cannot be written */
}

void log_write(enum log_level level, const char *fmt, ...)
{
	va_list args;

	if (!log_enabled(level))
		return;
	va_start(args, fmt);
	write_line(level, fmt, args);
	va_end(args);
}

void log_write_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
{
	uint64_t now = now_ns();
	uint64_t next = atomic_load_explicit(&limit->next_ns, memory_order_relaxed);
	uint32_t dropped;
	va_list args;

	if (!log_enabled(level))
		return;
	if (now < next ||
		!atomic_compare_exchange_strong(&limit->next_ns, &next, now + 1000000000u)) {
		atomic_fetch_add_explicit(&limit->dropped, 1, memory_order_relaxed);
		return;
	}
	va_start(args, fmt);
	write_line(level, fmt, args);
	va_end(args);
	dropped = atomic_exchange(&limit->dropped, 0);
	if (dropped)
		log_write(level, "(%u more messages like the last one were left out)", dropped);
}

void bug(const char *file, int line, const char *what)
{
	log_write(LOG_ERROR, "a bug in bulkhead: '%s' at %s:%d", what, file, line);
	abort();
}
