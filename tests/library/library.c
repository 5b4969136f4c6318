/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/library/library BULKHEAD PAYLOADS FOLDER [WORD]: libbulkhead with real VMs (payload guests) in all placements, by its public
 * header alone. Prints a line a test: "ok NAME" or "not ok NAME # why". tests/library/run runs it, under sanitizers too.
 *
 * Around each test stand the process's descriptors, threads and children, the signals' dispositions and the mask: what is there
 * afterwards is what was there before.
 */
#include <bulkhead.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 120000

static const char *program, *payloads, *folder;
static char why[1600];

/* In a test: what must hold, or the reason why the test fails. */
#define MUST(condition, ...)                                                                       \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			int used_ =                                                                \
				snprintf(why, sizeof(why), "line %d: %s: ", __LINE__, #condition); \
			snprintf(why + used_, sizeof(why) - (size_t)used_, __VA_ARGS__);           \
			return false;                                                              \
		}                                                                                  \
	} while (0)

enum where { SPAWNED, EMBEDDED };

/* What a handle's callbacks saw. */
struct seen {
	unsigned events, ended, answers, failures, lines;
	uint64_t first, last; /* of the events */
	bool gap;	      /* they were not in order */
	uint64_t lost_from, lost_to;
	bool restarted;
	char state[32];
	struct bulkhead_end end;
	struct bulkhead_error error; /* of the last answer that was one */
	char line[512];
};

static void event(struct bulkhead_vm *vm, const struct bulkhead_event *event, void *user)
{
	struct seen *seen = user;
	int64_t number = 0;

	(void)vm;
	if (!strcmp(event->type, "events.lost")) {
		bulkhead_json_number(event->params, "from", &number);
		seen->lost_from = (uint64_t)number;
		bulkhead_json_number(event->params, "to", &number);
		seen->lost_to = (uint64_t)number;
	} else if (!strcmp(event->type, "events.restarted")) {
		seen->restarted = true;
	} else {
		if (!seen->events)
			seen->first = event->seq;
		else if (event->seq != seen->last + 1)
			seen->gap = true;
		seen->events++;
		bulkhead_json_number(event->params, "seq", &number);
		if ((uint64_t)number != event->seq || !event->time_ns)
			seen->gap = true;
	}
	seen->last = event->seq;
	if (!strcmp(event->type, "vm.state"))
		bulkhead_json_text(event->params, "state", seen->state, sizeof(seen->state));
}

static void ended(struct bulkhead_vm *vm, const struct bulkhead_end *end, void *user)
{
	struct seen *seen = user;

	(void)vm;
	seen->ended++;
	seen->end = *end;
}

static void line(struct bulkhead_vm *vm, const char *text, void *user)
{
	struct seen *seen = user;

	(void)vm;
	seen->lines++;
	snprintf(seen->line, sizeof(seen->line), "%s", text);
}

static void answer(
	struct bulkhead_vm *vm, const char *result, const struct bulkhead_error *error, void *user)
{
	struct seen *seen = user;

	(void)vm;
	if (result) {
		seen->answers++;
	} else {
		seen->failures++;
		seen->error = *error;
	}
}

/* A VM in either place: of a configuration, or of a snapshot and what is given anew. */
static struct bulkhead_vm *begin(enum where where, const char *text, const char *snapshot,
	struct seen *seen, struct bulkhead_error *err)
{
	struct bulkhead_config config = {
		.size = sizeof(config),
		.config = text,
		.restore = snapshot,
		.program = program,
		.user = seen,
		.event = event,
		.ended = ended,
		.log = line,
	};
	struct bulkhead_vm *vm = NULL;

	if (where == SPAWNED)
		bulkhead_vm_spawn(&config, &vm, err);
	else
		bulkhead_vm_embed(&config, &vm, err);
	return vm;
}

/* A VM whose guest does what `does` says; `more`: further keys, each with a comma before it. */
static struct bulkhead_vm *make(enum where where, const char *does, const char *more,
	struct seen *seen, struct bulkhead_error *err)
{
	char text[2048];

	snprintf(text, sizeof(text),
		"{\"name\": \"orders\", \"kernel\": \"%s/tests.elf\", \"memory\": \"64M\", "
		"\"cmdline\": \"%s\", \"seccomp\": \"off\"%s}",
		payloads, does, more);
	return begin(where, text, NULL, seen, err);
}

static bool turn(struct bulkhead_vm *vm)
{
	struct pollfd wait = {.fd = bulkhead_vm_fd(vm), .events = POLLIN};

	return poll(&wait, 1, PATIENCE_MS) == 1 && bulkhead_vm_dispatch(vm, NULL) >= 0;
}

