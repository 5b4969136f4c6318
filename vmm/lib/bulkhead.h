/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libbulkhead: virtual machines for a program in C, or in anything that calls C.
 *
 * A `struct bulkhead_vm` is a handle to one VM. Where the VM runs is decided when the handle is made, and makes no
 * difference afterwards:
 *
 *   bulkhead_vm_spawn()    in a process of its own, started here (`bulkhead run`): what a node agent wants
 *   bulkhead_vm_connect()  in a process that is there already, by its control socket
 *   bulkhead_vm_embed()    in threads of the calling process
 *
 * Events. A handle has one descriptor, bulkhead_vm_fd(). Watch it for reading (poll, epoll, select, any event loop) and
 * call bulkhead_vm_dispatch() when it is readable. That function never blocks, and all callbacks are called from it, on
 * the thread that calls it. Nothing happens behind the caller's back: a handle that nobody dispatches does nothing, and
 * its VM runs on all the same.
 *
 * Calls. What can be asked of a VM is the control API (docs/control-api.md): methods with parameters and a result.
 * bulkhead-methods.h declares two functions for each method; bulkhead_vm_call() and bulkhead_vm_call_wait() make any
 * call by name, with JSON text. The calls of one handle are carried out in the order in which they are made: a long one
 * (vm.shutdown) holds up those behind it. Who wants a second lane makes a second handle, by bulkhead_vm_connect().
 *
 * Threads. The library has no global state. Different handles may be used by different threads at the same time; one
 * handle may be used by one thread at a time (another one takes over after any synchronisation of the caller's).
 *
 * Manners. The library installs no signal handler, changes no signal's disposition, mask or limit of the process, never
 * calls exit() or abort() because of what it is given, and makes no thread but those of an embedded VM, in which all
 * signals are blocked. Its descriptors are close-on-exec. It writes nothing to standard output; to standard error only
 * a VM's log, where no `log` callback is given.
 *
 * Text is UTF-8 and ends with a NUL. Times are in milliseconds where the name ends in _ms, sizes are in bytes. A
 * function that can fail returns 0 (or a count), or a negative errno after it has filled *err; `err` may be NULL
 * wherever a function takes one. Where nothing else is said, pointers that are given are used during the call only.
 *
 * Structures that the caller fills begin with their own size, so that they may grow: zero them, or use an initialiser
 * that leaves out what is not needed, and set `size`. What a later version adds is then as if it were zero. Structures
 * that the library hands out may grow at their ends.
 */
#ifndef BULKHEAD_H
#define BULKHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BULKHEAD_API __attribute__((visibility("default")))

/* ---- errors ---- */

/* What kind of failure: the kinds of the control API, and two of the library's own. Later versions may add some. */
enum bulkhead_kind {
	BULKHEAD_OK = 0,
	BULKHEAD_INTERNAL,	 /* a bug */
	BULKHEAD_BAD_REQUEST,	 /* what was given is wrong, and always will be */
	BULKHEAD_UNKNOWN_METHOD, /* this VM's version has no such method */
	BULKHEAD_WRONG_STATE,	 /* not as things are now: the VM is paused, has ended, … */
	BULKHEAD_NOT_FOUND,	 /* no such device, job, file */
	BULKHEAD_ALREADY_EXISTS, /* the id, file or lock is taken */
	BULKHEAD_NO_RESOURCE,	 /* memory, slots, descriptors, permission */
	BULKHEAD_GUEST_TIMEOUT,	 /* the guest did not do its part in time */
	BULKHEAD_GUEST_REFUSED,	 /* the guest will not do its part */
	BULKHEAD_AGENT_ABSENT,	 /* no agent answers in the guest */
	BULKHEAD_IO_ERROR,	 /* a file, device or socket failed */
	BULKHEAD_CORRUPT,	 /* what was read is damaged */
	BULKHEAD_INCOMPATIBLE,	 /* another version, another CPU */
	BULKHEAD_CANCELLED,	 /* given up on request, or since the VM ended */
	BULKHEAD_TIMED_OUT,	 /* the caller's own time-out passed; the call goes on */
	BULKHEAD_DISCONNECTED, /* the connection broke; whether the call was carried out is not known */
};

struct bulkhead_error {
	enum bulkhead_kind kind;
	int code; /* a positive errno value that fits; what the function returned is its negative */
	char message[752]; /* one sentence: what failed: why (hint) */
};

/* "bad_request", …: the name that the control API uses; "unknown" for a value that is none. Static text. Any thread. */
BULKHEAD_API const char *bulkhead_kind_name(enum bulkhead_kind kind);

/* The library's version, such as "0.1.0". Static text. Any thread. */
BULKHEAD_API const char *bulkhead_version(void);

/* ---- what a handle tells ---- */

struct bulkhead_vm;

/*
 * Something happened to the VM. Valid during the callback.
 *
 * Beside the control API's types there are two of the library's own, which have the number of the event before the next
 * one, and no time:
 *   "events.lost"      {"from", "to"}: the connection was away for so long that these are no longer kept
 *   "events.restarted" {}: another VM answers on the socket; numbers begin anew
 */
struct bulkhead_event {
	const char *type;   /* "vm.state", … */
	uint64_t seq;	    /* its number: one more than the VM's last event had; the first has 1 */
	uint64_t time_ns;   /* when: nanoseconds since 1970 */
	const char *params; /* all of it as a JSON object, `seq` and `time_ns` included */
};

enum bulkhead_how {
	BULKHEAD_POWEROFF, /* the guest shut down */
	BULKHEAD_CRASHED,  /* the guest crashed */
	BULKHEAD_KILLED,   /* ended from outside: bulkhead_vm_kill(), vm.kill, a signal */
	BULKHEAD_FAILED,   /* it could not be started, or the host failed it: `error` says why */
	BULKHEAD_MOVED,	   /* it runs elsewhere, by live migration */
	BULKHEAD_GONE,	   /* connected: the socket is gone, and how the VM ended is not known */
};

/* How the VM ended. */
struct bulkhead_end {
	enum bulkhead_how how;
	int status; /* spawned: the exit status, or the negative number of the signal that ended the process; else 0 */
	struct bulkhead_error
		error; /* why; its kind is BULKHEAD_OK where `how` says all there is */
};

/*
 * An answer to a call. Exactly one of `result`, the result as JSON text, and `error` is not NULL; both are valid during
 * the callback. It is called once for each call that was accepted: at the latest when the VM has ended or the handle is
 * freed. `user` is the one given with the call.
 *
 * This callback and those of struct bulkhead_config may make calls and may free the handle. They may not dispatch or wait
 * on the same handle: those functions refuse with BULKHEAD_WRONG_STATE.
 */
typedef void bulkhead_answer(
	struct bulkhead_vm *vm, const char *result, const struct bulkhead_error *error, void *user);

/* ---- making and freeing handles ---- */

#define BULKHEAD_SINCE_NOW    UINT64_MAX
#define BULKHEAD_NO_RECONNECT UINT64_MAX

struct bulkhead_config {
	size_t size; /* sizeof(struct bulkhead_config) */
	/*
	 * spawn, embed: the VM's configuration, a JSON object with the keys of bulkhead-run(1)'s --config, or where `restore`
	 * is given of bulkhead-restore(1)'s. Required there,
	 * unused by connect. What it leaves out is as for `bulkhead run`, except: `console` is off by default, and
	 * embedded `seccomp` is off too, and `console` stdio is refused.
	 */
	const char *config;
	/* spawn: the program, looked for in PATH where it has no slash. NULL: "bulkhead". */
	const char *program;
	void *user; /* what the callbacks get */
	/* May be NULL. Events come in their order, without gaps but those that "events.lost" tells. */
	void (*event)(struct bulkhead_vm *vm, const struct bulkhead_event *event, void *user);
	/* May be NULL. Called once, after all else: the VM has ended. The handle is still to be freed. */
	void (*ended)(struct bulkhead_vm *vm, const struct bulkhead_end *end, void *user);
	/*
	 * spawn, embed: a line of the VM's log, without its end. NULL: lines are written to standard error. They come here
	 * where the configuration has no log-file, and a VM that nobody dispatches drops them rather than wait.
	 */
	void (*log)(struct bulkhead_vm *vm, const char *line, void *user);
	/*
	 * The number of the last event that is known already, as bulkhead_vm_seq() told an earlier life of the agent; events
	 * after it that are still kept (1024) come first. 0: all that are kept. BULKHEAD_SINCE_NOW: none of the past.
	 */
	uint64_t since;
	/*
	 * connect: for how long to try again when the connection breaks, until the VM counts as gone. 0: 10 seconds.
	 * BULKHEAD_NO_RECONNECT: not at all. Events resume where they were; calls in flight fail with BULKHEAD_DISCONNECTED.
	 */
	uint64_t reconnect_ms;
	/*
	 * spawn, embed: the folder of a snapshot that the VM begins from, as by bulkhead-restore(1). `config` is then what is
	 * given anew, and says how: its keys are the options of `restore`. NULL: the VM boots its kernel.
	 */
	const char *restore;
};

/*
 * Start a VM in a process of its own: `program run` with this configuration. Returns as soon as the process exists: calls
 * can be made at once and are answered when the VM is there; when it cannot be started they fail, and `ended` says why. A
 * configuration that is wrong in itself is refused here.
 *
 * The process is a child of the caller's, in a session of its own, with standard input and output on /dev/null; it runs
 * on when the caller dies. The library makes the control socket and gives it to the VM, at `control`'s path where the
 * configuration has one, else in a folder below /tmp that goes with the handle. Descriptors of the caller without close-on-exec are inherited: this is how `fd` of a network
 * device gets there. Who waits for all children (waitpid(-1), SIGCHLD ignored) takes the exit status away from the library, which
 * then knows only what the VM's last event said.
 *
 * The caller owns *out, and frees it by bulkhead_vm_free(), which ends the VM, or bulkhead_vm_release(), which does not.
 */
BULKHEAD_API int bulkhead_vm_spawn(
	const struct bulkhead_config *config, struct bulkhead_vm **out, struct bulkhead_error *err);

/*
 * A VM that runs already, by the control socket at `path`. Fails when nobody listens there. `config` may be NULL: no
 * callbacks, defaults. Freeing the handle leaves the VM alone.
 */
BULKHEAD_API int bulkhead_vm_connect(const char *path, const struct bulkhead_config *config,
	struct bulkhead_vm **out, struct bulkhead_error *err);

/*
 * Start a VM in threads of this process: one for the VM, one for each vCPU and for each queue of a device. Returns as soon
 * as the first is there; else as bulkhead_vm_spawn(). Several can be in one process. The threads block all signals and
 * use SIGRTMIN+1 among themselves, which must have no meaning of its own there.
 *
 * With `seccomp` on each of these threads enters its filter, and none of the caller's; call mallopt(M_ARENA_MAX, 1) before,
 * since the allocator may otherwise open a file on a thread whose filter ends the process for that. A crash of the monitor
 * (not of the guest) is one of the caller: spawn is the placement for guests that are not trusted.
 *
 * A descriptor named in the configuration (`fd` of a network device) is taken over by the VM.
 */
BULKHEAD_API int bulkhead_vm_embed(
	const struct bulkhead_config *config, struct bulkhead_vm **out, struct bulkhead_error *err);

/*
 * Free the handle, from a callback too. Open calls are answered with BULKHEAD_CANCELLED first. A spawned or embedded VM
 * that still runs is ended as by bulkhead_vm_kill() and waited for: for as long as the kernel takes to give its memory
 * back, and embedded, as the VM takes to be made when that is not yet done. A spawned one that does not react within two
 * seconds is forced. `ended` is not called. NULL is accepted.
 */
BULKHEAD_API void bulkhead_vm_free(struct bulkhead_vm *vm);

/*
 * Free the handle of a spawned VM and let the VM run on. Returns the process's id; it stays a child that the caller has to
 * wait for. Only with a control socket in its configuration, by which it can be reached later; and not from a callback:
 * else -EINVAL, and the handle is as it was.
 */
BULKHEAD_API pid_t bulkhead_vm_release(struct bulkhead_vm *vm, struct bulkhead_error *err);

/* ---- the event loop's side ---- */

/*
 * The descriptor that is readable when bulkhead_vm_dispatch() has something to do. It stays the same and belongs to the
 * handle: do not read, close or change it. It is an epoll descriptor, which can be watched by another one.
 */
BULKHEAD_API int bulkhead_vm_fd(const struct bulkhead_vm *vm);

/*
 * Do what there is to do: send, receive, call callbacks. Never blocks, but for the moment that an ended VM takes to let go
 * of its memory. Does a bounded part of the work: the descriptor stays readable while there is more.
 * Returns 1 while the VM is there, 0 once it has ended (also when a callback has freed the handle, which is then
 * no longer to be used), or a negative errno.
 */
BULKHEAD_API int bulkhead_vm_dispatch(struct bulkhead_vm *vm, struct bulkhead_error *err);

/*
 * Dispatch until the VM has ended, for at most `timeout_ms` (-1: for ever). Callbacks are called meanwhile. Returns 0, or
 * -ETIMEDOUT. The handle must not be freed by a callback meanwhile.
 */
BULKHEAD_API int bulkhead_vm_wait_end(
	struct bulkhead_vm *vm, int timeout_ms, struct bulkhead_error *err);

/* How it ended; NULL as long as it has not. Valid until the handle is freed. */
BULKHEAD_API const struct bulkhead_end *bulkhead_vm_end(const struct bulkhead_vm *vm);

/* The number of the newest event that was delivered: what a later life of the agent gives as `since`. */
BULKHEAD_API uint64_t bulkhead_vm_seq(const struct bulkhead_vm *vm);

/* spawn: the process's id; embed: this process's; connect: 0 (vm.info tells it). */
BULKHEAD_API pid_t bulkhead_vm_pid(const struct bulkhead_vm *vm);

/* ---- calls ---- */

/*
 * Call `method` with `params`, a JSON object as text (NULL: none). Returns 0 when the call was accepted: `done` (may be
 * NULL) gets its answer, from bulkhead_vm_dispatch(). Returns a negative errno, and `done` is never called, where the call
 * cannot even be sent: the VM has ended, `params` is no JSON object, or is over 1 MiB.
 */
BULKHEAD_API int bulkhead_vm_call(struct bulkhead_vm *vm, const char *method, const char *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err);

/*
 * The same, and dispatch until the answer is there, for at most `timeout_ms` (-1: for ever); callbacks of the handle are
 * called meanwhile, and must not free it. Returns 0 with *result, JSON text that the caller frees by free() (`result` may be
 * NULL), or a negative errno: the VM's own error, or BULKHEAD_TIMED_OUT, after which the call goes on and its answer is dropped.
 */
BULKHEAD_API int bulkhead_vm_call_wait(struct bulkhead_vm *vm, const char *method,
	const char *params, int timeout_ms, char **result, struct bulkhead_error *err);

/*
 * End the VM at once, as a power cut; without the control socket, so it works also while a call is open, when the VM does
 * not answer, and from a callback. Spawned: the process is told by a signal, and removes its sockets; a second call
 * forces it (SIGKILL). Embedded: the VM's main thread is told. Connected: it is the call vm.kill, behind those that are
 * open. `ended` follows. Ended already: nothing happens.
 */
BULKHEAD_API int bulkhead_vm_kill(struct bulkhead_vm *vm, struct bulkhead_error *err);

/* ---- reading results ---- */

/*
 * One value of a JSON text, for callers without a JSON library. `path` names it by keys and positions with dots between:
 * "devices.0.id"; "" is the whole. Any thread.
 *
 * bulkhead_json_text() writes a string's text, or any other value as JSON, to `text` of `size` bytes; bulkhead_json_number()
 * a whole number or boolean (0, 1). 0, or -ENOENT: there is none; -EINVAL: the text is no JSON or the value no number;
 * -ENOSPC: it does not fit, and `text` is empty.
 */
BULKHEAD_API int bulkhead_json_text(const char *json, const char *path, char *text, size_t size);
BULKHEAD_API int bulkhead_json_number(const char *json, const char *path, int64_t *number);

#ifdef __cplusplus
}
#endif

#include <bulkhead-methods.h>

#endif
