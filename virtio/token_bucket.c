/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rate limit by the generic cell rate algorithm. See token_bucket.h for the contract.
 *
 * paid_until_ns is when all that was granted will have been paid for at the present rate. While it
 * lies less than the burst ahead of now, the next request is granted, whatever its size, and moves
 * it on by its own cost: so one that is larger than the burst is not starved by small ones, and the
 * debt it makes delays those that follow. The long-run rate is exact; the most that can be granted at
 * one moment is the burst and one request.
 *
 * A new rate forgives what was owed at the old one, and nobody who saw the old one may add to the debt afterwards: at a byte
 * a second one request owes years. So the new rate is stored before the debt is reset, a taker reads the debt before the
 * rate, and each reset leaves a value that was never there before: whoever computed with the old rate fails to
 * exchange, and looks at both again.
 */
#include "virtio/token_bucket.h"

#include "vmm/base/util.h"

#define BURST_NS    100000000u
#define COST_MAX    (UINT64_MAX / 4) /* keeps every sum below in range */
#define LONG_AGO_NS 1000000000u

void token_bucket_set(struct token_bucket *tb, uint64_t rate)
{
	/* Nanoseconds after the host's start: long ago, so nothing is owed. */
	uint64_t long_ago =
		atomic_fetch_add_explicit(&tb->changes, 1, memory_order_relaxed) % LONG_AGO_NS;

	atomic_store_explicit(&tb->rate, rate, memory_order_relaxed);
	atomic_store_explicit(&tb->paid_until_ns, long_ago, memory_order_release);
}

static uint64_t cost_ns(uint64_t units, uint64_t rate)
{
	unsigned __int128 cost = (unsigned __int128)units * 1000000000u / rate;

	return cost < COST_MAX ? (uint64_t)cost : COST_MAX;
}

uint64_t token_bucket_take(struct token_bucket *tb, uint64_t units, uint64_t now_ns)
{
	uint64_t paid = atomic_load_explicit(&tb->paid_until_ns, memory_order_acquire);
	uint64_t rate, next;

	do {
		rate = atomic_load_explicit(&tb->rate, memory_order_relaxed);
		if (!rate)
			return 0;
		if (paid >= now_ns + BURST_NS)
			return paid - BURST_NS + 1;
		next = max_u64(paid, now_ns) + cost_ns(units, rate);
	} while (!atomic_compare_exchange_weak_explicit(
		&tb->paid_until_ns, &paid, next, memory_order_acquire, memory_order_acquire));
	return 0;
}
