/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM: a few regions of guest physical address space (GPA), backed by one host mapping.
 *
 * The mapping is placed so that host and guest addresses are congruent modulo 2 MiB (1 GiB with
 * 1 GiB pages): only then can the kernel back the guest with huge pages, and the second-level page
 * tables map them whole. Regions are the parts that the architecture's address map leaves around its
 * holes (x86_64: below 3 GiB and from 4 GiB up).
 *
 * Nothing outside this floor turns a GPA into a pointer but guest_memory_view() and its helpers:
 * they answer NULL or false for every range that is not wholly inside one region. The memory behind
 * a view is shared with running vCPUs: read each field once into a local, check the local, use the
 * local. The regions do not change while vCPUs run.
 *
 * Beside them there may be an area in which memory comes and goes meanwhile, in slots. Its address space is reserved whole; a
 * slot becomes readable and writable when it is first plugged, and stays so: what is unplugged loses its pages and can be
 * viewed no more, but a view that a device's thread still holds leads to zeros, not to a fault. So views stay valid
 * until guest_memory_destroy().
 *
 * All functions but create and destroy are thread-safe; plug and unplug belong to one thread.
 */
#pragma once

#include "vmm/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum memory_pages {
	MEMORY_PAGES_THP, /* anonymous, transparent huge pages asked for */
	MEMORY_PAGES_OFF, /* anonymous, 4 KiB pages only */
	MEMORY_PAGES_2M,  /* hugetlb: the host must have reserved them */
	MEMORY_PAGES_1G,
};

struct memory_region {
	uint64_t gpa;
	uint64_t size; /* bytes, a multiple of 4 KiB */
	uint8_t *host;
};

#define MEMORY_REGIONS_MAX 4

#define MEMORY_SLOTS_MAX 64

struct memory_marks;   /* see dirty.h */
struct memory_loggers; /* see dirty_logger.h */

/* Slot n is at gpa + n * unit; the last may be smaller. */
struct memory_area {
	uint64_t gpa, size; /* size 0: there is none */
	uint64_t unit;	    /* bytes, a power of two */
	uint8_t *host;
	_Atomic uint64_t present; /* bit n: slot n is plugged */
	uint64_t kept;		  /* unplugged while held: its pages are still there */
	void *mapping;
	size_t mapping_size;
};

struct guest_memory {
	unsigned region_count;
	struct memory_region regions[MEMORY_REGIONS_MAX]; /* ascending by gpa, not overlapping */
	uint64_t size;					  /* sum of the regions */
	struct memory_area area;
	enum memory_pages pages;
	bool prealloc;
	bool of_files; /* parts of it are private mappings of files: a restored guest's */
	unsigned holds;
	void *mapping; /* what munmap gets */
	size_t mapping_size;
	_Atomic(struct memory_marks *)
		followed; /* NULL while nobody asks what is written: dirty.h */
	struct memory_marks *marks;
	struct memory_loggers *loggers;
};

/* What to make: the regions' gpa and size are filled in by the caller (see arch), host is ignored. */
struct guest_memory_config {
	unsigned region_count;
	struct memory_region regions[MEMORY_REGIONS_MAX];
	uint64_t area_gpa, area_size, area_unit; /* size 0: nothing comes and goes */
	enum memory_pages pages;
	bool prealloc; /* populate every page now, on several threads */
};

int guest_memory_create(
	const struct guest_memory_config *config, struct guest_memory *memory, struct error *err);
void guest_memory_destroy(struct guest_memory *memory);

/* Slot n: where it is, whether plugged or not. */
struct memory_region guest_memory_slot(const struct guest_memory *memory, unsigned slot);
unsigned guest_memory_slot_count(const struct guest_memory *memory);
/* The bytes of these slots together. */
uint64_t guest_memory_slots_size(const struct guest_memory *memory, uint64_t slots);

/* Memory for an empty slot, of zeros, in view from then on. A plugged slot leaves view, and gives its pages back to the host. */
int guest_memory_plug(struct guest_memory *memory, unsigned slot, struct error *err);
void guest_memory_unplug(struct guest_memory *memory, unsigned slot);

/*
 * While it is held memory that is unplugged keeps its pages: somebody still reads them. They go back to the host when the last
 * hold ends; until then that slot cannot be plugged again, and guest_memory_plug() says so. The same thread as plug and unplug.
 */
void guest_memory_hold(struct guest_memory *memory);
void guest_memory_unhold(struct guest_memory *memory);

/* Call `take` for each piece of the area that is plugged, as large as can be, in ascending order. */
void guest_memory_each_plugged(const struct guest_memory *memory,
	void (*take)(void *owner, uint64_t gpa, uint64_t size), void *owner);

/* The host address of [gpa, gpa+len), or NULL when any byte of it is not RAM. len 0 is refused. */
uint8_t *guest_memory_view(const struct guest_memory *memory, uint64_t gpa, uint64_t len);

/* Copy in or out; false (and nothing copied) when the range is not RAM. Who writes through a view marks: dirty.h. */
bool guest_memory_read(const struct guest_memory *memory, uint64_t gpa, void *data, size_t len);
bool guest_memory_write(
	const struct guest_memory *memory, uint64_t gpa, const void *data, size_t len);
bool guest_memory_zero(const struct guest_memory *memory, uint64_t gpa, size_t len);
