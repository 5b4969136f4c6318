/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listening Unix stream socket at a path. See unix_listener.h for what it promises.
 *
 * Whether a socket file is alive is asked by connecting to it: only ECONNREFUSED says that nobody
 * listens. Two processes that find the same leftover at the same moment may both replace it; the
 * later one has the path then, and the earlier one sees at its end that the file is not its own.
 */
#include "vmm/base/unix_listener.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROBES	       50
#define PROBE_PAUSE_US 20000

static int set_address(struct unix_listener *listener, const char *what, const char *path,
	size_t path_max, struct error *err)
{
	size_t len = strlen(path);

	if (!len)
		return error_set(err, ERROR_BAD_REQUEST, "the path of %s is empty", what);
	if (len > path_max)
		return error_set(err, ERROR_BAD_REQUEST,
			"the path of %s has %zu bytes, at most %zu fit: %s", what, len, path_max,
			path);
	memset(&listener->address, 0, sizeof(listener->address));
	listener->address.sun_family = AF_UNIX;
	memcpy(listener->address.sun_path, path, len);
	return 0;
}

static int connect_probe(const struct sockaddr_un *address)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return errno;
	return connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? errno : 0;
}

/*
 * As connect_probe(), giving a live one a second to go: the kernel lets go of the sockets of a process that was killed, and
 * had them in an io_uring, a moment after the process is gone.
 */
static int probe(const struct sockaddr_un *address)
{
	int errnum = connect_probe(address);

	for (unsigned tries = 0; !errnum && tries < PROBES; tries++) {
		usleep(PROBE_PAUSE_US);
		errnum = connect_probe(address);
	}
	return errnum;
}

static int remove_stale(const struct sockaddr_un *address, const char *what, struct error *err)
{
	const char *path = address->sun_path;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0
				       : error_errno(err, errno, "cannot use %s '%s'", what, path);
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, ERROR_ALREADY_EXISTS,
			"cannot use %s '%s': the file exists and is no socket", what, path);
	switch (probe(address)) {
	case ECONNREFUSED:
		break;
	case EACCES:
	case EPERM:
		return error_errno(err, EACCES, "cannot use %s '%s'", what, path);
	default:
		return error_set(err, ERROR_ALREADY_EXISTS,
			"cannot use %s '%s': it is in use, another process listens on it", what,
			path);
	}
	if (unlink(path) < 0 && errno != ENOENT)
		return error_errno(err, errno, "cannot replace the stale %s '%s'", what, path);
	return 0;
}

int unix_listener_open(struct unix_listener *listener, const char *what, const char *path,
	size_t path_max, int backlog, struct error *err)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int ret;

	listener->fd = -1;
	ret = set_address(listener, what, path, path_max, err);
	if (ret == 0)
		ret = remove_stale(&listener->address, what, err);
	if (ret < 0)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_errno(err, errno, "cannot create a socket");
	/* bind() makes the file with the socket's own mode: there is no moment when others may connect. */
	if (fchmod(fd, 0600) < 0 ||
		bind(fd, (struct sockaddr *)&listener->address, sizeof(listener->address)) < 0)
		return error_errno(err, errno, "cannot create %s '%s'", what, path);
	if (lstat(listener->address.sun_path, &st) < 0 || listen(fd, backlog) < 0) {
		ret = error_errno(
			err, errno, "cannot listen on %s '%s'", what, listener->address.sun_path);
		unlink(listener->address.sun_path);
		return ret;
	}
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	listener->fd = steal_fd(&fd);
	return 0;
}

static int option_of(int fd, int option)
{
	int value = -1;
	socklen_t size = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &size) < 0 ? -1 : value;
}

int unix_listener_check(int fd, const char *what, struct error *err)
{
	if (fcntl(fd, F_GETFD) < 0)
		return error_set(err, ERROR_BAD_REQUEST,
			"%s: descriptor %d is not open: was it passed on?", what, fd);
	if (option_of(fd, SO_DOMAIN) != AF_UNIX || option_of(fd, SO_TYPE) != SOCK_STREAM)
		return error_set(err, ERROR_BAD_REQUEST,
			"%s: descriptor %d is no Unix stream socket", what, fd);
	if (option_of(fd, SO_ACCEPTCONN) != 1)
		return error_set(err, ERROR_BAD_REQUEST,
			"%s: the socket of descriptor %d does not listen", what, fd);
	return 0;
}

int unix_listener_adopt(struct unix_listener *listener, int fd, const char *what, struct error *err)
{
	int ret = unix_listener_check(fd, what, err), flags;

	*listener = (struct unix_listener){.fd = -1};
	if (ret)
		return ret;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
		fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return error_errno(err, errno, "%s: cannot use descriptor %d", what, fd);
	listener->fd = fd;
	return 0;
}

void unix_listener_remove(const struct unix_listener *listener)
{
	struct stat st;

	if (*listener->address.sun_path && !lstat(listener->address.sun_path, &st) &&
		st.st_dev == listener->dev && st.st_ino == listener->ino)
		unlink(listener->address.sun_path);
}

void unix_listener_close(struct unix_listener *listener)
{
	if (listener->fd < 0)
		return;
	unix_listener_remove(listener);
	close(steal_fd(&listener->fd));
}
