/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket under whatever a client may send: the bytes of a connection against the whole table of methods, with a real
 * machine behind it that is created and never runs. Only its borders are replaced when the program is linked (--wrap): there is no
 * KVM, so that powering on, as a reset does, ends in that failure; and no file can be opened but the two in memory that are its
 * disk and its kernel. So nothing on the host is touched, and nothing is ever run.
 *
 * The first byte says how the rest becomes lines: odd, they are the bytes as they are; even, they are a program that makes
 * requests of the table, right in part, with values of any type. Behind them comes a question that must be answered, unless the machine
 * ended or a call before it still waits: and every line that is sent must be an answer or an event, and JSON.
 */
#include "tests/fuzz/input.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/control/control_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define DISK_MAX    MIB(64)
#define EVENTS_MANY 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static void must(bool kept)
{
	if (!kept)
		abort();
}

/* ---- the borders ---- */

static char disk_path[32], kernel_path[32];
static bool sealed;

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_kvm_open(int *fd, struct error *err);
int __wrap_vm_create(struct vm *vm, int kvm_fd, struct error *err);
int __wrap_arch_cpu_model_create(int kvm_fd, const char *name, unsigned cpus,
	struct arch_cpu_model **out, struct error *err);

int __wrap_open(const char *path, int flags, ...)
{
	va_list args;
	int mode;

	va_start(args, flags);
	mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, int) : 0;
	va_end(args);
	if (sealed && strcmp(path, disk_path) != 0 && strcmp(path, kernel_path) != 0) {
		errno = EACCES;
		return -1;
	}
	return __real_open(path, flags, mode);
}

int __wrap_kvm_open(int *fd, struct error *err)
{
	*fd = eventfd(0, EFD_CLOEXEC);
	return *fd < 0 ? error_errno(err, errno, "no KVM") : 0;
}

int __wrap_vm_create(struct vm *vm, int kvm_fd, struct error *err)
{
	(void)kvm_fd;
	memset(vm, 0, sizeof(*vm));
	vm->fd = -1;
	return error_set(err, ERROR_NO_RESOURCE, "there is no KVM here");
}

int __wrap_arch_cpu_model_create(
	int kvm_fd, const char *name, unsigned cpus, struct arch_cpu_model **out, struct error *err)
{
	(void)kvm_fd, (void)name, (void)cpus, (void)err;
	*out = NULL;
	return 0;
}

/* ---- the machine ---- */

static struct machine_config config;
static struct machine *machine;
static struct control *control;

static void make_machine(void)
{
	json_t *options = json_pack("{s:s, s:{s:i, s:s}, s:[{s:s, s:s, s:s}], s:b, s:s, s:s}",
		"kernel", kernel_path, "memory", "size", 1 << 24, "hugepages", "off", "disk",
		"path", disk_path, "id", "data", "cache", "writeback", "paused", 1, "console",
		"off", "seccomp", "off");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct error err;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(!machine_config_from_json(&config, options, &err));
	json_decref(options);
	must(!machine_create(&config, &machine, &err));
	/* It listens where nobody can come: clients are put into it. A name is chosen by the kernel (unix(7), autobind). */
	must(fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address.sun_family)) &&
		!listen(fd, 1));
	config.control_fd = fd;
	must(!control_create(machine, NULL, &control, &err));
}

static void end_machine(void)
{
	control_destroy(control);
	machine_destroy(machine);
	machine_config_free(&config);
	control = NULL;
}

static void stop_loop(struct loop_timer *timer)
{
	(void)timer;
	loop_stop(machine_loop(machine));
}

static void turn_once(void)
{
	static struct loop_timer now = {.fire = stop_loop};
	struct error err;

	loop_timer_set(machine_loop(machine), &now, now_ns());
	must(!loop_run(machine_loop(machine), &err));
	loop_timer_clear(machine_loop(machine), &now);
}

/* ---- what is sent ---- */

struct lines {
	char bytes[1 << 16];
	size_t used;
};

static void __attribute__((format(printf, 2, 3))) add(struct lines *lines, const char *fmt, ...)
{
	size_t room = sizeof(lines->bytes) - lines->used;
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(lines->bytes + lines->used, room, fmt, args);
	va_end(args);
	if (len > 0 && (size_t)len < room)
		lines->used += (size_t)len;
}

static void add_right(struct lines *lines, struct input *in, const struct schema *s)
{
	static const char *const ids[] = {"data", "eth", "new", "x"};
	uint64_t span = s->max - s->min;

	switch (s->type) {
	case SCHEMA_BOOL:
		add(lines, "%s", take(in, 1) & 1 ? "true" : "\"off\"");
		break;
	case SCHEMA_NUMBER:
	case SCHEMA_SIZE:
		add(lines, "%llu",
			(unsigned long long)(s->min + (span == UINT64_MAX
								      ? take(in, 8)
								      : take(in, 8) % (span + 1)) %
							      INT64_MAX));
		break;
	case SCHEMA_TEXTS:
		add(lines, "[\"vm.state\",\"%c\"]", 'a' + (char)(take(in, 1) % 26));
		break;
	case SCHEMA_CHOICE:
	case SCHEMA_WORD:
		add(lines, "\"%s\"", s->choices[0].name);
		break;
	case SCHEMA_OBJECT:
		add(lines, "{}");
		break;
	case SCHEMA_LIST:
		add(lines, "[{}]");
		break;
	case SCHEMA_PATH:
		add(lines, "\"%s\"", take(in, 1) & 1 ? disk_path : "/nowhere");
		break;
	case SCHEMA_MAC:
		add(lines, "\"52:54:00:12:34:%02x\"", (unsigned)take(in, 1));
		break;
	default:
		add(lines, "\"%s\"", ids[take(in, 1) % ARRAY_SIZE(ids)]);
	}
}

