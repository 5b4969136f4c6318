/* SPDX-License-Identifier: Apache-2.0 */
/* The small methods: ping, clock.set, entropy.reseed, online, shutdown. */
#pragma once

#include "vmm/rpc/rpc.h"

extern const struct rpc_method system_methods[];

/* The signals that ask process 1 for an end: systemd's, and ours (systemd(1), SIGNALS). */
#define SIGNAL_POWEROFF (SIGRTMIN + 4)
#define SIGNAL_REBOOT	(SIGRTMIN + 5)

/* The agent runs below our own process 1. Set once at the start. */
extern bool system_has_our_init;

/* What clock.set and entropy.reseed do. Workers and boot only. */
int system_set_clock(uint64_t time_ns, struct error *err);
int system_add_entropy(const struct schema_bytes *bytes, struct error *err);
