/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's own counters of a VM or vCPU, in the self-describing binary form of KVM_GET_STATS_FD (KVM API §4.133, Linux 5.14).
 * They count what never reaches us: exits that KVM answered, halts, injected interrupts.
 *
 * Any thread may read, whether the vCPU runs or not; but that ioctl of a vCPU waits as long as its thread is in KVM_RUN, which
 * may be for ever: it is for whoever makes the vCPU.
 */
#pragma once

#include <stdint.h>

#define KVM_STATS_WANTED_MAX 16
#define KVM_STATS_VALUES_MAX 512 /* numbers in a file, those of histograms included */

/* Where the wanted counters are in the files of one kind: all vCPUs have the same. */
struct kvm_stats_map {
	uint64_t offset;		      /* of the values, in the file */
	unsigned span;			      /* how many of them reach to the last wanted one */
	uint16_t index[KVM_STATS_WANTED_MAX]; /* KVM_STATS_VALUES_MAX: this KVM has none such */
};

/* Find the `count` single-valued counters of these names. Returns 0, or a negative errno. */
int kvm_stats_find(int fd, const char *const *names, unsigned count, struct kvm_stats_map *map);

/* Add the counters of `fd` to `sums`, in the order of the names: one system call. Returns 0, or a negative errno. */
int kvm_stats_add(int fd, const struct kvm_stats_map *map, unsigned count, uint64_t *sums);
