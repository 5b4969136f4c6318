/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that do nothing but turn an event loop. See loop.h. */
#include "vmm/base/log.h"
#include "vmm/base/loop.h"
#include "vmm/base/util.h"

#include <signal.h>
#include <string.h>

static void *thread_main(void *arg)
{
	struct loop_thread *t = arg;
	struct error err;

	log_use(t->log);
	pthread_setname_np(pthread_self(), t->name);
	if (t->enter)
		t->enter(t->enter_arg);
	if (loop_run(t->loop, &err) < 0)
		log_error("thread '%s': %s", t->name, err.text);
	return NULL;
}

int loop_thread_start(struct loop_thread *t, const char *name, unsigned entries, struct error *err)
{
	sigset_t all, old;
	int ret = loop_create(&t->loop, entries, err);

	if (ret < 0)
		return ret;
	if (t->spins)
		loop_spin(t->loop, t->others);
	for (unsigned i = 0; i < sizeof(t->name); i++)
		t->name[i] = '\0';
	strncpy(t->name, name, sizeof(t->name) - 1);
	t->log = log_used();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&t->thread, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret) {
		loop_destroy(steal_ptr(&t->loop));
		return error_errno(err, ret, "cannot start the thread '%s'", name);
	}
	t->running = true;
	return 0;
}

void loop_thread_stop(struct loop_thread *t)
{
	if (!t->running)
		return;
	loop_stop(t->loop);
	pthread_join(t->thread, NULL);
	loop_destroy(steal_ptr(&t->loop));
	t->running = false;
}
