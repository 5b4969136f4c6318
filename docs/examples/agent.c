/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node agent in one file: it starts some VMs, leads each through its life, and ends them, all in one event loop.
 *
 *     cc agent.c $(pkg-config --cflags --libs bulkhead) -o agent
 *     ./agent KERNEL FOLDER [COUNT [PROGRAM [CMDLINE]]]
 *
 * KERNEL is what the VMs boot, FOLDER where their disks and control sockets are made, COUNT how many (10), PROGRAM the
 * monitor ("bulkhead"), CMDLINE the kernel's command line. SIGTERM and SIGINT end the work early, in order.
 *
 * What to look at:
 *  - The loop is the agent's own, an epoll. Each VM adds one descriptor to it; nothing else is needed, no thread, no signal.
 *  - Nothing waits. A step is a call whose answer starts the next step, so ten VMs are ten chains that advance side by
 *    side. What goes wrong in one chain is told and ends that VM only.
 *  - A VM's end is an event like the others, whatever its reason: one that crashed is started again, once.
 *  - The guest is asked to shut down, and gets a time for it. Only when that is up the agent pulls the plug.
 */
#include <bulkhead.h>

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define VMS_MAX	    100
#define DISK_SIZE   (16 << 20)
#define DETACH_MS   200 /* a real guest needs more for both: seconds for this, */
#define SHUTDOWN_MS 500 /* for this a minute or two */
#define STARTS_MAX  2

struct node;

struct guest {
	struct node *node;
	struct bulkhead_vm *vm; /* NULL: it does not run */
	char name[32];
	unsigned step, starts;
	bool failed;
};

struct node {
	const char *kernel, *folder, *program, *cmdline;
	int epoll_fd, signal_fd;
	unsigned count, running;
	bool stopping;
	struct guest guests[VMS_MAX];
};

