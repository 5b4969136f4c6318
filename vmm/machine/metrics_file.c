/* SPDX-License-Identifier: Apache-2.0 */
/* The metrics in a file (--metrics-file), for a collector that reads files. See metrics.h. */
#include "vmm/machine/metrics.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_EVERY_NS 10000000000ull

static int write_file(const struct metrics_file *file, struct error *err)
{
	_cleanup_free_ char *text = metrics_text(file->machine), *path = NULL;
	_cleanup_close_ int fd = -1;
	size_t size;

	if (!text || asprintf(&path, "%s.new", file->path) < 0)
		return error_errno(err, ENOMEM, "cannot write the metrics file");
	size = strlen(text);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, size) != (ssize_t)size || rename(path, file->path) < 0) {
		error_errno(err, errno, "cannot write the metrics file '%s'", file->path);
		unlink(path);
		return -err->code;
	}
	return 0;
}

static void file_due(struct loop_timer *timer)
{
	struct metrics_file *file = container_of(timer, struct metrics_file, timer);
	struct error err;

	if (write_file(file, &err))
		log_warn("%s; trying again later", err.text);
	loop_timer_set(machine_loop(file->machine), timer, now_ns() + FILE_EVERY_NS);
}

int metrics_file_start(
	struct metrics_file *file, struct machine *machine, const char *path, struct error *err)
{
	*file = (struct metrics_file){.machine = machine, .path = path, .timer.fire = file_due};
	loop_timer_set(machine_loop(machine), &file->timer, now_ns() + FILE_EVERY_NS);
	return write_file(file, err);
}

void metrics_file_finish(struct metrics_file *file)
{
	struct error err;

	if (!file->machine)
		return;
	loop_timer_clear(machine_loop(file->machine), &file->timer);
	if (write_file(file, &err))
		log_warn("%s", err.text);
}
