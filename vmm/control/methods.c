/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of methods. The server checks by it, rpc.discover and docs/control-api.md are made from it,
 * so that no method can lack its documents and no parameter its check.
 */
#include "guest/agent/identity.h"
#include "vmm/control/control_private.h"

#include "vmm/kvm/vcpu.h"
#include "vmm/transfer/snapshot_members.h"

#include <stddef.h>

#define TIMEOUT_MAX    3600000
#define RESIZE_TIMEOUT "30000"
#define SINCE_MAX      ((uint64_t)1 << 53) /* what every JSON reader keeps exactly */

static const struct schema subscribe_params[] = {
	{.name = "types",
		.type = SCHEMA_TEXTS,
		.offset = offsetof(struct subscribe_params, types),
		.max = 32,
		.fallback = "all",
		.help = "the types of events that are wanted"},
	{.name = "since",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct subscribe_params, since),
		.size = sizeof(uint64_t),
		.max = SINCE_MAX,
		.fallback = "none of the past",
		.help = "the number of the last event that was seen: later ones that are still kept are sent first; all of them where that number has not been reached"},
	{.name = NULL},
};

static const struct schema shutdown_params[] = {
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct shutdown_params, timeout_ms),
		.size = sizeof(unsigned),
		.min = 1,
		.max = TIMEOUT_MAX,
		.value = "60000",
		.help = "how long the guest may take"},
	{.name = NULL},
};

static const struct schema resize_params[] = {
	{.name = "id",
		.type = SCHEMA_ID,
		.offset = offsetof(struct resize_params, id),
		.required = true,
		.help = "the disk"},
	{.name = "size",
		.type = SCHEMA_SIZE,
		.offset = offsetof(struct resize_params, size),
		.min = 512,
		.max = (uint64_t)1 << 62,
		.fallback = "as its file is now",
		.help = "bytes, not less than it has"},
	{.name = NULL},
};

static const struct schema cpu_resize_params[] = {
	{.name = "count",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct cpu_resize_params, count),
		.size = sizeof(unsigned),
		.required = true,
		.min = 1,
		.max = VCPUS_MAX,
		.help = "how many it is to have, up to cpus.max"},
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct cpu_resize_params, timeout_ms),
		.size = sizeof(unsigned),
		.min = 1,
		.max = TIMEOUT_MAX,
		.value = RESIZE_TIMEOUT,
		.help = "how long the guest may take"},
	{.name = NULL},
};

static const struct schema memory_resize_params[] = {
	{.name = "size",
		.type = SCHEMA_SIZE,
		.offset = offsetof(struct memory_resize_params, size),
		.required = true,
		.min = 1,
		.max = (uint64_t)1 << 62,
		.help = "how much it is to have, from memory.size at the start up to memory.max"},
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct memory_resize_params, timeout_ms),
		.size = sizeof(unsigned),
		.min = 1,
		.max = TIMEOUT_MAX,
		.value = RESIZE_TIMEOUT,
		.help = "how long the guest may take"},
	{.name = NULL},
};

static const struct schema snapshot_params[] = {
	{.name = "path",
		.type = SCHEMA_PATH,
		.offset = offsetof(struct snapshot_params, path),
		.size = sizeof(char *),
		.required = true,
		.max = 4095,
		.help = "the folder to make; it appears when the snapshot is whole"},
#include "vmm/transfer/snapshot_members.inc"
	{.name = "wait",
		.type = SCHEMA_BOOL,
		.offset = offsetof(struct snapshot_params, wait),
		.size = sizeof(bool),
		.value = "off",
		.help = "answer at the end, with the job's result, and not at once with its number"},
	{.name = NULL},
};

#define LIMIT(name_, field, type_, help_)                                                          \
	{                                                                                          \
		.name = name_, .type = type_, .offset = offsetof(struct limit_params, field),      \
		.size = sizeof(uint64_t), .max = (uint64_t)1 << 53, .fallback = "as it was",       \
		.help = help_                                                                      \
	}

static const struct schema disk_limit_params[] = {
	{.name = "id",
		.type = SCHEMA_ID,
		.offset = offsetof(struct limit_params, id),
		.required = true,
		.help = "the disk"},
	LIMIT("iops", operations, SCHEMA_NUMBER, "requests a second; 0: no limit"),
	LIMIT("bps", bps, SCHEMA_SIZE, "bytes a second; 0: no limit"),
	{.name = NULL},
};

