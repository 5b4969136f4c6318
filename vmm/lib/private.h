/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libbulkhead's insides, for the files of this folder. See bulkhead.h for what it promises.
 *
 *   handle.c      the handle: made, dispatched, ended, freed
 *   link.c        its connection to the control socket: bytes, requests, answers, reconnection
 *   calls.c       calls, and waiting for their answers
 *   events.c      events and their resumption
 *   report.c      the log of a spawned or embedded VM, and errors as callers see them
 *   spawn.c       a VM in a process
 *   embed.c       a VM in threads
 *   typed.c       a method's structure of parameters into JSON, by a table; methods.c holds the tables, and is made
 *   json.c        reading results
 *
 * All placements speak to the VM by its control API, through a socket: an embedded VM has one end of a socketpair. So what differs
 * is only how the connection comes about, how an end is noticed, and how a VM is killed.
 */
#pragma once

#include "vmm/base/unix_listener.h"
#include "vmm/control/client.h"
#include "vmm/lib/bulkhead.h"

#include <jansson.h>

enum placement { PLACEMENT_CONNECTED, PLACEMENT_SPAWNED, PLACEMENT_EMBEDDED };

/* What the handle's epoll descriptor watches, in the order in which it is served: an end comes after what was said before it. */
enum source { SOURCE_LINK, SOURCE_LOG, SOURCE_TIMER, SOURCE_END, SOURCE_COUNT };

struct call {
	struct call *next;
	json_int_t id;
	bulkhead_answer *done; /* NULL: nobody wants the answer */
	void *user;
	bool internal; /* the library's own: not answered when the connection breaks, it makes it anew */
};

struct bulkhead_vm {
	enum placement placement;
	struct bulkhead_config
		config; /* of any size given, as we know it; its texts are not kept */
	int epoll_fd, timer_fd;
	bool dispatching, doomed; /* doomed: freed from a callback */
	bool ended;
	struct bulkhead_end end;

	/* The link (link.c). */
	struct control_client client; /* fd -1: there is none now */
	char *path;		      /* where to connect; NULL: nowhere */
	char *out;
	size_t used, sent, room;
	bool wants_room;		 /* EPOLLOUT is on */
	uint64_t give_up_ns, pause_ns;	 /* of reconnection; 0: never, and none yet */
	struct call *calls, **calls_end; /* in the order in which they are answered */
	json_int_t lost_id;		 /* calls up to this were made on a connection that broke */

	/* Events (events.c). */
	uint64_t seq;
	bool from_now;		/* no number is known yet: BULKHEAD_SINCE_NOW */
	enum bulkhead_how told; /* by the last vm.state; BULKHEAD_GONE: not ended */

	/* The log (report.c): the read end of a pipe. */
	int log_fd;
	char line[2048];
	size_t line_used;
	char reason[1024]; /* the last line that the program itself, not a VM's log, said */

	/* Spawned. */
	pid_t pid;
	int pid_fd;		       /* -1: waited for */
	bool asked;		       /* to end; next time it is forced */
	struct unix_listener listener; /* the file; the descriptor is the VM's */
	char *folder;		       /* of a control socket that nobody asked for; NULL: none */

	struct embedded *embedded;
};

/* ---- handle.c ---- */

int handle_create(enum placement placement, const struct bulkhead_config *config,
	struct bulkhead_vm **out, struct bulkhead_error *err);
/* Everything that the handle holds, and itself. No callback is called. */
void handle_destroy(struct bulkhead_vm *vm);
int handle_watch(struct bulkhead_vm *vm, enum source source, int fd, struct bulkhead_error *err);
/* The VM has ended: open calls fail, `ended` is called. `error` NULL: an end that is none. */
void handle_end(struct bulkhead_vm *vm, enum bulkhead_how how, int status,
	const struct bulkhead_error *error);
/* Wait for something to dispatch, until `deadline_ns` (0: for ever), and dispatch it. 0 or a negative errno. */
int handle_turn(struct bulkhead_vm *vm, uint64_t deadline_ns, struct bulkhead_error *err);
uint64_t deadline_of(int timeout_ms);
/* For functions that dispatch. */
int handle_may_wait(const struct bulkhead_vm *vm, struct bulkhead_error *err);

