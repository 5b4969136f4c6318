/* SPDX-License-Identifier: Apache-2.0 */
/* Application processors. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Put the trampoline where they start. Once, before the first smp_start(). */
void smp_init(void);

/*
 * Start the processor with this APIC id by INIT and start-up IPI; it runs fn(id) in user mode, and
 * must not return from it. False when it has not come up after `ms`. One at a time.
 */
bool smp_start(uint32_t id, void (*fn)(uint32_t id), unsigned ms);
