/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM in a process of its own. See bulkhead.h.
 *
 * posix_spawn() is what a process with threads can do safely, and tells a program that is not there at once. The
 * configuration is given as a file in memory on standard input, so that it is in no command line and in no file system.
 * The process is held by a pidfd: no signal goes to another one that got its number, and its end is an event like others.
 */
#include "vmm/lib/private.h"

#include "vmm/base/util.h"
#include "vmm/machine/config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PATIENCE_MS 2000
#define BACKLOG	    512

/* vmm/cli/commands.h, above us, has these as enum cli_exit. */
enum { EXIT_USAGE = 2, EXIT_CRASHED = 3, EXIT_MOVED = 4 };

int config_read(struct bulkhead_vm *vm, json_t **out, struct bulkhead_error *err)
{
	const char *text = vm->config.config;
	struct error why;

	if (!text)
		return fail(err, BULKHEAD_BAD_REQUEST, EINVAL, "no configuration is given");
	if (machine_config_parse(text, strlen(text), "the configuration", out, &why) < 0)
		return fail_from(err, &why);
	if (!json_object_get(*out, "console"))
		json_object_set_new(*out, "console", json_string("off"));
	return 0;
}

/* What is wrong in itself. Of a snapshot only the VM's process knows: it reads files for that, and may wait for them. */
static int check_config(
	const struct bulkhead_vm *vm, const json_t *json, struct bulkhead_error *err)
{
	struct machine_config *config;
	struct error why;
	int ret;

	if (vm->config.restore)
		return 0;
	config = malloc(sizeof(*config));
	ret = config ? machine_config_from_json(config, json, &why)
		     : error_errno(&why, ENOMEM, "configuration");
	if (ret == 0)
		machine_config_free(config);
	free(config);
	return ret < 0 ? fail_from(err, &why) : 0;
}

/* The control socket's path: the configuration's, or one in a new folder. */
static int choose_path(struct bulkhead_vm *vm, const json_t *config, struct bulkhead_error *err)
{
	const char *given = json_string_value(json_object_get(config, "control"));
	char folder[] =
		"/tmp/bulkhead-XXXXXX"; /* sockets' paths are short: $TMPDIR may be too long */

	if (given) {
		vm->path = strdup(given);
	} else {
		if (!mkdtemp(folder))
			return fail_errno(
				err, errno, "cannot make a folder for the control socket");
		vm->folder = strdup(folder);
		if (asprintf(&vm->path, "%s/control", folder) < 0)
			vm->path = NULL;
	}
	if (!vm->path || (!given && !vm->folder))
		return fail_errno(err, ENOMEM, "cannot start a VM");
	return 0;
}

/*
 * We listen, connect, and give the listening socket to the VM: so the connection is there before the VM is, and nothing
 * that it says is missed. Returns the socket, above standard error's.
 */
