/* SPDX-License-Identifier: Apache-2.0 */
/*
 * freeze and thaw, by the ioctls FIFREEZE and FITHAW of linux/fs.h.
 *
 * A process of its own, the keeper, opens all the mount points, freezes one after the other, and then holds them. It
 * thaws, in the reverse order, as soon as one freeze fails, when it is told to, when the time is up, and when the agent
 * is gone: it sees the end of the socket between them. So neither a lost host nor a killed agent leaves the guest frozen. Should
 * the keeper be killed, or be stuck in a freeze, the agent has workers thaw by path.
 *
 * The order: loop devices first, since they write to the file system that holds their file; then the deepest mount
 * point; then the one mounted last. The time-out counts from the request and covers the freezing, too.
 *
 * While anything is frozen the agent writes nothing to a file: methods that would are refused.
 */
#include "guest/agent/freeze.h"

#include "guest/agent/events.h"
#include "guest/agent/mountinfo.h"
#include "guest/agent/process.h"
#include "guest/agent/worker.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define FROZEN_MAX 128
#define LOOP_MAJOR 7
#define GRACE_MS   2000 /* beyond the time-out, before the keeper is taken for stuck */

struct freeze_params {
	struct schema_texts paths;
	uint64_t timeout_ms;
};

struct target {
	char path[512];
	unsigned major, minor, depth, order;
	int fd;
	bool frozen;
};

/* The keeper, as the agent sees it. */
static struct {
	bool active, answered;
	struct child child;
	struct event event;
	struct timer timer;
	struct rpc_call *freeze_call, *thaw_call;
	char *said;
	size_t used;
	json_t *paths; /* what it froze, or is about to */
} keeper = {.event.fd = -1};

bool freeze_active(void)
{
	return keeper.active;
}

bool freeze_refuses(struct rpc_call *call)
{
	struct error err;

	if (!keeper.active)
		return false;
	error_set(&err, ERROR_WRONG_STATE, "the file systems are frozen (thaw them first)");
	rpc_fail(call, &err);
	return true;
}

/* The log may be a file on a file system that is about to stand still: meanwhile it goes to the kernel's. */
static int log_before = -1;

static void log_away(void)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	log_before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	dup2(fd, STDERR_FILENO);
	close(fd);
}

static void log_back(void)
{
	if (log_before < 0)
		return;
	dup2(log_before, STDERR_FILENO);
	close(steal_fd(&log_before));
}

/* The keeper's side */

static int target_order(const void *left, const void *right)
{
	const struct target *a = left, *b = right;
	bool a_loop = a->major == LOOP_MAJOR, b_loop = b->major == LOOP_MAJOR;

	if (a_loop != b_loop)
		return a_loop ? -1 : 1;
	if (a->depth != b->depth)
		return a->depth > b->depth ? -1 : 1;
	return a->order > b->order ? -1 : a->order < b->order;
}

static bool is_asked_for(const struct freeze_params *p, const char *path)
{
	for (unsigned i = 0; i < p->paths.count; i++)
		if (!strcmp(p->paths.items[i], path))
			return true;
	return !p->paths.items;
}

static bool is_known(const struct target *targets, size_t count, const struct mount_entry *entry)
{
	for (size_t i = 0; i < count; i++)
		if (targets[i].major == entry->major && targets[i].minor == entry->minor)
			return true;
	return false;
}

static int check_paths(const struct freeze_params *p, const struct target *targets, size_t count,
	struct error *err)
{
	for (unsigned i = 0; i < p->paths.count; i++) {
		bool found = false;

		for (size_t j = 0; j < count; j++)
			found = found || !strcmp(targets[j].path, p->paths.items[i]);
		if (!found)
			return error_set(err, ERROR_NOT_FOUND,
				"paths[%u]: no writable disk is mounted on '%.128s'", i,
				p->paths.items[i]);
	}
	return 0;
}

