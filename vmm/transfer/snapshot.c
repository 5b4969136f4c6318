/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of a snapshot, from begin to end. See snapshot.h for what they are.
 *
 * The main loop decides, a worker thread waits for disks: run() hands a step to the worker and comes back on the main loop with
 * its outcome. At most one step is under way. From the first failure on, cancelling included, every path leads to fail(),
 * which lets the guest go on, gives dirty pages back, and removes what was written.
 */
#include "vmm/transfer/snapshot_private.h"

#include "vmm/arch/arch.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/machine/dirty.h"
#include "vmm/machine/filler.h"
#include "vmm/machine/machine_devices.h"
#include "vmm/machine/save.h"
#include "vmm/transfer/chain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PROGRESS_NS 200000000u

static void fail(struct snapshot *s);
static void await_memory(struct snapshot *s);

/* ---- steps ---- */

static int check_cancel(const struct snapshot *s, struct error *err)
{
	if (s->ended)
		return error_set(err, ERROR_CANCELLED, "the VM has ended");
	return atomic_load(&s->cancel) ? error_set(err, ERROR_CANCELLED, "cancelled") : 0;
}

static void work(struct loop_job *job)
{
	struct snapshot *s = container_of(job, struct snapshot, to_worker);

	s->ret = check_cancel(s, &s->err);
	if (s->ret == 0)
		s->ret = s->step.work(s, &s->err);
	loop_post(machine_loop(s->machine), &s->to_main);
}

static void worked(struct loop_job *job)
{
	struct snapshot *s = container_of(job, struct snapshot, to_main);
	struct snapshot_step step = s->step;

	s->step.work = NULL;
	if (s->released) {
		loop_stop(machine_loop(s->machine));
		return;
	}
	if (s->ret == 0)
		s->ret = check_cancel(s, &s->err);
	if (s->ret < 0)
		fail(s);
	else
		step.then(s);
}

static void run(struct snapshot *s, int (*step)(struct snapshot *s, struct error *err),
	void (*then)(struct snapshot *s))
{
	s->step = (struct snapshot_step){step, then};
	loop_post(s->worker.loop, &s->to_worker);
}

static void set_phase(struct snapshot *s, const char *phase)
{
	s->phase = phase;
	atomic_store(&s->done, 0);
	atomic_store(&s->total, 0);
	s->user->progress(s->user, phase, 0, 0);
}

static void tell_progress(struct loop_timer *timer)
{
	struct snapshot *s = container_of(timer, struct snapshot, progress);

	loop_timer_set(machine_loop(s->machine), timer, now_ns() + PROGRESS_NS);
	if (atomic_load(&s->total))
		s->user->progress(s->user, s->phase, atomic_load(&s->done), atomic_load(&s->total));
	if (s->waits_memory)
		await_memory(s);
}

/* ---- the end ---- */

static void snapshot_free(struct snapshot *s)
{
	loop_thread_stop(&s->worker);
	loop_timer_clear(machine_loop(s->machine), &s->progress);
	machine_unobserve(s->machine, &s->observer);
	snapshot_drop_disks(s);
	background_destroy(s->background);
	precopy_destroy(s->precopy);
	memory_file_close(s->memory);
	snapshot_dir_abandon(&s->dir);
	snapshot_manifest_destroy(&s->manifest);
	page_set_destroy(&s->pages);
	state_release(&s->state);
	s->series->busy = false;
	machine_let_devices_go(s->machine);
	free(s);
}

static void release(struct snapshot *s)
{
	if (s->holds)
		s->report.pause.total = machine_release(s->machine, &s->hold);
	s->holds = false;
	if (s->asked)
		s->user->released(s->user);
	s->asked = false;
}

static void fail(struct snapshot *s)
{
	struct snapshot_user *user = s->user;
	struct error err = s->err;

	snapshot_slow_end(s);
	release(s);
	if (s->collected)
		machine_dirty_rollback(s->machine);
	if (!s->was_tracking && !s->series->id[0])
		machine_dirty_stop(s->machine);
	snapshot_free(s);
	user->ended(user, NULL, &err);
}

