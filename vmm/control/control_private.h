/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket's insides, for the files of this folder. See control.h. */
#pragma once

#include "vmm/base/loop.h"
#include "vmm/base/unix_listener.h"
#include "vmm/base/util.h"
#include "vmm/control/control.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/machine_devices.h"
#include "vmm/machine/plug.h"
#include "vmm/rpc/rpc.h"
#include "vmm/transfer/snapshot.h"

#include <sys/resource.h>

/* Answers and events that wait for a client. Above HIGH its requests wait too; one that lets it grow to MAX is let go. */
#define CONTROL_OUT_HIGH  KIB(256)
#define CONTROL_OUT_MAX	  MIB(4)
#define EVENTS_KEPT	  1024
#define CONTROL_READ_SIZE KIB(64) /* read at once */

enum event_type {
	EVENT_VM_STATE,
	EVENT_DISK_RESIZED,
	EVENT_DEVICE_ATTACHED,
	EVENT_DEVICE_DETACHED,
	EVENT_JOB_PROGRESS,
	EVENT_JOB_DONE,
	EVENT_JOB_FAILED,
	EVENT_TYPES,
};

struct events {
	uint64_t last; /* number of the newest; the first has 1 */
	struct event {
		enum event_type type;
		json_t *params;
	} kept[EVENTS_KEPT]; /* event n is at n % EVENTS_KEPT */
};

struct connection {
	struct connection *next;
	struct control *control;
	struct rpc_peer peer;
	struct loop_poll poll;
	struct loop_timer again; /* it has sent more than its turn */
	struct loop_job pump;	 /* look for what can be read or sent, at the end of this round */
	int fd;
	char *out; /* `sent` to `used` wait */
	size_t used, sent, room;
	uint64_t turn_end_ns; /* from then on it waits for its next turn */
	bool eof, broken;
	bool gone;	    /* nobody reads any more */
	bool pumping, dead; /* dead: nothing but the pump may still touch it */
	unsigned events;    /* bit n: is sent events of type n */
};

/* A call that is answered when the machine has ended, or has been reset, or when its time is up. */
struct waiter {
	struct waiter *next;
	struct control *control;
	struct rpc_call *call;
	struct loop_timer timer;
	bool reset; /* for a reset; else for the end */
	bool begun; /* the reset has */
};

/* Who asks the guest's agent something, beside a client. Embed it. */
struct guest_asker {
	struct guest_call *question; /* private: set while it is open */
	/* Once. `result` is borrowed; NULL comes with an error: agent_absent where nobody answers. */
	void (*answered)(struct guest_asker *asker, json_t *result, const struct error *err);
};

struct control {
	struct machine *machine;
	struct loop *loop;
	uid_t uid;
	rlim_t descriptors; /* what RLIMIT_NOFILE allows */
	struct unix_listener listener;
	struct loop_poll accepting;
	struct loop_timer accept_again;
	bool accepts; /* the kernel holds the poll */
	struct loop_timer finishing;
	uint64_t finish_by_ns;
	struct machine_observer observer;
	struct connection *connections;
	unsigned connection_count;
	struct events events;
	struct waiter *waiters;
	struct guest_call *guest_calls;
	struct shutdown_request {
		struct guest_asker asker;
		struct loop_timer timer;
	} shutdown; /* the agent is being asked; one for all who wait */
	struct resize *resizes;
	struct job *jobs; /* the newest first */
	uint64_t last_job;
	struct plug_task *plug_tasks;
	struct restored_guest {
		const struct restore_options *options;
		struct guest_asker asker;
		struct loop_timer again;
		unsigned tries;
		bool wanted, asked; /* its agent is to be asked; was it for the first time */
		bool thawed;
	} restored;
	struct snapshot_series series;
	struct snapshot_task *snapshot; /* the one that is being taken */
	/* For what is being read: of a client, and of a guest's agent, which may be within the other. */
	char bytes[CONTROL_READ_SIZE], guest_bytes[CONTROL_READ_SIZE];
};

/* False: the machine itself may need the descriptors that are left. */
bool control_may_keep(const struct control *control, int fd);
/* The same for `count` more that are not open yet. */
bool control_may_open(const struct control *control, unsigned count);

