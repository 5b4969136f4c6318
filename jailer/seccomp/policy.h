/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system-call policy as data: who may call what, with which argument, and why. Read only by the
 * build-time compiler (compile.c); the monitor carries the finished filters.
 */
#pragma once

#include <stdint.h>

enum policy_threads {
	POLICY_MAIN =
		1, /* control, timers, life cycle; starts all other threads, so it may do what they may */
	POLICY_VCPU = 2, /* KVM_RUN and what an exit leads to */
	POLICY_IO = 4,	 /* one device's queues */
	POLICY_FAULTS =
		8, /* answers page faults while a snapshot is taken or restored in the background */
	POLICY_ALL = 15,
};

/* One allowed call. Where `arg` is not 0, argument number arg-1, under `mask`, must equal `value`. */
struct policy_rule {
	const char *call;
	unsigned threads;
	unsigned arg;
	uint64_t mask, value;
	const char *why;
};

extern const struct policy_rule policy_rules[];
extern const unsigned policy_rule_count;
