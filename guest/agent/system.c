/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small methods.
 *
 * `ping` is answered by the agent itself and at once, whatever its workers are stuck in. `online` puts what hot-plug
 * brought (CPUs, memory blocks) to use by writing to sysfs. `shutdown` asks process 1, by the signals that systemd and our own
 * process 1 share; another init is asked by its own programs `poweroff` and `reboot`.
 */
#include "guest/agent/system.h"

#include "guest/agent/events.h"
#include "guest/agent/exec.h"
#include "guest/agent/files.h"
#include "guest/agent/freeze.h"
#include "guest/agent/process.h"
#include "guest/agent/server.h"
#include "guest/agent/worker.h"
#include "vmm/base/util.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

bool system_has_our_init;

static void serve_ping(struct rpc_call *call)
{
	struct timespec up;
	char boot_id[64];

	clock_gettime(CLOCK_BOOTTIME, &up);
	file_read("/proc/sys/kernel/random/boot_id", boot_id,
		sizeof(boot_id)); /* from memory: never blocks */
	rpc_reply(call,
		json_pack("{s:s, s:I, s:s, s:i, s:b, s:i, s:i, s:i, s:i}", "version",
			BULKHEAD_VERSION, "uptime_ms",
			(json_int_t)up.tv_sec * 1000 + up.tv_nsec / 1000000, "boot_id", boot_id,
			"pid", (int)getpid(), "frozen", freeze_active(), "connections",
			(int)server_conn_count(), "commands", (int)exec_count(), "workers",
			(int)worker_count(), "stuck_workers", (int)worker_stuck_count()));
}

struct clock_params {
	uint64_t time_ns;
};

int system_set_clock(uint64_t time_ns, struct error *err)
{
	struct timespec time = {.tv_sec = (time_t)(time_ns / 1000000000u),
		.tv_nsec = (long)(time_ns % 1000000000u)};

	return clock_settime(CLOCK_REALTIME, &time) < 0
		       ? error_errno(err, errno, "cannot set the clock")
		       : 0;
}

static json_t *clock_run(const void *params, struct error *err)
{
	const struct clock_params *p = params;
	struct timespec now;
	json_int_t before;

	clock_gettime(CLOCK_REALTIME, &now);
	before = (json_int_t)now.tv_sec * 1000000000 + now.tv_nsec;
	if (system_set_clock(p->time_ns, err))
		return NULL;
	return json_pack(
		"{s:I, s:I}", "before_ns", before, "step_ns", (json_int_t)p->time_ns - before);
}

static void serve_clock(struct rpc_call *call)
{
	worker_serve(call, 5000, clock_run);
}

struct entropy_params {
	struct schema_bytes data;
};