/* The folder is there. */
static void succeed(struct snapshot *s)
{
	struct snapshot_user *user = s->user;
	struct snapshot_report report = s->report;

	if (s->collected)
		machine_dirty_commit(s->machine);
	snapshot_commit_disks(s);
	if (s->options.track) {
		memcpy(s->series->id, s->manifest.id, sizeof(s->series->id));
		memcpy(s->series->path, s->path, sizeof(s->series->path));
	} else {
		s->series->id[0] = '\0';
		machine_dirty_stop(s->machine);
	}
	report.elapsed_ns = now_ns() - s->began_ns;
	snapshot_free(s);
	user->ended(user, &report, NULL);
}

/* ---- publish ---- */

static int publish(struct snapshot *s, struct error *err)
{
	char *real;
	int ret = snapshot_write_behind(s, err);

	if (ret == 0)
		ret = memory_file_finish(s->memory, &s->manifest, err);
	if (ret == 0)
		ret = snapshot_finish_disks(s, err);
	if (ret == 0)
		ret = snapshot_dir_part(&s->dir, &s->manifest, SNAPSHOT_STATE_FILE, s->state.bytes,
			s->state.size, err);
	if (ret == 0)
		ret = check_cancel(s, err);
	if (ret == 0)
		ret = snapshot_dir_commit(&s->dir, &s->manifest, err);
	if (ret < 0)
		return ret;
	real = realpath(
		s->path, NULL); /* the next one finds it whatever the working directory is */
	if (real && strlen(real) < sizeof(s->path))
		memcpy(s->path, real, strlen(real) + 1);
	free(real);
	s->report.data_bytes = s->manifest.data_pages * GUEST_PAGE_SIZE;
	memcpy(s->report.id, s->manifest.id, sizeof(s->report.id));
	memcpy(s->report.parent, s->manifest.parent, sizeof(s->report.parent));
	memcpy(s->report.path, s->path, sizeof(s->report.path));
	return 0;
}

/* It is there, whoever calls it back now. */
static void published(struct snapshot *s)
{
	succeed(s);
}

static void let_go(struct snapshot *s)
{
	if (!s->options.resume)
		machine_set_paused(s->machine, true);
	release(s);
	set_phase(s, "writing");
	run(s, publish, published);
}

/* ---- the point in time ---- */

static int work_held(struct snapshot *s, struct error *err)
{
	uint64_t began = now_ns(), memory;
	int ret = snapshot_write_held(s, err);

	memory = now_ns();
	if (ret == 0)
		ret = snapshot_final_disks(s, err);
	s->report.pause.memory += memory - began;
	s->report.pause.disks = now_ns() - memory;
	return ret;
}

static int save_state(struct snapshot *s, struct error *err)
{
	int ret;

	state_begin(&s->state);
	ret = machine_save(s->machine, &s->state, err);
	return ret < 0 ? ret : state_finish(&s->state, err);
}

static void flushed(void *owner, const struct error *err)
{
	struct snapshot *s = owner;

	if (err)
		s->err = *err;
	s->ret = err ? -err->code : 0;
	if (s->ret < 0)
		fail(s);
	else
		run(s, work_held, let_go);
}

static void held(struct machine_hold *hold)
{
	struct snapshot *s = container_of(hold, struct snapshot, hold);
	uint64_t at = now_ns(), saved;

	s->report.pause.quiesce = at - hold->began_ns;
	snapshot_manifest_date(&s->manifest);
	s->ret = check_cancel(s, &s->err);
	if (s->ret == 0)
		s->ret = save_state(s, &s->err);
	saved = now_ns();
	s->report.pause.state = saved - at;
	if (s->ret == 0)
		s->ret = snapshot_collect_pages(s, &s->err);
	s->report.pause.memory = now_ns() - saved;
	if (s->ret < 0)
		fail(s);
	else if (s->options.resume)
		run(s, work_held, let_go);
	else /* whoever wants it to stand still has something to do with its disks */
		machine_devices_flush(machine_devices(s->machine), flushed, s);
}

