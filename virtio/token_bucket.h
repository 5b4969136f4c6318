/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rate limit that several threads share without a lock: the generic cell rate algorithm. All its
 * state is one time, the moment at which everything granted so far will have been paid for; a
 * request is granted when that moment lies less than the burst allowance ahead of now. What is not
 * granted learns when it will be, so the caller arms a timer for exactly then: no tick, no bursts.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

struct token_bucket {
	_Atomic uint64_t rate;		/* units a second; 0: no limit */
	_Atomic uint64_t paid_until_ns; /* CLOCK_MONOTONIC */
	_Atomic uint64_t changes;	/* of the rate */
};

/* Changes the rate at once; thread-safe. */
void token_bucket_set(struct token_bucket *tb, uint64_t rate);

/* Take `units` now: 0 when granted, else the time (ns) at which to ask again. Granted while less than
 * the burst (100 ms worth of the rate) is owed; a larger request is granted then too, and paid off afterwards. */
uint64_t token_bucket_take(struct token_bucket *tb, uint64_t units, uint64_t now_ns);
