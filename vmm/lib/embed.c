/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM in threads of the calling process. See bulkhead.h.
 *
 * One thread makes, runs and ends an instance, as `bulkhead run` does on its main thread. The handle speaks to it through a socketpair
 * whose other end the control server takes for a client; so all that is shared between the caller's thread and the VM's is
 * in struct embedded, guarded by its lock: the machine as long as it can be asked for something, the wish
 * to end it, and a socket that is being handed over.
 */
#include "vmm/lib/private.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/control/instance.h"
#include "vmm/machine/config.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

struct embedded {
	pthread_t thread;
	struct machine_config config;
	bool configured;
	struct restore *restore; /* NULL: the kernel is booted */
	struct log_sink log;
	int log_fd;    /* the pipe's end for the VM */
	int client_fd; /* the first client's, for the VM */
	int over_fd;   /* the thread's last act is to write to it */

	pthread_mutex_t lock;
	/* Guarded by the lock. */
	struct machine *machine; /* NULL: not made yet, or ending */
	struct control *control;
	bool stop;
	struct loop_job admit;
	int admit_fd; /* -1: none is being handed over */

	/* The thread's until it is over. */
	enum machine_exit how;
	int ret;
	struct error err;
};

/* ---- the VM's thread ---- */

static void admit(struct loop_job *job)
{
	struct embedded *e = container_of(job, struct embedded, admit);
	int fd;

	pthread_mutex_lock(&e->lock);
	fd = steal_fd(&e->admit_fd);
	pthread_mutex_unlock(&e->lock);
	control_admit(e->control, fd);
}

/* From now on the machine can be asked for something. */
static void open_to_requests(struct embedded *e, const struct instance *instance)
{
	pthread_mutex_lock(&e->lock);
	e->machine = instance->machine;
	e->control = instance->control;
	if (e->stop)
		machine_request(e->machine, MACHINE_REQUEST_STOP);
	pthread_mutex_unlock(&e->lock);
}

static void close_to_requests(struct embedded *e)
{
	pthread_mutex_lock(&e->lock);
	e->machine = NULL;
	pthread_mutex_unlock(&e->lock);
}

static void *thread_main(void *arg)
{
	struct embedded *e = arg;
	struct instance instance;
	uint64_t one = 1;
	char name[16];
	ssize_t ignored;

	snprintf(name, sizeof(name), "bulkhead:%.6s", e->config.name);
	pthread_setname_np(pthread_self(), name);
	log_use(&e->log);
	e->how = MACHINE_EXIT_FAILED;
	e->ret = e->restore ? restore_prepare(e->restore, &e->config, &e->err) : 0;
	if (e->ret == 0)
		e->ret = instance_create(
			&instance, &e->config, e->restore, steal_fd(&e->client_fd), &e->err);
	if (e->ret == 0) {
		open_to_requests(e, &instance);
		e->ret = instance_run(&instance, &e->how, &e->err);
		close_to_requests(e);
		instance_destroy(&instance);
	}
	ignored = write(e->over_fd, &one, sizeof(one));
	(void)ignored; /* an eventfd takes it */
	return NULL;
}

/* ---- the caller's ---- */

static int configure(struct embedded *e, const char *restore, json_t *json, struct error *why)
{
	int ret;

	if (!restore)
		return machine_config_from_json(&e->config, json, why);
	ret = restore_open(restore, &e->restore, why);
	return ret < 0 ? ret : restore_configure(e->restore, json, &e->config, why);
}

static int own_config(struct bulkhead_vm *vm, struct embedded *e, struct bulkhead_error *err)
{
	struct error why;
	json_t *json;
	int ret = config_read(vm, &json, err);

	if (ret < 0)
		return ret;
	if (!json_object_get(json, "seccomp"))
		json_object_set_new(json, "seccomp", json_string("off"));
	ret = configure(e, vm->config.restore, json, &why);
	json_decref(json);
	if (ret < 0)
		return fail_from(err, &why);
	e->configured = true;
	if (e->config.console == CONSOLE_STDIO)
		return fail(err, BULKHEAD_BAD_REQUEST, EINVAL,
			"console: an embedded VM does not take the terminal over");
	return 0;
}

static int open_log(struct bulkhead_vm *vm, struct embedded *e, struct bulkhead_error *err)
{
	struct error why;
	int ret = log_pipe(vm, &e->log_fd, err);

	if (ret < 0)
		return ret;
	ret = log_sink_open(
		&e->log, e->config.name, e->config.log_level, e->config.log_file, e->log_fd, &why);
	return ret < 0 ? fail_from(err, &why) : 0;
}

static int make_pair(int *pair, struct bulkhead_error *err)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return fail_errno(err, errno, "cannot make a pair of sockets");
	return 0;
}

