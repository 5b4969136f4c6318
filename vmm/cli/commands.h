/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The subcommands as data: name, one sentence, options. Help, man pages and completion are made
 * from here (help.c, gendoc.c); main.c holds the functions beside it.
 */
#pragma once

#include "vmm/schema/schema.h"

/* The API that `--version` names. */
#define BULKHEAD_API_VERSION 1

/* Exit status of every command. */
enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_CRASHED = 3, /* the guest */
	CLI_MOVED = 4,	 /* the guest, by live migration */
};

enum command_id {
	COMMAND_RUN,
	COMMAND_RESTORE,
	COMMAND_SNAPSHOT,
	COMMAND_CTL,
	COMMAND_EVENTS,
	COMMAND_INSPECT,
	COMMAND_CHAIN,
	COMMAND_DISK,
	COMMAND_TOP,
	COMMAND_DOCTOR,
	COMMAND_COUNT
};

struct command {
	const char *name;
	const char *summary;   /* for the list of commands */
	const char *arguments; /* what it takes that is no option; NULL: nothing */
	const char *notes;     /* further lines of its --help; NULL: none */
	const struct schema *options;
};

extern const struct command commands[COMMAND_COUNT];

/* The options of `top`, by place in its table's target. */
struct top_options {
	bool batch, once;
	unsigned interval_ms, guest_ms;
	unsigned count; /* 0: no end */
};

/* The switches of `inspect`, and those of `chain`. */
struct inspect_options {
	bool verify, state, json;
};

struct chain_options {
	bool json, zstd, dry_run;
	unsigned keep; /* 0: not given */
};

/* What `disk` takes. */
struct disk_tool_options {
	bool json;
	char *base;    /* NULL: not given */
	uint64_t size; /* 0: not given */
};

/* The doctor's switches, by place in its table's target. */
struct doctor_options {
	bool json, hardware;
};