/* All writable file systems on disks, each once, in the order to freeze them in. */
static int find_targets(
	const struct freeze_params *p, struct target *targets, size_t *count, struct error *err)
{
	size_t entry_count;
	_cleanup_free_ struct mount_entry *entries = mountinfo_read(&entry_count, err);

	*count = 0;
	for (size_t i = entry_count; entries && i-- > 0;) {
		const struct mount_entry *entry = &entries[i];
		struct target *target = &targets[*count];

		if (!mount_is_on_disk(entry) || entry->readonly || !is_asked_for(p, entry->path) ||
			is_known(targets, *count, entry))
			continue;
		if (*count == FROZEN_MAX)
			return error_set(err, ERROR_NO_RESOURCE,
				"more than %d file systems are mounted", FROZEN_MAX);
		*target = (struct target){.major = entry->major,
			.minor = entry->minor,
			.depth = mount_depth(entry->path),
			.order = (unsigned)i,
			.fd = -1};
		memcpy(target->path, entry->path, sizeof(target->path));
		(*count)++;
	}
	if (!entries)
		return -err->code;
	qsort(targets, *count, sizeof(*targets), target_order);
	return check_paths(p, targets, *count, err);
}

/* And let go of them, before anybody is told: an open folder would keep a file system from being unmounted. */
static void thaw_targets(struct target *targets, size_t count)
{
	for (size_t i = count; i-- > 0;) {
		if (targets[i].frozen && !ioctl(targets[i].fd, FITHAW, 0))
			targets[i].frozen = false;
		if (targets[i].fd >= 0)
			close(targets[i].fd);
	}
}

/* Those that cannot be frozen by nature (vfat of old kernels) are left out; all others must. */
static int freeze_targets(struct target *targets, size_t count, struct error *err)
{
	for (size_t i = 0; i < count; i++) {
		targets[i].fd =
			open(targets[i].path, O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOATIME);
		if (targets[i].fd < 0)
			return error_errno(err, errno, "cannot open '%s'", targets[i].path);
	}
	for (size_t i = 0; i < count; i++) {
		if (!ioctl(targets[i].fd, FIFREEZE, 0)) {
			targets[i].frozen = true;
			continue;
		}
		if (errno == EOPNOTSUPP)
			continue;
		if (errno == EBUSY)
			error_set(err, ERROR_WRONG_STATE, "'%s' is frozen already, by someone else",
				targets[i].path);
		else
			error_errno(err, errno, "cannot freeze '%s'", targets[i].path);
		return -err->code;
	}
	return 0;
}

static void keeper_say(int fd, json_t *object)
{
	_cleanup_free_ char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

	json_decref(object);
	if (text && send(fd, text, strlen(text), MSG_NOSIGNAL) > 0)
		send(fd, "\n", 1, MSG_NOSIGNAL);
}

static json_t *target_paths(const struct target *targets, size_t count, bool frozen)
{
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++)
		if (targets[i].frozen == frozen)
			json_array_append_new(
				list, rpc_text(targets[i].path, strlen(targets[i].path)));
	return list;
}

static _Noreturn void keeper_main(const struct freeze_params *p, int fd)
{
	static struct target targets[FROZEN_MAX];
	uint64_t end = now_ns() + p->timeout_ms * 1000000u, now;
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	struct error err = {0};
	const char *why = "asked";
	size_t count;

	process_become_worker(fd);
	process_protect(); /* it must live to thaw */
	if (find_targets(p, targets, &count, &err)) {
		keeper_say(fd, json_pack("{s:o}", "error", rpc_error_json(&err)));
		_exit(0);
	}
	keeper_say(fd, json_pack("{s:o}", "plan", target_paths(targets, count, false)));
	if (freeze_targets(targets, count, &err)) {
		thaw_targets(targets, count);
		keeper_say(fd, json_pack("{s:o}", "error", rpc_error_json(&err)));
		_exit(0);
	}
	keeper_say(fd, json_pack("{s:o, s:o}", "frozen", target_paths(targets, count, true),
			       "skipped", target_paths(targets, count, false)));
	now = now_ns();
	if (now >= end || poll(&wait, 1, (int)((end - now) / 1000000u + 1)) == 0)
		why = "timeout";
	thaw_targets(targets, count);
	keeper_say(fd,
		json_pack("{s:s, s:o}", "thawed", why, "left", target_paths(targets, count, true)));
	_exit(0);
}

