/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a snapshot: which pages, and how they come into the file. */
#include "vmm/transfer/snapshot_private.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/machine/dirty.h"
#include "vmm/machine/filler.h"
#include "vmm/machine/save.h"

static const uint8_t zeros[MIB(1)];

static int put(void *owner, uint64_t first, const uint8_t *data, uint64_t count, struct error *err)
{
	struct snapshot *s = owner;

	return memory_file_put(s->memory, first, data, count, err);
}

static void expect(void *owner, uint64_t pages)
{
	struct snapshot *s = owner;

	s->looked_earlier = s->looked;
	atomic_store(&s->done, 0);
	atomic_store(&s->total, pages * GUEST_PAGE_SIZE);
}

static void slow(void *owner, unsigned level)
{
	snapshot_slow_set(owner, level);
}

/* What dirty pages it tells ahead of the moment belongs to the series, or is forgotten with the snapshot. */
static int make_precopy(struct snapshot *s, struct error *err)
{
	const struct precopy_config config = {
		.memory = machine_memory(s->machine),
		.engine = machine_dirty_engine(s->machine),
		.user = machine_dirty_user(s->machine),
		.all = !s->options.incremental,
		.cancel = &s->cancel,
		.put = put,
		.expect = expect,
		.slow = slow,
		.owner = s,
	};
	int ret = machine_dirty_start(s->machine, err);

	return ret ?: precopy_create(&s->precopy, &config, err);
}

/* Where it cannot be, the guest stands still longer: said in the log, in the result, and by the pause itself. */
void snapshot_choose_background(struct snapshot *s)
{
	const struct background_config config = {.seccomp = machine_config(s->machine)->seccomp,
		.device = machine_uffd_device(s->machine)};
	struct guest_memory *memory = machine_memory_to_fill(s->machine);
	struct error why, why_not_ahead;

	if (!s->options.background)
		return;
	if (background_supported(memory, &why) &&
		background_create(&s->background, memory, &config, &why) == 0)
		return;
	s->background = NULL;
	if (make_precopy(s, &why_not_ahead) == 0) {
		log_info("the snapshot's memory is copied ahead of its moment: %s%s%s", why.text,
			*why.hint ? "; to mend it: " : "", why.hint);
		return;
	}
	s->precopy = NULL;
	log_info(
		"the snapshot's memory is written while the guest stands still: %s%s%s, and %s%s%s",
		why.text, *why.hint ? "; to mend it: " : "", why.hint, why_not_ahead.text,
		*why_not_ahead.hint ? "; to mend it: " : "", why_not_ahead.hint);
}

/* At a time, so that a cancelled snapshot ends soon, and progress is told. */
#define WINDOW_PAGES (MIB(8) / GUEST_PAGE_SIZE)

int snapshot_collect_pages(struct snapshot *s, struct error *err)
{
	const struct guest_memory *memory = machine_memory(s->machine);
	int ret = 0;

	if (s->precopy)
		return precopy_collect(s->precopy, err);
	if (!s->background) /* which refuses memory that came or went meanwhile */
		memory_layout_of(memory, &s->manifest.memory);
	if (machine_dirty_active(s->machine)) {
		ret = machine_dirty_collect(s->machine, &s->pages, err);
		s->collected = ret == 0;
	}
	if (!s->options.incremental) /* all, whatever was written since */
		guest_memory_add_present(memory, &s->pages);
	atomic_store(&s->total, page_set_size(&s->pages) * GUEST_PAGE_SIZE);
	if (ret == 0 && s->background)
		ret = background_begin(s->background, &s->pages, err);
	return ret;
}

static void count(void *owner, uint64_t pages, uint64_t bytes)
{
	struct snapshot *s = owner;

	(void)bytes;
	s->looked = pages;
	atomic_store(&s->done, (pages - s->looked_earlier) * GUEST_PAGE_SIZE);
}

int snapshot_open_memory(struct snapshot *s, struct error *err)
{
	const struct memory_file_config config = {
		.dir = s->dir.fd,
		.pages = s->pages.count,
		.kind = s->manifest.kind,
		.compression = s->options.compression,
		.again = s->precopy,
		.cancel = &s->cancel,
		.progress = count,
		.owner = s,
	};

	int ret = memory_file_open(&s->memory, &config, err);

	if (ret < 0)
		return ret;
	if (s->precopy) {
		s->collected = true;
		return precopy_run(s->precopy, err);
	}
	return s->options.track && !s->was_tracking ? machine_dirty_arm(s->machine, err) : 0;
}

int snapshot_arm_memory(struct snapshot *s, struct error *err)
{
	page_set_touch(&s->pages);
	machine_dirty_touch(s->machine);
	if (s->precopy)
		return precopy_again(s->precopy, err);
	return s->background ? background_arm(s->background, err) : 0;
}

/* An incremental snapshot says of each page that it is zero now. */
static int put_zeros(struct snapshot *s, uint64_t first, uint64_t count, struct error *err)
{
	int ret = 0;

	while (count && ret == 0) {
		uint64_t now = min_u64(count, sizeof(zeros) / GUEST_PAGE_SIZE);

		ret = memory_file_put(s->memory, first, zeros, now, err);
		first += now;
		count -= now;
	}
	return ret;
}

static int take(void *owner, uint64_t first, uint64_t count, const void *data, struct error *err)
{
	struct snapshot *s = owner;

	if (data)
		return memory_file_put(s->memory, first, data, count, err);
	return s->options.incremental ? put_zeros(s, first, count, err) : 0;
}

int snapshot_write_behind(struct snapshot *s, struct error *err)
{
	const struct background_sink sink = {.take = take, .owner = s};
	int ret;

	if (s->precopy)
		return precopy_finish(s->precopy, err);
	if (!s->background)
		return 0;
	ret = background_run(s->background, &sink, err);
	background_end(s->background);
	return ret;
}

static int hold_precopy(struct snapshot *s, struct error *err)
{
	int ret = precopy_hold(s->precopy, err);
	struct precopy_report report = precopy_report(s->precopy);

	s->report.passes = report.passes + report.rounds;
	s->report.pause_bytes = report.paused * GUEST_PAGE_SIZE;
	s->report.background = s->manifest.background = report.held == 0;
	if (report.held)
		log_info(
			"the guest writes faster than its memory can be copied: %llu MiB were written while it stood still",
			(unsigned long long)(report.held * GUEST_PAGE_SIZE >> 20));
	return ret;
}

int snapshot_write_held(struct snapshot *s, struct error *err)
{
	const struct guest_memory *memory = machine_memory(s->machine);
	struct page_range r;
	int ret = 0;

	if (s->precopy)
		return hold_precopy(s, err);
	s->report.background = s->manifest.background = s->background;
	if (s->background)
		return 0;
	s->report.pause_bytes = page_set_size(&s->pages) * GUEST_PAGE_SIZE;
	for (uint64_t from = 0;
		ret == 0 && guest_memory_next_range(memory, &s->pages, from, WINDOW_PAGES, &r);
		from = r.first + r.count)
		ret = memory_file_put(s->memory, r.first, r.host, r.count, err);
	return ret;
}
