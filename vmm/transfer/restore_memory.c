/* SPDX-License-Identifier: Apache-2.0 */
/* A restored guest's memory: mapped, filled while the guest runs, or read. See restore_memory.h. */
#include "vmm/transfer/restore_memory.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/machine/save.h"
#include "vmm/memory/pages.h"

#include <inttypes.h>

#define LOOK_NS	  50000000u
#define LOOKS_MAX 40 /* by then it is not that the kernel needs a moment */

/* ---- on demand ---- */

static int read_pages(void *owner, uint64_t first, uint64_t count, uint8_t *to, struct error *err)
{
	const struct restore_memory *rm = owner;

	return chain_read_pages(rm->chain, first, count, to, err);
}

static void failed(void *owner, const struct error *err)
{
	const struct restore_memory *rm = owner;
	struct error why = *err;

	error_prefix(&why, "guest memory cannot be read from the snapshot");
	machine_fail(rm->machine, &why);
}

static void touched(void *owner, uint64_t page)
{
	struct restore_memory *rm = owner;

	restore_working_touched(&rm->working, page);
}

static uint64_t total_bytes(const struct guest_memory *memory)
{
	return memory->size + guest_memory_slots_size(memory, atomic_load(&memory->area.present));
}

/*
 * Let go of it when all is there: then memory can be plugged and copied as any other, and the snapshot's files are not needed any
 * more. Ending it also ends a watch that the kernel had no memory to take off.
 */
static void let_go_if_done(struct restore_memory *rm, const struct ondemand_progress *progress)
{
	if (!progress->complete && rm->looks <= LOOKS_MAX)
		return;
	log_info("all memory is there: %" PRIu64 " MiB, of which the guest waited for %" PRIu64
		 " parts",
		total_bytes(machine_memory(rm->machine)) >> 20, progress->faults);
	ondemand_destroy(rm->ondemand);
	rm->ondemand = NULL;
	loop_timer_clear(machine_loop(rm->machine), &rm->look);
}

static bool filling(struct machine_filler *filler, uint64_t *done, uint64_t *total)
{
	struct restore_memory *rm = container_of(filler, struct restore_memory, filler);
	struct ondemand_progress progress;

	if (!rm->ondemand)
		return false;
	ondemand_progress(rm->ondemand, &progress);
	rm->all = progress.filled == progress.windows;
	let_go_if_done(rm, &progress);
	*total = total_bytes(machine_memory(rm->machine));
	*done = (uint64_t)((double)*total * (double)progress.filled / (double)progress.windows);
	return rm->ondemand;
}

static void look(struct loop_timer *timer)
{
	struct restore_memory *rm = container_of(timer, struct restore_memory, look);
	uint64_t done, total;

	if (!filling(&rm->filler, &done, &total))
		return;
	if (rm->all)
		rm->looks++;
	loop_timer_set(machine_loop(rm->machine), timer, now_ns() + LOOK_NS);
}

static void release(struct machine_filler *filler)
{
	struct restore_memory *rm = container_of(filler, struct restore_memory, filler);

	loop_timer_clear(machine_loop(rm->machine), &rm->look);
	restore_working_end(&rm->working); /* what reads ahead waits for pages like anybody */
	ondemand_destroy(rm->ondemand);
	rm->ondemand = NULL;
}

static int begin_ondemand(struct restore_memory *rm, struct error *err)
{
	struct guest_memory *memory = machine_memory_to_fill(rm->machine);
	const struct ondemand_config config = {
		.read = read_pages,
		.failed = failed,
		.touched = touched,
		.owner = rm,
		.window = ZSTD_BLOCK_PAGES,
		.seccomp = machine_config(rm->machine)->seccomp,
		.device = machine_uffd_device(rm->machine),
	};
	int ret = chain_check_memory(rm->chain, memory, err);

	if (ret == 0 && memory->prealloc) /* what is there already cannot be awaited */
		ret = error_set(err, ERROR_INCOMPATIBLE,
			"memory that is preallocated cannot be filled on demand");
	if (ret == 0)
		ret = ondemand_start(&rm->ondemand, memory, &config, err);
	if (ret < 0)
		return ret;
	loop_timer_set(machine_loop(rm->machine), &rm->look, now_ns() + LOOK_NS);
	return 0;
}

/* ---- the way ---- */

static void tell_refusal(const struct error *why)
{
	log_warn("all of the snapshot's memory is read before the VM starts: %s%s%s", why->text,
		*why->hint ? "; to mend it: " : "", why->hint);
}

/* Kept where the snapshot itself is, whatever it rests on: each moment has its own. */
static void begin_working(
	struct restore_memory *rm, const struct restore_options *options, unsigned window)
{
	if (options->working_set == WORKING_SET_ON)
		restore_working_begin(&rm->working, rm->machine, rm->chain->links[0].dir, window);
}

int restore_memory_begin(struct restore_memory *rm, const struct chain *chain,
	struct machine *machine, const struct restore_options *options, struct error *err)
{
	struct guest_memory *memory = machine_memory_to_fill(machine);
	bool compressed = chain_is_compressed(chain);
	struct error why;
	int ret;

	rm->machine = machine;
	rm->chain = chain;
	rm->filler.filling = filling;
	rm->filler.release = release;
	rm->look.fire = look;
	machine_set_filler(machine, &rm->filler);
	if (options->memory == MEMORY_FROM_ONDEMAND ||
		(options->memory == MEMORY_FROM_AUTO && compressed)) {
		if (begin_ondemand(rm, &why) == 0) {
			begin_working(rm, options, ZSTD_BLOCK_PAGES);
			return 0;
		}
		tell_refusal(&why);
	}
	if (options->memory == MEMORY_FROM_ONDEMAND || options->memory == MEMORY_FROM_READ)
		return chain_fill(chain, memory, err);
	ret = chain_map(chain, memory, err);
	if (ret == 0 && memory->of_files)
		begin_working(rm, options, 0);
	return ret;
}
