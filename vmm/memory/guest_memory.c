/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM: mapping, huge pages, parallel preallocation and checked translation.
 * See guest_memory.h for the contract.
 */
#include "vmm/memory/guest_memory.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/memory/dirty.h"
#include "vmm/memory/dirty_logger.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/mman.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define PREALLOC_THREADS_MAX 16
#define PREALLOC_CHUNK	     MIB(64)

static uint64_t page_alignment(enum memory_pages pages)
{
	return pages == MEMORY_PAGES_1G ? GIB(1) : MIB(2);
}

static int check_config(const struct guest_memory_config *config, struct error *err)
{
	uint64_t unit = config->pages == MEMORY_PAGES_1G   ? GIB(1)
			: config->pages == MEMORY_PAGES_2M ? MIB(2)
							   : KIB(4);
	uint64_t end = 0;

	BUG_ON(config->region_count == 0 || config->region_count > MEMORY_REGIONS_MAX);
	for (unsigned i = 0; i < config->region_count; i++) {
		const struct memory_region *r = &config->regions[i];

		BUG_ON(r->size == 0 || r->gpa < end || r->gpa + r->size < r->gpa);
		if (r->size % unit || r->gpa % unit)
			return error_set(err, ERROR_BAD_REQUEST,
				"cannot make guest memory of %" PRIu64
				" bytes: with these huge pages each "
				"part must be a multiple of %" PRIu64 " MiB",
				r->size, unit >> 20);
		end = r->gpa + r->size;
	}
	return 0;
}

static int map_failed(enum memory_pages pages, uint64_t size, int errnum, struct error *err)
{
	error_errno(err, errnum, "cannot get %" PRIu64 " MiB of guest memory from the host",
		size >> 20);
	if (pages == MEMORY_PAGES_2M || pages == MEMORY_PAGES_1G)
		return error_hint(err,
			"reserve huge pages in /sys/kernel/mm/hugepages, or use hugepages=thp");
	return error_hint(err,
		"use a smaller --memory, or see /proc/sys/vm/overcommit_memory and 'ulimit -v'");
}

