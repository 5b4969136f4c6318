/* SPDX-License-Identifier: Apache-2.0 */
/* The table of subcommands. See commands.h. */
#include "vmm/cli/commands.h"

#include "vmm/machine/config.h"
#include "vmm/machine/config_members.h"
#include "vmm/transfer/snapshot_members.h"

static const struct schema doctor_schema[] = {
	{.name = "json",
		.type = SCHEMA_BOOL,
		.offset = offsetof(struct doctor_options, json),
		.value = "off",
		.help = "print one JSON object instead of lines"},
	{.name = "hardware",
		.type = SCHEMA_BOOL,
		.offset = offsetof(struct doctor_options, hardware),
		.value = "off",
		.help = "look at /dev/kvm only; exit status 0 says that guests run on hardware"},
	{.name = NULL},
};

static const struct schema top_schema[] = {
	{.name = "interval",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct top_options, interval_ms),
		.size = sizeof(unsigned),
		.min = 100,
		.max = 3600000,
		.value = "1000",
		.placeholder = "MS",
		.help = "time from one table to the next"},
	{.name = "count",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct top_options, count),
		.size = sizeof(unsigned),
		.min = 1,
		.max = 1000000000,
		.fallback = "no end",
		.placeholder = "N",
		.help = "end after so many tables"},
	{.name = "batch",
		.type = SCHEMA_BOOL,
		.offset = offsetof(struct top_options, batch),
		.value = "off",
		.help = "print one table after the other, each as wide as it needs to be, also on a terminal"},
	{.name = "once",
		.type = SCHEMA_BOOL,
		.offset = offsetof(struct top_options, once),
		.value = "off",
		.help = "print one table and end: --batch --count 1"},
	{.name = "guest",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct top_options, guest_ms),
		.size = sizeof(unsigned),
		.max = 3600000,
		.value = "5000",
		.placeholder = "MS",
		.help = "how often each guest's agent is asked for its memory pressure; 0: never"},
	{.name = NULL},
};

#define SWITCH(label, thing, member, words)                                                        \
	{                                                                                          \
		.name = (label), .type = SCHEMA_BOOL, .offset = offsetof(thing, member),           \
		.value = "off", .help = (words)                                                    \
	}

static const struct schema inspect_schema[] = {
	SWITCH("verify", struct inspect_options, verify,
		"read every byte of the snapshot and its parents, and compare all checksums"),
	SWITCH("state", struct inspect_options, state,
		"print the state of devices and vCPUs, field by field, as JSON"),
	SWITCH("json", struct inspect_options, json, "print one JSON object instead of lines"),
	{.name = NULL},
};

static const struct schema chain_schema[] = {
	SWITCH("json", struct chain_options, json, "list: print a JSON list instead of lines"),
	SWITCH("zstd", struct chain_options, zstd, "merge: compress the memory"),
	{.name = "keep",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct chain_options, keep),
		.size = sizeof(unsigned),
		.min = 1,
		.max = 1000000,
		.placeholder = "N",
		.help = "prune: remove all but the N newest snapshots and those that they rest on"},
	SWITCH("dry-run", struct chain_options, dry_run,
		"prune: say what would be removed, and remove nothing"),
	{.name = NULL},
};

static const struct schema disk_schema[] = {
	{.name = "base",
		.type = SCHEMA_PATH,
		.offset = offsetof(struct disk_tool_options, base),
		.max = PATH_LENGTH_MAX,
		.placeholder = "FILE",
		.help = "the raw image or block device that the overlay is on, which is only read; create and flatten need it, info and check compare it"},
	{.name = "size",
		.type = SCHEMA_SIZE,
		.offset = offsetof(struct disk_tool_options, size),
		.min = 512,
		.max = 1ull << 44,
		.placeholder = "SIZE",
		.fallback = "that of the base",
		.help = "create: make the disk larger than its base"},
	SWITCH("json", struct disk_tool_options, json,
		"info, check: print one JSON object instead of lines"),
	{.name = NULL},
};

/* The words are those of snapshot.create: what is given here is handed on as it is. */
static const struct schema snapshot_schema[] = {
#include "vmm/transfer/snapshot_members.inc"
	{.name = NULL},
};

static const struct schema no_options[] = {{.name = NULL}};