/* ---- the tests, for a VM of either kind ---- */

static bool test_calls(enum where where)
{
	struct bulkhead_call_vm_shutdown shutdown = {
		.struct_size = sizeof(shutdown), .timeout_ms = &(uint64_t){1}};
	struct seen seen = {0};
	struct bulkhead_error err = {0};
	struct bulkhead_vm *vm = make(where, "serial_echo", "", &seen, &err);
	char *result = NULL, state[32];

	MUST(vm, "%s", err.message);
	MUST(!bulkhead_call_vm_info_wait(vm, PATIENCE_MS, &result, &err), "%s", err.message);
	MUST(!bulkhead_json_text(result, "state", state, sizeof(state)) &&
			!strcmp(state, "running"),
		"%s", result);
	MUST(!bulkhead_json_text(result, "config.name", state, sizeof(state)) &&
			!strcmp(state, "orders"),
		"%s", result);
	free(result);
	/* In order, all at once, by name and by function. */
	MUST(!bulkhead_vm_call(vm, "vm.pause", NULL, answer, &seen, &err), "%s", err.message);
	MUST(!bulkhead_call_vm_resume(vm, answer, &seen, &err), "%s", err.message);
	MUST(!bulkhead_vm_call(vm, "vm.nonsense", "{}", answer, &seen, &err), "%s", err.message);
	while (seen.answers + seen.failures < 3)
		MUST(turn(vm), "no event came");
	MUST(seen.answers == 2 && seen.failures == 1 && seen.error.kind == BULKHEAD_UNKNOWN_METHOD,
		"%u answers, %u failures: %s", seen.answers, seen.failures, seen.error.message);
	/* The guest has no driver for the power button. */
	MUST(bulkhead_call_vm_shutdown_wait(vm, &shutdown, PATIENCE_MS, NULL, &err) < 0 &&
			err.kind == BULKHEAD_GUEST_TIMEOUT,
		"%s", err.message);
	MUST(bulkhead_vm_call(vm, "vm.info", "[1]", answer, &seen, &err) == -EINVAL, "a list");
	MUST(bulkhead_vm_call(vm, "vm.info", "{", answer, &seen, &err) == -EINVAL, "no JSON");
	MUST(!bulkhead_vm_kill(vm, &err), "%s", err.message);
	MUST(!bulkhead_vm_wait_end(vm, PATIENCE_MS, &err), "%s", err.message);
	MUST(seen.ended == 1 && seen.end.how == BULKHEAD_KILLED && !seen.end.error.kind,
		"ended %u times, how %d: %s", seen.ended, seen.end.how, seen.end.error.message);
	MUST(bulkhead_vm_call(vm, "vm.info", NULL, answer, &seen, &err) < 0 &&
			err.kind == BULKHEAD_WRONG_STATE,
		"a call to a VM that has ended");
	bulkhead_vm_free(vm);
	return true;
}

static bool test_events(enum where where)
{
	struct seen seen = {0};
	struct bulkhead_error err = {0};
	struct bulkhead_vm *vm = make(where, "serial_echo", ", \"paused\": true", &seen, &err);

	MUST(vm, "%s", err.message);
	MUST(!bulkhead_call_vm_start_wait(vm, PATIENCE_MS, NULL, &err), "%s", err.message);
	for (unsigned i = 0; i < 100; i++) {
		MUST(!bulkhead_call_vm_pause(vm, NULL, NULL, &err), "%s", err.message);
		MUST(!bulkhead_call_vm_resume(vm, NULL, NULL, &err), "%s", err.message);
	}
	MUST(!bulkhead_call_vm_reset_wait(vm, PATIENCE_MS, NULL, &err), "%s", err.message);
	while (seen.last < 203)
		MUST(turn(vm), "only %u events came", seen.events);
	MUST(seen.first == 1 && !seen.gap && seen.events == seen.last, "%u events from %u to %u",
		seen.events, (unsigned)seen.first, (unsigned)seen.last);
	MUST(bulkhead_vm_seq(vm) == seen.last && !strcmp(seen.state, "running"), "%s", seen.state);
	bulkhead_vm_free(vm);
	MUST(!seen.ended, "a VM that was freed told its end");
	return true;
}

static bool save(enum where where, const char *path)
{
	const struct bulkhead_call_snapshot_create create = {
		.struct_size = sizeof(create), .path = path, .wait = &(bool){true}};
	struct seen seen = {0};
	struct bulkhead_error err = {0};
	struct bulkhead_vm *vm = make(where, "serial_echo", "", &seen, &err);

	MUST(vm, "%s", err.message);
	MUST(!bulkhead_call_snapshot_create_wait(vm, &create, PATIENCE_MS, NULL, &err), "%s",
		err.message);
	bulkhead_vm_free(vm);
	return true;
}

