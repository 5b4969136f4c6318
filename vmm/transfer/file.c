/* SPDX-License-Identifier: Apache-2.0 */
/* Whole writes, whole reads, checksums: see file.h. */
#include "vmm/transfer/file.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

struct checksum checksum_of(const void *bytes, size_t size)
{
	XXH128_hash_t hash = XXH3_128bits(bytes, size);

	return (struct checksum){hash.low64, hash.high64};
}

bool checksum_equal(struct checksum a, struct checksum b)
{
	return a.low == b.low && a.high == b.high;
}

void checksum_format(struct checksum sum, char text[CHECKSUM_TEXT_SIZE])
{
	snprintf(text, CHECKSUM_TEXT_SIZE, "%016" PRIx64 "%016" PRIx64, sum.high, sum.low);
}

bool checksum_parse(const char *text, struct checksum *sum)
{
	uint64_t halves[2] = {0, 0};

	for (unsigned i = 0; i < 32; i++) {
		char c = text[i];
		int digit = c >= '0' && c <= '9'   ? c - '0'
			    : c >= 'a' && c <= 'f' ? c - 'a' + 10
						   : -1;

		if (digit < 0)
			return false;
		halves[i / 16] = halves[i / 16] << 4 | (unsigned)digit;
	}
	*sum = (struct checksum){.high = halves[0], .low = halves[1]};
	return text[32] == '\0';
}

int file_write(int fd, const void *bytes, size_t size, uint64_t offset, const char *name,
	struct error *err)
{
	const uint8_t *from = bytes;

	while (size) {
		ssize_t n = pwrite(fd, from, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			/* No progress without an error is what a full disk looks like on some file systems. */
			int why = n < 0 ? errno : ENOSPC;

			error_errno(err, why, "cannot write '%s' at byte %" PRIu64, name, offset);
			return why == ENOSPC || why == EDQUOT
				       ? error_hint(err, "make room on its file system")
				       : -err->code;
		}
		from += n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int file_read(
	int fd, void *bytes, size_t size, uint64_t offset, const char *name, struct error *err)
{
	uint8_t *to = bytes;

	while (size) {
		ssize_t n = pread(fd, to, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(
				err, errno, "cannot read '%s' at byte %" PRIu64, name, offset);
		if (n == 0)
			return error_set(err, ERROR_CORRUPT,
				"'%s' ends at byte %" PRIu64 ", before its end", name, offset);
		to += n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int file_make(int dir, const char *name, const void *bytes, size_t size, struct error *err)
{
	_cleanup_close_ int fd =
		openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int ret;

	if (fd < 0)
		return error_errno(err, errno, "cannot make '%s'", name);
	ret = file_write(fd, bytes, size, 0, name, err);
	if (ret == 0 && fsync(fd) < 0)
		ret = error_errno(err, errno, "cannot write '%s' to the disk", name);
	return ret;
}

int file_load(
	int dir, const char *name, uint64_t limit, uint8_t **bytes, size_t *size, struct error *err)
{
	/* What is no regular file (a pipe) may not hold us up. */
	_cleanup_close_ int fd =
		openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int ret;

	if (fd < 0)
		return error_errno(err, errno, "cannot open '%s'", name);
	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "cannot look at '%s'", name);
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_CORRUPT, "'%s' is not a regular file", name);
	if ((uint64_t)st.st_size > limit)
		return error_set(err, ERROR_CORRUPT,
			"'%s' has %jd bytes, more than the %" PRIu64 " that it can have", name,
			(intmax_t)st.st_size, limit);
	*size = (size_t)st.st_size;
	*bytes = malloc(*size + 1);
	if (!*bytes)
		return error_errno(err, ENOMEM, "cannot read '%s'", name);
	(*bytes)[*size] = '\0';
	ret = file_read(fd, *bytes, *size, 0, name, err);
	if (ret < 0)
		free(steal_ptr(bytes));
	return ret;
}