/* ---- link.c ---- */

/* Connect to vm->path; -ENOENT and -ECONNREFUSED where nobody listens (yet). */
int link_connect(struct bulkhead_vm *vm, struct bulkhead_error *err);
/* A connected, non-blocking socket, taken over. */
int link_use(struct bulkhead_vm *vm, int fd, struct bulkhead_error *err);
/* Try to connect from now on until it works, or for `for_ms` (UINT64_MAX: as long as the VM is there). */
void link_retry(struct bulkhead_vm *vm, uint64_t for_ms);
void link_retry_due(struct bulkhead_vm *vm);
void link_ready(struct bulkhead_vm *vm);
/* Everything that has come, whatever it is: before the end is told. */
void link_drain(struct bulkhead_vm *vm);
void link_close(struct bulkhead_vm *vm);
/* Queue a request; `params` is taken over. `call` is filled in and kept until its answer. `first`: before what waits to be sent. */
int link_send(struct bulkhead_vm *vm, struct call *call, const char *method, json_t *params,
	bool first, struct bulkhead_error *err);

/* ---- calls.c ---- */

/* `params` is taken over. */
int call_start(struct bulkhead_vm *vm, const char *method, json_t *params, bulkhead_answer *done,
	void *user, struct bulkhead_error *err);
int call_and_wait(struct bulkhead_vm *vm, const char *method, json_t *params, int timeout_ms,
	char **result, struct bulkhead_error *err);
/* The answer to the call with its id has come. */
void call_answered(struct bulkhead_vm *vm, const json_t *object);
/* The open calls up to `last_id` fail. */
void calls_fail(struct bulkhead_vm *vm, json_int_t last_id, const struct bulkhead_error *error);

/* ---- events.c ---- */

/* On a new connection: ask for what came after the last that was seen. */
int events_subscribe(struct bulkhead_vm *vm, struct bulkhead_error *err);
void events_subscribed(struct bulkhead_vm *vm, const json_t *result);
void events_take(struct bulkhead_vm *vm, const char *type, json_t *params);

/* ---- report.c ---- */

/* The pipe of the log: *out is the end for the VM, which never waits for us. */
int log_pipe(struct bulkhead_vm *vm, int *out, struct bulkhead_error *err);
void log_ready(struct bulkhead_vm *vm);
/* A last line without an end, too. */
void log_drain(struct bulkhead_vm *vm);

/* All return the negative errno. `err` may be NULL. */
int fail(struct bulkhead_error *err, enum bulkhead_kind kind, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
int fail_errno(struct bulkhead_error *err, int errnum, const char *what);
int fail_from(struct bulkhead_error *err, const struct error *from);

/* ---- placements ---- */

/* The configuration as JSON, checked, with the library's defaults. A new reference. */
int config_read(struct bulkhead_vm *vm, json_t **out, struct bulkhead_error *err);

void spawned_ended(struct bulkhead_vm *vm); /* SOURCE_END */
void spawned_kill(struct bulkhead_vm *vm);
/* End it and wait. */
void spawned_stop(struct bulkhead_vm *vm);

int embedded_relink(struct bulkhead_vm *vm, struct bulkhead_error *err);
void embedded_ended(struct bulkhead_vm *vm);
void embedded_stop(struct bulkhead_vm *vm);
void embedded_kill(struct bulkhead_vm *vm);

/* ---- typed.c ---- */

enum typed_kind { TYPED_TEXT, TYPED_NUMBER, TYPED_BOOL, TYPED_TEXTS, TYPED_JSON };

/* A member of a structure of parameters, and the parameter that it is. */
struct typed_param {
	const char *name;
	enum typed_kind kind;
	bool required;	     /* a number is stored itself then; all others are pointers */
	size_t offset, size; /* no member leaves a gap behind it */
};

struct typed_method {
	const char *name;
	const struct typed_param *params; /* up to a NULL name */
};

int typed_call(struct bulkhead_vm *vm, const struct typed_method *method, const void *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err);
int typed_call_wait(struct bulkhead_vm *vm, const struct typed_method *method, const void *params,
	int timeout_ms, char **result, struct bulkhead_error *err);