static void remove_saved(const char *path)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -r '%s'", path);
	if (system(command))
		printf("# %s is left\n", path);
}

static bool test_restore(enum where where)
{
	struct seen seen[2] = {0};
	struct bulkhead_error err = {0};
	char path[200], name[32], *result;
	struct bulkhead_vm *vms[2];

	snprintf(path, sizeof(path), "%s/saved%d", folder, where);
	if (!save(where, path))
		return false;
	vms[0] = begin(where, "{\"seccomp\": \"off\"}", path, &seen[0], &err);
	MUST(vms[0], "%s", err.message);
	vms[1] = begin(where, "{\"seccomp\": \"off\", \"clone\": true, \"name\": \"twin\"}", path,
		&seen[1], &err);
	MUST(vms[1], "%s", err.message);
	for (unsigned i = 0; i < 2; i++) {
		MUST(!bulkhead_call_vm_info_wait(vms[i], PATIENCE_MS, &result, &err), "%s",
			err.message);
		MUST(!bulkhead_json_text(result, "name", name, sizeof(name)) &&
				!strcmp(name, i ? "twin" : "orders"),
			"%s", result);
		free(result);
	}
	for (unsigned i = 0; i < 2; i++)
		bulkhead_vm_free(vms[i]);
	remove_saved(path);
	return true;
}

/* What a VM's process finds is told at the end, what this one finds at once: either way in words. */
static bool test_no_restore(enum where where)
{
	static const struct {
		const char *snapshot, *options, *why;
	} wrong[] = {
		{"nowhere", "{}", "nowhere"},
		{"whole", "{\"cpus\": 2}", "cpus"},
		{"whole", "{\"disk\": [{\"id\": \"data\", \"path\": \"/none\"}]}", "data"},
		{"whole", "{\"memory\": \"1G\"}", "memory: is nothing"},
	};
	char whole[200], path[200], text[800];

	snprintf(whole, sizeof(whole), "%s/whole%d", folder, where);
	if (!save(where, whole))
		return false;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct seen seen = {0};
		struct bulkhead_error err = {0};
		struct bulkhead_vm *vm;

		snprintf(path, sizeof(path), "%s/%s%d", folder, wrong[i].snapshot, where);
		vm = begin(where, wrong[i].options, path, &seen, &err);
		snprintf(text, sizeof(text), "%s", err.message);
		if (vm) {
			MUST(!bulkhead_vm_wait_end(vm, PATIENCE_MS, &err), "%s", err.message);
			MUST(seen.end.how == BULKHEAD_FAILED, "how %d", seen.end.how);
			snprintf(text, sizeof(text), "%s", seen.end.error.message);
			bulkhead_vm_free(vm);
		}
		MUST(strstr(text, wrong[i].why), "'%s' says nothing of %s", text, wrong[i].why);
	}
	remove_saved(whole);
	return true;
}