static void hold(struct snapshot *s)
{
	int ret = check_cancel(s, &s->err);

	snapshot_slow_end(s);
	if (ret == 0) {
		s->hold.held = held;
		s->holds = true;
		ret = machine_hold(s->machine, &s->hold, &s->err);
		if (ret == 0)
			return; /* held() may have come: the worker has it now, or all is over */
		s->holds = false;
	}
	s->ret = ret;
	fail(s);
}

/* The guest went on writing while the user got ready. */
void snapshot_hold(struct snapshot *s)
{
	if (!s->waits)
		return;
	s->waits = false;
	run(s, snapshot_arm_memory, hold);
}

static void prepared(struct snapshot *s)
{
	snapshot_slow_set(s, 0); /* what the guest is to do now it shall do soon */
	/* Both before the user is asked, who may call snapshot_hold() from within. */
	s->waits = s->asked = s->user->about_to_hold;
	if (!s->asked || s->user->about_to_hold(s->user)) {
		s->waits = s->asked = false;
		hold(s);
	}
}

/* ---- preparing ---- */

static int prepare(struct snapshot *s, struct error *err)
{
	int ret = snapshot_open_memory(s, err);

	if (ret == 0)
		ret = snapshot_prepare_disks(s, err);
	return ret < 0 ? ret : snapshot_arm_memory(s, err);
}

static void begin_to_prepare(struct snapshot *s)
{
	/* What prepares is compared with its own moment: memory may have come or gone since the snapshot was asked for. */
	memory_layout_of(machine_memory(s->machine), &s->manifest.memory);
	snapshot_choose_background(s);
	if (s->precopy)
		snapshot_slow_begin(s);
	s->ret = snapshot_start_disks(s, &s->err);
	if (s->ret < 0)
		fail(s);
	else
		run(s, prepare, prepared);
}

/*
 * Memory that is still being filled could only be written while the guest stands still, and that for as long as its source
 * takes. So it waits, and looks again with each tick of the progress.
 */
static void await_memory(struct snapshot *s)
{
	uint64_t done = 0, total = 0;

	s->ret = check_cancel(s, &s->err);
	if (s->ret < 0) {
		fail(s);
		return;
	}
	if (machine_memory_filling(s->machine, &done, &total)) {
		atomic_store(&s->done, done);
		atomic_store(&s->total, total);
		return;
	}
	s->waits_memory = false;
	set_phase(s, "preparing");
	begin_to_prepare(s);
}

static void folder_made(struct snapshot *s)
{
	uint64_t done, total;

	s->waits_memory = machine_memory_filling(s->machine, &done, &total);
	if (s->waits_memory)
		set_phase(s, "waiting for memory");
	else
		begin_to_prepare(s);
}

static int make_folder(struct snapshot *s, struct error *err)
{
	return snapshot_dir_create(&s->dir, s->path, err);
}

static int fill_manifest(struct snapshot *s, struct error *err)
{
	const struct machine_config *config = machine_config(s->machine);
	struct snapshot_manifest *manifest = &s->manifest;
	int ret = snapshot_manifest_init(manifest, err);

	if (ret < 0)
		return ret;
	snprintf(manifest->name, sizeof(manifest->name), "%s", config->name);
	snprintf(manifest->architecture, sizeof(manifest->architecture), "%s", arch_name);
	manifest->kind = s->options.incremental ? SNAPSHOT_INCREMENTAL : SNAPSHOT_FULL;
	manifest->compression = s->options.compression;
	manifest->machine = machine_config_to_save(config);
	manifest->devices = json_object();
	if (!manifest->machine || !manifest->devices)
		return error_errno(err, ENOMEM, "cannot describe the VM");
	if (!s->options.incremental)
		return 0;
	memcpy(manifest->parent, s->series->id, sizeof(manifest->parent));
	return chain_parent_folder(s->path, s->series->path, &manifest->parent_folder, err);
}