/* Say of anonymous memory that is mapped already what pages it is to be of. -1 with errno. */
static int back_with(uint8_t *start, uint64_t size, enum memory_pages pages)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB |
		    (pages == MEMORY_PAGES_1G ? MAP_HUGE_1GB : MAP_HUGE_2MB);

	if (pages == MEMORY_PAGES_2M || pages == MEMORY_PAGES_1G)
		return mmap(start, size, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED ? -1
											     : 0;
	/* Advice: a kernel without THP is not an error. */
	madvise(start, size, pages == MEMORY_PAGES_THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return 0;
}

/*
 * Reserve more address space than needed, and put RAM at the first aligned place in it. The mapping is
 * accounted (no MAP_NORESERVE), so that the host refuses now what it cannot give, by its overcommit rule.
 */
static int map_backing(const struct guest_memory_config *config, struct guest_memory *memory,
	uint64_t size, struct error *err)
{
	uint64_t align = page_alignment(config->pages);
	uint8_t *start;

	memory->mapping_size = size + align;
	memory->mapping = mmap(NULL, memory->mapping_size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory->mapping == MAP_FAILED) {
		memory->mapping = NULL;
		return map_failed(config->pages, size, errno, err);
	}
	/* The first region starts at a GPA that is itself aligned (checked by the caller's address map). */
	start = (uint8_t *)align_up((uint64_t)(uintptr_t)memory->mapping, align);
	if (back_with(start, size, config->pages) < 0)
		return map_failed(config->pages, size, errno, err);
	for (unsigned i = 0; i < memory->region_count; i++) {
		memory->regions[i].host = start;
		start += memory->regions[i].size;
	}
	return 0;
}

/* Only address space: nothing is accounted for what may never come. */
static int reserve_area(
	const struct guest_memory_config *config, struct guest_memory *memory, struct error *err)
{
	uint64_t align = page_alignment(config->pages);
	struct memory_area *area = &memory->area;

	BUG_ON(config->area_unit & (config->area_unit - 1) || config->area_unit % align ||
		config->area_gpa % align ||
		(config->area_size - 1) / config->area_unit >= MEMORY_SLOTS_MAX);
	area->mapping_size = config->area_size + align;
	area->mapping =
		mmap(NULL, area->mapping_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area->mapping == MAP_FAILED) {
		area->mapping = NULL;
		return map_failed(config->pages, config->area_size, errno, err);
	}
	area->gpa = config->area_gpa;
	area->size = config->area_size;
	area->unit = config->area_unit;
	area->host = (uint8_t *)align_up((uint64_t)(uintptr_t)area->mapping, align);
	return 0;
}

struct prealloc {
	uint8_t *start;
	uint64_t size;
	_Atomic uint64_t next; /* shared: the offset of the next chunk to take */
	_Atomic int error;
};

static void *prealloc_worker(void *arg)
{
	struct prealloc *work = arg;

	for (;;) {
		uint64_t at = atomic_fetch_add(&work->next, PREALLOC_CHUNK);

		if (at >= work->size || work->error)
			return NULL;
		if (madvise(work->start + at, min_u64(PREALLOC_CHUNK, work->size - at),
			    MADV_POPULATE_WRITE) < 0)
			work->error = errno;
	}
}

/* Every thread faults in chunks of its own; the kernel's page zeroing is what takes the time. */
static int prealloc(uint8_t *start, uint64_t size, struct error *err)
{
	struct prealloc work = {.start = start, .size = size};
	pthread_t threads[PREALLOC_THREADS_MAX];
	unsigned wanted = (unsigned)min_u64((uint64_t)get_nprocs(), PREALLOC_THREADS_MAX);
	unsigned started = 0;

	wanted = (unsigned)min_u64(wanted, (work.size + PREALLOC_CHUNK - 1) / PREALLOC_CHUNK);
	while (started + 1 < wanted &&
		!pthread_create(&threads[started], NULL, prealloc_worker, &work))
		started++;
	prealloc_worker(&work);
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	if (work.error) {
		error_errno(err, work.error, "cannot preallocate %" PRIu64 " MiB of guest memory",
			work.size >> 20);
		return error_hint(err,
			"the host has too little free memory; use prealloc=off or a smaller --memory");
	}
	return 0;
}

int guest_memory_create(
	const struct guest_memory_config *config, struct guest_memory *memory, struct error *err)
{
	int ret = check_config(config, err);

	if (ret < 0)
		return ret;
	memset(memory, 0, sizeof(*memory));
	memory->region_count = config->region_count;
	memory->pages = config->pages;
	for (unsigned i = 0; i < config->region_count; i++) {
		memory->regions[i] = config->regions[i];
		memory->size += config->regions[i].size;
	}
	memory->prealloc = config->prealloc;
	ret = memory_loggers_create(&memory->loggers, err);
	if (ret == 0)
		ret = map_backing(config, memory, memory->size, err);
	if (ret == 0 && config->area_size)
		ret = reserve_area(config, memory, err);
	if (ret == 0 && config->prealloc)
		ret = prealloc(memory->regions[0].host, memory->size, err);
	if (ret < 0)
		guest_memory_destroy(memory);
	return ret;
}

void guest_memory_destroy(struct guest_memory *memory)
{
	if (memory->mapping)
		munmap(memory->mapping, memory->mapping_size);
	guest_memory_forget_marks(memory);
	memory_loggers_destroy(memory->loggers);
	if (memory->area.mapping)
		munmap(memory->area.mapping, memory->area.mapping_size);
	memset(memory, 0, sizeof(*memory));
}

unsigned guest_memory_slot_count(const struct guest_memory *memory)
{
	const struct memory_area *area = &memory->area;

	return area->size ? (unsigned)((area->size - 1) / area->unit) + 1 : 0;
}

struct memory_region guest_memory_slot(const struct guest_memory *memory, unsigned slot)
{
	const struct memory_area *area = &memory->area;
	uint64_t offset = slot * area->unit;

	BUG_ON(offset >= area->size);
	return (struct memory_region){.gpa = area->gpa + offset,
		.size = min_u64(area->unit, area->size - offset),
		.host = area->host + offset};
}

uint64_t guest_memory_slots_size(const struct guest_memory *memory, uint64_t slots)
{
	uint64_t size = 0;

	for (; slots; slots &= slots - 1)
		size += guest_memory_slot(memory, (unsigned)__builtin_ctzll(slots)).size;
	return size;
}

int guest_memory_plug(struct guest_memory *memory, unsigned slot, struct error *err)
{
	struct memory_region r = guest_memory_slot(memory, slot);
	int ret = 0;

	BUG_ON(atomic_load(&memory->area.present) >> slot & 1);
	if (memory->area.kept >> slot & 1) {
		error_set(err, ERROR_WRONG_STATE,
			"the memory that was unplugged at %#" PRIx64 " is still being copied",
			r.gpa);
		return error_hint(err, "try again when the snapshot is done");
	}
	/* Accounted from here on, as all of a guest's memory is. Of a slot that was there before it is nothing new. */
	if (mprotect(r.host, r.size, PROT_READ | PROT_WRITE) < 0 ||
		back_with(r.host, r.size, memory->pages) < 0)
		return map_failed(memory->pages, r.size, errno, err);
	if (memory->prealloc)
		ret = prealloc(r.host, r.size, err);
	if (ret == 0) {
		/* What was there before is gone: to whoever follows, all of it is written. */
		guest_memory_mark(memory, r.host, r.size);
		atomic_fetch_or_explicit(&memory->area.present, 1ull << slot, memory_order_release);
	} else {
		madvise(r.host, r.size, MADV_DONTNEED);
	}
	return ret;
}

static void give_back(const struct guest_memory *memory, unsigned slot)
{
	struct memory_region r = guest_memory_slot(memory, slot);

	if (madvise(r.host, r.size, MADV_DONTNEED) < 0)
		log_warn("the host does not take back %" PRIu64 " MiB of guest memory: %s",
			r.size >> 20, strerrordesc_np(errno));
}

void guest_memory_unplug(struct guest_memory *memory, unsigned slot)
{
	atomic_fetch_and(&memory->area.present, ~(1ull << slot));
	if (memory->holds)
		memory->area.kept |= 1ull << slot;
	else
		give_back(memory, slot);
}

void guest_memory_hold(struct guest_memory *memory)
{
	memory->holds++;
}

void guest_memory_unhold(struct guest_memory *memory)
{
	BUG_ON(!memory->holds);
	if (--memory->holds)
		return;
	for (uint64_t kept = memory->area.kept; kept; kept &= kept - 1)
		give_back(memory, (unsigned)__builtin_ctzll(kept));
	memory->area.kept = 0;
}

void guest_memory_each_plugged(const struct guest_memory *memory,
	void (*take)(void *owner, uint64_t gpa, uint64_t size), void *owner)
{
	uint64_t present = atomic_load(&memory->area.present);

	while (present) {
		unsigned slot = (unsigned)__builtin_ctzll(present);
		struct memory_region r = guest_memory_slot(memory, slot);

		for (present &= present - 1; ++slot < MEMORY_SLOTS_MAX && present >> slot & 1;
			present &= present - 1)
			r.size += guest_memory_slot(memory, slot).size;
		take(owner, r.gpa, r.size);
	}
}

/* All slots that the range touches must be there. */
static uint8_t *area_view(const struct memory_area *area, uint64_t offset, uint64_t len)
{
	uint64_t first, last, slots;

	if (!len || len > area->size - offset)
		return NULL;
	first = offset / area->unit;
	last = (offset + len - 1) / area->unit;
	slots = (UINT64_MAX >> (63 - (last - first))) << first;
	if (slots & ~atomic_load_explicit(&area->present, memory_order_acquire))
		return NULL;
	return area->host + offset;
}

uint8_t *guest_memory_view(const struct guest_memory *memory, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < memory->region_count; i++) {
		const struct memory_region *r = &memory->regions[i];
		uint64_t offset = gpa - r->gpa;

		if (gpa >= r->gpa && offset < r->size)
			return len && len <= r->size - offset ? r->host + offset : NULL;
	}
	if (gpa >= memory->area.gpa && gpa - memory->area.gpa < memory->area.size)
		return area_view(&memory->area, gpa - memory->area.gpa, len);
	return NULL;
}

bool guest_memory_read(const struct guest_memory *memory, uint64_t gpa, void *data, size_t len)
{
	const uint8_t *view = guest_memory_view(memory, gpa, len);

	if (view)
		memcpy(data, view, len);
	return view;
}

bool guest_memory_write(
	const struct guest_memory *memory, uint64_t gpa, const void *data, size_t len)
{
	uint8_t *view = guest_memory_view(memory, gpa, len);

	if (view) {
		memcpy(view, data, len);
		guest_memory_mark(memory, view, len);
	}
	return view;
}

bool guest_memory_zero(const struct guest_memory *memory, uint64_t gpa, size_t len)
{
	uint8_t *view = guest_memory_view(memory, gpa, len);

	if (view) {
		memset(view, 0, len);
		guest_memory_mark(memory, view, len);
	}
	return view;
}
