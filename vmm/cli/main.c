/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program: finds the subcommand and hands it the rest of the arguments. What all commands share,
 * --help, is done here from the tables.
 */
#include "vmm/base/nearest.h"
#include "vmm/base/util.h"
#include "vmm/cli/ctl.h"
#include "vmm/cli/disk.h"
#include "vmm/cli/doctor.h"
#include "vmm/cli/help.h"
#include "vmm/cli/report.h"
#include "vmm/cli/run.h"
#include "vmm/cli/snapshot.h"
#include "vmm/cli/snapshots.h"
#include "vmm/cli/top.h"
#include "vmm/state/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int (*const entries[COMMAND_COUNT])(int argc, char *const *argv) = {
	[COMMAND_RUN] = run_main,
	[COMMAND_RESTORE] = restore_main,
	[COMMAND_SNAPSHOT] = snapshot_main,
	[COMMAND_CTL] = ctl_main,
	[COMMAND_EVENTS] = events_main,
	[COMMAND_INSPECT] = inspect_main,
	[COMMAND_CHAIN] = chain_main,
	[COMMAND_DISK] = disk_main,
	[COMMAND_TOP] = top_main,
	[COMMAND_DOCTOR] = doctor_main,
};

static int usage_error(struct error *err)
{
	cli_report(err);
	return CLI_USAGE;
}

static int unknown_command(const char *name)
{
	const char *words[COMMAND_COUNT + 1] = {[COMMAND_COUNT] = "help"};
	const char *nearest;
	struct error err;

	for (unsigned i = 0; i < COMMAND_COUNT; i++)
		words[i] = commands[i].name;
	nearest = nearest_word(name, words, ARRAY_SIZE(words));
	error_set(&err, ERROR_BAD_REQUEST, "'%.64s': no such command", name);
	if (nearest)
		error_hint(&err, "did you mean '%s'?", nearest);
	else
		error_hint(&err, "see bulkhead --help");
	return usage_error(&err);
}

static const struct command *find_command(const char *name)
{
	for (unsigned i = 0; i < COMMAND_COUNT; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static void print_version(void)
{
	printf("bulkhead %s\nstate format %d\nAPI %d\n", BULKHEAD_VERSION, STATE_FORMAT,
		BULKHEAD_API_VERSION);
}

static int help_main(int argc, char *const *argv)
{
	const struct command *command = argc ? find_command(argv[0]) : NULL;

	if (argc && !command)
		return unknown_command(argv[0]);
	if (command)
		help_print_command(stdout, command);
	else
		help_print(stdout);
	return CLI_OK;
}

static bool asks_for_help(int argc, char *const *argv)
{
	/* Only as the first argument: behind an option it may be that option's value. */
	return argc && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"));
}

static int dispatch(int argc, char *const *argv)
{
	const struct command *command;
	struct error err;

	if (argc < 2) {
		error_set(&err, ERROR_BAD_REQUEST, "no command is given");
		error_hint(&err, "see bulkhead --help");
		return usage_error(&err);
	}
	if (asks_for_help(argc - 1, argv + 1))
		return help_main(0, NULL);
	if (!strcmp(argv[1], "help"))
		return help_main(argc - 2, argv + 2);
	if (!strcmp(argv[1], "--version")) {
		print_version();
		return CLI_OK;
	}
	command = find_command(argv[1]);
	if (!command)
		return unknown_command(argv[1]);
	if (asks_for_help(argc - 2, argv + 2))
		return help_main(1, argv + 1);
	return entries[command - commands](argc - 2, argv + 2);
}

int main(int argc, char **argv)
{
	int status = dispatch(argc, argv);

	if (fflush(stdout) != 0 && status == CLI_OK) {
		struct error err;

		error_errno(&err, errno, "cannot write to standard output");
		cli_report(&err);
		return CLI_FAILED;
	}
	return status;
}