static int check_state(struct snapshot *s, struct error *err)
{
	enum machine_state state = machine_state(s->machine);

	if (state == MACHINE_CREATED || state == MACHINE_ENDED || state == MACHINE_RESETTING)
		return error_set(err, ERROR_WRONG_STATE, "the VM is %s: it has no state to save",
			machine_state_name(state));
	if (s->series->busy)
		return error_set(err, ERROR_WRONG_STATE, "a snapshot is being taken");
	if (s->options.incremental && (!s->series->id[0] || !machine_dirty_active(s->machine))) {
		error_set(err, ERROR_WRONG_STATE, "there is no snapshot to build on");
		return error_hint(err, "take a full one first, with track");
	}
	return 0;
}

static void state_changed(
	struct machine_observer *observer, enum machine_state state, enum machine_exit how)
{
	struct snapshot *s = container_of(observer, struct snapshot, observer);

	(void)how;
	if (s->background)
		background_widen(
			s->background, state == MACHINE_RESETTING || state == MACHINE_ENDED);
	if (state != MACHINE_ENDED)
		return;
	s->ended = true;
	atomic_store(&s->cancel, true);
}

static int start(struct snapshot *s, struct error *err)
{
	int ret = check_state(s, err);

	if (ret == 0)
		ret = machine_keep_devices(s->machine, err);
	if (ret < 0)
		return ret;
	ret = fill_manifest(s, err);
	if (ret == 0)
		ret = page_set_create(
			&s->pages, guest_memory_pages(machine_memory(s->machine)), err);
	s->was_tracking = machine_dirty_active(s->machine);
	if (ret == 0 && s->options.track && !s->was_tracking)
		ret = machine_dirty_start(s->machine, err);
	if (ret == 0)
		ret = loop_thread_start(&s->worker, "snapshot", 8, err);
	if (ret < 0 && s->options.track && !s->was_tracking)
		machine_dirty_stop(s->machine);
	if (ret < 0)
		machine_let_devices_go(s->machine);
	return ret;
}

int snapshot_begin(struct machine *machine, struct snapshot_series *series,
	const struct snapshot_options *options, struct snapshot_user *user, struct snapshot **out,
	struct error *err)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	int ret = 0;

	if (!s)
		return error_errno(err, ENOMEM, "cannot take a snapshot");
	s->machine = machine;
	s->series = series;
	s->options = *options;
	s->user = user;
	s->began_ns = now_ns();
	s->dir.parent = s->dir.fd = s->dir.lock = -1;
	s->to_worker.run = work;
	s->to_main.run = worked;
	s->progress.fire = tell_progress;
	s->observer.state_changed = state_changed;
	if (snprintf(s->path, sizeof(s->path), "%s", options->path) >= (int)sizeof(s->path))
		ret = error_errno(err, ENAMETOOLONG, "'%.200s'", options->path);
	if (ret == 0)
		ret = start(s, err);
	if (ret < 0) {
		snapshot_manifest_destroy(&s->manifest);
		page_set_destroy(&s->pages);
		free(s);
		return ret;
	}
	series->busy = true;
	machine_observe(machine, &s->observer);
	loop_timer_set(machine_loop(machine), &s->progress, now_ns() + PROGRESS_NS);
	*out = s;
	set_phase(s, "preparing");
	run(s, make_folder, folder_made);
	return 0;
}

void snapshot_cancel(struct snapshot *s)
{
	atomic_store(&s->cancel, true);
	for (unsigned i = 0; i < s->disk_count; i++)
		disk_copy_cancel(s->disks[i]);
	if (s->background)
		background_cancel(s->background);
}

void snapshot_release(struct snapshot *s)
{
	struct error err;

	s->ended = s->released = true;
	snapshot_cancel(s);
	while (s->step.work) /* it ends soon, and the loop knows of it until then */
		if (loop_run(machine_loop(s->machine), &err) < 0)
			return;
	error_set(&s->err, ERROR_CANCELLED, "the VM has ended");
	fail(s);
}
