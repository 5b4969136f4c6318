/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a service manager (systemd, or whoever speaks as it does) and a service agree upon by environment variables:
 *
 *   NOTIFY_SOCKET            where the service tells what becomes of it: sd_notify(3)
 *   LISTEN_FDS, LISTEN_PID,  sockets that the manager listens on already and passes from descriptor 3 on:
 *   LISTEN_FDNAMES           sd_listen_fds(3)
 *
 * Both protocols are a few lines, and stable by systemd's promise; its library would be the largest part of our start-up.
 *
 * No allocation, no state but the struct's. A manager that does not listen, or is slow, is never waited for.
 */
#pragma once

#include "vmm/base/error.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

struct service_manager {
	int fd; /* -1: nobody wants to be told */
	struct sockaddr_un address;
	socklen_t address_size;
};

/* Find out whom to tell. An address that cannot be one is an error; none at all is not. */
int service_manager_open(struct service_manager *manager, struct error *err);
void service_manager_close(struct service_manager *manager);

/* "READY=1\nSTATUS=…": one datagram. Nothing happens where nobody wants to be told; what is lost is lost. */
void service_manager_tell(const struct service_manager *manager, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * The descriptor that was passed to this process under `name`, or the only one whatever its name is. 0: none was passed. A
 * negative errno: several were, and none has the name, or the variables make no sense.
 */
int service_manager_passed(const char *name, struct error *err);