static int start(struct bulkhead_vm *vm, struct embedded *e, struct bulkhead_error *err)
{
	sigset_t all, old;
	int pair[2], ret;

	e->over_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->over_fd < 0)
		return fail_errno(err, errno, "cannot make an eventfd");
	ret = handle_watch(vm, SOURCE_END, e->over_fd, err);
	if (ret < 0)
		return ret;
	ret = make_pair(pair, err);
	if (ret < 0)
		return ret;
	e->client_fd = pair[1];
	ret = link_use(vm, pair[0], err);
	if (ret < 0)
		return ret;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&e->thread, NULL, thread_main, e);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret ? fail_errno(err, ret, "cannot start the VM's thread") : 0;
}

/* The thread is over, or never was. */
static void embedded_free(struct embedded *e)
{
	restore_close(e->restore);
	if (e->configured)
		machine_config_free(&e->config);
	log_sink_close(&e->log, e->log_fd);
	cleanup_close(&e->log_fd);
	cleanup_close(&e->client_fd);
	cleanup_close(&e->over_fd);
	cleanup_close(&e->admit_fd);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static struct embedded *embedded_create(void)
{
	struct embedded *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->log_fd = e->client_fd = e->over_fd = e->admit_fd = e->log.fd = -1;
	e->admit.run = admit;
	pthread_mutex_init(&e->lock, NULL);
	return e;
}

int bulkhead_vm_embed(
	const struct bulkhead_config *config, struct bulkhead_vm **out, struct bulkhead_error *err)
{
	struct embedded *e = embedded_create();
	struct bulkhead_vm *vm;
	int ret;

	if (!e)
		return fail_errno(err, ENOMEM, "cannot make a VM");
	ret = handle_create(PLACEMENT_EMBEDDED, config, &vm, err);
	if (ret < 0) {
		embedded_free(e);
		return ret;
	}
	ret = own_config(vm, e, err);
	if (ret == 0)
		ret = open_log(vm, e, err);
	if (ret == 0)
		ret = start(vm, e, err);
	vm->config.config = vm->config.program = vm->config.restore = NULL;
	if (ret < 0) {
		embedded_free(e);
		handle_destroy(vm);
		return ret;
	}
	vm->embedded = e;
	*out = vm;
	return 0;
}

/* The connection was lost, as of a client that does not read: hand the machine another one. */
int embedded_relink(struct bulkhead_vm *vm, struct bulkhead_error *err)
{
	struct embedded *e = vm->embedded;
	int pair[2];
	bool there;
	int ret = make_pair(pair, err);

	if (ret < 0)
		return ret;
	pthread_mutex_lock(&e->lock);
	there = e->machine && e->admit_fd < 0;
	if (there) {
		e->admit_fd = pair[1];
		loop_post(machine_loop(e->machine), &e->admit);
	}
	pthread_mutex_unlock(&e->lock);
	if (there)
		return link_use(vm, pair[0], err); /* not under the lock: callbacks are called */
	close(pair[0]);
	close(pair[1]);
	return fail(err, BULKHEAD_DISCONNECTED, ENOTCONN, "the VM is ending");
}

static enum bulkhead_how how_of(const struct embedded *e)
{
	switch (e->how) {
	case MACHINE_EXIT_POWEROFF:
		return BULKHEAD_POWEROFF;
	case MACHINE_EXIT_CRASH:
		return BULKHEAD_CRASHED;
	case MACHINE_EXIT_STOPPED:
		return BULKHEAD_KILLED;
	case MACHINE_EXIT_FAILED:
		break;
	}
	return BULKHEAD_FAILED;
}

static void join(struct bulkhead_vm *vm)
{
	pthread_join(vm->embedded->thread, NULL);
	log_sink_close(&vm->embedded->log, vm->embedded->log_fd);
	cleanup_close(&vm->embedded->log_fd);
	vm->embedded->log_fd = vm->embedded->log.fd = -1;
}

void embedded_ended(struct bulkhead_vm *vm)
{
	struct embedded *e = vm->embedded;
	struct bulkhead_error why = {0};
	enum bulkhead_how how;

	link_drain(vm);
	if (vm->doomed)
		return; /* whoever frees it waits for the thread */
	join(vm);
	log_drain(vm);
	how = e->ret < 0 ? BULKHEAD_FAILED : how_of(e);
	if (e->ret < 0)
		fail_from(&why, &e->err);
	embedded_free(e);
	vm->embedded = NULL;
	handle_end(vm, how, 0, &why);
}

void embedded_kill(struct bulkhead_vm *vm)
{
	struct embedded *e = vm->embedded;

	if (!e)
		return;
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	if (e->machine)
		machine_request(e->machine, MACHINE_REQUEST_STOP);
	pthread_mutex_unlock(&e->lock);
}

void embedded_stop(struct bulkhead_vm *vm)
{
	if (!vm->embedded)
		return;
	embedded_kill(vm);
	join(vm);
	embedded_free(vm->embedded);
	vm->embedded = NULL;
}