static int make_socket(struct bulkhead_vm *vm, json_t *config, struct bulkhead_error *err)
{
	struct error why;
	int fd, ret;

	if (json_object_get(config, "control-fd"))
		return fail(err, BULKHEAD_BAD_REQUEST, EINVAL,
			"control-fd: the library passes a socket of its own; name a path by control");
	ret = choose_path(vm, config, err);
	if (ret < 0)
		return ret;
	if (unix_listener_open(&vm->listener, "the control socket", vm->path, UNIX_PATH_MAX,
		    BACKLOG, &why) < 0)
		return fail_from(err, &why);
	fd = fcntl(vm->listener.fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	close(steal_fd(&vm->listener.fd));
	if (fd < 0)
		return fail_errno(err, errno, "cannot start a VM");
	json_object_del(config, "control");
	ret = json_object_set_new(config, "control-fd", json_integer(fd))
		      ? fail_errno(err, ENOMEM, "cannot start a VM")
		      : link_connect(vm, err);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	return fd;
}

/* The configuration as a descriptor above standard error's. */
static int config_file(const json_t *config, struct bulkhead_error *err)
{
	_cleanup_close_ int fd = memfd_create("bulkhead-config", MFD_CLOEXEC);
	_cleanup_free_ char *text = json_dumps(config, JSON_COMPACT);
	int high;

	if (fd < 0 || !text)
		return fail_errno(err, text ? errno : ENOMEM, "cannot keep the configuration");
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return fail_errno(err, errno ? errno : EIO, "cannot keep the configuration");
	high = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	return high < 0 ? fail_errno(err, errno, "cannot keep the configuration") : high;
}

static int add_actions(
	posix_spawn_file_actions_t *actions, int config_fd, int log_fd, int control_fd)
{
	int ret = posix_spawn_file_actions_adddup2(actions, config_fd, STDIN_FILENO);

	if (ret == 0)
		ret = posix_spawn_file_actions_addopen(
			actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	if (ret == 0) /* onto itself: it is no longer close-on-exec there */
		ret = posix_spawn_file_actions_adddup2(actions, control_fd, control_fd);
	if (ret == 0)
		ret = posix_spawn_file_actions_adddup2(actions, log_fd, STDERR_FILENO);
	return ret;
}

/* No signal blocked or ignored, whatever the caller does with its own; no terminal. */
static int set_attributes(posix_spawnattr_t *attributes)
{
	sigset_t set;
	int ret;

	sigemptyset(&set);
	ret = posix_spawnattr_setsigmask(attributes, &set);
	sigfillset(&set);
	if (ret == 0)
		ret = posix_spawnattr_setsigdefault(attributes, &set);
	if (ret == 0)
		ret = posix_spawnattr_setflags(attributes,
			POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	return ret;
}

/* Returns an errno value. */
static int start(struct bulkhead_vm *vm, int config_fd, int log_fd, int control_fd)
{
	const char *program = vm->config.program ? vm->config.program : "bulkhead";
	const char *const run[] = {"bulkhead", "run", "--config", "/dev/stdin", NULL};
	const char *const restore[] = {
		"bulkhead", "restore", vm->config.restore, "--config", "/dev/stdin", NULL};
	char *const *argv = (char *const *)(uintptr_t)(vm->config.restore ? restore : run);
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int ret = posix_spawn_file_actions_init(&actions);

	if (ret)
		return ret;
	ret = posix_spawnattr_init(&attributes);
	if (ret == 0) {
		ret = add_actions(&actions, config_fd, log_fd, control_fd);
		if (ret == 0)
			ret = set_attributes(&attributes);
		if (ret == 0)
			ret = posix_spawnp(&vm->pid, program, &actions, &attributes, argv, environ);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&actions);
	return ret;
}

static int spawn(struct bulkhead_vm *vm, json_t *config, struct bulkhead_error *err)
{
	_cleanup_close_ int config_fd = -1, log_fd = -1, high_log_fd = -1, control_fd = -1;
	int ret = log_pipe(vm, &log_fd, err);

	if (ret < 0)
		return ret;
	high_log_fd = fcntl(log_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (high_log_fd < 0)
		return fail_errno(err, errno, "cannot start a VM");
	control_fd = make_socket(vm, config, err);
	if (control_fd < 0)
		return control_fd;
	config_fd = config_file(config, err);
	if (config_fd < 0)
		return config_fd;
	ret = start(vm, config_fd, high_log_fd, control_fd);
	if (ret)
		return fail(err, BULKHEAD_NOT_FOUND, ret, "cannot start '%.256s': %s",
			vm->config.program ? vm->config.program : "bulkhead",
			strerrordesc_np(ret) ?: "unknown error");
	vm->pid_fd = (int)syscall(SYS_pidfd_open, vm->pid, 0);
	if (vm->pid_fd < 0) {
		ret = fail_errno(err, errno, "cannot hold the VM's process");
		kill(vm->pid, SIGKILL);
		waitpid(vm->pid, NULL, 0);
		return ret;
	}
	return handle_watch(vm, SOURCE_END, vm->pid_fd, err);
}

int bulkhead_vm_spawn(
	const struct bulkhead_config *config, struct bulkhead_vm **out, struct bulkhead_error *err)
{
	struct bulkhead_vm *vm;
	json_t *json = NULL;
	int ret = handle_create(PLACEMENT_SPAWNED, config, &vm, err);

	if (ret < 0)
		return ret;
	ret = config_read(vm, &json, err);
	if (ret == 0)
		ret = check_config(vm, json, err);
	if (ret == 0)
		ret = spawn(vm, json, err);
	json_decref(json);
	vm->config.config = vm->config.program = vm->config.restore = NULL;
	if (ret < 0) {
		spawned_stop(vm);
		unix_listener_remove(&vm->listener);
		handle_destroy(vm);
		return ret;
	}
	*out = vm;
	return 0;
}

/* ---- the end ---- */

static enum bulkhead_how how_of(const struct bulkhead_vm *vm, int status)
{
	switch (status) {
	case 0:
		return BULKHEAD_POWEROFF;
	case EXIT_CRASHED:
		return BULKHEAD_CRASHED;
	case EXIT_MOVED:
		return BULKHEAD_MOVED;
	default:
		/* What ends from outside has status 1 as well, but gives no reason. */
		return status < 0 || vm->told == BULKHEAD_KILLED || !*vm->reason ? BULKHEAD_KILLED
										 : BULKHEAD_FAILED;
	}
}

/* The process is waited for: tell how it ended. */
static void tell_end(struct bulkhead_vm *vm, const siginfo_t *info)
{
	int status = info->si_code == CLD_EXITED ? info->si_status : -info->si_status;
	enum bulkhead_how how = how_of(vm, status);
	struct bulkhead_error why = {0};

	if (how == BULKHEAD_FAILED)
		fail(&why, status == EXIT_USAGE ? BULKHEAD_BAD_REQUEST : BULKHEAD_IO_ERROR,
			status == EXIT_USAGE ? EINVAL : EIO, "%.700s", vm->reason);
	handle_end(vm, how, status, &why);
}

void spawned_ended(struct bulkhead_vm *vm)
{
	siginfo_t info = {0};
	int ret;

	link_drain(vm);
	if (!vm->doomed)
		log_drain(vm);
	if (vm->doomed)
		return; /* whoever frees it waits for the process */
	ret = waitid(P_PIDFD, (id_t)vm->pid_fd, &info, WEXITED | WNOHANG);
	if (ret == 0 && !info.si_pid)
		return; /* not yet */
	cleanup_close(&vm->pid_fd);
	vm->pid_fd = -1;
	unix_listener_remove(&vm->listener);
	if (ret == 0)
		tell_end(vm, &info);
	else /* another wait took the status */
		handle_end(vm, vm->told, 0, NULL);
}

static void send_signal(const struct bulkhead_vm *vm, int number)
{
	syscall(SYS_pidfd_send_signal, vm->pid_fd, number, NULL, 0);
}

void spawned_kill(struct bulkhead_vm *vm)
{
	if (vm->pid_fd < 0)
		return;
	send_signal(vm, vm->asked ? SIGKILL : SIGHUP); /* run.c: SIGHUP ends the VM at once */
	vm->asked = true;
}

void spawned_stop(struct bulkhead_vm *vm)
{
	struct pollfd wait = {.fd = vm->pid_fd, .events = POLLIN};
	siginfo_t info;
	int ret;

	if (vm->pid_fd < 0)
		return;
	send_signal(vm, SIGHUP);
	ret = poll(&wait, 1, PATIENCE_MS);
	if (ret <= 0)
		send_signal(vm, SIGKILL);
	do
		ret = waitid(P_PIDFD, (id_t)vm->pid_fd, &info, WEXITED);
	while (ret < 0 && errno == EINTR);
	cleanup_close(&vm->pid_fd);
	vm->pid_fd = -1;
	unix_listener_remove(&vm->listener);
}

pid_t bulkhead_vm_release(struct bulkhead_vm *vm, struct bulkhead_error *err)
{
	pid_t pid = vm->pid;

	if (vm->placement != PLACEMENT_SPAWNED || vm->folder || vm->dispatching || vm->ended)
		return fail(err, BULKHEAD_WRONG_STATE, EINVAL,
			"only a spawned VM that runs, with a control socket of its own, can be let go");
	vm->dispatching = vm->doomed = true;
	calls_fail(vm, vm->client.last_id,
		&(struct bulkhead_error){.kind = BULKHEAD_CANCELLED,
			.code = ECANCELED,
			.message = "the handle is freed"});
	handle_destroy(vm);
	return pid;
}
