/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of the control socket: a blocking client for the command line, and the parts of it that one who does not
 * block (vmm/lib) uses as well. It keeps what it received and has not handed out. One thread at a time.
 */
#pragma once

#include "vmm/base/error.h"

#include <jansson.h>
#include <stddef.h>

struct control_client {
	int fd;
	char *input;
	size_t used, room;
	json_int_t last_id;
};

/* A connected socket, or a negative errno. `flags`: SOCK_NONBLOCK or 0. */
int control_connect(const char *path, int flags, struct error *err);

int control_client_open(struct control_client *client, const char *path, struct error *err);
void control_client_close(struct control_client *client);

/*
 * Call and wait for the answer. `params` is taken over. Returns 0 with a new reference in *result, or a negative errno: the
 * server's own error, or that it went away. Notifications that come meanwhile are dropped.
 */
int control_client_call(struct control_client *client, const char *method, json_t *params,
	json_t **result, struct error *err);

/*
 * The text behind KEY= on a command line, as the value that the method's parameter takes: text where that is text, else JSON where
 * it is that, text else. NULL when it is not UTF-8. A new reference.
 */
json_t *control_argument(const char *method, const char *key, const char *text);

/* The next object that the server sends: 1 with a new reference, 0 at the end of the connection, or a negative errno. */
int control_client_next(struct control_client *client, json_t **object, struct error *err);

/* The parts of control_client_next(): more bytes (1; 0 at the end; -EAGAIN: a non-blocking socket has none now), ... */
int control_client_receive(struct control_client *client, struct error *err);
/* ... and an object that is here already: 1 with a new reference, 0: none is whole, or a negative errno. */
int control_client_take(struct control_client *client, json_t **object, struct error *err);

/* A request with its line's end, for the caller to free; NULL when a text is not UTF-8 or memory is short. `params` is taken over. */
char *control_request_line(const char *method, json_t *params, json_int_t id, size_t *len);
