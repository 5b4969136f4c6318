/* SPDX-License-Identifier: Apache-2.0 */
/* Listening, letting in, and the end. See control.h. */
#include "vmm/control/control_private.h"

#include "vmm/base/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define BACKLOG		512
#define ACCEPT_PAUSE_NS 200000000ull
#define FINISH_NS	1000000000ull
#define FINISH_LOOK_NS	1000000ull

#define DESCRIPTORS_KEPT 8
#define CLIENTS_ALWAYS                                                                             \
	2 /* so many are let in also where descriptors are short: somebody must be able to mend it */

/* A client that may not come in learns why before it is closed. */
static void turn_away(int fd, enum error_kind kind, const char *why)
{
	_cleanup_free_ char *text = NULL;
	struct error err;
	json_t *object;

	error_set(&err, kind, "%s", why);
	object =
		json_pack("{s:s, s:n, s:o}", "jsonrpc", "2.0", "id", "error", rpc_error_json(&err));
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	if (text) {
		send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT | MSG_MORE);
		send(fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	close(fd);
}

static bool may_enter(const struct control *control, int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
	       (peer.uid == 0 || peer.uid == control->uid);
}

/*
 * Descriptors that clients may not have: what the devices still open when the guest's driver starts them (a ring and a wake-up
 * for each thread, a kick and an interrupt for each queue), and what a reset opens (kernel, initrd), with a few for good measure.
 */
static rlim_t descriptors_kept(struct machine *machine)
{
	const struct machine_devices *devices = machine_devices(machine);
	rlim_t kept = DESCRIPTORS_KEPT;

	for (unsigned i = 0; i < devices->count; i++) {
		const struct virtio_device *dev = virtio_pci_device(devices->virtio[i]);

		kept += 2 * ((rlim_t)dev->thread_count + dev->queue_count) + 1;
		/* Once opened, these stay. */
		for (unsigned t = 0; t < dev->thread_count; t++)
			kept -= dev->threads[t].running ? 2 : 0;
		for (unsigned q = 0; q < dev->queue_count; q++)
			kept -= dev->queues[q].kick_fd >= 0;
	}
	return kept;
}

bool control_may_keep(const struct control *control, int fd)
{
	/* The kernel gives the lowest number that is free: below this one, all are taken. */
	return (rlim_t)fd + descriptors_kept(control->machine) < control->descriptors;
}

bool control_may_open(const struct control *control, unsigned count)
{
	_cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC); /* any will do */

	return fd >= 0 && control_may_keep(control, fd + (int)count);
}

static void accept_ready(struct loop_poll *poll, uint32_t revents)
{
	struct control *control = container_of(poll, struct control, accepting);

	(void)revents;
	for (;;) {
		int fd = accept4(poll->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0) {
			/* Out of descriptors: the poll is edge-triggered and would not say it again. */
			if (errno != EAGAIN)
				loop_timer_set(control->loop, &control->accept_again,
					now_ns() + ACCEPT_PAUSE_NS);
			return;
		}
		if (!may_enter(control, fd))
			turn_away(fd, ERROR_BAD_REQUEST,
				"this socket is for the user who runs the VM");
		else if (control->connection_count == CONTROL_CLIENTS_MAX)
			turn_away(fd, ERROR_NO_RESOURCE, "too many clients are connected");
		else if (control->connection_count >= CLIENTS_ALWAYS &&
			 !control_may_keep(control, fd))
			turn_away(fd, ERROR_NO_RESOURCE,
				"no descriptor is left for another client (RLIMIT_NOFILE)");
		else
			connection_open(control, fd);
	}
}

static void accept_again(struct loop_timer *timer)
{
	struct control *control = container_of(timer, struct control, accept_again);

	accept_ready(&control->accepting, POLLIN);
}

static void state_changed(
	struct machine_observer *observer, enum machine_state state, enum machine_exit how)
{
	struct control *control = container_of(observer, struct control, observer);
	json_t *params = json_pack("{s:s}", "state", machine_state_name(state));

