/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control API's methods as functions. Made by vmm/lib/generate from the VM's own table of methods: do not edit.
 *
 * Each method has two: bulkhead_call_NAME() is bulkhead_vm_call(), bulkhead_call_NAME_wait() is bulkhead_vm_call_wait(), see bulkhead.h;
 * with a structure of parameters instead of JSON text, where the method has any. What the structure points to is used
 * during the call only. A member that is NULL is not given, and the VM's default holds:
 *
 *     struct bulkhead_call_disk_limit limit = {.struct_size = sizeof(limit), .id = "data", .iops = &(uint64_t){5000}};
 *     bulkhead_call_disk_limit(vm, &limit, done, user, &error);
 *
 * `params` itself may be NULL where no member is required. Results are JSON text, with the members named here.
 */
#ifndef BULKHEAD_METHODS_H
#define BULKHEAD_METHODS_H

#include <bulkhead.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * vm.info. Tells what the VM is: its state, its configuration as it is now, its devices; and how much of its
 * memory is there, while that is still being read from a snapshot. Result: {name, state, uptime_ms, version,
 * pid, config, devices: [{id, type, address, driven}], filling?: {done, total}}
 */
BULKHEAD_API int bulkhead_call_vm_info(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_vm_info_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err);

/* vm.start. Starts a VM that was made with --paused. Result: {state} */
BULKHEAD_API int bulkhead_call_vm_start(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_vm_start_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err);

/* vm.pause. Stops all vCPUs; answered when none runs any more. What is paused stays so. Result: {state} */
BULKHEAD_API int bulkhead_call_vm_pause(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_vm_pause_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err);

/* vm.resume. Lets the vCPUs go on. Result: {state} */
BULKHEAD_API int bulkhead_call_vm_resume(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_vm_resume_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err);

/* vm.reset. Resets the guest, as its own reboot would; answered when it has begun anew. Result: {state} */
BULKHEAD_API int bulkhead_call_vm_reset(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_vm_reset_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err);

/*
 * vm.shutdown. Asks the guest's agent to shut it down, or presses the power button where no agent answers;
 * answered when the guest has shut down. When its time is up the error is guest_timeout, and the VM runs on.
 * Result: {state, how}
 */
