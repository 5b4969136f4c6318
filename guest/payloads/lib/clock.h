/* SPDX-License-Identifier: Apache-2.0 */
/* Time, from the TSC and KVM's word on how fast it runs. */
#pragma once

#include "guest/payloads/lib/cpu.h"

#include <stdbool.h>
#include <stdint.h>

void clock_init(void);
uint64_t clock_ns(void);
void clock_wait_ms(unsigned ms);

/* Turn until `condition` holds; false when that takes longer than `ms`. */
#define wait_until(condition, ms)                                                                  \
	({                                                                                         \
		uint64_t until_ = clock_ns() + (ms)*1000000ull;                                    \
		bool held_;                                                                        \
		while (!(held_ = (condition)) && clock_ns() < until_)                              \
			cpu_relax();                                                               \
		held_;                                                                             \
	})