static const struct schema net_limit_params[] = {
	{.name = "id",
		.type = SCHEMA_ID,
		.offset = offsetof(struct limit_params, id),
		.required = true,
		.help = "the network device"},
	LIMIT("pps", operations, SCHEMA_NUMBER, "packets a second, each direction; 0: no limit"),
	LIMIT("bps", bps, SCHEMA_SIZE, "bytes a second, each direction; 0: no limit"),
	{.name = NULL},
};

static const struct schema_choice plug_kinds[] = {{"disk.attach", PLUG_DISK},
	{"net.attach", PLUG_NET}, {"disk.detach", UNPLUG_DISK}, {"net.detach", UNPLUG_NET},
	{NULL, 0}};

static const struct schema batch_members[] = {
	{.name = "method",
		.type = SCHEMA_CHOICE,
		.offset = offsetof(struct batch_call, kind),
		.size = sizeof(enum plug_kind),
		.required = true,
		.choices = plug_kinds,
		.help = "what to do"},
	{.name = "params",
		.type = SCHEMA_JSON,
		.offset = offsetof(struct batch_call, params),
		.required = true,
		.help = "its parameters"},
	{.name = NULL},
};

static const struct schema batch_schema[] = {
	{.name = "calls",
		.type = SCHEMA_LIST,
		.members = batch_members,
		.offset = offsetof(struct batch_params, calls),
		.size = sizeof(struct batch_call),
		.extra = offsetof(struct batch_params, count),
		.max = BATCH_MAX,
		.required = true,
		.help = "{method, params} each, of disk.attach, disk.detach, net.attach and net.detach; carried out in this order"},
	{.name = NULL},
};

#define JOB_NUMBER                                                                                 \
	.name = "job", .type = SCHEMA_NUMBER, .offset = offsetof(struct job_params, job),          \
	.size = sizeof(uint64_t), .max = SINCE_MAX

static const struct schema job_list_params[] = {
	{JOB_NUMBER, .fallback = "all", .help = "the number of one"}, {.name = NULL}};

static const struct schema job_cancel_params[] = {
	{JOB_NUMBER, .min = 1, .required = true, .help = "its number"}, {.name = NULL}};

#define EXEC(member) .offset = offsetof(struct exec_params, member)

/* As the agent has them, which checks them again. */
static const struct schema exec_params[] = {
	{.name = "argv",
		.type = SCHEMA_TEXTS,
		EXEC(argv),
		.required = true,
		.min = 1,
		.max = 1024,
		.help = "the program, looked for in PATH, and its arguments"},
	{.name = "env",
		.type = SCHEMA_TEXTS,
		EXEC(env),
		.max = 1024,
		.fallback = "none",
		.help = "NAME=VALUE texts, beside PATH, HOME, USER and LANG"},
	{.name = "cwd",
		.type = SCHEMA_PATH,
		EXEC(cwd),
		.max = 4095,
		.fallback = "/",
		.help = "the folder to run in"},
	{.name = "user",
		.type = SCHEMA_TEXT,
		EXEC(user),
		.min = 1,
		.max = 63,
		.fallback = "root",
		.help = "a name or number of the guest's /etc/passwd, or UID:GID"},
	{.name = "stdin",
		.type = SCHEMA_STRING,
		EXEC(input),
		.max = 720896,
		.fallback = "nothing",
		.help = "text for its standard input"},
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		EXEC(timeout_ms),
		.size = sizeof(unsigned),
		.max = 604800000,
		.value = "60000",
		.help = "end it after this long; 0: never"},
	{.name = NULL},
};

static const struct schema freeze_params[] = {
	{.name = "paths",
		.type = SCHEMA_TEXTS,
		.offset = offsetof(struct freeze_params, paths),
		.min = 1,
		.max = 128,
		.fallback = "all writable file systems on disks",
		.help = "mount points"},
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct freeze_params, timeout_ms),
		.size = sizeof(unsigned),
		.min = 100,
		.max = 600000,
		.value = "10000",
		.help = "everything is thawed by itself after this long"},
	{.name = NULL},
};

/* Members that are UINT64_MAX where a call does not give them. */
static const struct subscribe_params subscribe_blank = {.since = UINT64_MAX};
static const struct attach_net_params attach_net_blank = {.net = {.fd = -1}};
static const struct limit_params limit_blank = {.operations = UINT64_MAX, .bps = UINT64_MAX};

