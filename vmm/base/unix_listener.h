/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listening Unix stream socket at a path of the host's file system, for this user only.
 *
 * A socket file that nobody listens on is what an earlier process left, and is replaced; a live one,
 * or a file that is no socket, is an error. The file has mode 0600 from its first moment on. At the
 * end it is removed, if it is still ours. Or else a socket that listens already and was passed to us.
 */
#pragma once

#include "vmm/base/error.h"

#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>

/* The longest path that a Unix socket's address holds. */
#define UNIX_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

struct unix_listener {
	int fd; /* non-blocking, close-on-exec; -1: none */
	struct sockaddr_un address;
	dev_t dev; /* of the file, as we made it */
	ino_t ino;
};

/* `what` names it in errors ("the vsock socket"). `path_max` is at most UNIX_PATH_MAX. */
int unix_listener_open(struct unix_listener *listener, const char *what, const char *path,
	size_t path_max, int backlog, struct error *err);

/* Whether `fd`, which somebody else opened, is a Unix stream socket that listens. `what` names it in the error. */
int unix_listener_check(int fd, const char *what, struct error *err);

/* Take over such a socket: made non-blocking and close-on-exec. Its file, if it has one, is not ours and stays at the end. */
int unix_listener_adopt(
	struct unix_listener *listener, int fd, const char *what, struct error *err);

/* Remove the file that unix_listener_open() made, if it is still ours; for whom has given the descriptor away. */
void unix_listener_remove(const struct unix_listener *listener);

/* Close it and remove the file. Does nothing when fd is -1. */
void unix_listener_close(struct unix_listener *listener);
