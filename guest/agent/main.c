/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-agent: what the host asks of a guest from within, by JSON-RPC over vsock. See docs/agent.md.
 *
 * Three ways to run: as process 1 (init.c), which boots the guest and runs the second way as a supervised child; as such
 * a child; and as an ordinary service of another init, which does nothing but answer.
 */
#include "guest/agent/events.h"
#include "guest/agent/init.h"
#include "guest/agent/methods.h"
#include "guest/agent/process.h"
#include "guest/agent/server.h"
#include "guest/agent/system.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

struct options {
	char *listen;
	bool methods, supervised, version;
};

static const struct schema option_schema[] = {
	{.name = "listen",
		.type = SCHEMA_PATH,
		.offset = offsetof(struct options, listen),
		.max = 255,
		.value = "vsock:1024",
		.placeholder = "vsock:PORT|unix:PATH",
		.help = "where to listen"},
	{.name = "methods",
		.type = SCHEMA_BOOL,
		.offset = offsetof(struct options, methods),
		.value = "off",
		.help = "print the methods as Markdown and end"},
	{.name = "supervised",
		.type = SCHEMA_BOOL,
		.offset = offsetof(struct options, supervised),
		.value = "off",
		.help = "the agent is a child of its own process 1"},
	{.name = "version",
		.type = SCHEMA_BOOL,
		.offset = offsetof(struct options, version),
		.value = "off",
		.help = "print the version and end"},
	{.name = NULL},
};

static bool stop;

static void caught(int signal, int value)
{
	(void)signal;
	(void)value;
	stop = true;
}

/* A log that nobody reads must not stop the agent: its descriptor does not wait, and a line may be lost. */
static void unblock_log(void)
{
	int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | O_APPEND);

	if (fd >= 0) {
		dup2(fd, STDERR_FILENO);
		close(fd);
	}
}

static int serve(const struct options *options)
{
	struct error err = {0};
	sigset_t signals;
	char text[768];

	system_has_our_init = options->supervised;
	if (options->supervised)
		prctl(PR_SET_NAME, "bulkhead-agent");
	process_protect();
	unblock_log();
	process_raise_limits();
	umask(022);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	if (events_open(&signals, caught, &err) ||
		server_open(options->listen, agent_methods(), &err)) {
		log_error("agent: %s", error_format(&err, text, sizeof(text)));
		return 1;
	}
	log_info("agent %s listens on %s", BULKHEAD_VERSION, options->listen);
	events_run(&stop);
	server_close();
	return 0;
}

/* Links to us by these names are the commands that a guest without another init has. */
static int ask_for_end(const char *name)
{
	bool reboot = !strcmp(name, "reboot");

	if (kill(1, reboot ? SIGNAL_REBOOT : SIGNAL_POWEROFF) == 0)
		return 0;
	fprintf(stderr, "%s: process 1 cannot be asked: %s\n", name, strerrordesc_np(errno));
	return 1;
}

static int parse(int argc, char **argv, struct options *options, bool *help)
{
	struct error err = {0};
	json_t *flags = NULL;
	char text[768];
	int ret = schema_args(option_schema, argc - 1, argv + 1, &flags, help, &err);

	if (!ret && !*help)
		ret = schema_fill(option_schema, flags, options, "", &err);
	json_decref(flags);
	if (ret)
		fprintf(stderr, "bulkhead-agent: %s\n", error_format(&err, text, sizeof(text)));
	return ret;
}

int main(int argc, char **argv)
{
	struct options options = {0};
	bool help = false;
	const char *program = basename(argc ? argv[0] : "");
	struct error err;
	int ret;

	log_open("agent", LOG_INFO, NULL, &err);
	if (getpid() == 1) {
		/* The kernel hands on what it does not know on its command line: none of it may stop the boot. */
		bool listen = argc == 3 && !strcmp(argv[1], "--listen");

		init_main(listen ? argv[2] : "vsock:1024");
	}
	if (!strcmp(program, "poweroff") || !strcmp(program, "reboot"))
		return ask_for_end(program);
	if (parse(argc, argv, &options, &help))
		return 2;
	if (help) {
		printf("Usage: bulkhead-agent [OPTIONS]\n\nThe guest's side of Bulkhead: answers the host's questions over vsock.\n\n");
		for (const struct schema *s = option_schema; s->name; s++)
			if (strcmp(s->name, "supervised") != 0)
				printf("  --%s%s%s\n      %s\n", s->name, s->placeholder ? " " : "",
					s->placeholder ? s->placeholder : "", s->help);
		return 0;
	}
	if (options.version) {
		printf("bulkhead-agent %s\n", BULKHEAD_VERSION);
		ret = 0;
	} else if (options.methods) {
		agent_methods_print();
		ret = 0;
	} else {
		ret = serve(&options);
	}
	schema_release(option_schema, &options);
	return ret;
}
