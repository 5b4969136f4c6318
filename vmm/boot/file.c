/* SPDX-License-Identifier: Apache-2.0 */
/* Boot files: see file.h. */
#include "vmm/boot/file.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOLE_TRIES 4 /* each is two system calls; who has many small holes has few large ones */

int boot_file_error(const struct boot_file *file, struct error *err, const char *fmt, ...)
{
	char why[384];
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	return error_set(err, ERROR_BAD_REQUEST, "%s '%s': %s", file->role, file->path, why);
}

int boot_file_open(struct boot_file *file, const char *role, const char *path, struct error *err)
{
	/* O_NONBLOCK: a FIFO without a writer must be refused, not waited for. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	*file = (struct boot_file){.fd = -1, .role = role, .path = path};
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, errno, "cannot open %s '%s'", role, path);
	if (S_ISDIR(st.st_mode))
		return boot_file_error(file, err, "is a directory");
	if (!S_ISREG(st.st_mode))
		return boot_file_error(file, err, "is not a regular file");
	if (st.st_size == 0)
		return boot_file_error(file, err, "is empty");
	file->size = (uint64_t)st.st_size;
	file->fd = steal_fd(&fd);
	return 0;
}

void boot_file_close(struct boot_file *file)
{
	if (file->fd >= 0)
		close(steal_fd(&file->fd));
}

bool boot_file_holds(const struct boot_file *file, uint64_t offset, uint64_t len)
{
	return offset <= file->size && len <= file->size - offset;
}

int boot_file_read(
	const struct boot_file *file, uint64_t offset, void *data, size_t len, struct error *err)
{
	size_t done = 0;

	if (!boot_file_holds(file, offset, len))
		return boot_file_error(file, err, "is truncated");
	while (done < len) {
		ssize_t n =
			pread(file->fd, (char *)data + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(
				err, errno, "cannot read %s '%s'", file->role, file->path);
		if (n == 0)
			return boot_file_error(file, err, "shrank while it was read");
		done += (size_t)n;
	}
	return 0;
}

struct boot_file_hole boot_file_find_hole(
	const struct boot_file *file, uint64_t offset, uint64_t len)
{
	uint64_t at = offset, end = offset + len;

	for (unsigned tries = 0; tries < HOLE_TRIES && at < end; tries++) {
		off_t start = lseek(file->fd, (off_t)at, SEEK_HOLE), data;

		if (start < (off_t)at || (uint64_t)start >= end)
			break;
		/* What a file ends with is no hole here: only reading it tells a hole from a file that shrank. */
		data = lseek(file->fd, start, SEEK_DATA);
		if (data <= start)
			break;
		at = min_u64((uint64_t)data, end);
		if (at - (uint64_t)start >= BOOT_FILE_HOLE_MIN)
			return (struct boot_file_hole){(uint64_t)start, at - (uint64_t)start};
	}
	return (struct boot_file_hole){end, 0};
}
