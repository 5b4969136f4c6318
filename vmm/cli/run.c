/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead run` and `bulkhead restore`: configuration, instance, its end as an exit status.
 *
 * Signals are ordinary events on the machine's loop. SIGTERM presses the guest's power button, so
 * that a supervisor's stop is an orderly shutdown for the database inside; a second one, or SIGINT
 * or SIGHUP, ends the VM at once. They are blocked before any thread exists, so that no thread but
 * the main one, through its descriptor, ever sees them.
 */
#include "vmm/cli/run.h"

#include "vmm/base/log.h"
#include "vmm/base/unix_listener.h"
#include "vmm/base/util.h"
#include "vmm/cli/help.h"
#include "vmm/cli/readiness.h"
#include "vmm/cli/report.h"
#include "vmm/control/instance.h"
#include "vmm/machine/config.h"
#include "vmm/machine/machine.h"
#include "vmm/transfer/restore.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

struct signals {
	struct loop_poll poll;
	struct machine *machine;
	bool asked; /* the power button was pressed */
};

static void signal_arrived(struct signals *s, uint32_t number)
{
	if (number == SIGTERM && !s->asked) {
		log_info(
			"SIGTERM: pressing the guest's power button; another one ends the VM at once");
		s->asked = true;
		machine_press_power_button(s->machine);
	} else {
		log_warn("signal %u: the VM ends now", number);
		machine_request(s->machine, MACHINE_REQUEST_STOP);
	}
}

static void signals_ready(struct loop_poll *poll, uint32_t revents)
{
	struct signals *s = container_of(poll, struct signals, poll);
	struct signalfd_siginfo info;

	(void)revents;
	while (read(poll->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		signal_arrived(s, info.ssi_signo);
}

/* Before any thread is made: they inherit the mask. */
static int signals_open(int *fd, struct error *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN); /* a console or vsock peer that went away is an EPIPE */
	signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an EFBIG */
	*fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return *fd < 0 ? error_errno(err, errno, "cannot make a signal descriptor") : 0;
}

/* Each queue and vCPU takes a few descriptors: allow as many as the administrator does. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void set_title(const char *name)
{
	char title[16];

	snprintf(title, sizeof(title), "bulkhead:%.6s", name); /* what a comm holds */
	prctl(PR_SET_NAME, title);
}

/*
 * A socket to listen on that was passed: by --control-fd, or by a service manager. Looked at before we open anything ourselves, which
 * could get its number.
 */
static int take_passed_socket(struct machine_config *config, struct error *err)
{
	int passed = service_manager_passed("control", err);

	if (passed < 0)
		return passed;
	if (passed > 0 && (config->control || config->control_fd >= 0))
		return error_set(err, ERROR_BAD_REQUEST,
			"control, control-fd: a socket is passed by LISTEN_FDS already; only one of them can be given");
	if (passed > 0)
		config->control_fd = passed;
	return config->control_fd < 0 ? 0
				      : unix_listener_check(config->control_fd,
						passed ? "LISTEN_FDS" : "control-fd", err);
}

static int run_instance(struct machine_config *config, struct restore *restore,
	struct readiness *readiness, enum machine_exit *how, struct error *err)
{
	_cleanup_close_ int fd = -1;
	struct signals signals = {0};
	struct instance instance;
	int ret = signals_open(&fd, err);

	if (!ret)
		ret = instance_create(&instance, config, restore, -1, err);
	if (ret)
		return ret;
	signals.machine = instance.machine;
	signals.poll.fd = fd;
	signals.poll.events = POLLIN;
	signals.poll.ready = signals_ready;
	loop_poll_start(machine_loop(signals.machine), &signals.poll);
	readiness_watch(readiness, signals.machine);
	ret = instance_run(&instance, how, err);
	readiness_close(readiness);
	instance_destroy(&instance);
	return ret;
}

static int exit_status(enum machine_exit how)
{
	switch (how) {
	case MACHINE_EXIT_POWEROFF:
		return CLI_OK;
	case MACHINE_EXIT_CRASH:
		return CLI_CRASHED;
	default:
		return CLI_FAILED;
	}
}

/* `config` is freed. `restore`: what the VM begins from; NULL: its kernel. */
static int run_vm(struct machine_config *config, struct restore *restore)
{
	enum machine_exit how = MACHINE_EXIT_FAILED;
	struct readiness readiness = {0};
	struct error err;
	int ret;

	if (take_passed_socket(config, &err) || readiness_open(&readiness, &err)) {
		cli_report(&err);
		machine_config_free(config);
		return CLI_USAGE;
	}
	set_title(config->name);
	/* One heap: those of threads cost address space and memory each, and giving them back opens a file
	 * in /proc, which the threads' filters forbid. Nothing on a data path allocates. */
	mallopt(M_ARENA_MAX, 1);
	raise_limits();
	ret = log_open(config->name, config->log_level, config->log_file, &err);
	if (!ret)
		ret = run_instance(config, restore, &readiness, &how, &err);
	if (ret)
		cli_report(&err);
	readiness_close(&readiness);
	machine_config_free(config);
	return ret ? CLI_FAILED : exit_status(how);
}

int run_main(int argc, char *const *argv)
{
	struct machine_config config;
	struct error err;
	bool help;

	if (machine_config_from_args(&config, argc, argv, &help, &err)) {
		cli_report(&err);
		return CLI_USAGE;
	}
	if (help) {
		help_print_command(stdout, &commands[COMMAND_RUN]);
		return CLI_OK;
	}
	return run_vm(&config, NULL);
}

/* ---- restore ---- */

/* What the snapshot says, and what the file and the flags say of it: of different devices, or of one, and then the flags count. */
static int configure(
	struct restore *restore, json_t *flags, struct machine_config *config, struct error *err)
{
	json_t *given;
	int ret = machine_config_merge_file(flags, true, &given, err);

	if (ret < 0)
		return ret;
	ret = restore_configure(restore, given, config, err);
	json_decref(given);
	if (ret < 0)
		return ret;
	ret = restore_prepare(restore, config, err);
	if (ret < 0)
		machine_config_free(config);
	return ret;
}

static int restore_vm(const char *dir, json_t *flags)
{
	struct machine_config config;
	struct restore *restore;
	struct error err;
	int ret;

	if (restore_open(dir, &restore, &err)) {
		cli_report(&err);
		return CLI_FAILED;
	}
	if (configure(restore, flags, &config, &err)) {
		cli_report(&err);
		restore_close(restore);
		return err.kind == ERROR_BAD_REQUEST ? CLI_USAGE : CLI_FAILED;
	}
	ret = run_vm(&config, restore);
	restore_close(restore);
	return ret;
}

int restore_main(int argc, char *const *argv)
{
	json_t *flags = NULL;
	struct error err;
	bool help;
	int ret;

	if (!argc || argv[0][0] == '-') {
		error_set(
			&err, ERROR_BAD_REQUEST, "restore: the snapshot's folder is wanted first");
		error_hint(&err, "see bulkhead restore --help");
		cli_report(&err);
		return CLI_USAGE;
	}
	if (schema_args(machine_restore_schema, argc - 1, argv + 1, &flags, &help, &err)) {
		cli_report(&err);
		return CLI_USAGE;
	}
	if (help)
		help_print_command(stdout, &commands[COMMAND_RESTORE]);
	ret = help ? CLI_OK : restore_vm(argv[0], flags);
	json_decref(flags);
	return ret;
}
