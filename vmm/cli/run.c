/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead run`: configuration, instance, its end as an exit status.
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

static int run_instance(struct machine_config *config, struct readiness *readiness,
	enum machine_exit *how, struct error *err)
{
	_cleanup_close_ int fd = -1;
	struct signals signals = {0};
	struct instance instance;
	int ret = signals_open(&fd, err);

	if (!ret)
		ret = instance_create(&instance, config, -1, err);
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

int run_main(int argc, char *const *argv)
{
	enum machine_exit how = MACHINE_EXIT_FAILED;
	struct readiness readiness = {0};
	struct machine_config config;
	struct error err;
	bool help;
	int ret;

	if (machine_config_from_args(&config, argc, argv, &help, &err)) {
		cli_report(&err);
		return CLI_USAGE;
	}
	if (help) {
		help_print_command(stdout, &commands[COMMAND_RUN]);
		return CLI_OK;
	}
	if (take_passed_socket(&config, &err) || readiness_open(&readiness, &err)) {
		cli_report(&err);
		machine_config_free(&config);
		return CLI_USAGE;
	}
	set_title(config.name);
	/* One heap: those of threads cost address space and memory each, and giving them back opens a file
	 * in /proc, which the threads' filters forbid. Nothing on a data path allocates. */
	mallopt(M_ARENA_MAX, 1);
	raise_limits();
	ret = log_open(config.name, config.log_level, config.log_file, &err);
	if (!ret)
		ret = run_instance(&config, &readiness, &how, &err);
	if (ret)
		cli_report(&err);
	readiness_close(&readiness);
	machine_config_free(&config);
	return ret ? CLI_FAILED : exit_status(how);
}
