/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containers: GET /containers/json?all=1 on Docker's socket, by a small HTTP/1.1 client (RFC 9112).
 *
 * The client asks for `Connection: close` and reads to the end, 4 MiB at the most, so that framing only has to be undone: a
 * chunked body is put together, a Content-Length cuts. It runs in a worker: a Docker that does not answer costs a time-out.
 */
#include "guest/agent/docker.h"

#include "guest/agent/worker.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#define DOCKER_SOCKET "/run/docker.sock"
#define ANSWER_MAX    MIB(4)

struct docker_params {
	unsigned timeout_ms;
};

static const char *header_value(const char *head, size_t head_size, const char *name)
{
	const char *line = head, *end = head + head_size;
	size_t len = strlen(name);

	while (line && line + len < end) {
		if (!strncasecmp(line, name, len) && line[len] == ':')
			return line + len + 1 + strspn(line + len + 1, " \t");
		line = memchr(line, '\n', (size_t)(end - line));
		line += line != NULL;
	}
	return NULL;
}

/* Chunks "SIZE[;…]\r\nbytes\r\n", up to one of size 0. */
static bool join_chunks(const char *bytes, size_t size, char *body)
{
	const char *end = bytes + size;
	size_t used = 0;

	while (bytes < end) {
		const char *line_end = memchr(bytes, '\n', (size_t)(end - bytes));
		char *digits_end;
		unsigned long chunk;

		if (!line_end || !strspn(bytes, "0123456789abcdefABCDEF"))
			return false;
		chunk = strtoul(bytes, &digits_end, 16);
		bytes = line_end + 1;
		if (!chunk) {
			body[used] = '\0';
			return true;
		}
		if (chunk > (size_t)(end - bytes))
			return false;
		memcpy(body + used, bytes, chunk);
		used += chunk;
		bytes += chunk;
		bytes += bytes < end && *bytes == '\r';
		if (bytes >= end || *bytes++ != '\n')
			return false;
	}
	return false;
}

char *docker_http_body(const char *bytes, size_t size, int *status, struct error *err)
{
	/* One copy with a NUL behind it, so that no look at a number or a header runs past the end. */
	_cleanup_free_ char *text = calloc(1, size + 1), *body = malloc(size + 1);
	const char *rest, *value;
	size_t head, left, length;

	if (!text || !body) {
		error_errno(err, ENOMEM, "Docker's answer");
		return NULL;
	}
	memcpy(text, bytes, size);
	rest = memmem(text, size, "\r\n\r\n", 4);
	if (!rest || strncmp(text, "HTTP/1.", 7) != 0 ||
		sscanf(text + 7, "%*1[01] %3d", status) != 1) {
		error_set(
			err, ERROR_CORRUPT, "what answers on " DOCKER_SOCKET " speaks no HTTP/1.1");
		return NULL;
	}
	head = (size_t)(rest - text) + 4;
	left = size - head;
	rest += 4;
	value = header_value(text, head, "Transfer-Encoding");
	if (value && !strncasecmp(value, "chunked", 7)) {
		if (join_chunks(rest, left, body))
			return steal_ptr(&body);
		error_set(
			err, ERROR_CORRUPT, "Docker's answer is cut off, or its chunks are broken");
		return NULL;
	}
	value = header_value(text, head, "Content-Length");
	length = value ? strtoul(value, NULL, 10) : left;
	if (length > left) {
		error_set(err, ERROR_CORRUPT, "Docker's answer is cut off");
		return NULL;
	}
	memcpy(body, rest, length);
	body[length] = '\0';
	return steal_ptr(&body);
}

static char *ask(const char *path, size_t *size, struct error *err)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = DOCKER_SOCKET};
	_cleanup_free_ char *answer = malloc(ANSWER_MAX);
	char request[256];
	ssize_t n;

	*size = 0;
	if (fd < 0 || !answer) {
		error_errno(err, errno, "Docker");
		return NULL;
	}
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			error_set(err, ERROR_NOT_FOUND,
				"there is no Docker: nothing listens on " DOCKER_SOCKET);
		else
			error_errno(err, errno, "cannot connect to " DOCKER_SOCKET);
		return NULL;
	}
	snprintf(request, sizeof(request),
		"GET %s HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n", path);
	n = send(fd, request, strlen(request), MSG_NOSIGNAL);
	while (n > 0 && *size < ANSWER_MAX) {
		n = recv(fd, answer + *size, ANSWER_MAX - *size, 0);
		*size += n > 0 ? (size_t)n : 0;
	}
	if (n < 0 || *size == ANSWER_MAX) {
		error_set(
			err, ERROR_IO, "Docker's answer could not be read, or is over 4 MiB long");
		return NULL;
	}
	return steal_ptr(&answer);
}

/* Docker has the health as words in its Status: "Up 2 minutes (healthy)", "(unhealthy)", "(health: starting)". */
static const char *health_of(const char *status)
{
	if (strstr(status, "(healthy)"))
		return "healthy";
	if (strstr(status, "(unhealthy)"))
		return "unhealthy";
	return strstr(status, "(health: starting)") ? "starting" : "none";
}

static json_t *container(const json_t *from)
{
	const char *id = json_string_value(json_object_get(from, "Id"));
	const char *name = json_string_value(json_array_get(json_object_get(from, "Names"), 0));
	const char *image = json_string_value(json_object_get(from, "Image"));
	const char *state = json_string_value(json_object_get(from, "State"));
	const char *status = json_string_value(json_object_get(from, "Status"));

	name = name ? name + (*name == '/') : NULL;
	return json_pack("{s:s?, s:s?, s:s?, s:s?, s:s?, s:s}", "id", id, "name", name, "image",
		image, "state", state, "status", status, "health", health_of(status ? status : ""));
}

static json_t *docker_run(const void *params, struct error *err)
{
	json_t *list = json_array(), *all, *entry;
	_cleanup_free_ char *body = NULL;
	_cleanup_free_ char *answer = NULL;
	size_t size, i;
	int status = 0;

	(void)params;
	answer = ask("/containers/json?all=1", &size, err);
	body = answer ? docker_http_body(answer, size, &status, err) : NULL;
	if (!body)
		return NULL;
	if (status != 200) {
		error_set(err, ERROR_IO, "Docker answered with status %d: %.200s", status, body);
		return NULL;
	}
	all = json_loads(body, 0, NULL);
	if (!json_is_array(all)) {
		error_set(err, ERROR_CORRUPT, "Docker's answer is no list");
		return NULL;
	}
	json_array_foreach(all, i, entry)
	{
		json_array_append_new(list, container(entry));
	}
	return json_pack("{s:o}", "containers", list);
}

static void serve_containers(struct rpc_call *call)
{
	worker_serve(call, ((const struct docker_params *)call->params)->timeout_ms, docker_run);
}

static const struct schema docker_schema[] = {
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct docker_params, timeout_ms),
		.min = 100,
		.max = 60000,
		.value = "5000",
		.help = "how long Docker may take"},
	{.name = NULL},
};

const struct rpc_method docker_methods[] = {
	{"containers", serve_containers, docker_schema, sizeof(struct docker_params),
		"Lists Docker's containers, running or not.",
		"{containers: [{id, name, image, state, status, health: none, starting, healthy or unhealthy}]}"},
	{.name = NULL},
};
