/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one place that makes processes, and what a child must undo or set before it is something else:
 * signals, the loop's descriptors, and the protection from the out-of-memory killer.
 */
#pragma once

#include "vmm/base/error.h"

#include <stdbool.h>
#include <sys/types.h>

/* The agent itself is never the out-of-memory killer's choice. Failing is no error: it needs root. */
void process_protect(void);
/* The same as a service's or command's child should have it: 0. */
void process_unprotect(void);

/* Room for many connections and commands; what a program is started with stays as it was. */
void process_raise_limits(void);

/* For process 1: what all others inherit. Programs that want many descriptors, as data bases do, may ask for them. */
void process_give_limits(void);

/* fork(), and in the child events_leave(). The system-call border: the fuzzer has one that fails. */
pid_t process_fork(void);

/* In a worker: no standard input, none of the agent's descriptors but `keep` and standard error. */
void process_become_worker(int keep);

/* A program to be. Everything is used in the child only, where it may block or fail. */
struct program {
	char *const *argv;
	char *const *env;   /* added to a small default, NULL: none */
	const char *cwd;    /* NULL: / */
	const char *user;   /* a name of /etc/passwd, a number, or number:number; NULL: as we are */
	const char *cgroup; /* a folder of cgroup2 to live in, NULL: none */
	int in, out, error; /* its first three descriptors */
	bool terminal;	    /* `in` is a terminal that becomes the controlling one */
	bool dies_with_us;  /* SIGKILL when the agent ends, however it does */
};

/*
 * In the child: become the program, in a session of its own. On failure returns the negative errno with *err
 * filled; `keep`, with FD_CLOEXEC set, stays open until then.
 */
int process_exec(const struct program *program, int keep, struct error *err);