/* ---- connection.c ---- */

/* Takes the descriptor over. */
void connection_open(struct control *control, int fd);
/* At the end: send what waits until `deadline_ns`, and let it go; the loop's next rounds free it. */
void connection_finish(struct connection *connection, uint64_t deadline_ns);

static inline struct control *control_of(const struct rpc_call *call)
{
	return ((struct connection *)call->peer->user)->control;
}

/* ---- guest.c ---- */

/*
 * Ask the agent `method` with `params` (taken over), for what messages call `name`. The answer may come from within. The agent
 * may take `within_ms` for it, and some seconds for the way.
 */
void ask_guest(struct control *control, struct guest_asker *asker, const char *name,
	const char *method, json_t *params, unsigned within_ms);
/* The answer is not wanted any more. */
void stop_asking(struct guest_asker *asker);

/* ---- parameters, as methods.c stores them ---- */

struct attach_disk_params {
	struct disk_options disk; /* first: its table's offsets are those of the options */
	unsigned timeout_ms;
};

struct attach_net_params {
	struct net_options net;
	unsigned timeout_ms;
};

struct detach_params {
	char id[SCHEMA_ID_SIZE];
	unsigned timeout_ms;
	bool force;
};

enum plug_kind { PLUG_DISK, PLUG_NET, UNPLUG_DISK, UNPLUG_NET };

struct batch_call {
	enum plug_kind kind;
	json_t *params;
};

#define BATCH_MAX 32

struct batch_params {
	struct batch_call calls[BATCH_MAX];
	unsigned count;
};

struct job_params {
	uint64_t job;
};

/* ---- jobs.c ---- */

/*
 * A call that takes its time: it stands in job.list, can be cancelled, and its outcome can be asked for when whoever called
 * has gone. Its client is answered when it ends.
 */
struct job {
	struct job *next;
	struct control *control;
	uint64_t id;
	const struct rpc_method *method;
	json_t *params, *progress;    /* what it was called with; how far it is */
	json_t *result, *error;	      /* one of them, once it has ended */
	int64_t started_ns, ended_ns; /* CLOCK_REALTIME */
	struct rpc_call *call;	      /* NULL: nobody waits for it */
	/* For whoever runs it: stop it. It ends by job_fail() as ever, perhaps later or not at all. */
	void (*cancel)(struct job *job);
	void *owner;
};

/* Its client's call becomes a job. */
struct job *job_open(struct rpc_call *call, void (*cancel)(struct job *job), void *owner);
/* `progress` is taken over. */
void job_progress(struct job *job, json_t *progress);
/* It has ended; `result` is taken over. */
void job_done(struct job *job, json_t *result);
void job_fail(struct job *job, const struct error *err);
void jobs_release(struct control *control);
void serve_job_list(struct rpc_call *call);
void serve_job_cancel(struct rpc_call *call);

/* ---- restored.c ---- */

void restored_init(struct control *control);
/* The machine is of a snapshot: its agent is told, once the guest runs. */
void restored_begin(struct control *control, const struct restore_options *options);
void restored_state_changed(struct control *control, enum machine_state state);

/* ---- snapshot.c ---- */

void snapshots_release(struct control *control);
void serve_snapshot_create(struct rpc_call *call);

/* ---- plug.c ---- */

/* One attach or detach: a call's, or a batch's. */
struct plug_task {
	struct plug_task *next;
	struct control *control;
	enum plug_kind kind;
	union {
		struct attach_disk_params disk;
		struct attach_net_params net;
		struct detach_params detach;
	} params; /* as the table of the method of its kind stores them */
	int slot; /* -1: any; afterwards the one that it was in */
	char id[SCHEMA_ID_SIZE];
	json_t *undo; /* detached: what it was, as attach takes it */
	uint64_t deadline_ns;
	char users[200]; /* what the guest still does with a disk */
	struct guest_asker asker;
	struct loop_timer again;
	struct machine_plug *plug;
	bool cancelled;
	void (*done)(struct plug_task *task, json_t *result, const struct error *err);
	void *owner;
};