/* The agent's side */

static json_t *thaw_run(const void *params, struct error *err)
{
	const json_t *paths = params;
	json_t *thawed = json_array();

	(void)err;
	for (size_t i = json_array_size(paths); i-- > 0;) {
		const char *path = json_string_value(json_array_get(paths, i));
		_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOATIME);

		if (fd >= 0 && !ioctl(fd, FITHAW, 0))
			json_array_append_new(thawed, json_string(path));
	}
	return json_pack("{s:o}", "thawed", thawed);
}

static void keeper_over(const struct error *err, json_t *result);

static void rescue_done(void *user, json_t *result, const struct error *err)
{
	struct error gone;

	(void)user;
	if (result) {
		log_warn("the keeper of the frozen file systems was lost: thawed by path");
		error_set(&gone, ERROR_INTERNAL,
			"the keeper of the frozen file systems was lost; they were thawed");
		keeper_over(&gone, json_incref(result));
	} else {
		keeper_over(err, NULL);
	}
}

/* The keeper has gone without a word, or is late: thaw what it had planned to freeze. */
static void keeper_rescue(void)
{
	struct error err = {0};

	event_watch(&keeper.event, 0);
	timer_clear(&keeper.timer);
	if (worker_start("thaw", thaw_run, keeper.paths, 10000, rescue_done, NULL, &err))
		keeper_over(&err, NULL);
}

/* Nothing is frozen any more, or nothing more can be done about it: answer who waits. `result` is for a thaw. */
static void keeper_over(const struct error *err, json_t *result)
{
	struct rpc_call *freeze_call = keeper.freeze_call, *thaw_call = keeper.thaw_call;

	event_watch(&keeper.event, 0);
	if (keeper.event.fd >= 0)
		close(keeper.event.fd);
	keeper.event.fd = -1;
	timer_clear(&keeper.timer);
	json_decref(keeper.paths);
	free(keeper.said);
	keeper.said = NULL;
	keeper.paths = NULL;
	keeper.freeze_call = keeper.thaw_call = NULL;
	keeper.active = false;
	log_back();
	if (freeze_call)
		rpc_fail(freeze_call, err);
	if (thaw_call && result)
		rpc_reply(thaw_call, json_incref(result));
	else if (thaw_call)
		rpc_fail(thaw_call, err);
	json_decref(result);
}

static void keeper_said(json_t *object)
{
	json_t *left = json_object_get(object, "left");
	struct error err = {0};

	if (json_object_get(object, "plan")) {
		json_decref(keeper.paths);
		keeper.paths = json_incref(json_object_get(object, "plan"));
	} else if (json_object_get(object, "error")) {
		rpc_error_read(json_object_get(object, "error"), &err);
		keeper_over(&err, NULL);
	} else if (json_object_get(object, "frozen") && keeper.freeze_call) {
		struct rpc_call *call = keeper.freeze_call;

		keeper.freeze_call = NULL;
		rpc_reply(call, json_incref(object));
	} else if (left && json_array_size(left)) {
		keeper_rescue();
	} else if (json_object_get(object, "thawed")) {
		error_set(&err, ERROR_GUEST_TIMEOUT,
			"the time-out came before everything was frozen; it is thawed");
		if (!strcmp(json_string_value(json_object_get(object, "thawed")) ?: "", "timeout"))
			log_warn("the freeze's time-out came before a thaw: thawed");
		keeper_over(&err, json_pack("{s:O}", "thawed", keeper.paths));
	}
}