static void add_wrong(struct lines *lines, struct input *in)
{
	static const char *const values[] = {"null", "true", "0", "-1", "1.5", "1e400", "\"\"",
		"\"1T\"", "[]", "[[]]", "{}", "{\"a\":1}", "9223372036854775807", "\"\\u0000\"",
		"\"\\ud800\"", "[1,\"x\"]"};

	add(lines, "%s", values[take(in, 1) % ARRAY_SIZE(values)]);
}

static void add_request(struct lines *lines, struct input *in, unsigned count)
{
	const struct rpc_method *method = &control_methods[take(in, 1) % count];
	const char *comma = "";

	add(lines, "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"%s\",\"params\":{",
		(unsigned)take(in, 1), method->name);
	for (const struct schema *s = method->params; s && s->name; s++) {
		unsigned how = (unsigned)take(in, 1);

		if (how % 8 == 0 || (how % 8 < 4 && !s->required))
			continue;
		add(lines, "%s\"%s\":", comma, s->name);
		comma = ",";
		if (how % 8 == 7)
			add_wrong(lines, in);
		else
			add_right(lines, in, s);
	}
	add(lines, "}}\n");
}

static void make_lines(struct lines *lines, const uint8_t *data, size_t size)
{
	struct input in = {.data = data + 1, .left = size - 1};
	unsigned count = 0;

	lines->used = 0;
	if (data[0] & 1) {
		lines->used = min_u64(size - 1, sizeof(lines->bytes) / 2);
		memcpy(lines->bytes, data + 1, lines->used);
		add(lines, "\n");
	} else {
		while (control_methods[count].name)
			count++;
		while (in.left && lines->used < sizeof(lines->bytes) / 2)
			add_request(lines, &in, count);
	}
	add(lines, "{\"jsonrpc\":\"2.0\",\"id\":\"probe\",\"method\":\"vm.info\"}\n");
}

/* ---- what comes back ---- */

struct answers {
	char bytes[MIB(8)];
	size_t used;
	bool probed;
};

static void check_line(struct answers *answers, const char *line, size_t len)
{
	json_t *object = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	const json_t *error = json_object_get(object, "error"), *id = json_object_get(object, "id");

	must(object != NULL);
	if (json_object_get(object, "method"))
		must(!id && !error && json_object_get(json_object_get(object, "params"), "seq"));
	else
		must(id && !error == !!json_object_get(object, "result"));
	must(!error || (json_is_integer(json_object_get(error, "code")) &&
			       json_is_string(json_object_get(error, "message")) &&
			       json_object_get(json_object_get(error, "data"), "kind")));
	answers->probed |= json_is_string(id) && !strcmp(json_string_value(id), "probe");
	json_decref(object);
}

static void read_answers(struct answers *answers, int fd)
{
	char *end, *start = answers->bytes;
	ssize_t n;

	while ((n = recv(fd, answers->bytes + answers->used, sizeof(answers->bytes) - answers->used,
			MSG_DONTWAIT)) > 0)
		answers->used += (size_t)n;
	while ((end = memchr(start, '\n', answers->used - (size_t)(start - answers->bytes)))) {
		check_line(answers, start, (size_t)(end - start));
		start = end + 1;
	}
	answers->used -= (size_t)(start - answers->bytes);
	memmove(answers->bytes, start, answers->used);
	must(answers->used < sizeof(answers->bytes));
}

static bool call_waits(void)
{
	return control->waiters || control->guest_calls ||
	       (control->connections && control->connections->peer.call_count);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct rlimit limit = {DISK_MAX, DISK_MAX};
	int disk = memfd_create("disk", 0), kernel = memfd_create("kernel", 0);
	struct error err;

	(void)argc, (void)argv;
	must(!setrlimit(RLIMIT_FSIZE, &limit));
	must(disk >= 0 && kernel >= 0 && !ftruncate(disk, MIB(1)));
	snprintf(disk_path, sizeof(disk_path), "/proc/self/fd/%d", disk);
	snprintf(kernel_path, sizeof(kernel_path), "/proc/self/fd/%d", kernel);
	must(!log_open("fuzz", LOG_ERROR, "/dev/null", &err));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct lines lines;
	static struct answers answers;
	size_t sent = 0;
	int pair[2];

	if (!size)
		return 0;
	sealed = true;
	signal(SIGXFSZ,
		SIG_IGN); /* as the monitor does; the fuzzer has put in a handler of its own */
	signal(SIGPIPE, SIG_IGN);
	if (!control)
		make_machine();
	make_lines(&lines, data, size);
	answers.used = 0;
	answers.probed = false;
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	connection_open(control, pair[0]);
	for (unsigned round = 0; control->connections && !answers.probed; round++) {
		ssize_t n = send(pair[1], lines.bytes + sent, lines.used - sent, MSG_NOSIGNAL);

		sent += n > 0 ? (size_t)n : 0;
		turn_once();
		read_answers(&answers, pair[1]);
		if (machine_state(machine) == MACHINE_ENDED || (call_waits() && round > 4))
			break;
	}
	must(answers.probed || machine_state(machine) == MACHINE_ENDED || call_waits());
	close(pair[1]);
	/* A machine with a long past costs everyone who subscribes to it, and says less of what one input did. */
	if (machine_state(machine) == MACHINE_ENDED || control->events.last > EVENTS_MANY)
		end_machine();
	while (control && control->connections)
		turn_once();
	must(!control || !control->connection_count);
	sealed = false;
	return 0;
}
