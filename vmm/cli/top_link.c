/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to a control socket that never blocks: one request at a time, and what has come of its answer. A VM that
 * hangs, or something else that took its place, costs a bounded buffer and no time.
 */
#include "vmm/base/unix_listener.h"
#include "vmm/base/util.h"
#include "vmm/cli/top.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ANSWER_MAX MIB(1)

void top_link_close(struct top_link *link)
{
	cleanup_close(&link->fd);
	free(link->in);
	*link = (struct top_link){.fd = -1};
}

/* A path that is too long for an address is reached through a descriptor of it. */
static int connect_to(int fd, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int place = -1;

	if (strlen(path) <= UNIX_PATH_MAX) {
		memcpy(address.sun_path, path, strlen(path));
	} else {
		place = open(path, O_PATH | O_CLOEXEC);
		if (place < 0)
			return -errno;
		snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", place);
	}
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
}

int top_link_open(struct top_link *link, const char *path)
{
	int ret;

	link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (link->fd < 0)
		return -errno;
	ret = connect_to(link->fd, path);
	if (ret < 0)
		top_link_close(link);
	return ret;
}

void top_link_ask(struct top_link *link, const char *method)
{
	link->out_used = (size_t)snprintf(link->out, sizeof(link->out),
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\"}\n", method);
	link->waits = true;
}

short top_link_events(const struct top_link *link)
{
	return (short)(POLLIN | (link->out_used ? POLLOUT : 0));
}

static bool send_rest(struct top_link *link)
{
	ssize_t n = send(link->fd, link->out, link->out_used, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	link->out_used -= (size_t)n;
	memmove(link->out, link->out + n, link->out_used);
	return true;
}

static bool make_room(struct top_link *link)
{
	size_t room = link->room ? 2 * link->room : KIB(16);
	char *larger;

	if (link->used < link->room)
		return true;
	larger = room <= ANSWER_MAX ? realloc(link->in, room) : NULL;
	if (!larger)
		return false;
	link->in = larger;
	link->room = room;
	return true;
}

/* A whole line, if there is one. False when what came is no answer to what was asked. */
static bool take_answer(struct top_link *link, json_t **answer)
{
	char *end = link->used ? memchr(link->in, '\n', link->used) : NULL;
	size_t len;

	if (!end)
		return true;
	len = (size_t)(end - link->in);
	*answer = link->waits ? json_loadb(link->in, len, 0, NULL) : NULL;
	if (!json_is_object(*answer)) {
		json_decref(*answer);
		*answer = NULL;
		return false;
	}
	link->waits = false;
	link->used -= len + 1;
	memmove(link->in, end + 1, link->used);
	return true;
}

bool top_link_ready(struct top_link *link, json_t **answer)
{
	bool good = !link->out_used || send_rest(link);
	ssize_t n;

	*answer = NULL;
	good = good && make_room(link);
	if (good) {
		n = recv(link->fd, link->in + link->used, link->room - link->used, MSG_DONTWAIT);
		if (n > 0) {
			link->used += (size_t)n;
			good = take_answer(link, answer);
		} else {
			good = n < 0 && (errno == EAGAIN || errno == EINTR);
		}
	}
	if (!good)
		top_link_close(link);
	return *answer != NULL;
}
