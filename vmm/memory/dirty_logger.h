/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who writes guest memory without us, and keeps a log of it: the kernel's vhost. It is asked to while somebody follows
 * writes (dirty.h), and what it logged is among the marks. The log is one bit a 4 KiB page by guest physical address,
 * little-endian, as vhost's is.
 *
 * Threads: a logger is added and removed on any thread; it is told on that, or on the one that begins or ends to follow, under a
 * lock, so one after the other.
 */
#pragma once

#include "vmm/memory/guest_memory.h"
#include "vmm/memory/page_set.h"

/* Embed it. */
struct memory_logger {
	struct memory_logger *next;
	/* From now on log each write there; NULL: log no more. 0 or a negative errno. */
	int (*log)(struct memory_logger *logger, uint64_t *bitmap);
};

struct memory_loggers;

/* Before it writes; told to log at once where writes are followed. A negative errno: it cannot, and is not added. */
int guest_memory_add_logger(const struct guest_memory *memory, struct memory_logger *logger);
/* When it writes no more. It is not told. */
void guest_memory_remove_logger(const struct guest_memory *memory, struct memory_logger *logger);

/* ---- for guest_memory.c and dirty.c ---- */

int memory_loggers_create(struct memory_loggers **out, struct error *err);
void memory_loggers_destroy(struct memory_loggers *loggers);
int memory_loggers_start(const struct guest_memory *memory, struct error *err);
void memory_loggers_stop(const struct guest_memory *memory);
/* Move what was logged into `words`, by the pages' numbers. */
void memory_loggers_take(const struct guest_memory *memory, _Atomic uint64_t *words);
