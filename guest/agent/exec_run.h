/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command that runs for a client, from its first process to its answer. What clients ask for is in exec.c, what
 * a command is given and what becomes of its output in exec_run.c.
 */
#pragma once

#include "guest/agent/server.h"

#include <stdbool.h>
#include <stdint.h>

#define EXEC_INPUT_MAX (704u << 10)

struct exec_params {
	struct schema_texts argv, env;
	char *cwd, *user, *input;
	struct schema_bytes input_bytes;
	bool input_open, detach;
	uint64_t timeout_ms;
	char id[SCHEMA_ID_SIZE];
};

struct run;

/* Start it; answers the call, now or at its end. What the parameters' table cannot say has been checked. */
void run_exec(struct rpc_call *call);

unsigned run_total(void);
/* Of this connection; NULL: none such runs. */
struct run *run_find(const struct conn *conn, const char *id);
/* Answers the call when the bytes are in the command's pipe, or cannot be. */
void run_write(struct run *run, struct rpc_call *call, const struct schema_bytes *data);
/* No more input, behind what was written. */
void run_close_input(struct run *run);
/* To its process group. */
void run_signal(const struct run *run, int signal);
