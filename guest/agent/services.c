/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services. Each file NAME.json of the folder is one, an object with the keys of `service_schema` below.
 *
 * They are started in the order of their files' names, but for `after`: a service waits for those that it names to have
 * been started, and where one of them has `wait`, to have ended. One that ends is started again as
 * `restart` says, after 0.1 s, and twice as long each time up to 30 s; a minute of running forgets that. They are
 * ended in the reverse order in which they were started: the stop signal to the process group, its time-out, then SIGKILL to
 * everything in the service's cgroup.
 */
#include "guest/agent/services.h"

#include "guest/agent/boot.h"
#include "guest/agent/events.h"
#include "guest/agent/files.h"
#include "guest/agent/process.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/schema/schema.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS	 30000
#define FORGET_NS	 60000000000u

enum restart { RESTART_NO, RESTART_FAILURE, RESTART_ALWAYS };

struct service {
	char name[SCHEMA_ID_SIZE];
	struct schema_texts argv, env, after;
	char *cwd, *user;
	unsigned restart, stop_signal, stop_timeout_ms;
	bool wait;
	/* Its state. */
	bool agent, begun, ended; /* started for the first time; ended for good or for now */
	struct child child;	  /* pid 0: does not run */
	struct timer timer;	  /* the next start, or the end of patience */
	uint64_t started_ns;
	unsigned backoff_ms, order;
};

static struct service services[SERVICES_MAX],
	agent = {.agent = true, .name = "agent", .restart = RESTART_ALWAYS};
static unsigned service_count, begun_count;
static bool stopping;
static void (*stop_done)(void);
static uint64_t stop_end_ns;

static void services_advance(void);
static void stop_next(void);

static void cgroup_path(const struct service *s, const char *file, char *buf, size_t size)
{
	snprintf(buf, size, CGROUP_SERVICES "/%s%s", s->name, file);
}

/* What a service leaves behind when its first process ends. cgroup.kill came with Linux 5.14. */
static void kill_leftovers(const struct service *s)
{
	char path[160];
	struct error err;

	if (s->agent)
		return; /* commands with `detach` outlive it */
	cgroup_path(s, "/cgroup.kill", path, sizeof(path));
	if (!access(path, W_OK))
		file_write(path, "1", &err);
}

static _Noreturn void become_service(const struct service *s)
{
	char cgroup[160];
	struct program program = {
		.argv = s->argv.items,
		.env = s->env.items,
		.cwd = s->cwd,
		.user = s->user,
		.in = open("/dev/null", O_RDONLY | O_CLOEXEC),
		.out = STDERR_FILENO,
		.error = STDERR_FILENO,
	};
	struct error err = {0};

	cgroup_path(s, "", cgroup, sizeof(cgroup));
	mkdir(cgroup, 0755);
	program.cgroup = access(cgroup, W_OK) ? NULL : cgroup;
	process_exec(&program, -1, &err);
	log_error("service %s: %s", s->name, err.text);
	_exit(127);
}

static void service_later(struct service *s)
{
	s->backoff_ms = s->backoff_ms ? (unsigned)min_u64(2 * s->backoff_ms, BACKOFF_LAST_MS)
				      : BACKOFF_FIRST_MS;
	timer_set(&s->timer, s->backoff_ms);
}

static void service_run(struct service *s)
{
	pid_t pid = process_fork();

	if (!pid)
		become_service(s);
	s->started_ns = now_ns();
	s->ended = false;
	if (pid < 0) {
		log_error("service %s: cannot fork: %s", s->name, strerrordesc_np(errno));
		service_later(s);
		return;
	}
	s->child.pid = pid;
	child_watch(&s->child);
	log_info("service %s: started as process %d", s->name, (int)pid);
}