	if (state == MACHINE_ENDED && params)
		json_object_set_new(params, "how", json_string(machine_exit_name(how)));
	if (state == MACHINE_ENDED)
		plug_tasks_release(control);
	restored_state_changed(control, state);
	events_add(control, EVENT_VM_STATE, params);
	waiters_state_changed(control, state, how);
}

int control_create(
	struct machine *machine, const char *path, struct control **out, struct error *err)
{
	struct control *control = calloc(1, sizeof(*control));
	int fd = machine_config(machine)->control_fd, ret = 0;
	struct rlimit limit;

	if (!control)
		return error_errno(err, ENOMEM, "cannot make the control socket");
	control->listener.fd = -1;
	if (path)
		ret = unix_listener_open(&control->listener, "the control socket", path,
			UNIX_PATH_MAX, BACKLOG, err);
	else if (fd >= 0)
		ret = unix_listener_adopt(&control->listener, fd, "control-fd", err);
	if (ret) {
		free(control);
		return ret;
	}
	control->machine = machine;
	control->uid = geteuid(); /* the filters forbid to ask later, as for the limit */
	control->descriptors = getrlimit(RLIMIT_NOFILE, &limit) ? RLIM_INFINITY : limit.rlim_cur;
	control->loop = machine_loop(machine);
	control->accept_again.fire = accept_again;
	shutdown_init(control);
	restored_init(control);
	control->observer.state_changed = state_changed;
	machine_observe(machine, &control->observer);
	control->accepting.fd = control->listener.fd;
	control->accepting.events = POLLIN;
	control->accepting.ready = accept_ready;
	control->accepts = control->listener.fd >= 0;
	if (control->accepts)
		loop_poll_start(control->loop, &control->accepting);
	*out = control;
	return 0;
}

void control_continue(struct control *control, const struct restore *restore)
{
	restore_series(restore, &control->series);
	restored_begin(control, restore_chosen(restore));
}

void control_admit(struct control *control, int fd)
{
	connection_open(control, fd);
}

static void accepting_stopped(struct loop_poll *poll)
{
	container_of(poll, struct control, accepting)->accepts = false;
}

static bool is_held(const struct control *control)
{
	return control->connections || control->guest_calls || control->accepts;
}

static void look_whether_held(struct loop_timer *timer)
{
	struct control *control = container_of(timer, struct control, finishing);

	if (is_held(control) && now_ns() < control->finish_by_ns)
		loop_timer_set(control->loop, timer, now_ns() + FINISH_LOOK_NS);
	else
		loop_stop(control->loop);
}

/* The devices turn this loop once more for their own end: nothing of ours may be in it then. */
static int leave_loop(struct control *control)
{
	struct error err;
	int ret = 0;

	loop_timer_clear(control->loop, &control->accept_again);
	loop_poll_stop(&control->accepting, accepting_stopped);
	control->finish_by_ns = now_ns() + FINISH_NS;
	control->finishing.fire = look_whether_held;
	while (ret == 0 && is_held(control) && now_ns() < control->finish_by_ns) {
		loop_timer_set(control->loop, &control->finishing, now_ns());
		ret = loop_run(control->loop, &err);
	}
	loop_timer_clear(control->loop, &control->finishing);
	return ret < 0 || is_held(control) ? -EBUSY : 0;
}

void control_destroy(struct control *control)
{
	uint64_t deadline = now_ns() + FINISH_NS;
	bool left;

	if (!control)
		return;
	waiters_release(control);
	resizes_release(control);
	plug_tasks_release(control);
	snapshots_release(control);
	jobs_release(control);
	for (struct connection *c = control->connections; c; c = c->next)
		connection_finish(c, deadline);
	left = leave_loop(control) == 0;
	machine_unobserve(control->machine, &control->observer);
	unix_listener_close(&control->listener);
	events_release(&control->events);
	if (left)
		free(control); /* else the kernel may still speak of it, and the process ends anyway */
}
