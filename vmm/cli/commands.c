/* SPDX-License-Identifier: Apache-2.0 */
/* The table of subcommands. See commands.h. */
#include "vmm/cli/commands.h"

#include "vmm/machine/config.h"

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