const struct command commands[COMMAND_COUNT] = {
	[COMMAND_RUN] =
		{
			.name = "run",
			.summary = "create and start one VM, stay in the foreground until it ends",
			.notes =
				"Sizes are bytes or have a suffix K, M, G, T. A comma inside a value is "
				"written twice. Exit status: 0 the guest shut down, 1 failed, 2 wrong "
				"options or configuration, 3 the guest crashed, 4 the VM moved to another "
				"host.",
			.options = machine_config_schema,
		},
	[COMMAND_RESTORE] =
		{
			.name = "restore",
			.summary = "start a VM from a snapshot",
			.arguments = "DIR [OPTIONS]",
			.notes =
				"What is not given is as it was saved; --disk, --net and --vsock name one of "
				"the snapshot's devices by its id and give what is another about it (--disk "
				"id=data,path=/new). Not kept are the control socket, the console, logs and "
				"metrics. What cannot be restored is refused before anything runs. Exit status as "
				"of run.",
			.options = machine_restore_schema,
		},
	[COMMAND_SNAPSHOT] =
		{
			.name = "snapshot",
			.summary = "take a snapshot of a VM, with a progress line on a terminal",
			.arguments = "SOCKET DIR [OPTIONS]",
			.notes =
				"DIR appears when the snapshot is whole. An interruption (SIGINT) cancels it. "
				"The VM goes on in any case. Exit status: 0 the snapshot is there, 1 it failed, 2 wrong usage.",
			.options = snapshot_schema,
		},
	[COMMAND_CTL] =
		{
			.name = "ctl",
			.summary =
				"make one call to a VM's control socket and print the result as JSON",
			.arguments = "SOCKET METHOD [KEY=VALUE ...]",
			.notes =
				"A value is text where the parameter is; else JSON where it is that (3, true, [1, 2]), or text. A single - "
				"reads the parameters from standard input as a JSON object. 'bulkhead ctl SOCKET "
				"rpc.discover' describes all methods. Exit status: 0 the call succeeded, 1 it "
				"failed, 2 wrong usage.",
			.options = no_options,
		},
	[COMMAND_EVENTS] =
		{
			.name = "events",
			.summary = "print a VM's events, one JSON object a line, until the VM ends",
			.arguments = "SOCKET",
			.notes = "Begins with the past events that the VM still keeps.",
			.options = no_options,
		},
	[COMMAND_INSPECT] =
		{
			.name = "inspect",
			.summary =
				"show what a snapshot holds: chain, sizes, devices; or verify it",
			.arguments = "DIR [OPTIONS]",
			.notes =
				"Manifests, index files and the state are always checked. Exit status: 0 what was "
				"checked is right, 1 it is not, or cannot be read, 2 wrong usage.",
			.options = inspect_schema,
		},
	[COMMAND_CHAIN] =
		{
			.name = "chain",
			.summary = "list, merge or prune chains of snapshots",
			.arguments =
				"list DIR | merge DIR OUT | prune TREE SNAPSHOT... | prune TREE --keep N",
			.notes =
				"merge writes a snapshot and all that it rests on as one full snapshot into the new "
				"folder OUT. prune removes snapshots below the folder TREE, and refuses where one there "
				"that stays rests on them. Exit status: 0 done, 1 failed, 2 wrong usage.",
			.options = chain_schema,
		},
	[COMMAND_DISK] =
		{
			.name = "disk",
			.summary = "create, look at, check or flatten overlays on a shared base",
			.arguments =
				"create FILE --base BASE | info FILE | check FILE | flatten FILE OUT --base BASE",
			.notes =
				"create makes an overlay, a disk that has only what differs from BASE; run and "
				"restore take it as --disk path=FILE,base=BASE. flatten writes it to the new raw "
				"image OUT, which needs no base. Exit status: 0 done and right, 1 it failed or is "
				"damaged, 2 wrong usage.",
			.options = disk_schema,
		},
	[COMMAND_TOP] =
		{
			.name = "top",
			.summary = "show a live table of VMs: CPU, memory, disk and network rates",
			.arguments = "[SOCKET ...] [OPTIONS]",
			.notes =
				"Without a SOCKET all VMs of this host that can be found are shown. On a "
				"terminal q ends it. Exit status: 0 it was ended, or has shown its tables, 1 none of "
				"the SOCKETs was a VM's, 2 wrong usage.",
			.options = top_schema,
		},
	[COMMAND_DOCTOR] =
		{
			.name = "doctor",
			.summary =
				"check the host: what VMs need, what is missing and how to mend it",
			.notes =
				"Exit status: 0 what is required is there, 1 something required is missing.",
			.options = doctor_schema,
		},
};
