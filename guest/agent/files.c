/* SPDX-License-Identifier: Apache-2.0 */
/* Small files. See files.h. */
#include "guest/agent/files.h"

#include "vmm/base/util.h"
#include "vmm/rpc/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

size_t file_read(const char *path, char *buf, size_t size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t used = 0;
	ssize_t n;

	while (fd >= 0 && used < size - 1 && (n = read(fd, buf + used, size - 1 - used)) > 0)
		used += (size_t)n;
	while (used && (buf[used - 1] == '\n' || buf[used - 1] == '\0'))
		used--;
	buf[used] = '\0';
	return used;
}

size_t file_readf(char *buf, size_t size, const char *fmt, ...)
{
	char path[320];
	va_list args;

	va_start(args, fmt);
	vsnprintf(path, sizeof(path), fmt, args);
	va_end(args);
	return file_read(path, buf, size);
}

uint64_t file_numberf(const char *fmt, ...)
{
	char path[320], text[32];
	va_list args;

	va_start(args, fmt);
	vsnprintf(path, sizeof(path), fmt, args);
	va_end(args);
	return file_read(path, text, sizeof(text)) ? strtoull(text, NULL, 0) : 0;
}

json_t *file_json(const char *path)
{
	char text[256];
	size_t len = file_read(path, text, sizeof(text));

	return len ? rpc_text(text, len) : json_null();
}

static int write_all(int fd, const char *text)
{
	size_t len = strlen(text);

	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

int file_write(const char *path, const char *text, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write_all(fd, text) < 0)
		return error_errno(err, errno, "cannot write '%s' to %s", text, path);
	return 0;
}

static int write_in_place(const char *path, const char *text, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write_all(fd, text) < 0 || fsync(fd) < 0)
		return error_errno(err, errno, "cannot write %s", path);
	return 0;
}

int file_replace(const char *path, const char *text, struct error *err)
{
	_cleanup_close_ int fd = -1;
	char temporary[320];
	struct stat st;

	if (!lstat(path, &st) && S_ISLNK(st.st_mode))
		return write_in_place(path, text, err);
	snprintf(temporary, sizeof(temporary), "%.300s.bulkhead", path);
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd >= 0 && !write_all(fd, text) && !fsync(fd) && !rename(temporary, path))
		return 0;
	unlink(temporary);
	return write_in_place(path, text, err);
}

int file_folders(const char *path, struct error *err)
{
	char part[4096];
	size_t len = strlen(path);

	if (len >= sizeof(part))
		return error_set(err, ERROR_BAD_REQUEST, "the path '%.64s…' is too long", path);
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return error_errno(err, errno, "cannot make the folder '%s'", part);
	}
	return 0;
}