/* RNDADDENTROPY credits the bytes to the pool, RNDRESEEDCRNG makes the generator take them in now: random(4). */
int system_add_entropy(const struct schema_bytes *bytes, struct error *err)
{
	_cleanup_close_ int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	_cleanup_free_ struct rand_pool_info *info = malloc(sizeof(*info) + bytes->size);

	if (fd < 0 || !info)
		return error_errno(err, errno, "cannot open /dev/urandom");
	info->entropy_count = (int)bytes->size * 8;
	info->buf_size = (int)bytes->size;
	memcpy(info->buf, bytes->data, bytes->size);
	if (ioctl(fd, RNDADDENTROPY, info) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		return error_errno(err, errno, "cannot add to the kernel's random numbers");
	return 0;
}

static json_t *entropy_run(const void *params, struct error *err)
{
	const struct entropy_params *p = params;

	return system_add_entropy(&p->data, err) ? NULL
						 : json_pack("{s:i}", "bytes", (int)p->data.size);
}

static void serve_entropy(struct rpc_call *call)
{
	worker_serve(call, 5000, entropy_run);
}

/* Write `how` into FOLDER/NAME<number>/`file` wherever the file `online` beside it says 0. */
static void put_online(const char *folder, const char *name, const char *file, const char *how,
	int *done, int *failed)
{
	DIR *dir = opendir(folder);
	size_t len = strlen(name);
	struct dirent *entry;
	struct error err;

	while (dir && (entry = readdir(dir))) {
		char path[320], text[8];

		if (strncmp(entry->d_name, name, len) != 0 ||
			!isdigit((unsigned char)entry->d_name[len]))
			continue;
		snprintf(path, sizeof(path), "%.128s/%.64s/online", folder, entry->d_name);
		if (!file_read(path, text, sizeof(text)) || text[0] != '0')
			continue;
		snprintf(path, sizeof(path), "%.128s/%.64s/%s", folder, entry->d_name, file);
		if (file_write(path, how, &err))
			(*failed)++;
		else
			(*done)++;
	}
	if (dir)
		closedir(dir);
}

struct online_params {
	bool movable;
};

static json_t *online_run(const void *params, struct error *err)
{
	const struct online_params *p = params;
	int cpus = 0, blocks = 0, cpus_failed = 0, blocks_failed = 0;
	char text[32];

	(void)err;
	put_online("/sys/devices/system/cpu", "cpu", "online", "1", &cpus, &cpus_failed);
	put_online("/sys/devices/system/memory", "memory", "state",
		p->movable ? "online_movable" : "online", &blocks, &blocks_failed);
	file_read("/sys/devices/system/memory/block_size_bytes", text, sizeof(text));
	return json_pack("{s:i, s:i, s:i, s:i, s:I}", "cpus", cpus, "memory_blocks", blocks,
		"cpus_failed", cpus_failed, "memory_blocks_failed", blocks_failed,
		"memory_block_size", (json_int_t)strtoull(text, NULL, 16));
}

static void serve_online(struct rpc_call *call)
{
	worker_serve(call, 30000, online_run);
}

enum shutdown_mode { SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT };

struct shutdown_params {
	unsigned mode, timeout_ms;
};

static json_t *shutdown_run(const void *params, struct error *err)
{
	const struct shutdown_params *p = params;
	bool off = p->mode == SHUTDOWN_POWEROFF;
	const char *program = off ? "/sbin/poweroff" : "/sbin/reboot";
	char *argv[] = {(char *)(uintptr_t)program, NULL};
	struct program program_argv = {
		.argv = argv, .in = STDIN_FILENO, .out = STDOUT_FILENO, .error = STDERR_FILENO};
	struct stat st;
	pid_t pid;

	if (system_has_our_init || !stat("/run/systemd/system", &st)) {
		union sigval value = {.sival_int = (int)p->timeout_ms};

		if (sigqueue(1, off ? SIGNAL_POWEROFF : SIGNAL_REBOOT, value) < 0) {
			error_errno(err, errno, "cannot ask process 1");
			return NULL;
		}
		return json_pack("{s:s, s:s}", "mode", off ? "poweroff" : "reboot", "by", "signal");
	}
	if (access(program, X_OK) < 0) {
		error_set(err, ERROR_INCOMPATIBLE,
			"process 1 is neither systemd nor this agent, and there is no %s", program);
		return NULL;
	}
	pid = process_fork();
	if (!pid) {
		process_exec(&program_argv, -1, err);
		_exit(127);
	}
	if (pid < 0) {
		error_errno(err, errno, "cannot run %s", program);
		return NULL;
	}
	return json_pack("{s:s, s:s}", "mode", off ? "poweroff" : "reboot", "by", program);
}

static void serve_shutdown(struct rpc_call *call)
{
	if (!freeze_refuses(call))
		worker_serve(call, 5000, shutdown_run);
}

static const struct schema clock_schema[] = {
	{.name = "time_ns",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct clock_params, time_ns),
		.size = 8,
		.min = 1000000000,
		.max = INT64_MAX,
		.required = true,
		.help = "nanoseconds since 1970, UTC"},
	{.name = NULL},
};

static const struct schema online_schema[] = {
	{.name = "movable",
		.type = SCHEMA_BOOL,
		.offset = offsetof(struct online_params, movable),
		.value = "off",
		.help = "memory is put where the kernel keeps nothing that it cannot move, so that it can be given back"},
	{.name = NULL},
};

static const struct schema entropy_schema[] = {
	{.name = "data",
		.type = SCHEMA_BYTES,
		.offset = offsetof(struct entropy_params, data),
		.min = 16,
		.max = 4096,
		.required = true,
		.help = "random bytes that nobody else has"},
	{.name = NULL},
};

static const struct schema_choice modes[] = {
	{"poweroff", SHUTDOWN_POWEROFF}, {"reboot", SHUTDOWN_REBOOT}, {.name = NULL}};

static const struct schema shutdown_schema[] = {
	{.name = "mode",
		.type = SCHEMA_CHOICE,
		.offset = offsetof(struct shutdown_params, mode),
		.choices = modes,
		.value = "poweroff",
		.help = "how it ends"},
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct shutdown_params, timeout_ms),
		.min = 0,
		.max = 600000,
		.value = "30000",
		.help = "where the agent's own process 1 runs the guest: how long services may take together"},
	{.name = NULL},
};

const struct rpc_method system_methods[] = {
	{"ping", serve_ping, NULL, 0, "Is answered at once.",
		"{version, uptime_ms, boot_id, pid, frozen, connections, commands, workers, stuck_workers}"},
	{"clock.set", serve_clock, clock_schema, sizeof(struct clock_params),
		"Sets the guest's clock.", "{before_ns, step_ns}"},
	{"entropy.reseed", serve_entropy, entropy_schema, sizeof(struct entropy_params),
		"Mixes bytes into the kernel's random numbers, credits them, and reseeds.",
		"{bytes}"},
	{"online", serve_online, online_schema, sizeof(struct online_params),
		"Puts CPUs and memory blocks that are there but not in use online.",
		"{cpus, memory_blocks, cpus_failed, memory_blocks_failed, memory_block_size}"},
	{"shutdown", serve_shutdown, shutdown_schema, sizeof(struct shutdown_params),
		"Asks process 1 to end the guest in order; answered before it does.", "{mode, by}"},
	{.name = NULL},
};