static void service_exited(struct child *child, const siginfo_t *info)
{
	struct service *s = container_of(child, struct service, child);
	bool good = info->si_code == CLD_EXITED && !info->si_status;

	kill(-child->pid, SIGKILL); /* a zombie still holds its group */
	child->pid = 0;
	s->ended = true;
	kill_leftovers(s);
	timer_clear(&s->timer);
	if (!stopping || s->agent)
		log_info("service %s: ended with %s %d", s->name,
			info->si_code == CLD_EXITED ? "status" : "signal", info->si_status);
	if (stopping && !s->agent) {
		stop_next();
		return;
	}
	if (now_ns() - s->started_ns > FORGET_NS)
		s->backoff_ms = 0;
	if (!stopping && (s->restart == RESTART_ALWAYS || (s->restart == RESTART_FAILURE && !good)))
		service_later(s);
	else if (s->agent)
		service_later(s); /* it answers until the very end */
	services_advance();
}

static void service_due(struct timer *timer)
{
	struct service *s = container_of(timer, struct service, timer);

	if (!stopping || s->agent) {
		service_run(s);
		return;
	}
	if (s->child.pid) {
		log_warn("service %s: does not end in time: killed", s->name);
		kill_leftovers(s);
		kill(-s->child.pid, SIGKILL);
		timer_set(timer, 1000); /* stuck in the kernel: go on without it */
		if (s->ended)
			stop_next();
		s->ended = true;
	}
}

static bool is_settled(const char *name)
{
	for (unsigned i = 0; i < service_count; i++)
		if (!strcmp(services[i].name, name))
			return services[i].begun &&
			       (!services[i].wait || (services[i].ended && !services[i].child.pid));
	return true; /* named, but not there: said when it was read */
}

static bool may_start(const struct service *s)
{
	for (unsigned i = 0; i < s->after.count; i++)
		if (!is_settled(s->after.items[i]))
			return false;
	return true;
}

/* Start what may start, in the order of the files' names, until nothing new may. */
static void services_advance(void)
{
	bool again = !stopping;

	while (again) {
		again = false;
		for (unsigned i = 0; i < service_count && !again; i++) {
			struct service *s = &services[i];

			if (s->begun || !may_start(s))
				continue;
			s->begun = true;
			s->order = ++begun_count;
			service_run(s);
			again = true;
		}
	}
}

static const struct schema_choice restarts[] = {{"no", RESTART_NO}, {"on-failure", RESTART_FAILURE},
	{"always", RESTART_ALWAYS}, {.name = NULL}};
static const struct schema_choice stop_signals[] = {{"TERM", SIGTERM}, {"INT", SIGINT},
	{"QUIT", SIGQUIT}, {"HUP", SIGHUP}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"KILL", SIGKILL},
	{.name = NULL}};

#define SERVICE(member) .offset = offsetof(struct service, member)

static const struct schema service_schema[] = {
	{.name = "name", .type = SCHEMA_ID, SERVICE(name), .required = true, .help = "its name"},
	{.name = "argv",
		.type = SCHEMA_TEXTS,
		SERVICE(argv),
		.min = 1,
		.max = 256,
		.required = true,
		.help = "the program and its arguments"},
	{.name = "env", .type = SCHEMA_TEXTS, SERVICE(env), .max = 256, .help = "NAME=VALUE texts"},
	{.name = "cwd",
		.type = SCHEMA_PATH,
		SERVICE(cwd),
		.max = 4095,
		.help = "the folder to run in"},
	{.name = "user",
		.type = SCHEMA_TEXT,
		SERVICE(user),
		.min = 1,
		.max = 63,
		.help = "who runs it"},
	{.name = "after",
		.type = SCHEMA_TEXTS,
		SERVICE(after),
		.max = SERVICES_MAX,
		.help = "services to be started before it"},
	{.name = "wait",
		.type = SCHEMA_BOOL,
		SERVICE(wait),
		.value = "off",
		.help = "it is to end: those after it wait for that"},
	{.name = "restart",
		.type = SCHEMA_CHOICE,
		SERVICE(restart),
		.choices = restarts,
		.value = "on-failure",
		.help = "when it is started again"},
	{.name = "stop_signal",
		.type = SCHEMA_CHOICE,
		SERVICE(stop_signal),
		.choices = stop_signals,
		.value = "TERM",
		.help = "what ends it"},
	{.name = "stop_timeout_ms",
		.type = SCHEMA_NUMBER,
		SERVICE(stop_timeout_ms),
		.max = 600000,
		.value = "10000",
		.help = "how long it may take to end"},
	{.name = NULL},
};