static bool make_disk(char *path, size_t size, const char *name)
{
	int fd, ret;

	snprintf(path, size, "%s/%s", folder, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	ret = ftruncate(fd, 1 << 20);
	close(fd);
	return ret == 0;
}

static bool test_ends(enum where where)
{
	static const struct {
		const char *does;
		enum bulkhead_how how;
		const char *state;
	} ends[] = {
		{"power_off", BULKHEAD_POWEROFF, "ended"},
		{"triple_fault_early", BULKHEAD_CRASHED, "ended"},
	};

	char path[200], more[400];

	/* With a disk that was never driven a triple fault cannot be an orderly reset. */
	MUST(make_disk(path, sizeof(path), "end"), "%s", path);
	snprintf(more, sizeof(more), ", \"paused\": true, \"disk\": [{\"path\": \"%s\"}]", path);
	for (unsigned i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
		struct seen seen = {0};
		struct bulkhead_error err = {0};
		/* Once the handle is connected nothing that it says is missed. */
		struct bulkhead_vm *vm = make(where, ends[i].does, more, &seen, &err);

		MUST(vm, "%s", err.message);
		MUST(!bulkhead_call_vm_start_wait(vm, PATIENCE_MS, NULL, &err), "%s", err.message);
		MUST(!bulkhead_vm_wait_end(vm, PATIENCE_MS, &err), "%s", err.message);
		MUST(seen.end.how == ends[i].how && !strcmp(seen.state, ends[i].state) && !seen.gap,
			"%s: how %d, state %s, %s", ends[i].does, seen.end.how, seen.state,
			seen.line);
		MUST(bulkhead_vm_end(vm)->how == ends[i].how, "the end is kept");
		bulkhead_vm_free(vm);
	}
	unlink(path);
	return true;
}

static bool test_no_start(enum where where)
{
	struct seen seen = {0};
	struct bulkhead_error err = {0};
	struct bulkhead_vm *vm = make(where, "serial_echo",
		", \"disk\": [{\"path\": \"/nowhere/at/all\", \"id\": \"data\"}]", &seen, &err);

	MUST(vm, "%s", err.message);
	MUST(!bulkhead_vm_call(vm, "vm.info", NULL, answer, &seen, &err), "%s", err.message);
	MUST(!bulkhead_vm_wait_end(vm, PATIENCE_MS, &err), "%s", err.message);
	MUST(seen.end.how == BULKHEAD_FAILED && strstr(seen.end.error.message, "/nowhere/at/all"),
		"how %d: %s", seen.end.how, seen.end.error.message);
	MUST(seen.failures == 1 && strstr(seen.error.message, "/nowhere/at/all"),
		"the call says: %s", seen.error.message);
	bulkhead_vm_free(vm);
	MUST(!make(where, "x", ", \"colour\": 3", &seen, &err) &&
			err.kind == BULKHEAD_BAD_REQUEST && strstr(err.message, "colour"),
		"a key that is none: %s", err.message);
	MUST(!make(where, "x", ", \"disk\": ", &seen, &err) && err.kind == BULKHEAD_BAD_REQUEST,
		"no JSON: %s", err.message);
	return true;
}

/* Frees its handle from within a callback, with another call open. */
static void free_it(
	struct bulkhead_vm *vm, const char *result, const struct bulkhead_error *error, void *user)
{
	int *count = user;

	(void)result;
	(void)error;
	++*count;
	if (bulkhead_vm_wait_end(vm, 0, NULL) == -EBUSY && bulkhead_vm_dispatch(vm, NULL) == -EBUSY)
		bulkhead_vm_free(vm);
}

static bool test_callbacks(enum where where)
{
	struct seen seen = {0};
	struct bulkhead_error err = {0};
	struct bulkhead_vm *vm = make(where, "serial_echo", "", &seen, &err);
	struct pollfd wait = {.events = POLLIN};
	int count = 0;

	MUST(vm, "%s", err.message);
	wait.fd = bulkhead_vm_fd(vm);
	MUST(!bulkhead_vm_call(vm, "vm.info", NULL, free_it, &count, &err), "%s", err.message);
	MUST(!bulkhead_vm_call(vm, "vm.info", NULL, free_it, &count, &err), "%s", err.message);
	while (!count) {
		int ret;

		MUST(poll(&wait, 1, PATIENCE_MS) == 1, "no event came");
		ret = bulkhead_vm_dispatch(vm, &err);
		MUST(count ? ret == 0 : ret == 1, "dispatch says %d", ret);
	}
	MUST(count == 2, "%d answers", count);
	return true;
}

static bool test_free_early(enum where where)
{
	for (unsigned i = 0; i < 5; i++) {
		struct seen seen = {0};
		struct bulkhead_error err = {0};
		struct bulkhead_vm *vm = make(where, "serial_echo", "", &seen, &err);

		MUST(vm, "%s", err.message);
		MUST(!bulkhead_vm_call(vm, "vm.info", NULL, answer, &seen, &err), "%s",
			err.message);
		bulkhead_vm_free(vm);
		MUST(seen.failures == 1 && seen.error.kind == BULKHEAD_CANCELLED,
			"%u answers, %u failures", seen.answers, seen.failures);
	}
	return true;
}

/* ---- two at once ---- */

static bool test_two(void)
{
	static const char *const more[] = {", \"cpus\": 2", ", \"cpus\": 2"};
	struct seen seen[2] = {{0}, {0}};
	struct bulkhead_error err = {0};
	struct bulkhead_vm *vms[2];
	char disk[2][700], path[2][200];

	for (unsigned i = 0; i < 2; i++) {
		MUST(make_disk(path[i], sizeof(path[i]), i ? "two" : "one"), "%s", path[i]);
		snprintf(disk[i], sizeof(disk[i]),
			"%s, \"disk\": [{\"path\": \"%s\", \"id\": \"data\", \"queues\": 2}]",
			more[i], path[i]);
		vms[i] = make(EMBEDDED, "queue_wrap", disk[i], &seen[i], &err);
		MUST(vms[i], "%s", err.message);
	}
	for (unsigned round = 0; round < 50; round++)
		for (unsigned i = 0; i < 2; i++)
			bulkhead_call_disk_limit(vms[i],
				&(struct bulkhead_call_disk_limit){
					.struct_size = sizeof(struct bulkhead_call_disk_limit),
					.id = "data",
					.iops = &(uint64_t){0}},
				answer, &seen[i], &err);
	for (unsigned i = 0; i < 2; i++)
		MUST(!bulkhead_vm_wait_end(vms[i], PATIENCE_MS, &err), "%s", err.message);
	for (unsigned i = 0; i < 2; i++) {
		MUST(seen[i].end.how == BULKHEAD_POWEROFF, "VM %u: how %d: %s", i, seen[i].end.how,
			seen[i].line);
		MUST(seen[i].answers + seen[i].failures == 50, "VM %u: %u answers, %u failures", i,
			seen[i].answers, seen[i].failures);
		bulkhead_vm_free(vms[i]);
		unlink(path[i]);
	}
	return true;
}

static bool test_logs(void)
{
	struct seen seen[2] = {{0}, {0}};
	struct bulkhead_error err = {0};
	struct bulkhead_vm *vms[2] = {
		make(EMBEDDED, "serial_echo", ", \"log-level\": \"info\"", &seen[0], &err),
		make(EMBEDDED, "serial_echo", ", \"log-level\": \"warn\"", &seen[1], &err),
	};

	MUST(vms[0] && vms[1], "%s", err.message);
	for (unsigned i = 0; i < 2; i++) /* which it tells at level info */
		MUST(!bulkhead_call_vm_reset_wait(vms[i], PATIENCE_MS, NULL, &err), "%s",
			err.message);
	while (!strstr(seen[0].line, "reset"))
		MUST(turn(vms[0]), "no line came");
	MUST(!strncmp(seen[0].line, "bulkhead[orders]: info: ", 24), "%s", seen[0].line);
	for (unsigned i = 0; i < 2; i++) {
		bulkhead_vm_kill(vms[i], NULL);
		MUST(!bulkhead_vm_wait_end(vms[i], PATIENCE_MS, &err), "%s", err.message);
		bulkhead_vm_free(vms[i]);
	}
	MUST(!seen[1].lines, "the other VM's: %s", seen[1].line);
	return true;
}

static bool test_console(void)
{
	struct seen seen = {0};
	struct bulkhead_error err = {0};

	MUST(!make(EMBEDDED, "serial_echo", ", \"console\": \"stdio\"", &seen, &err) &&
			err.kind == BULKHEAD_BAD_REQUEST,
		"%s", err.message);
	return true;
}

/* ---- spawned ---- */

static bool test_no_program(void)
{
	struct bulkhead_error err = {0};
	struct bulkhead_vm *vm = NULL;
	struct bulkhead_config config = {
		.size = sizeof(config), .config = "{\"kernel\": \"x\"}", .program = "/no/such"};

	MUST(bulkhead_vm_spawn(&config, &vm, &err) == -ENOENT && err.kind == BULKHEAD_NOT_FOUND,
		"%s", err.message);
	return true;
}

static bool test_killed(void)
{
	struct seen seen = {0};
	struct bulkhead_error err = {0};
	struct bulkhead_vm *vm = make(SPAWNED, "serial_echo", "", &seen, &err);

	MUST(vm, "%s", err.message);
	MUST(!bulkhead_call_vm_info_wait(vm, PATIENCE_MS, NULL, &err), "%s", err.message);
	MUST(!bulkhead_vm_call(vm, "vm.shutdown", NULL, answer, &seen, &err), "%s", err.message);
	kill(bulkhead_vm_pid(vm), SIGKILL);
	MUST(!bulkhead_vm_wait_end(vm, PATIENCE_MS, &err), "%s", err.message);
	MUST(seen.end.how == BULKHEAD_KILLED && seen.end.status == -SIGKILL && seen.failures == 1,
		"how %d, status %d", seen.end.how, seen.end.status);
	bulkhead_vm_free(vm);
	return true;
}

/* ---- connected ---- */

/* A socket in front of another one, so that the connection between can be cut. */
struct relay {
	char front[108];
	const char *back;
	int listener, tell[2];
	pthread_t thread;
};

static int unix_socket(const char *path, bool listens)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (listens ? bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 8)
		    : connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Until one side closes, or the test says so: 'c' cuts, 'q' ends. Returns what it said. */
static char relay_one(struct relay *r, int near, int far)
{
	struct pollfd fds[] = {{.fd = near, .events = POLLIN}, {.fd = far, .events = POLLIN},
		{.fd = r->tell[0], .events = POLLIN}};
	char bytes[65536], word;

	while (poll(fds, 3, -1) > 0) {
		if (fds[2].revents)
			return read(r->tell[0], &word, 1) == 1 ? word : 'q';
		for (unsigned i = 0; i < 2; i++) {
			ssize_t n = fds[i].revents ? read(fds[i].fd, bytes, sizeof(bytes)) : -1;

			if (n > 0 && write(fds[!i].fd, bytes, (size_t)n) != n)
				n = 0;
			if (n == 0)
				return 'c';
		}
	}
	return 'q';
}

static void *relay_main(void *arg)
{
	struct relay *r = arg;
	struct pollfd fds[] = {
		{.fd = r->listener, .events = POLLIN}, {.fd = r->tell[0], .events = POLLIN}};
	char word = 0;

	while (word != 'q' && poll(fds, 2, -1) > 0) {
		if (fds[1].revents) {
			if (read(r->tell[0], &word, 1) != 1)
				break;
		} else {
			int near = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
			int far = unix_socket(r->back, false);

			word = near >= 0 && far >= 0 ? relay_one(r, near, far) : 'c';
			close(near);
			if (far >= 0)
				close(far);
		}
	}
	return NULL;
}

static bool relay_start(struct relay *r, const char *back)
{
	snprintf(r->front, sizeof(r->front), "%s/front", folder);
	unlink(r->front);
	r->back = back;
	r->listener = unix_socket(r->front, true);
	return r->listener >= 0 && !pipe2(r->tell, O_CLOEXEC) &&
	       !pthread_create(&r->thread, NULL, relay_main, r);
}

static void relay_say(struct relay *r, char word)
{
	if (write(r->tell[1], &word, 1) != 1)
		abort();
}

static void relay_end(struct relay *r)
{
	relay_say(r, 'q');
	pthread_join(r->thread, NULL);
	close(r->listener);
	close(r->tell[0]);
	close(r->tell[1]);
	unlink(r->front);
}

/* Pause and resume, each one event. */
static bool make_events(struct bulkhead_vm *vm, unsigned pairs)
{
	struct bulkhead_error err = {0};

	for (unsigned i = 0; i < pairs; i++) {
		MUST(!bulkhead_call_vm_pause_wait(vm, PATIENCE_MS, NULL, &err), "%s", err.message);
		MUST(!bulkhead_call_vm_resume_wait(vm, PATIENCE_MS, NULL, &err), "%s", err.message);
	}
	return true;
}

static bool test_resumption(void)
{
	char control[108], more[200];
	struct seen seen = {0}, own = {0};
	struct bulkhead_config config = {.size = sizeof(config),
		.user = &seen,
		.event = event,
		.ended = ended,
		.since = BULKHEAD_SINCE_NOW};
	struct bulkhead_error err = {0};
	struct bulkhead_vm *vm, *far;
	struct relay relay;

	snprintf(control, sizeof(control), "%s/control", folder);
	snprintf(more, sizeof(more), ", \"control\": \"%s\"", control);
	vm = make(SPAWNED, "serial_echo", more, &own, &err);
	MUST(vm, "%s", err.message);
	if (!(make_events(vm, 3)))
		return false;
	MUST(relay_start(&relay, control), "no relay");
	MUST(!bulkhead_vm_connect(relay.front, &config, &far, &err), "%s", err.message);
	if (!(make_events(far, 2) && make_events(vm, 2)))
		return false;
	while (seen.last < own.last)
		MUST(turn(far), "no event came");
	MUST(seen.first == 7 && !seen.gap, "from %u", (unsigned)seen.first);
	for (unsigned round = 0; round < 20; round++) {
		relay_say(&relay, 'c');
		if (!(make_events(vm, 3)))
			return false;
		while (seen.last < own.last)
			MUST(turn(far), "round %u: no event came", round);
	}
	MUST(!seen.gap && seen.events == seen.last - 6 && !seen.lost_from, "%u events to %u",
		seen.events, (unsigned)seen.last);
	/* A call in flight, that waits: nobody knows what became of it. */
	MUST(!bulkhead_call_vm_shutdown(far, NULL, answer, &seen, &err), "%s", err.message);
	relay_say(&relay, 'c');
	while (!seen.failures)
		MUST(turn(far), "no event came");
	MUST(seen.error.kind == BULKHEAD_DISCONNECTED, "%s", seen.error.message);
	/* More than the VM keeps: it is said which are lost. */
	relay_say(&relay, 'c');
	if (!(make_events(vm, 600)))
		return false;
	while (seen.last < own.last)
		MUST(turn(far), "no event came");
	MUST(seen.lost_from && seen.lost_to >= seen.lost_from, "from %u to %u",
		(unsigned)seen.lost_from, (unsigned)seen.lost_to);
	bulkhead_vm_kill(vm, NULL);
	MUST(!bulkhead_vm_wait_end(far, PATIENCE_MS, &err), "%s", err.message);
	MUST(seen.end.how == BULKHEAD_KILLED && seen.ended == 1, "how %d", seen.end.how);
	MUST(!bulkhead_vm_wait_end(vm, PATIENCE_MS, &err), "%s", err.message);
	relay_end(&relay);
	bulkhead_vm_free(far);
	bulkhead_vm_free(vm);
	return true;
}

static bool test_release(void)
{
	char control[108], more[200];
	struct seen seen = {0};
	struct bulkhead_error err = {0};
	struct bulkhead_vm *vm = make(SPAWNED, "serial_echo", "", &seen, &err);
	pid_t pid;
	int status;

	MUST(vm && bulkhead_vm_release(vm, &err) == -EINVAL && err.kind == BULKHEAD_WRONG_STATE,
		"without a socket: %s", err.message);
	bulkhead_vm_free(vm);
	snprintf(control, sizeof(control), "%s/control", folder);
	snprintf(more, sizeof(more), ", \"control\": \"%s\"", control);
	vm = make(SPAWNED, "serial_echo", more, &seen, &err);
	MUST(vm, "%s", err.message);
	if (!(make_events(vm, 1)))
		return false;
	pid = bulkhead_vm_release(vm, &err);
	MUST(pid > 0, "%s", err.message);
	MUST(!bulkhead_vm_connect(control, NULL, &vm, &err), "%s", err.message);
	if (!(make_events(vm, 1)))
		return false;
	MUST(!bulkhead_vm_kill(vm, &err), "%s", err.message);
	MUST(!bulkhead_vm_wait_end(vm, PATIENCE_MS, &err), "%s", err.message);
	MUST(bulkhead_vm_end(vm)->how == BULKHEAD_KILLED, "how %d", bulkhead_vm_end(vm)->how);
	bulkhead_vm_free(vm);
	MUST(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "status %d", status);
	MUST(bulkhead_vm_connect(control, NULL, &vm, &err) < 0, "somebody listens still");
	return true;
}

/* ---- neither ---- */

static bool test_sizes(void)
{
	struct {
		struct bulkhead_config config;
		uint64_t later;
	} newer = {.config = {.size = sizeof(newer), .config = "{}"}, .later = 1};
	struct bulkhead_config none = {0};
	struct bulkhead_error err = {0};
	struct bulkhead_vm *vm = NULL;

	MUST(bulkhead_vm_embed(&newer.config, &vm, &err) < 0 && err.kind == BULKHEAD_INCOMPATIBLE,
		"%s", err.message);
	newer.later = 0;
	MUST(bulkhead_vm_embed(&newer.config, &vm, &err) < 0 && strstr(err.message, "kernel"), "%s",
		err.message);
	MUST(bulkhead_vm_embed(&none, &vm, &err) < 0 && strstr(err.message, "size"), "%s",
		err.message);
	MUST(bulkhead_vm_embed(NULL, &vm, NULL) < 0, "NULL");
	MUST(bulkhead_vm_connect(NULL, NULL, &vm, &err) < 0, "NULL");
	MUST(bulkhead_vm_connect("/no/such", NULL, &vm, &err) == -ENOENT, "%s", err.message);
	bulkhead_vm_free(NULL);
	MUST(!strcmp(bulkhead_kind_name(BULKHEAD_GUEST_TIMEOUT), "guest_timeout") &&
			!strcmp(bulkhead_kind_name((enum bulkhead_kind)99), "unknown"),
		"names");
	return true;
}

static bool test_json(void)
{
	static const char json[] = "{\"a\":[{\"b\":\"x\"},7,true],\"c\":{\"d\":1.5}}";
	char text[16];
	int64_t number = 0;

	MUST(!bulkhead_json_text(json, "a.0.b", text, sizeof(text)) && !strcmp(text, "x"), "text");
	MUST(!bulkhead_json_text(json, "a.1", text, sizeof(text)) && !strcmp(text, "7"), "dump");
	MUST(!bulkhead_json_number(json, "a.1", &number) && number == 7, "number");
	MUST(!bulkhead_json_number(json, "a.2", &number) && number == 1, "boolean");
	MUST(bulkhead_json_number(json, "a.0", &number) == -EINVAL, "an object");
	MUST(bulkhead_json_number(json, "a.9", &number) == -ENOENT, "beyond");
	MUST(bulkhead_json_text(json, "a", text, sizeof(text)) == -ENOSPC && !*text, "long");
	MUST(bulkhead_json_text("{", "a", text, sizeof(text)) == -EINVAL, "no JSON");
	MUST(bulkhead_json_text(json, "a.0x.b", text, sizeof(text)) == -ENOENT, "no position");
	return true;
}

/* ---- running them ---- */

struct process {
	unsigned fds, threads;
	struct sigaction actions[65];
	sigset_t mask;
};

static unsigned entries(const char *path)
{
	unsigned count = 0;
	DIR *dir = opendir(path);

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

static void look(struct process *p)
{
	memset(p, 0, sizeof(*p));
	p->fds = entries("/proc/self/fd");
	p->threads = entries("/proc/self/task");
	for (int i = 1; i < 65; i++)
		sigaction(i, NULL, &p->actions[i]);
	pthread_sigmask(SIG_SETMASK, NULL, &p->mask);
}

static bool same(const struct process *before)
{
	struct process after;

	look(&after);
	/* A thread that was joined is in the list until the kernel is done with it. */
	for (unsigned i = 0; i < 1000 && after.threads > before->threads; i++) {
		usleep(5000);
		look(&after);
	}
	MUST(after.fds == before->fds, "%u descriptors, before %u", after.fds, before->fds);
	MUST(after.threads == before->threads, "%u threads, before %u", after.threads,
		before->threads);
	MUST(!memcmp(&after.mask, &before->mask, sizeof(after.mask)), "the signal mask");
	for (int i = 1; i < 65; i++)
		MUST(after.actions[i].sa_handler == before->actions[i].sa_handler, "signal %d", i);
	MUST(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD, "a child is left");
	return true;
}

static bool failed;

static void run(const char *name, const char *only, bool (*test)(void), bool (*both)(enum where),
	enum where where)
{
	struct process before;
	bool good;

	if (only && !strstr(name, only))
		return;
	look(&before);
	good = test ? test() : both(where);
	if (good)
		good = same(&before);
	if (good)
		printf("ok %s\n", name);
	else
		printf("not ok %s # %s\n", name, why);
	fflush(stdout);
	failed |= !good;
}

static void *nothing(void *arg)
{
	return arg;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		bool (*test)(enum where where);
	} both[] = {
		{"calls are answered in order, by name and by function, and its end is told",
			test_calls},
		{"events come in order and without a gap", test_events},
		{"the guest's own end is told as what it was", test_ends},
		{"what cannot be started says why, to the call too", test_no_start},
		{"a VM goes on from a snapshot, and another one as its clone", test_restore},
		{"what cannot be restored says why", test_no_restore},
		{"a callback frees its handle, and may not wait", test_callbacks},
		{"a handle is freed while its VM is still being made", test_free_early},
	};
	static const char *const names[] = {[SPAWNED] = "spawned", [EMBEDDED] = "embedded"};
	const char *only = argc > 4 ? argv[4] : NULL;
	char name[128];
	pthread_t first;

	if (argc < 4)
		return 2;
	if (!pthread_create(&first, NULL, nothing,
		    NULL)) /* thread sanitizers make one of their own with it */
		pthread_join(first, NULL);
	program = argv[1];
	payloads = argv[2];
	folder = argv[3];
	run("a structure of another version's size is taken, or refused", only, test_sizes, NULL,
		0);
	run("values are read out of results", only, test_json, NULL, 0);
	for (enum where where = SPAWNED; where <= EMBEDDED; where++)
		for (unsigned i = 0; i < sizeof(both) / sizeof(*both); i++) {
			snprintf(name, sizeof(name), "%s: %s", names[where], both[i].name);
			run(name, only, NULL, both[i].test, where);
		}
	run("embedded: two VMs run at once in one process", only, test_two, NULL, 0);
	run("embedded: each VM has its own log", only, test_logs, NULL, 0);
	run("embedded: the terminal is not taken over", only, test_console, NULL, 0);
	run("spawned: a program that is not there is told at once", only, test_no_program, NULL, 0);
	run("spawned: a process that was killed is told as that", only, test_killed, NULL, 0);
	run("spawned: a VM that was let go runs on", only, test_release, NULL, 0);
	run("connected: events resume after the connection broke, and what is lost is told", only,
		test_resumption, NULL, 0);
	return failed;
}
