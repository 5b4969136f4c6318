/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are there whole or not at all: see file.h. */
#include "vmm/transfer/file.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int file_part_open(struct file_part *part, const char *path, bool replace, struct error *err)
{
	*part = (struct file_part){.path = path, .fd = -1};
	if (!replace && access(path, F_OK) == 0) {
		error_set(err, ERROR_ALREADY_EXISTS, "'%s' is there already", path);
		return error_hint(err, "name another file, or remove it");
	}
	if (asprintf(&part->made, "%s.part-%d", path, getpid()) < 0) {
		part->made = NULL;
		return error_errno(err, ENOMEM, "cannot make '%s'", path);
	}
	part->fd = open(part->made, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (part->fd >= 0)
		return 0;
	error_errno(err, errno, "cannot make '%s'", part->made);
	free(steal_ptr(&part->made)); /* it may be another's: nothing is removed */
	return -err->code;
}

static int sync_folder_of(const char *path, struct error *err)
{
	_cleanup_free_ char *folder = strdup(path);
	_cleanup_close_ int fd = -1;
	char *slash = folder ? strrchr(folder, '/') : NULL;

	if (slash)
		slash[slash == folder] = '\0';
	fd = folder ? open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd < 0 || fsync(fd) < 0)
		return error_errno(err, errno, "cannot write the folder of '%s'", path);
	return 0;
}

int file_part_commit(struct file_part *part, bool replace, struct error *err)
{
	if (fsync(part->fd) < 0)
		return error_errno(err, errno, "cannot write '%s'", part->made);
	if (renameat2(AT_FDCWD, part->made, AT_FDCWD, part->path, replace ? 0 : RENAME_NOREPLACE) <
		0)
		return error_errno(err, errno, "cannot make '%s'", part->path);
	free(steal_ptr(&part->made));
	return sync_folder_of(part->path, err);
}

void file_part_abandon(struct file_part *part)
{
	if (part->made)
		unlink(part->made);
	free(steal_ptr(&part->made));
	cleanup_close(&part->fd);
	part->fd = -1;
}
