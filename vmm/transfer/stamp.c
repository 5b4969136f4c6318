/* SPDX-License-Identifier: Apache-2.0 */
/* The stamp: see stamp.h. It is compared as text: what is not word for word what we would write now does not hold. */
#include "vmm/transfer/stamp.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define STAMP_NEW  SNAPSHOT_STAMP_FILE ".new"
#define STAMP_MAX  (SNAPSHOT_PARTS_MAX * 256u)
#define LINE_MAX_  256
#define REST_NS	   30000000 /* three ticks of the slowest clock (HZ=100) */
#define WAIT_TRIES 20

static uint64_t time_ns(struct timespec time)
{
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void format_line(
	char line[LINE_MAX_], const char *id, const char *part, const struct stat *st)
{
	snprintf(line, LINE_MAX_, "%s %s %u:%u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
		id, part, major(st->st_dev), minor(st->st_dev), (uint64_t)st->st_ino,
		(uint64_t)st->st_size, time_ns(st->st_mtim), time_ns(st->st_ctim));
}

/* Until a change now would get another time than the file has. False: it has one from the future. */
static bool has_rested(const struct stat *st)
{
	const struct timespec pause = {.tv_nsec = REST_NS / 10};
	struct timespec now;

	for (unsigned i = 0; i < WAIT_TRIES; i++) {
		clock_gettime(CLOCK_REALTIME, &now);
		if (time_ns(now) >= time_ns(st->st_ctim) + REST_NS)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

/* One part's line at the end of `text`; nothing where none can be vouched for. */
static void add_line(
	int dir, const struct snapshot_manifest *manifest, const char *part, char *text)
{
	struct stat before, after;

	/* Looked at again after the rest: what changes meanwhile has no line. */
	if (fstatat(dir, part, &before, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(before.st_mode) ||
		!has_rested(&before) || fstatat(dir, part, &after, AT_SYMLINK_NOFOLLOW) < 0 ||
		time_ns(before.st_ctim) != time_ns(after.st_ctim))
		return;
	format_line(text + strlen(text), manifest->id, part, &after);
}

char *snapshot_stamp_make(int dir, const struct snapshot_manifest *manifest)
{
	char *text = calloc(1, STAMP_MAX);

	for (unsigned i = 0; text && i < manifest->part_count; i++)
		add_line(dir, manifest, manifest->parts[i].name, text);
	return text;
}

int snapshot_stamp_save(int dir, const char *text, struct error *err)
{
	int ret;

	unlinkat(dir, STAMP_NEW, 0);
	ret = file_make(dir, STAMP_NEW, text, strlen(text), err);
	if (ret == 0 && renameat(dir, STAMP_NEW, dir, SNAPSHOT_STAMP_FILE) < 0)
		ret = error_errno(err, errno, "cannot name '%s'", SNAPSHOT_STAMP_FILE);
	return ret;
}

bool snapshot_stamp_holds(
	int dir, const struct snapshot_manifest *manifest, const char *part, int fd)
{
	_cleanup_free_ uint8_t *text = NULL;
	char line[LINE_MAX_];
	struct error ignored;
	const char *found;
	struct stat st;
	size_t size;

	if (fstat(fd, &st) < 0 ||
		file_load(dir, SNAPSHOT_STAMP_FILE, STAMP_MAX, &text, &size, &ignored) < 0)
		return false;
	format_line(line, manifest->id, part, &st);
	found = strstr((const char *)text, line);
	return found && (found == (const char *)text || found[-1] == '\n');
}
