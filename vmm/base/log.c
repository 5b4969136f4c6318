/* SPDX-License-Identifier: Apache-2.0 */
/* The log. One static configuration, set before threads start and only read afterwards. */
#include "vmm/base/log.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

static struct {
	int fd;
	enum log_level level;
	char name[64];
} sink = {.fd = STDERR_FILENO, .level = LOG_WARN};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

int log_open(const char *vm_name, enum log_level level, const char *path, struct error *err)
{
	int fd = STDERR_FILENO;

	if (path) {
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
		if (fd < 0)
			return error_errno(err, errno, "cannot open the log file '%s'", path);
	}
	if (sink.fd != STDERR_FILENO)
		close(sink.fd);
	sink.fd = fd;
	sink.level = level;
	snprintf(sink.name, sizeof(sink.name), "%s", vm_name);
	return 0;
}

bool log_enabled(enum log_level level)
{
	return level <= sink.level;
}

static void write_line(enum log_level level, const char *fmt, va_list args)
{
	char line[1024];
	int used = sink.name[0]
			   ? snprintf(line, sizeof(line), "bulkhead[%s]: %s: ", sink.name,
				     level_names[level])
			   : snprintf(line, sizeof(line), "bulkhead: %s: ", level_names[level]);
	int body = vsnprintf(line + used, sizeof(line) - (size_t)used - 1, fmt, args);
	size_t len;
	ssize_t ignored;

	len = (size_t)used + (size_t)(body > 0 ? body : 0);
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';
	ignored = write(sink.fd, line, len);
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
