/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's own counters of a VM or vCPU, in the self-describing binary form of KVM_GET_STATS_FD (KVM API §4.133, Linux 5.14).
 * They count what never reaches us: exits that KVM answered, halts, injected interrupts.
 */
#pragma once

#include <stdint.h>

/*
 * Call `take` for each single-valued counter of `fd`, what KVM_GET_STATS_FD of a VM or vCPU returned. Returns 0, or a negative
 * errno. Any thread, whether the vCPU runs or not; but that ioctl of a vCPU waits as long as its thread is in KVM_RUN, which
 * may be for ever: it is for whoever makes the vCPU.
 */
int kvm_stats_read(
	int fd, void (*take)(void *owner, const char *name, uint64_t value), void *owner);