/* Its parameters are in place. `done` is called once, perhaps from within: `result` is taken over. Then plug_task_free(). */
void plug_task_start(struct plug_task *task);
void plug_task_cancel(struct plug_task *task);
void plug_task_release(struct plug_task *task); /* what it holds; it is not under way */
extern const struct schema attach_disk_schema[], attach_net_schema[], detach_disk_schema[],
	detach_net_schema[];
/* Its method's one of them. */
const struct schema *plug_task_schema(enum plug_kind kind);
unsigned plug_task_timeout(const struct plug_task *task);
/* The machine has ended: those that wait for nothing but us end too. */
void plug_tasks_release(struct control *control);
void serve_disk_attach(struct rpc_call *call);
void serve_disk_detach(struct rpc_call *call);
void serve_net_attach(struct rpc_call *call);
void serve_net_detach(struct rpc_call *call);

/* ---- batch.c ---- */

void serve_batch(struct rpc_call *call);

/* ---- events.c ---- */

extern const char *const event_names[EVENT_TYPES + 1];
/* `params` is taken over; NULL (memory was short) drops the event. */
void events_add(struct control *control, enum event_type type, json_t *params);
void events_release(struct events *events);
void serve_events_subscribe(struct rpc_call *call);

/* ---- methods ---- */

extern const struct rpc_method control_methods[];
json_t *control_describe_methods(void); /* OpenRPC */
void serve_discover(struct rpc_call *call);
void serve_vm_info(struct rpc_call *call);
void serve_vm_start(struct rpc_call *call);
void serve_vm_pause(struct rpc_call *call);
void serve_vm_resume(struct rpc_call *call);
void serve_vm_reset(struct rpc_call *call);
void serve_vm_shutdown(struct rpc_call *call);
void serve_vm_kill(struct rpc_call *call);
void serve_cpu_resize(struct rpc_call *call);
void serve_memory_resize(struct rpc_call *call);
void serve_disk_list(struct rpc_call *call);
void serve_disk_resize(struct rpc_call *call);
void serve_disk_limit(struct rpc_call *call);
void serve_net_list(struct rpc_call *call);
void serve_net_limit(struct rpc_call *call);
void serve_metrics_get(struct rpc_call *call);
void serve_guest_ping(struct rpc_call *call);
void serve_guest_info(struct rpc_call *call);
void serve_guest_exec(struct rpc_call *call);
void serve_guest_freeze(struct rpc_call *call);
void serve_guest_thaw(struct rpc_call *call);
void serve_guest_identify(struct rpc_call *call);
/* Parameters of the agent's identity.change get the host's time and fresh random bytes, where they have none. */
void guest_complete_identity(json_t *params);

/* "0000:00:05.0": where the guest finds it, as its own lspci names it. */
json_t *control_address(struct virtio_pci *vp);
json_t *control_describe_devices(struct machine *machine);

/* ---- vm.c ---- */

/* The machine has come to a state: answer who waited for it. */
void waiters_state_changed(
	struct control *control, enum machine_state state, enum machine_exit how);
/* Before the first vm.shutdown. */
void shutdown_init(struct control *control);
/* Nobody will be answered any more, and nobody of ours waits for the agent. */
void waiters_release(struct control *control);

/* resize.c: nobody will be answered any more. */
void resizes_release(struct control *control);

/* Parameters, as methods.c stores them. */
struct exec_params {
	struct schema_texts argv, env;
	char *cwd, *user, *input;
	unsigned timeout_ms;
};

struct freeze_params {
	struct schema_texts paths;
	unsigned timeout_ms;
};

struct subscribe_params {
	struct schema_texts types;
	uint64_t since;
};

struct shutdown_params {
	unsigned timeout_ms;
};

struct resize_params {
	char id[SCHEMA_ID_SIZE];
	uint64_t size; /* 0: as the file is now */
};

struct cpu_resize_params {
	unsigned count, timeout_ms;
};

struct memory_resize_params {
	uint64_t size;
	unsigned timeout_ms;
};

struct snapshot_params {
	struct snapshot_options
		options; /* first: its table's offsets are those of the options; without the path */
	char *path;
	bool wait;
};

struct limit_params {
	char id[SCHEMA_ID_SIZE];
	uint64_t operations, bps; /* UINT64_MAX: as it was */
};
