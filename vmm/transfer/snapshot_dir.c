/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a snapshot's folder: see snapshot_dir.h.
 *
 * Who makes or cleans up holds a lock on the parent folder for that moment (flock(2)), and on a file in the growing folder
 * as long as it grows. So a growing folder that one sees with the parent locked is either locked itself, or nobody's.
 */
#include "vmm/transfer/snapshot_dir.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/transfer/stamp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#define INFIX	     ".tmp-"
#define SUFFIX_SIZE  (sizeof(INFIX) - 1 + 8)
#define LOCK_TRIES   500 /* of 10 ms: others hold it for moments only */
#define MANIFEST_NEW SNAPSHOT_MANIFEST_FILE ".new"

/* ---- removing ---- */

/* Files only: we make no folders in it, so what has some is not ours. */
static int empty_folder(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;
	int ret = 0;

	if (!stream) {
		if (copy >= 0)
			close(copy);
		return -errno;
	}
	while ((entry = readdir(stream)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
			strcmp(entry->d_name, SNAPSHOT_LOCK_FILE) != 0 &&
			unlinkat(fd, entry->d_name, 0) < 0)
			ret = -errno;
	closedir(stream);
	/* The mark that it is ours goes last, so that whoever is interrupted here can be followed. */
	if (ret == 0 && unlinkat(fd, SNAPSHOT_LOCK_FILE, 0) < 0 && errno != ENOENT)
		ret = -errno;
	return ret;
}

static void remove_temp(int parent, int fd, const char *temp)
{
	int ret = empty_folder(fd);

	if (ret == 0 && unlinkat(parent, temp, AT_REMOVEDIR) < 0)
		ret = -errno;
	if (ret < 0)
		log_warn("cannot remove the unfinished snapshot '%s': %s", temp,
			strerrordesc_np(-ret));
}

/* "NAME.tmp-01234567" */
static bool is_temp_name(const char *name)
{
	size_t len = strlen(name);
	const char *infix = name + len - SUFFIX_SIZE;

	return len > SUFFIX_SIZE && !strncmp(infix, INFIX, strlen(INFIX)) &&
	       strspn(infix + strlen(INFIX), "0123456789abcdef") == 8;
}

/* With the parent locked. Without its mark a folder is ours only when nothing is in it: then it goes as well. */
static void remove_if_dead(int parent, const char *name)
{
	_cleanup_close_ int fd =
		openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_close_ int lock = -1;

	if (fd < 0)
		return;
	lock = openat(fd, SNAPSHOT_LOCK_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (lock < 0) {
		if (errno == ENOENT)
			unlinkat(parent, name, AT_REMOVEDIR);
		return;
	}
	if (flock(lock, LOCK_EX | LOCK_NB) < 0)
		return; /* it is growing */
	log_info("removing '%s': a snapshot that was never finished", name);
	remove_temp(parent, fd, name);
}

static void remove_dead(int parent)
{
	int copy = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	if (!stream) {
		if (copy >= 0)
			close(copy);
		return;
	}
	while ((entry = readdir(stream)))
		if (is_temp_name(entry->d_name))
			remove_if_dead(parent, entry->d_name);
	closedir(stream);
}

/* ---- making ---- */

static int lock_parent(const struct snapshot_dir *dir, struct error *err)
{
	const struct timespec pause = {.tv_nsec = 10000000};

	for (unsigned i = 0; flock(dir->parent, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_errno(err, errno, "cannot lock the folder of '%s'", dir->path);
		if (i == LOCK_TRIES)
			return error_set(err, ERROR_NO_RESOURCE,
				"the folder of '%s' stays locked by somebody else", dir->path);
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int already_exists(const struct snapshot_dir *dir, struct error *err)
{
	error_set(err, ERROR_ALREADY_EXISTS, "'%s' is there already", dir->path);
	return error_hint(err, "a snapshot never replaces anything: name another folder");
}

static int check_free(const struct snapshot_dir *dir, struct error *err)
{
	struct stat st;

	if (fstatat(dir->parent, dir->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return already_exists(dir, err);
	return errno == ENOENT ? 0 : error_errno(err, errno, "cannot look at '%s'", dir->path);
}

/* Splits the path, and opens where the folder is to be. */
static int open_parent(struct snapshot_dir *dir, const char *path, struct error *err)
{
	size_t len = strlen(path);
	_cleanup_free_ char *parent = NULL;
	const char *slash;

	while (len > 1 && path[len - 1] == '/')
		len--;
	dir->path = strndup(path, len);
	if (!dir->path)
		return error_errno(err, ENOMEM, "cannot make '%s'", path);
	slash = strrchr(dir->path, '/');
	dir->name = strdup(slash ? slash + 1 : dir->path);
	parent = slash ? strndup(dir->path, slash == dir->path ? 1 : (size_t)(slash - dir->path))
		       : strdup(".");
	if (!dir->name || !parent)
		return error_errno(err, ENOMEM, "cannot make '%s'", path);
	if (!*dir->name || !strcmp(dir->name, ".") || !strcmp(dir->name, "..") ||
		strlen(dir->name) > NAME_MAX - SUFFIX_SIZE)
		return error_set(err, ERROR_BAD_REQUEST,
			"'%s' is not the path of a new folder with a name of 1 to %zu bytes", path,
			NAME_MAX - SUFFIX_SIZE);
	dir->parent = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir->parent < 0)
		return error_errno(err, errno, "cannot open the folder '%s'", parent);
	return 0;
}

static int choose_temp(struct snapshot_dir *dir, struct error *err)
{
	uint32_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return error_errno(err, errno, "cannot name '%s' anew", dir->path);
	if (asprintf(&dir->temp, "%s" INFIX "%08x", dir->name, number) < 0) {
		dir->temp = NULL;
		return error_errno(err, ENOMEM, "cannot name '%s' anew", dir->path);
	}
	return 0;
}

static int make_temp(struct snapshot_dir *dir, struct error *err)
{
	int ret = choose_temp(dir, err);

	if (ret < 0)
		return ret;
	if (mkdirat(dir->parent, dir->temp, 0700) < 0) {
		error_errno(err, errno, "cannot make the folder '%s' beside '%s'", dir->temp,
			dir->path);
		free(steal_ptr(&dir->temp)); /* not ours to remove */
		return -err->code;
	}
	dir->fd = openat(dir->parent, dir->temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir->fd >= 0)
		dir->lock = openat(
			dir->fd, SNAPSHOT_LOCK_FILE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (dir->fd < 0 || dir->lock < 0 || flock(dir->lock, LOCK_EX | LOCK_NB) < 0)
		return error_errno(err, errno, "cannot lock the folder '%s'", dir->temp);
	return 0;
}

int snapshot_dir_create(struct snapshot_dir *dir, const char *path, struct error *err)
{
	int ret;

	*dir = (struct snapshot_dir){.parent = -1, .fd = -1, .lock = -1};
	ret = open_parent(dir, path, err);
	if (ret == 0)
		ret = check_free(dir, err);
	if (ret == 0)
		ret = lock_parent(dir, err);
	if (ret == 0) {
		remove_dead(dir->parent);
		ret = make_temp(dir, err);
		flock(dir->parent, LOCK_UN);
	}
	if (ret < 0)
		snapshot_dir_abandon(dir);
	return ret;
}

int snapshot_dir_part(struct snapshot_dir *dir, struct snapshot_manifest *manifest,
	const char *name, const void *bytes, size_t size, struct error *err)
{
	struct checksum sum = checksum_of(bytes, size);
	int ret = file_make(dir->fd, name, bytes, size, err);

	return ret ?: snapshot_manifest_add(manifest, name, SNAPSHOT_CHECK_WHOLE, size, &sum, err);
}

int snapshot_dir_add_file(struct snapshot_dir *dir, struct snapshot_manifest *manifest,
	const char *name, uint64_t limit, struct error *err)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct checksum sum;
	size_t size;
	int ret = file_load(dir->fd, name, limit, &bytes, &size, err);

	if (ret < 0)
		return ret;
	sum = checksum_of(bytes, size);
	return snapshot_manifest_add(manifest, name, SNAPSHOT_CHECK_WHOLE, size, &sum, err);
}

/* ---- the end ---- */

static int write_manifest(
	struct snapshot_dir *dir, const struct snapshot_manifest *manifest, struct error *err)
{
	_cleanup_free_ char *text = NULL;
	int ret = snapshot_manifest_format(manifest, &text, err);

	if (ret == 0)
		ret = file_make(dir->fd, MANIFEST_NEW, text, strlen(text), err);
	if (ret == 0 && renameat(dir->fd, MANIFEST_NEW, dir->fd, SNAPSHOT_MANIFEST_FILE) < 0)
		ret = error_errno(err, errno, "cannot name '%s'", SNAPSHOT_MANIFEST_FILE);
	if (ret == 0 && fsync(dir->fd) < 0)
		ret = error_errno(
			err, errno, "cannot write the folder of '%s' to the disk", dir->path);
	return ret;
}

/* Never over anything. Where the file system cannot promise that in one call, we look first. */
static int give_name(struct snapshot_dir *dir, struct error *err)
{
	int ret = renameat2(dir->parent, dir->temp, dir->parent, dir->name, RENAME_NOREPLACE);

	if (ret < 0 && (errno == EINVAL || errno == ENOSYS)) {
		ret = check_free(dir, err);
		if (ret < 0)
			return ret;
		ret = renameat(dir->parent, dir->temp, dir->parent, dir->name);
	}
	if (ret < 0)
		return errno == EEXIST ? already_exists(dir, err)
				       : error_errno(err, errno, "cannot name '%s'", dir->path);
	free(steal_ptr(&dir->temp));
	if (fsync(dir->parent) < 0)
		return error_errno(
			err, errno, "cannot write the folder of '%s' to the disk", dir->path);
	return 0;
}

int snapshot_dir_commit(
	struct snapshot_dir *dir, const struct snapshot_manifest *manifest, struct error *err)
{
	_cleanup_free_ char *stamp = NULL;
	struct error why;
	int ret = write_manifest(dir, manifest, err);

	if (ret == 0)
		ret = give_name(dir, err);
	if (ret < 0)
		return ret;
	/* Both are for later readers' ease: without them the snapshot is as good. */
	unlinkat(dir->fd, SNAPSHOT_LOCK_FILE, 0);
	stamp = snapshot_stamp_make(dir->fd, manifest);
	if (stamp && snapshot_stamp_save(dir->fd, stamp, &why) < 0)
		log_warn(
			"'%s' will be read in full before it is restored: %s", dir->path, why.text);
	return 0;
}

void snapshot_dir_abandon(struct snapshot_dir *dir)
{
	if (dir->temp && dir->fd >= 0)
		remove_temp(dir->parent, dir->fd, dir->temp);
	else if (dir->temp)
		unlinkat(dir->parent, dir->temp, AT_REMOVEDIR);
	if (dir->lock >= 0)
		close(dir->lock);
	if (dir->fd >= 0)
		close(dir->fd);
	if (dir->parent >= 0)
		close(dir->parent);
	free(dir->path);
	free(dir->name);
	free(dir->temp);
	*dir = (struct snapshot_dir){.parent = -1, .fd = -1, .lock = -1};
}

/* ---- removing one ---- */

/* From here on it is a growing folder that nobody holds. */
static int take_name(struct snapshot_dir *dir, struct error *err)
{
	int ret;

	dir->fd = openat(dir->parent, dir->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir->fd < 0)
		return error_errno(err, errno, "cannot open '%s'", dir->path);
	if (faccessat(dir->fd, SNAPSHOT_MANIFEST_FILE, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, ERROR_BAD_REQUEST, "'%s' is no snapshot: it has no manifest",
			dir->path);
	dir->lock = openat(
		dir->fd, SNAPSHOT_LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (dir->lock < 0 || flock(dir->lock, LOCK_EX | LOCK_NB) < 0)
		return error_errno(err, errno, "cannot lock the folder '%s'", dir->path);
	ret = choose_temp(dir, err);
	if (ret == 0 && renameat(dir->parent, dir->name, dir->parent, dir->temp) < 0) {
		ret = error_errno(err, errno, "cannot remove '%s'", dir->path);
		free(steal_ptr(&dir->temp));
	}
	return ret;
}

int snapshot_dir_remove(const char *path, struct error *err)
{
	struct snapshot_dir dir = {.parent = -1, .fd = -1, .lock = -1};
	int ret = open_parent(&dir, path, err);

	if (ret == 0)
		ret = lock_parent(&dir, err);
	if (ret == 0) {
		ret = take_name(&dir, err);
		flock(dir.parent, LOCK_UN);
	}
	snapshot_dir_abandon(&dir); /* the rest goes with what grows and is not committed */
	return ret;
}