struct bulkhead_call_vm_shutdown {
	size_t struct_size; /* of this structure */
	/* how long the guest may take; default: 60000 */
	const uint64_t *timeout_ms;
};
BULKHEAD_API int bulkhead_call_vm_shutdown(struct bulkhead_vm *vm,
	const struct bulkhead_call_vm_shutdown *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_vm_shutdown_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_vm_shutdown *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/* vm.kill. Ends the VM and its process at once. Result: {state} */
BULKHEAD_API int bulkhead_call_vm_kill(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_vm_kill_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err);

/*
 * cpu.resize. Adds vCPUs up to cpus.max, or takes some away; answered when the guest has taken them, or let go
 * of them. guest_refused and guest_timeout say what it has. The agent, where there is one, puts new ones to use.
 * Result: {count, online?}: how many the guest has; how many the agent put online, where there is an agent
 */
struct bulkhead_call_cpu_resize {
	size_t struct_size; /* of this structure */
	/* how many it is to have, up to cpus.max; required */
	uint64_t count;
	/* how long the guest may take; default: 30000 */
	const uint64_t *timeout_ms;
};
BULKHEAD_API int bulkhead_call_cpu_resize(struct bulkhead_vm *vm,
	const struct bulkhead_call_cpu_resize *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_cpu_resize_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_cpu_resize *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/*
 * memory.resize. Adds memory up to memory.max, or gives back what was added; answered when the guest has taken
 * it, or let go of it. guest_refused and guest_timeout say what it has. The agent, where there is one, puts what
 * came to use so that it can go again. Result: {size, online_blocks?}: how much the guest has; how many blocks
 * the agent put online, where there is an agent
 */
struct bulkhead_call_memory_resize {
	size_t struct_size; /* of this structure */
	/* how much it is to have, from memory.size at the start up to memory.max; required */
	uint64_t size;
	/* how long the guest may take; default: 30000 */
	const uint64_t *timeout_ms;
};
BULKHEAD_API int bulkhead_call_memory_resize(struct bulkhead_vm *vm,
	const struct bulkhead_call_memory_resize *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_memory_resize_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_memory_resize *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/*
 * disk.list. Lists the disks with their options as they are now. Result: {disks: [{id, path, size, address,
 * counters, …as --disk}]}
 */
BULKHEAD_API int bulkhead_call_disk_list(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_disk_list_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err);

/*
 * disk.attach. Plugs a disk in; answered when a driver in the guest runs it. When its time is up, or the guest
 * cannot take it, it is gone again. Result: {id, address}
 */
struct bulkhead_call_disk_attach {
	size_t struct_size; /* of this structure */
	/* a raw file or a block device, locked while in use; required */
	const char *path;
	/* the device's name; default: disk0, disk1, … */
	const char *id;
	/* the guest cannot write; several VMs may share the file; default: off */
	const bool *readonly;
	/*
	 * how writes go through the host's page cache; a flush is a flush in every mode; default: none where the
	 * file allows O_DIRECT, else writeback
	 */
	const char *cache;
	/* request queues, each with a thread of its own; default: 1 */
	const uint64_t *queues;
	/* serial number, at most 20 bytes; default: the id */
	const char *serial;
	/* the guest may give space back (discard and write zeroes); default: off */
	const bool *discard;
	/* requests a second; default: no limit */
	const uint64_t *iops;
	/* bytes a second; default: no limit */
	const uint64_t *bps;
	/* how long the guest may take; default: 30000 */
	const uint64_t *timeout_ms;
	/*
	 * what the disk begins as: only read, and shared with others; the path has what differs, and is made
	 * when it is missing
	 */
	const char *base;
};
BULKHEAD_API int bulkhead_call_disk_attach(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_attach *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_disk_attach_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_attach *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/*
 * disk.detach. Asks the guest to let go of a disk; answered when it has, and the file is closed. Waits while the
 * guest has it mounted or claimed: then the error is guest_timeout, and the disk stays usable. Result: {id}
 */
struct bulkhead_call_disk_detach {
	size_t struct_size; /* of this structure */
	/* the disk; required */
	const char *id;
	/* how long the guest may take; default: 30000 */
	const uint64_t *timeout_ms;
	/* take it away even while the guest has it mounted or claimed; default: off */
	const bool *force;
};
BULKHEAD_API int bulkhead_call_disk_detach(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_detach *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_disk_detach_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_detach *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/* disk.resize. Grows a disk's file, or takes up its present size, and tells the guest. Result: {id, size} */
struct bulkhead_call_disk_resize {
	size_t struct_size; /* of this structure */
	/* the disk; required */
	const char *id;
	/* bytes, not less than it has; default: as its file is now */
	const uint64_t *size;
};
BULKHEAD_API int bulkhead_call_disk_resize(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_resize *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_disk_resize_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_resize *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/* disk.limit. Sets a disk's limits, from the next request on. Result: {id, iops, bps} */
struct bulkhead_call_disk_limit {
	size_t struct_size; /* of this structure */
	/* the disk; required */
	const char *id;
	/* requests a second; 0: no limit; default: as it was */
	const uint64_t *iops;
	/* bytes a second; 0: no limit; default: as it was */
	const uint64_t *bps;
};
BULKHEAD_API int bulkhead_call_disk_limit(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_limit *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_disk_limit_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_disk_limit *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/*
 * net.list. Lists the network devices with their options as they are now. Result: {nets: [{id, tap, address,
 * counters, …as --net}]}
 */
BULKHEAD_API int bulkhead_call_net_list(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_net_list_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err);

/* net.attach. Plugs a network device in; as disk.attach. Result: {id, address} */
struct bulkhead_call_net_attach {
	size_t struct_size; /* of this structure */
	/* a tap device of the host, by name */
	const char *tap;
	/* or an open tap descriptor that bulkhead inherits */
	const uint64_t *fd;
	/* the device's name; default: net0, net1, … */
	const char *id;
	/* the guest's Ethernet address; default: derived from the VM's name and the id */
	const char *mac;
	/* largest packet, told to the guest; default: as the tap says */
	const uint64_t *mtu;
	/* queue pairs; default: 1 */
	const uint64_t *queues;
	/* let the host's kernel move the packets (vhost-net); default: off */
	const bool *vhost;
	/* packets a second, each direction; default: no limit */
	const uint64_t *pps;
	/* bytes a second, each direction; default: no limit */
	const uint64_t *bps;
	/* how long the guest may take; default: 30000 */
	const uint64_t *timeout_ms;
};
BULKHEAD_API int bulkhead_call_net_attach(struct bulkhead_vm *vm,
	const struct bulkhead_call_net_attach *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_net_attach_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_net_attach *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/*
 * net.detach. Asks the guest to let go of a network device; answered when it has, and the tap is closed. Result:
 * {id}
 */
struct bulkhead_call_net_detach {
	size_t struct_size; /* of this structure */
	/* the network device; required */
	const char *id;
	/* how long the guest may take; default: 30000 */
	const uint64_t *timeout_ms;
};
BULKHEAD_API int bulkhead_call_net_detach(struct bulkhead_vm *vm,
	const struct bulkhead_call_net_detach *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_net_detach_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_net_detach *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/* net.limit. Sets a network device's limits, from the next packet on. Result: {id, pps, bps} */
struct bulkhead_call_net_limit {
	size_t struct_size; /* of this structure */
	/* the network device; required */
	const char *id;
	/* packets a second, each direction; 0: no limit; default: as it was */
	const uint64_t *pps;
	/* bytes a second, each direction; 0: no limit; default: as it was */
	const uint64_t *bps;
};
BULKHEAD_API int bulkhead_call_net_limit(struct bulkhead_vm *vm,
	const struct bulkhead_call_net_limit *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_net_limit_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_net_limit *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/*
 * batch. Attaches and detaches several devices as one: all of them, or none. Where one fails, those before it
 * are undone. Result: {results: […]}: each call's own, in their order
 */
struct bulkhead_call_batch {
	size_t struct_size; /* of this structure */
	/*
	 * {method, params} each, of disk.attach, disk.detach, net.attach and net.detach; carried out in this
	 * order; as JSON text; required
	 */
	const char *calls;
};
BULKHEAD_API int bulkhead_call_batch(struct bulkhead_vm *vm,
	const struct bulkhead_call_batch *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_batch_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_batch *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/*
 * snapshot.create. Takes a snapshot: memory, state and disks of one point in time. Answered at once with its
 * job; job.progress, job.done and job.failed tell the rest. The folder is there whole or not at all, and the VM
 * goes on in any case. Result: {job}; the job's result, or the answer with wait: {id, path, parent?, background,
 * bytes, passes, pause_bytes, slowed_ms, elapsed_ms, frozen?, pause_ms: {total, quiesce, state, memory, disks}}
 */
struct bulkhead_call_snapshot_create {
	size_t struct_size; /* of this structure */
	/* the folder to make; it appears when the snapshot is whole; required */
	const char *path;
	/* only what was written since the last snapshot of this VM, which becomes its parent; default: off */
	const bool *incremental;
	/*
	 * what becomes of the disks at that point in time: a reflink or a copy in the folder, or nothing (they
	 * are the caller's to keep); default: none
	 */
	const char *disks;
	/*
	 * memory is written while the guest runs, where the host can: the pause does not grow with it; default:
	 * on
	 */
	const bool *background;
	/* of memory; what is compressed is restored more slowly; default: none */
	const char *compression;
	/* keep track of what is written from then on, so that the next one can be incremental; default: on */
	const bool *track;
	/* let the guest go on; else the VM is paused from the point in time on; default: on */
	const bool *resume;
	/* answer at the end, with the job's result, and not at once with its number; default: off */
	const bool *wait;
};
BULKHEAD_API int bulkhead_call_snapshot_create(struct bulkhead_vm *vm,
	const struct bulkhead_call_snapshot_create *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_snapshot_create_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_snapshot_create *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/*
 * job.list. Lists the calls that take their time: those under way, and the newest that have ended, with their
 * outcome. Result: {jobs: [{job, method, params, state, started_ns, ended_ns, progress, result or error}]};
 * state: running, done or failed
 */
struct bulkhead_call_job_list {
	size_t struct_size; /* of this structure */
	/* the number of one; default: all */
	const uint64_t *job;
};
BULKHEAD_API int bulkhead_call_job_list(struct bulkhead_vm *vm,
	const struct bulkhead_call_job_list *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_job_list_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_job_list *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/*
 * job.cancel. Calls a job back, where it has not gone too far: it ends with the error cancelled, and all is as
 * it was. Result: the job, as job.list has it
 */
struct bulkhead_call_job_cancel {
	size_t struct_size; /* of this structure */
	/* its number; required */
	uint64_t job;
};
BULKHEAD_API int bulkhead_call_job_cancel(struct bulkhead_vm *vm,
	const struct bulkhead_call_job_cancel *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_job_cancel_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_job_cancel *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/*
 * guest.ping. Asks the guest's agent whether it is there. Result: {version, uptime_ms, boot_id, …}: as the
 * agent's ping, see agent.md
 */
BULKHEAD_API int bulkhead_call_guest_ping(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_guest_ping_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err);

/*
 * guest.info. Tells the guest's own statistics, by its agent. Result: {kernel, os, hostname, cpus, memory,
 * disks, …}: as the agent's info, see agent.md
 */
BULKHEAD_API int bulkhead_call_guest_info(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_guest_info_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err);

/*
 * guest.exec. Runs a command in the guest; answered when it has ended. The agent itself streams, and takes more
 * options: see agent.md. Result: {status or signal, timed_out, stdout, stderr, truncated, stdout_bytes,
 * stderr_bytes}: the first MiB of each stream as text
 */
struct bulkhead_call_guest_exec {
	size_t struct_size; /* of this structure */
	/* the program, looked for in PATH, and its arguments; a list that ends with NULL; required */
	const char *const *argv;
	/* NAME=VALUE texts, beside PATH, HOME, USER and LANG; default: none; a list that ends with NULL */
	const char *const *env;
	/* the folder to run in; default: / */
	const char *cwd;
	/* a name or number of the guest's /etc/passwd, or UID:GID; default: root */
	const char *user;
	/* text for its standard input; default: nothing */
	const char *stdin;
	/* end it after this long; 0: never; default: 60000 */
	const uint64_t *timeout_ms;
};
BULKHEAD_API int bulkhead_call_guest_exec(struct bulkhead_vm *vm,
	const struct bulkhead_call_guest_exec *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_guest_exec_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_guest_exec *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/*
 * guest.freeze. Writes everything out and stops all writing to the guest's file systems: all of them, or none.
 * Result: {frozen: [path], skipped: [path]}
 */
struct bulkhead_call_guest_freeze {
	size_t struct_size; /* of this structure */
	/* mount points; default: all writable file systems on disks; a list that ends with NULL */
	const char *const *paths;
	/* everything is thawed by itself after this long; default: 10000 */
	const uint64_t *timeout_ms;
};
BULKHEAD_API int bulkhead_call_guest_freeze(struct bulkhead_vm *vm,
	const struct bulkhead_call_guest_freeze *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_guest_freeze_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_guest_freeze *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/* guest.thaw. Lets the file systems go on. Result: {thawed: [path]} */
BULKHEAD_API int bulkhead_call_guest_thaw(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_guest_thaw_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err);

/*
 * guest.identify. Makes the guest another one than the guest it is a clone of. The host's time and fresh random
 * bytes go along where none are given. Result: {hostname, machine_id, interfaces, complete, steps: [{step, done,
 * error}]}: as the agent's identity.change, see agent.md
 */
struct bulkhead_call_guest_identify {
	size_t struct_size; /* of this structure */
	/*
	 * the time, in nanoseconds since 1970, UTC, as of the call: the clock is set to it if it is a second
	 * behind or 20 ahead
	 */
	const uint64_t *time_ns;
	/* random bytes that nobody else has, for the kernel's random numbers */
	const char *entropy;
	/* the new host name, kept in /etc/hostname */
	const char *hostname;
	/* 32 hexadecimal digits for /etc/machine-id, or 'random' */
	const char *machine_id;
	/* what to change on network interfaces, each as for network.configure; as JSON text */
	const char *interfaces;
};
BULKHEAD_API int bulkhead_call_guest_identify(struct bulkhead_vm *vm,
	const struct bulkhead_call_guest_identify *params, bulkhead_answer *done, void *user,
	struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_guest_identify_wait(struct bulkhead_vm *vm,
	const struct bulkhead_call_guest_identify *params, int timeout_ms, char **result,
	struct bulkhead_error *err);

/* metrics.get. Tells what the VM does, in Prometheus' text format. Result: the text, as a string */
BULKHEAD_API int bulkhead_call_metrics_get(
	struct bulkhead_vm *vm, bulkhead_answer *done, void *user, struct bulkhead_error *err);
BULKHEAD_API int bulkhead_call_metrics_get_wait(
	struct bulkhead_vm *vm, int timeout_ms, char **result, struct bulkhead_error *err);

#ifdef __cplusplus
}
#endif

#endif