static void keeper_ready(struct event *event, uint32_t events)
{
	char *end;
	ssize_t n;

	(void)events;
	if (!keeper.said)
		keeper.said = malloc(KIB(256));
	n = keeper.said ? read(event->fd, keeper.said + keeper.used, KIB(256) - 1 - keeper.used)
			: 0;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		keeper_rescue();
		return;
	}
	keeper.used += (size_t)n;
	keeper.said[keeper.used] = '\0';
	while (keeper.said && (end = strchr(keeper.said, '\n'))) {
		json_t *object;

		*end = '\0';
		object = json_loads(keeper.said, 0, NULL);
		keeper.used -= (size_t)(end + 1 - keeper.said);
		memmove(keeper.said, end + 1, keeper.used + 1);
		keeper_said(object);
		json_decref(object);
	}
}

static void keeper_late(struct timer *timer)
{
	(void)timer;
	log_error(
		"the keeper of the frozen file systems is stuck: it is killed, and they are thawed");
	if (keeper.child.pid)
		kill(keeper.child.pid, SIGKILL);
	keeper_rescue();
}

static void keeper_exited(struct child *child, const siginfo_t *info)
{
	(void)info;
	child->pid = 0; /* what it said last may still be in the socket; its end tells the rest */
}

static void serve_freeze(struct rpc_call *call)
{
	const struct freeze_params *p = call->params;
	struct error err = {0};
	int pair[2] = {-1, -1};
	pid_t pid = -1;

	if (keeper.active) {
		error_set(&err, ERROR_WRONG_STATE, "the file systems are frozen already");
		rpc_fail(call, &err);
		return;
	}
	if (!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		pid = process_fork();
	if (!pid) {
		close(pair[0]);
		keeper_main(p, pair[1]);
	}
	if (pid < 0) {
		error_errno(&err, errno, "cannot start a process to keep the file systems frozen");
		if (pair[0] >= 0) {
			close(pair[0]);
			close(pair[1]);
		}
		rpc_fail(call, &err);
		return;
	}
	close(pair[1]);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	child_forget(&keeper.child);
	keeper.active = true;
	log_away();
	keeper.used = 0;
	keeper.paths = json_array();
	keeper.freeze_call = call;
	keeper.child = (struct child){.pid = pid, .exited = keeper_exited};
	keeper.event = (struct event){.fd = pair[0], .ready = keeper_ready};
	keeper.timer.fire = keeper_late;
	child_watch(&keeper.child);
	event_watch(&keeper.event, EPOLLIN);
	timer_set(&keeper.timer, p->timeout_ms + GRACE_MS);
}

static void serve_thaw(struct rpc_call *call)
{
	struct error err;

	if (!keeper.active || keeper.freeze_call || keeper.thaw_call) {
		error_set(&err, ERROR_WRONG_STATE, "%s",
			!keeper.active	   ? "nothing is frozen"
			: keeper.thaw_call ? "a thaw is under way"
					   : "a freeze is under way");
		rpc_fail(call, &err);
		return;
	}
	keeper.thaw_call = call;
	timer_set(&keeper.timer, GRACE_MS * 5);
	if (send(keeper.event.fd, "t", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		keeper_rescue();
}

#define FREEZE(member) .offset = offsetof(struct freeze_params, member)

static const struct schema freeze_schema[] = {
	{.name = "paths",
		.type = SCHEMA_TEXTS,
		FREEZE(paths),
		.min = 1,
		.max = FROZEN_MAX,
		.fallback = "all writable file systems on disks",
		.help = "mount points"},
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		FREEZE(timeout_ms),
		.size = 8,
		.min = 100,
		.max = 600000,
		.value = "10000",
		.help = "everything is thawed by itself after this long"},
	{.name = NULL},
};

const struct rpc_method freeze_methods[] = {
	{"freeze", serve_freeze, freeze_schema, sizeof(struct freeze_params),
		"Writes everything out and stops all writing to the file systems, for a snapshot: all of them, or none.",
		"{frozen: [path], skipped: [path that cannot be frozen]}"},
	{"thaw", serve_thaw, NULL, 0, "Lets the file systems go on.", "{thawed: [path]}"},
	{.name = NULL},
};
