/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A histogram of durations in buckets of a logarithmic scale: 16 µs, four times that, and so on up to 1.05 s, and one for
 * all above. Fixed, so that those of many VMs and versions can be added up; wide, so that three of them for a disk do not
 * cost a monitoring system more than they tell.
 *
 * One thread counts, by plain additions, no locked instruction; any thread reads. What is read is no one moment's, but
 * never less than what was read before.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS 10 /* the last has no upper end */

struct histogram {
	_Atomic uint64_t counts[HISTOGRAM_BUCKETS];
	_Atomic uint64_t sum_ns;
};

/* What was counted, of one histogram or of several. */
struct histogram_sums {
	uint64_t counts[HISTOGRAM_BUCKETS];
	uint64_t sum_ns;
};

/* A bucket's upper end, which belongs to it; not of the last. */
static inline uint64_t histogram_end_ns(unsigned bucket)
{
	return UINT64_C(1000) << (2 * bucket + 4);
}

static inline unsigned histogram_bucket(uint64_t ns)
{
	/* The bits that the microseconds take, rounded up so that an end belongs to what it ends. */
	unsigned bits = ns > 1000 ? 64 - (unsigned)__builtin_clzll((ns - 1) / 1000) : 0;
	unsigned bucket = bits > 4 ? (bits - 3) / 2 : 0;

	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static inline void histogram_count(struct histogram *histogram, uint64_t ns)
{
	_Atomic uint64_t *count = &histogram->counts[histogram_bucket(ns)];
	uint64_t before = atomic_load_explicit(count, memory_order_relaxed);
	uint64_t sum = atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed);

	atomic_store_explicit(count, before + 1, memory_order_relaxed);
	atomic_store_explicit(&histogram->sum_ns, sum + ns, memory_order_relaxed);
}

static inline void histogram_add_to(struct histogram_sums *sums, const struct histogram *histogram)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		sums->counts[i] +=
			atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
	sums->sum_ns += atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed);
}