static int read_service(const char *path, struct service *s, struct error *err)
{
	json_error_t reason;
	json_t *object = json_load_file(path, JSON_REJECT_DUPLICATES, &reason);
	int ret;

	if (!object)
		return error_set(err, ERROR_BAD_REQUEST, "line %d: %s", reason.line, reason.text);
	if (json_is_object(object))
		ret = schema_fill(service_schema, object, s, "", err);
	else
		ret = error_set(err, ERROR_BAD_REQUEST, "is not an object");
	json_decref(object);
	for (unsigned i = 0; i < service_count && !ret; i++)
		if (!strcmp(services[i].name, s->name))
			ret = error_set(err, ERROR_ALREADY_EXISTS,
				"name: another file has a service '%s'", s->name);
	return ret;
}

static void add_file(const char *folder, const char *name)
{
	struct service *s = &services[service_count];
	struct error err;
	char path[400];

	if (service_count == SERVICES_MAX) {
		log_error("boot: %s/%s: more than %d services", folder, name, SERVICES_MAX);
		return;
	}
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (read_service(path, s, &err)) {
		log_error("boot: %s: %s", path, err.text);
		schema_release(service_schema, s);
		*s = (struct service){0};
		return;
	}
	s->child.exited = service_exited;
	s->timer.fire = service_due;
	service_count++;
}

static void check_order(void)
{
	for (unsigned i = 0; i < service_count; i++) {
		if (!services[i].begun && !may_start(&services[i]))
			log_info("service %s: waits for others", services[i].name);
		for (unsigned j = 0; j < services[i].after.count; j++) {
			bool found = false;

			for (unsigned k = 0; k < service_count; k++)
				found = found ||
					!strcmp(services[k].name, services[i].after.items[j]);
			if (!found)
				log_error("boot: service %s: after: there is no service '%s'",
					services[i].name, services[i].after.items[j]);
		}
	}
}

/* Those that wait for each other would wait for ever: started all the same, with a line. */
static void break_circles(void)
{
	for (unsigned i = 0; i < service_count; i++) {
		bool waits = false;

		for (unsigned j = 0; j < service_count; j++)
			waits = waits ||
				(services[j].begun && services[j].wait && services[j].child.pid);
		if (services[i].begun || waits)
			continue;
		log_error("boot: service %s: after: goes in a circle, it is started now",
			services[i].name);
		services[i].begun = true;
		services[i].order = ++begun_count;
		service_run(&services[i]);
		services_advance();
	}
}

static int is_json(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return entry->d_name[0] != '.' && len > 5 && !strcmp(entry->d_name + len - 5, ".json");
}

void services_start(const char *folder)
{
	struct dirent **entries = NULL;
	int count = scandir(folder, &entries, is_json, alphasort);

	for (int i = 0; i < count; i++) {
		add_file(folder, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	services_advance();
	check_order();
	break_circles();
}

int services_add_agent(char *const *argv)
{
	agent.argv.items = (char **)(uintptr_t)argv;
	agent.child.exited = service_exited;
	agent.timer.fire = service_due;
	agent.begun = true;
	service_run(&agent);
	return 0;
}

/* The one that was started last, of those that run. */
static struct service *last_running(void)
{
	struct service *last = NULL;

	for (unsigned i = 0; i < service_count; i++)
		if (services[i].child.pid && !services[i].ended &&
			(!last || services[i].order > last->order))
			last = &services[i];
	return last;
}

static void stop_next(void)
{
	struct service *s = last_running();
	uint64_t now = now_ns(), left = stop_end_ns > now ? (stop_end_ns - now) / 1000000u : 0;

	if (!s) {
		void (*done)(void) = stop_done;

		stop_done = NULL;
		if (done)
			done();
		return;
	}
	kill(-s->child.pid, (int)s->stop_signal);
	kill(s->child.pid, SIGCONT);
	timer_set(&s->timer, min_u64(s->stop_timeout_ms, left));
}

void services_stop(unsigned timeout_ms, void (*done)(void))
{
	stopping = true;
	stop_done = done;
	stop_end_ns = now_ns() + timeout_ms * (uint64_t)1000000;
	for (unsigned i = 0; i < service_count; i++)
		timer_clear(&services[i].timer);
	stop_next();
}
