/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system-call filters: each kind of thread calls sandbox_enter() once, first thing (the main
 * thread: when the machine is built), and from then on may do only what jailer/seccomp/policy.c
 * allows its kind.
 */
#pragma once

#include "vmm/machine/config.h"

enum sandbox_thread { SANDBOX_MAIN, SANDBOX_VCPU, SANDBOX_IO, SANDBOX_FAULTS };

/* 0, or a negative errno where the kernel has no filters. SECCOMP_OFF does nothing. */
int sandbox_enter(enum sandbox_thread kind, enum seccomp_mode mode, struct error *err);
