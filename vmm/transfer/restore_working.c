/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest touches first, noted and read ahead. See restore_working.h. */
#include "vmm/transfer/restore_working.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/machine/hold.h"
#include "vmm/machine/sandbox.h"
#include "vmm/machine/save.h"
#include "vmm/memory/pages.h"
#include "vmm/transfer/workingset.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <unistd.h>

#define NOTE_NS 3000000000u /* after it began to run */

/* ---- the worker ---- */

/* The first of each window: the others come with it, and where they are zero it is better not to ask for them. */
static uint64_t ahead_by_windows(struct restore_working *w, const struct guest_memory *memory)
{
	struct page_set firsts;
	struct error ignored;
	uint64_t first, count, done;

	if (page_set_create(&firsts, w->set.count, &ignored) < 0)
		return 0;
	for (uint64_t from = 0; page_set_next_range(&w->set, from, &first, &count);
		from = align_down(first, w->step) + w->step)
		page_set_add(&firsts, first, 1);
	done = workingset_ahead(memory, &firsts, &w->cancel);
	page_set_destroy(&firsts);
	return done * w->step;
}

static void *read_ahead(void *arg)
{
	struct restore_working *w = arg;
	const struct guest_memory *memory = machine_memory(w->machine);
	struct error err;
	uint64_t done;

	log_use(w->log);
	pthread_setname_np(pthread_self(), "ahead");
	BUG_ON(sandbox_enter(SANDBOX_FAULTS, machine_config(w->machine)->seccomp, &err) < 0);
	done = w->step ? ahead_by_windows(w, memory)
		       : workingset_ahead(memory, &w->set, &w->cancel);
	log_info("the working set was read ahead: %" PRIu64 " MiB", done * GUEST_PAGE_SIZE >> 20);
	loop_post(machine_loop(w->machine), &w->worked);
	return NULL;
}

/* It has the main thread's filter, as it begins when that has. */
static void *note(void *arg)
{
	struct restore_working *w = arg;
	struct error err;
	int ret = 0;

	log_use(w->log);
	pthread_setname_np(pthread_self(), "working set");
	if (!w->step)
		ret = workingset_note(machine_memory(w->machine), &w->set, &err);
	if (ret == 0)
		ret = workingset_save(w->dir, &w->set, &err);
	if (ret < 0)
		log_debug("the working set is not kept: %s", err.text);
	else
		log_info("the working set is kept for the next restore: %" PRIu64 " MiB",
			page_set_size(&w->set) * GUEST_PAGE_SIZE >> 20);
	loop_post(machine_loop(w->machine), &w->worked);
	return NULL;
}

static void start_worker(struct restore_working *w, void *(*work)(void *arg))
{
	sigset_t all, old;

	w->log = log_used();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	w->working = pthread_create(&w->worker, NULL, work, w) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void join_worker(struct restore_working *w)
{
	if (w->working)
		pthread_join(w->worker, NULL);
	w->working = false;
}

static void worked(struct loop_job *job)
{
	join_worker(container_of(job, struct restore_working, worked));
}

/* ---- the main thread ---- */

/* After this nothing is added any more. */
static bool stop_noting(struct restore_working *w)
{
	bool noted;

	pthread_mutex_lock(&w->lock);
	noted = w->notes;
	w->notes = false;
	pthread_mutex_unlock(&w->lock);
	return noted;
}

static void note_now(struct loop_timer *timer)
{
	struct restore_working *w = container_of(timer, struct restore_working, due);

	if (machine_state(w->machine) != MACHINE_RUNNING || !stop_noting(w))
		return;
	if (!w->step && machine_was_copied(w->machine))
		return;				     /* a snapshot touched everything */
	if (!w->step || !page_set_is_empty(&w->set)) /* else it waited for nothing */
		start_worker(w, note);
}

/* One that is paused from the start has not begun; one that is reset is another guest. */
static void state_changed(
	struct machine_observer *observer, enum machine_state state, enum machine_exit how)
{
	struct restore_working *w = container_of(observer, struct restore_working, observer);

	(void)how;
	if (state == MACHINE_RUNNING && w->notes)
		loop_timer_set(machine_loop(w->machine), &w->due, now_ns() + NOTE_NS);
	else if (state == MACHINE_RESETTING || state == MACHINE_ENDED)
		stop_noting(w);
}

void restore_working_touched(struct restore_working *w, uint64_t page)
{
	pthread_mutex_lock(&w->lock);
	if (w->notes)
		page_set_add(&w->set, page, 1);
	pthread_mutex_unlock(&w->lock);
}

/* Where there is none, or none that makes sense, one is noted if it can be kept. */
static void choose(struct restore_working *w)
{
	struct error err;

	if (workingset_load(w->dir, &w->set, &err) == 0) {
		start_worker(w, read_ahead);
		return;
	}
	if (err.kind != ERROR_NOT_FOUND)
		log_info("the snapshot's working set is of no use: %s", err.text);
	page_set_clear(&w->set);
	if (faccessat(w->dir, ".", W_OK, AT_EACCESS) < 0) {
		log_debug("the working set is not kept: the snapshot's folder cannot be written");
		return;
	}
	w->notes = true;
	machine_observe(w->machine, &w->observer);
	loop_timer_set(machine_loop(w->machine), &w->due, now_ns() + NOTE_NS);
}

void restore_working_begin(
	struct restore_working *w, struct machine *machine, int dir, unsigned window)
{
	struct error ignored;

	w->machine = machine;
	w->dir = dir;
	w->step = window;
	w->due.fire = note_now;
	w->worked.run = worked;
	w->observer.state_changed = state_changed;
	if (page_set_create(&w->set, guest_memory_pages(machine_memory(machine)), &ignored) < 0)
		return;
	pthread_mutex_init(&w->lock, NULL);
	w->begun = true;
	choose(w);
}

void restore_working_end(struct restore_working *w)
{
	if (!w->begun)
		return;
	stop_noting(w);
	atomic_store(&w->cancel, true);
	loop_timer_clear(machine_loop(w->machine), &w->due);
	join_worker(w);
	page_set_destroy(&w->set);
	w->begun = false;
}