const struct rpc_method control_methods[] = {
	{.name = "rpc.discover",
		.serve = serve_discover,
		.summary = "Describes all methods as an OpenRPC document.",
		.result = "{openrpc, info, methods, components}"},
	{.name = "vm.info",
		.serve = serve_vm_info,
		.summary =
			"Tells what the VM is: its state, its configuration as it is now, its devices; and how much of its memory is there, while that is still being read from a snapshot.",
		.result =
			"{name, state, uptime_ms, version, pid, config, devices: [{id, type, address, driven}], filling?: {done, total}}"},
	{.name = "vm.start",
		.serve = serve_vm_start,
		.summary = "Starts a VM that was made with --paused.",
		.result = "{state}"},
	{.name = "vm.pause",
		.serve = serve_vm_pause,
		.summary =
			"Stops all vCPUs; answered when none runs any more. What is paused stays so.",
		.result = "{state}"},
	{.name = "vm.resume",
		.serve = serve_vm_resume,
		.summary = "Lets the vCPUs go on.",
		.result = "{state}"},
	{.name = "vm.reset",
		.serve = serve_vm_reset,
		.summary =
			"Resets the guest, as its own reboot would; answered when it has begun anew.",
		.result = "{state}"},
	{.name = "vm.shutdown",
		.serve = serve_vm_shutdown,
		.params = shutdown_params,
		.params_size = sizeof(struct shutdown_params),
		.summary =
			"Asks the guest's agent to shut it down, or presses the power button where no agent answers; answered when the guest has shut down. When its time is up the error is guest_timeout, and the VM runs on.",
		.result = "{state, how}"},
	{.name = "vm.kill",
		.serve = serve_vm_kill,
		.summary = "Ends the VM and its process at once.",
		.result = "{state}"},
	{.name = "cpu.resize",
		.serve = serve_cpu_resize,
		.params = cpu_resize_params,
		.params_size = sizeof(struct cpu_resize_params),
		.summary =
			"Adds vCPUs up to cpus.max, or takes some away; answered when the guest has taken them, or let go of them. guest_refused and guest_timeout say what it has. The agent, where there is one, puts new ones to use.",
		.result =
			"{count, online?}: how many the guest has; how many the agent put online, where there is an agent"},
	{.name = "memory.resize",
		.serve = serve_memory_resize,
		.params = memory_resize_params,
		.params_size = sizeof(struct memory_resize_params),
		.summary =
			"Adds memory up to memory.max, or gives back what was added; answered when the guest has taken it, or let go of it. guest_refused and guest_timeout say what it has. The agent, where there is one, puts what came to use so that it can go again.",
		.result =
			"{size, online_blocks?}: how much the guest has; how many blocks the agent put online, where there is an agent"},
	{.name = "disk.list",
		.serve = serve_disk_list,
		.summary = "Lists the disks with their options as they are now.",
		.result = "{disks: [{id, path, size, address, counters, …as --disk}]}"},
	{.name = "disk.attach",
		.serve = serve_disk_attach,
		.params = attach_disk_schema,
		.params_size = sizeof(struct attach_disk_params),
		.summary =
			"Plugs a disk in; answered when a driver in the guest runs it. When its time is up, or the guest cannot take it, it is gone again.",
		.result = "{id, address}"},
	{.name = "disk.detach",
		.serve = serve_disk_detach,
		.params = detach_disk_schema,
		.params_size = sizeof(struct detach_params),
		.summary =
			"Asks the guest to let go of a disk; answered when it has, and the file is closed. Waits while the guest has it mounted or claimed: then the error is guest_timeout, and the disk stays usable.",
		.result = "{id}"},
	{.name = "disk.resize",
		.serve = serve_disk_resize,
		.params = resize_params,
		.params_size = sizeof(struct resize_params),
		.summary =
			"Grows a disk's file, or takes up its present size, and tells the guest.",
		.result = "{id, size}"},
	{.name = "disk.limit",
		.serve = serve_disk_limit,
		.params = disk_limit_params,
		.params_size = sizeof(struct limit_params),
		.params_blank = &limit_blank,
		.summary = "Sets a disk's limits, from the next request on.",
		.result = "{id, iops, bps}"},
	{.name = "net.list",
		.serve = serve_net_list,
		.summary = "Lists the network devices with their options as they are now.",
		.result = "{nets: [{id, tap, address, counters, …as --net}]}"},
	{.name = "net.attach",
		.serve = serve_net_attach,
		.params = attach_net_schema,
		.params_size = sizeof(struct attach_net_params),
		.params_blank = &attach_net_blank,
		.summary = "Plugs a network device in; as disk.attach.",
		.result = "{id, address}"},
	{.name = "net.detach",
		.serve = serve_net_detach,
		.params = detach_net_schema,
		.params_size = sizeof(struct detach_params),
		.summary =
			"Asks the guest to let go of a network device; answered when it has, and the tap is closed.",
		.result = "{id}"},
	{.name = "net.limit",
		.serve = serve_net_limit,
		.params = net_limit_params,
		.params_size = sizeof(struct limit_params),
		.params_blank = &limit_blank,
		.summary = "Sets a network device's limits, from the next packet on.",
		.result = "{id, pps, bps}"},
	{.name = "batch",
		.serve = serve_batch,
		.params = batch_schema,
		.params_size = sizeof(struct batch_params),
		.summary =
			"Attaches and detaches several devices as one: all of them, or none. Where one fails, those before it are undone.",
		.result = "{results: […]}: each call's own, in their order"},
	{.name = "snapshot.create",
		.serve = serve_snapshot_create,
		.params = snapshot_params,
		.params_size = sizeof(struct snapshot_params),
		.summary =
			"Takes a snapshot: memory, state and disks of one point in time. Answered at once with its job; job.progress, job.done and job.failed tell the rest. The folder is there whole or not at all, and the VM goes on in any case.",
		.result =
			"{job}; the job's result, or the answer with wait: {id, path, parent?, background, bytes, passes, pause_bytes, slowed_ms, elapsed_ms, frozen?, pause_ms: {total, quiesce, state, memory, disks}}"},
	{.name = "job.list",
		.serve = serve_job_list,
		.params = job_list_params,
		.params_size = sizeof(struct job_params),
		.summary =
			"Lists the calls that take their time: those under way, and the newest that have ended, with their outcome.",
		.result =
			"{jobs: [{job, method, params, state, started_ns, ended_ns, progress, result or error}]}; state: running, done or failed"},
	{.name = "job.cancel",
		.serve = serve_job_cancel,
		.params = job_cancel_params,
		.params_size = sizeof(struct job_params),
		.summary =
			"Calls a job back, where it has not gone too far: it ends with the error cancelled, and all is as it was.",
		.result = "the job, as job.list has it"},
	{.name = "guest.ping",
		.serve = serve_guest_ping,
		.summary = "Asks the guest's agent whether it is there.",
		.result = "{version, uptime_ms, boot_id, …}: as the agent's ping, see agent.md"},
	{.name = "guest.info",
		.serve = serve_guest_info,
		.summary = "Tells the guest's own statistics, by its agent.",
		.result =
			"{kernel, os, hostname, cpus, memory, disks, …}: as the agent's info, see agent.md"},
	{.name = "guest.exec",
		.serve = serve_guest_exec,
		.params = exec_params,
		.params_size = sizeof(struct exec_params),
		.summary =
			"Runs a command in the guest; answered when it has ended. The agent itself streams, and takes more options: see agent.md.",
		.result =
			"{status or signal, timed_out, stdout, stderr, truncated, stdout_bytes, stderr_bytes}: the first MiB of each stream as text"},
	{.name = "guest.freeze",
		.serve = serve_guest_freeze,
		.params = freeze_params,
		.params_size = sizeof(struct freeze_params),
		.summary =
			"Writes everything out and stops all writing to the guest's file systems: all of them, or none.",
		.result = "{frozen: [path], skipped: [path]}"},
	{.name = "guest.thaw",
		.serve = serve_guest_thaw,
		.summary = "Lets the file systems go on.",
		.result = "{thawed: [path]}"},
	{.name = "guest.identify",
		.serve = serve_guest_identify,
		.params = identity_schema,
		.params_size = sizeof(struct identity_params),
		.summary =
			"Makes the guest another one than the guest it is a clone of. The host's time and fresh random bytes go along where none are given.",
		.result =
			"{hostname, machine_id, interfaces, complete, steps: [{step, done, error}]}: as the agent's identity.change, see agent.md"},
	{.name = "metrics.get",
		.serve = serve_metrics_get,
		.summary = "Tells what the VM does, in Prometheus' text format.",
		.result = "the text, as a string"},
	{.name = "events.subscribe",
		.serve = serve_events_subscribe,
		.params = subscribe_params,
		.params_size = sizeof(struct subscribe_params),
		.params_blank = &subscribe_blank,
		.summary =
			"Sends this connection a notification for each event from now on, and those since a number.",
		.result =
			"{first, last}: the numbers of the first event that is sent, and of the newest so far; a first greater than since + 1 says that some are lost"},
	{.name = NULL},
};