static void say(const struct guest *guest, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void say(const struct guest *guest, const char *fmt, ...)
{
	va_list args;

	printf("%s: ", guest->name);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* ---- the steps of a VM's life ---- */

static bulkhead_answer answered;

static void disk_path(const struct guest *guest, char *path, size_t size)
{
	snprintf(path, size, "%s/%s.img", guest->node->folder, guest->name);
}

/* Before the start this is done at once; a running guest is asked. */
static int attach_disk(struct guest *guest, struct bulkhead_error *err)
{
	char path[1024];
	const struct bulkhead_call_disk_attach attach = {
		.struct_size = sizeof(attach), .path = path, .id = "data"};

	disk_path(guest, path, sizeof(path));
	return bulkhead_call_disk_attach(guest->vm, &attach, answered, guest, err);
}

static int detach_disk(struct guest *guest, struct bulkhead_error *err)
{
	const struct bulkhead_call_disk_detach detach = {
		.struct_size = sizeof(detach), .id = "data", .timeout_ms = &(uint64_t){DETACH_MS}};

	return bulkhead_call_disk_detach(guest->vm, &detach, answered, guest, err);
}

static int start_vcpus(struct guest *guest, struct bulkhead_error *err)
{
	return bulkhead_call_vm_start(guest->vm, answered, guest, err);
}

static int look_at(struct guest *guest, struct bulkhead_error *err)
{
	return bulkhead_call_vm_info(guest->vm, answered, guest, err);
}

static int limit_disk(struct guest *guest, struct bulkhead_error *err)
{
	const struct bulkhead_call_disk_limit limit = {.struct_size = sizeof(limit),
		.id = "data",
		.iops = &(uint64_t){5000},
		.bps = &(uint64_t){100 << 20}};

	return bulkhead_call_disk_limit(guest->vm, &limit, answered, guest, err);
}

static int grow_disk(struct guest *guest, struct bulkhead_error *err)
{
	const struct bulkhead_call_disk_resize resize = {
		.struct_size = sizeof(resize), .id = "data", .size = &(uint64_t){2 * DISK_SIZE}};

	return bulkhead_call_disk_resize(guest->vm, &resize, answered, guest, err);
}

static int pause_guest(struct guest *guest, struct bulkhead_error *err)
{
	return bulkhead_call_vm_pause(guest->vm, answered, guest, err);
}

static int resume_guest(struct guest *guest, struct bulkhead_error *err)
{
	return bulkhead_call_vm_resume(guest->vm, answered, guest, err);
}

/* What a VM was is enough to make another one of: see `restore` in struct bulkhead_config. */
static int take_snapshot(struct guest *guest, struct bulkhead_error *err)
{
	char path[1024];
	const struct bulkhead_call_snapshot_create create = {.struct_size = sizeof(create),
		.path = path,
		.disks = "copy",
		.wait = &(bool){true}};

	snprintf(path, sizeof(path), "%s/%s.%u", guest->node->folder, guest->name, guest->starts);
	return bulkhead_call_snapshot_create(guest->vm, &create, answered, guest, err);
}

static int shut_down(struct guest *guest, struct bulkhead_error *err)
{
	const struct bulkhead_call_vm_shutdown shutdown = {
		.struct_size = sizeof(shutdown), .timeout_ms = &(uint64_t){SHUTDOWN_MS}};

	return bulkhead_call_vm_shutdown(guest->vm, &shutdown, answered, guest, err);
}

static const struct step {
	const char *name;
	int (*start)(struct guest *guest, struct bulkhead_error *err);
	bool asks; /* the guest, which may not do it in time: then all is as it was */
} steps[] = {
	{"attach a disk", attach_disk, false}, {"limit its disk", limit_disk, false},
	{"start", start_vcpus, false}, {"look at it", look_at, false},
	{"grow its disk", grow_disk, false}, {"pause", pause_guest, false},
	{"resume", resume_guest, false}, {"take a snapshot", take_snapshot, false},
	{"detach its disk", detach_disk, true},
	{"shut down", shut_down, true}, /* the last one: it is what stopping begins with, too */
};

#define STEPS (sizeof(steps) / sizeof(*steps))

static void give_up(struct guest *guest, const struct bulkhead_error *error)
{
	say(guest, "%s failed: %s", steps[guest->step].name, error->message);
	guest->failed = true;
	bulkhead_vm_kill(guest->vm, NULL);
}

static void start_step(struct guest *guest)
{
	struct bulkhead_error err;

	if (guest->node->stopping)
		guest->step = STEPS - 1;
	if (steps[guest->step].start(guest, &err) < 0)
		give_up(guest, &err);
}

/* A guest that does not do its part, or that is to stop before it was started, is no failure of ours. */
static bool may_be(const struct guest *guest, const struct bulkhead_error *error)
{
	if (!steps[guest->step].asks)
		return false;
	return error->kind == BULKHEAD_GUEST_TIMEOUT ||
	       (error->kind == BULKHEAD_WRONG_STATE && guest->node->stopping);
}

/* The answer to a step: the next one. */
static void answered(
	struct bulkhead_vm *vm, const char *result, const struct bulkhead_error *error, void *user)
{
	struct guest *guest = user;
	char state[32];

	if (error && error->kind == BULKHEAD_CANCELLED)
		return; /* the VM has ended: that is told by itself */
	if (error && may_be(guest, error)) {
		say(guest, "does not %s", steps[guest->step].name);
	} else if (error) {
		give_up(guest, error);
		return;
	}
	if (error && guest->step == STEPS - 1)
		bulkhead_vm_kill(vm, NULL); /* pull the plug */
	if (steps[guest->step].start == look_at &&
		!bulkhead_json_text(result, "state", state, sizeof(state)))
		say(guest, "is %s", state);
	if (guest->step + 1 == STEPS)
		return;
	guest->step++;
	start_step(guest);
}

/* ---- starting a VM, and its end ---- */

static void start_guest(struct guest *guest);

static void event(struct bulkhead_vm *vm, const struct bulkhead_event *event, void *user)
{
	(void)vm;
	say(user, "event %llu: %s %s", (unsigned long long)event->seq, event->type, event->params);
}

static void log_line(struct bulkhead_vm *vm, const char *line, void *user)
{
	(void)vm;
	say(user, "%s", line);
}

static void ended(struct bulkhead_vm *vm, const struct bulkhead_end *end, void *user)
{
	static const char *const words[] = {[BULKHEAD_POWEROFF] = "shut down",
		[BULKHEAD_CRASHED] = "crashed",
		[BULKHEAD_KILLED] = "killed",
		[BULKHEAD_FAILED] = "failed",
		[BULKHEAD_MOVED] = "moved away",
		[BULKHEAD_GONE] = "gone"};
	struct guest *guest = user;

	say(guest, "ended: %s%s%s", words[end->how], end->error.kind ? ": " : "",
		end->error.message);
	if (end->how == BULKHEAD_FAILED)
		guest->failed = true;
	bulkhead_vm_free(vm); /* which takes its descriptor out of the epoll */
	guest->vm = NULL;
	guest->node->running--;
	if (end->how == BULKHEAD_CRASHED && guest->starts < STARTS_MAX && !guest->node->stopping)
		start_guest(guest);
}

static bool make_disk(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool made = fd >= 0 && !ftruncate(fd, DISK_SIZE);

	if (fd >= 0)
		close(fd);
	return made;
}

static int spawn(struct guest *guest, struct bulkhead_error *err)
{
	const struct node *node = guest->node;
	char text[4096], disk[1024];
	struct bulkhead_config config = {
		.size = sizeof(config),
		.config = text,
		.program = node->program,
		.user = guest,
		.event = event,
		.ended = ended,
		.log = log_line,
	};

	disk_path(guest, disk, sizeof(disk));
	snprintf(text, sizeof(text),
		"{\"name\": \"%s\", \"kernel\": \"%s\", \"cmdline\": \"%s\", "
		"\"memory\": \"64M\", \"paused\": true, \"control\": \"%s/%s.sock\"}",
		guest->name, node->kernel, node->cmdline, node->folder, guest->name);
	if (!make_disk(disk)) {
		snprintf(err->message, sizeof(err->message), "cannot make '%.512s'", disk);
		return -1;
	}
	return bulkhead_vm_spawn(&config, &guest->vm, err);
}

static void start_guest(struct guest *guest)
{
	struct epoll_event watch = {.events = EPOLLIN, .data.ptr = guest};
	struct bulkhead_error err;

	guest->starts++;
	guest->step = 0;
	if (spawn(guest, &err) < 0) {
		say(guest, "cannot be started: %s", err.message);
		guest->failed = true;
		return;
	}
	guest->node->running++;
	epoll_ctl(guest->node->epoll_fd, EPOLL_CTL_ADD, bulkhead_vm_fd(guest->vm), &watch);
	start_step(guest); /* answered when it is there */
}

/* ---- the node ---- */

/* Those who are in the midst of a step go on to the last one by its answer. */
static void stop(struct node *node)
{
	struct signalfd_siginfo info;

	if (read(node->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	printf("signal %u: stopping\n", info.ssi_signo);
	node->stopping = true;
}

static int open_node(struct node *node)
{
	struct epoll_event watch = {.events = EPOLLIN, .data.ptr = NULL};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	node->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	node->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return node->signal_fd < 0 || node->epoll_fd < 0 ||
	       epoll_ctl(node->epoll_fd, EPOLL_CTL_ADD, node->signal_fd, &watch);
}

static void run(struct node *node)
{
	struct epoll_event events[16];

	while (node->running) {
		int n = epoll_wait(node->epoll_fd, events, 16, -1);

		for (int i = 0; i < n; i++) {
			struct guest *guest = events[i].data.ptr;

			if (!guest)
				stop(node);
			else if (guest->vm) /* it may have ended since */
				bulkhead_vm_dispatch(guest->vm, NULL);
		}
	}
}

int main(int argc, char **argv)
{
	struct node node = {.count = 10};
	int failed = 0;

	if (argc < 3) {
		fprintf(stderr, "usage: agent KERNEL FOLDER [COUNT [PROGRAM [CMDLINE]]]\n");
		return 2;
	}
	node.kernel = argv[1];
	node.folder = argv[2];
	if (argc > 3)
		node.count = (unsigned)strtoul(argv[3], NULL, 10);
	node.program = argc > 4 ? argv[4] : NULL;
	node.cmdline =
		argc > 5 ? argv[5] : "console=ttyS0 panic=-1 reboot=t quiet root=/dev/vda rw";
	if (node.count > VMS_MAX || open_node(&node))
		return 2;
	for (unsigned i = 0; i < node.count; i++) {
		struct guest *guest = &node.guests[i];

		guest->node = &node;
		snprintf(guest->name, sizeof(guest->name), "vm%u", i);
		start_guest(guest);
	}
	run(&node);
	for (unsigned i = 0; i < node.count; i++)
		failed += node.guests[i].failed;
	printf("%u VMs, %d failed\n", node.count, failed);
	close(node.epoll_fd);
	close(node.signal_fd);
	return failed ? 1 : 0;
}
