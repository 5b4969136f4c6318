/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which VMs run on this host, as far as we may know. Two places:
 *
 *   /run/bulkhead/NAME.sock, and $XDG_RUNTIME_DIR/bulkhead/NAME.sock
 *   each process that calls itself "bulkhead:NAME": its command line's --control, or that of its --config, seen from
 *   where that process is
 *
 * A process has other listening sockets too (console, vsock), to which connecting would do something: so only what it was told to
 * take for its control socket counts, never what it happens to have open.
 */
#include "vmm/base/util.h"
#include "vmm/cli/top.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARGUMENTS_MAX KIB(128)

static bool is_socket(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static void find_in_folder(
	const char *folder, void (*found)(void *owner, const char *path), void *owner)
{
	char pattern[PATH_MAX];
	glob_t paths;

	snprintf(pattern, sizeof(pattern), "%s/bulkhead/*.sock", folder);
	if (glob(pattern, 0, NULL, &paths) != 0)
		return;
	for (size_t i = 0; i < paths.gl_pathc; i++)
		if (is_socket(paths.gl_pathv[i]))
			found(owner, paths.gl_pathv[i]);
	globfree(&paths);
}

/* A whole file of /proc, with a NUL behind it. NULL when it cannot be read. */
static char *read_proc(const char *pid, const char *name, size_t *size)
{
	char path[64];
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = malloc(ARGUMENTS_MAX + 1);
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%.16s/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	*size = 0;
	if (fd < 0 || !text)
		return NULL;
	while (*size < ARGUMENTS_MAX && (n = read(fd, text + *size, ARGUMENTS_MAX - *size)) > 0)
		*size += (size_t)n;
	text[*size] = '\0';
	return steal_ptr(&text);
}

/* The value of --NAME in a command line, arguments with a NUL behind each. The last one counts. */
static const char *argument(const char *text, size_t size, const char *name)
{
	const char *value = NULL, *end = text + size;
	size_t len = strlen(name);

	for (const char *at = text, *next; at < end; at = next) {
		next = at + strlen(at) + 1;
		if (!strncmp(at, name, len) && at[len] == '=')
			value = at + len + 1;
		else if (!strcmp(at, name) && next < end)
			value = next;
	}
	return value && *value ? value : NULL;
}

/* A path of the process, as we can use it. */
static bool seen_from_here(char *to, size_t size, const char *pid, const char *path)
{
	int n;

	if (*path != '/')
		n = snprintf(to, size, "/proc/%s/cwd/%s", pid, path);
	else if (access(path, F_OK) == 0)
		n = snprintf(to, size, "%s", path);
	else
		n = snprintf(to, size, "/proc/%s/root%s", pid, path); /* its own mounts */
	return n > 0 && (size_t)n < size;
}

/* Anybody can call a process so and name somebody else's socket, to which we are allowed and he is not. */
static bool has_same_owner(const char *pid, const char *path)
{
	struct stat process, socket;
	char folder[64];

	snprintf(folder, sizeof(folder), "/proc/%.16s", pid);
	return stat(folder, &process) == 0 && stat(path, &socket) == 0 &&
	       S_ISSOCK(socket.st_mode) && socket.st_uid == process.st_uid;
}

/* A regular file only: anything else might keep us waiting. */
static json_t *load_config(const char *pid, const char *config)
{
	char path[PATH_MAX];
	struct stat st;

	if (!seen_from_here(path, sizeof(path), pid, config) || stat(path, &st) < 0 ||
		!S_ISREG(st.st_mode))
		return NULL;
	return json_load_file(path, 0, NULL);
}

static void find_of_process(
	const char *pid, void (*found)(void *owner, const char *path), void *owner)
{
	size_t size;
	_cleanup_free_ char *arguments = read_proc(pid, "cmdline", &size);
	const char *control = arguments ? argument(arguments, size, "--control") : NULL;
	const char *config = arguments ? argument(arguments, size, "--config") : NULL;
	json_t *object = !control && config ? load_config(pid, config) : NULL;
	char path[PATH_MAX];

	if (object)
		control = json_string_value(json_object_get(object, "control"));
	if (control && seen_from_here(path, sizeof(path), pid, control) &&
		has_same_owner(pid, path))
		found(owner, path);
	json_decref(object);
}

static void find_processes(void (*found)(void *owner, const char *path), void *owner)
{
	DIR *folder = opendir("/proc");
	struct dirent *entry;

	while (folder && (entry = readdir(folder))) {
		_cleanup_free_ char *name = NULL;
		size_t size;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		name = read_proc(entry->d_name, "comm", &size);
		if (name && !strncmp(name, "bulkhead:", 9))
			find_of_process(entry->d_name, found, owner);
	}
	if (folder)
		closedir(folder);
}

void top_find(void (*found)(void *owner, const char *path), void *owner)
{
	const char *mine = getenv("XDG_RUNTIME_DIR");

	find_in_folder("/run", found, owner);
	if (mine && *mine == '/')
		find_in_folder(mine, found, owner);
	find_processes(found, owner);
}
