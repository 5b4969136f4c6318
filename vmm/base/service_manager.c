/* SPDX-License-Identifier: Apache-2.0 */
/* Telling a service manager, and taking what it passes. See service_manager.h. */
#include "vmm/base/service_manager.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FDS_START 3 /* SD_LISTEN_FDS_START */
#define FDS_MAX	  1024
#define TEXT_MAX  512

int service_manager_open(struct service_manager *manager, struct error *err)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	*manager = (struct service_manager){.fd = -1};
	if (!len)
		return 0;
	if ((*path != '/' && *path != '@') || len < 2 || len > sizeof(manager->address.sun_path))
		return error_set(err, ERROR_BAD_REQUEST,
			"NOTIFY_SOCKET: '%.128s' is neither the path of a socket nor an abstract address",
			path);
	manager->address.sun_family = AF_UNIX;
	memcpy(manager->address.sun_path, path, len);
	/* unix(7): an abstract address begins with a NUL, written '@', and its size is all that ends it. */
	if (*path == '@')
		manager->address.sun_path[0] = '\0';
	manager->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	manager->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return manager->fd < 0 ? error_errno(err, errno, "cannot make a socket") : 0;
}

void service_manager_close(struct service_manager *manager)
{
	cleanup_close(&manager->fd);
	manager->fd = -1;
}

void service_manager_tell(const struct service_manager *manager, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list args;
	int len;

	if (manager->fd < 0)
		return;
	va_start(args, fmt);
	len = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (len > 0)
		sendto(manager->fd, text, min_u64((unsigned)len, sizeof(text) - 1),
			MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)&manager->address,
			manager->address_size);
}

/* A variable as a whole number from 0 to `max`, or -1. */
static long number_of(const char *variable, long max)
{
	const char *text = getenv(variable);
	char *end;
	long value;

	if (!text || *text < '0' || *text > '9')
		return -1;
	errno = 0;
	value = strtol(text, &end, 10);
	return *end || errno || value > max ? -1 : value;
}

/* Which of "a:b:c" is `name`, from 0; -1: none. */
static int place_of(const char *names, const char *name)
{
	size_t len = strlen(name);

	for (int place = 0; names; place++) {
		size_t here = strcspn(names, ":");

		if (here == len && !strncmp(names, name, len))
			return place;
		names = names[here] ? names + here + 1 : NULL;
	}
	return -1;
}

int service_manager_passed(const char *name, struct error *err)
{
	long count, place;

	/* What was passed to another process, whose environment we inherited, is not ours. */
	if (number_of("LISTEN_PID", __LONG_MAX__) != (long)getpid())
		return 0;
	count = number_of("LISTEN_FDS", FDS_MAX);
	if (count < 0)
		return error_set(err, ERROR_BAD_REQUEST,
			"LISTEN_FDS is not a number of descriptors from 0 to %d", FDS_MAX);
	if (count == 0)
		return 0;
	place = place_of(getenv("LISTEN_FDNAMES"), name);
	if (count == 1 && place < 0)
		place = 0;
	if (place < 0 || place >= count)
		return error_set(err, ERROR_BAD_REQUEST,
			"LISTEN_FDS: %ld sockets are passed, and LISTEN_FDNAMES calls none of them '%s'",
			count, name);
	return FDS_START + (int)place;
}
