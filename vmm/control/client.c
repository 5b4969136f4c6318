/* SPDX-License-Identifier: Apache-2.0 */
/* A blocking client of the control socket. See client.h. */
#include "vmm/control/client.h"

#include "vmm/base/unix_listener.h"
#include "vmm/base/util.h"
#include "vmm/rpc/rpc.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define LINE_MAX_SIZE MIB(16) /* no answer is longer: a server that sends more is none of ours */

int control_connect(const char *path, int flags, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;

	if (!*path || strlen(path) > UNIX_PATH_MAX)
		return error_set(err, ERROR_BAD_REQUEST,
			"'%.128s' is no path of a socket: it must have 1 to %zu bytes", path,
			UNIX_PATH_MAX);
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0)
		return error_errno(err, errno, "cannot make a socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		error_errno(err, errno, "cannot connect to '%s'", path);
		if (err->code == ECONNREFUSED || err->code == ENOENT)
			error_hint(err, "does the VM run, with this --control?");
		return -err->code;
	}
	return steal_fd(&fd);
}

int control_client_open(struct control_client *client, const char *path, struct error *err)
{
	*client = (struct control_client){.fd = control_connect(path, 0, err)};
	return client->fd < 0 ? client->fd : 0;
}

void control_client_close(struct control_client *client)
{
	cleanup_close(&client->fd);
	client->fd = -1;
	free(client->input);
	client->input = NULL;
}

static int send_text(
	struct control_client *client, const char *text, size_t size, struct error *err)
{
	while (size) {
		ssize_t n = send(client->fd, text, size, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, errno, "cannot send to the VM");
		text += n;
		size -= (size_t)n;
	}
	return 0;
}

int control_client_receive(struct control_client *client, struct error *err)
{
	ssize_t n;

	if (client->used == client->room) {
		size_t room = client->room ? client->room * 2 : KIB(16);
		char *larger = room <= LINE_MAX_SIZE ? realloc(client->input, room) : NULL;

		if (!larger)
			return error_errno(err, ENOMEM, "an answer is too long");
		client->input = larger;
		client->room = room;
	}
	do
		n = recv(client->fd, client->input + client->used, client->room - client->used, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != ECONNRESET)
		return error_errno(err, errno, "cannot read the VM's answer");
	if (n <= 0)
		return 0;
	client->used += (size_t)n;
	return 1;
}

int control_client_take(struct control_client *client, json_t **object, struct error *err)
{
	json_error_t why;
	char *end = client->used ? memchr(client->input, '\n', client->used) : NULL;
	size_t len;

	if (!end)
		return 0;
	len = (size_t)(end - client->input);
	*object = json_loadb(client->input, len, JSON_ALLOW_NUL, &why);
	client->used -= len + 1;
	memmove(client->input, end + 1, client->used);
	if (!json_is_object(*object)) {
		json_decref(*object);
		return error_set(
			err, ERROR_CORRUPT, "what answers there is no VM: %.100s", why.text);
	}
	return 1;
}

int control_client_next(struct control_client *client, json_t **object, struct error *err)
{
	int ret;

	while ((ret = control_client_take(client, object, err)) == 0) {
		ret = control_client_receive(client, err);
		if (ret <= 0)
			return ret;
	}
	return ret;
}

/* The answer to request `id`, and nothing else: *object is a new reference. */
static int wait_for_answer(
	struct control_client *client, json_int_t id, json_t **object, struct error *err)
{
	for (;;) {
		int ret = control_client_next(client, object, err);
		const json_t *answered;

		if (ret < 0)
			return ret;
		if (ret == 0)
			return error_set(err, ERROR_IO, "the VM ended before it answered");
		answered = json_object_get(*object, "id");
		/* An error without an id is about the connection: it is all that will come. */
		if (json_is_null(answered) || json_integer_value(answered) == id)
			return 0;
		json_decref(*object);
	}
}

char *control_request_line(const char *method, json_t *params, json_int_t id, size_t *len)
{
	json_t *request = json_pack("{s:s, s:I, s:s, s:o}", "jsonrpc", "2.0", "id", id, "method",
		method, "params", params);
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;

	json_decref(request);
	if (text) {
		*len = strlen(text) + 1;
		text[*len - 1] = '\n'; /* in the NUL's place */
	}
	return text;
}

int control_client_call(struct control_client *client, const char *method, json_t *params,
	json_t **result, struct error *err)
{
	json_int_t id = ++client->last_id;
	size_t len;
	_cleanup_free_ char *text = control_request_line(method, params, id, &len);
	struct error refused;
	json_t *answer;
	int ret;

	if (!text)
		return error_errno(err, ENOMEM, "%s", method);
	ret = send_text(client, text, len, err);
	if (ret == 0)
		ret = wait_for_answer(client, id, &answer, err);
	/* A server that does not let us in says why and closes, perhaps before it got our request. */
	else if ((ret == -EPIPE || ret == -ECONNRESET) &&
		 !wait_for_answer(client, id, &answer, &refused))
		ret = 0;
	if (ret < 0)
		return ret;
	if (json_object_get(answer, "error")) {
		rpc_error_read(json_object_get(answer, "error"), err);
		ret = -err->code;
	} else {
		*result = json_incref(json_object_get(answer, "result"));
	}
	json_decref(answer);
	return ret;
}
