/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID tables: what a guest's processors say of themselves, made out of what KVM supports on this
 * host. Pure functions over tables; cpu.c talks to KVM.
 */
#pragma once

#include "vmm/base/error.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#define CPUID_ENTRIES_MAX 256 /* KVM's own limit */

#define CPUID_BRAND_SIZE 48

/* Laid out as struct kvm_cpuid2. */
struct cpuid_table {
	uint32_t count, padding;
	struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
};

struct cpuid_request {
	const char *model; /* "host", "x86-64-v2", "x86-64-v3", "x86-64-v4" */
	unsigned cpus; /* the most there will be: one socket of so many cores, one thread each */
	bool tsc_deadline;	      /* KVM emulates the LAPIC timer's TSC-deadline mode */
	char brand[CPUID_BRAND_SIZE]; /* of this host's processor, which KVM does not list */
};

enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/* The entry of a leaf, or NULL. Sub-leaf 0 of leaves that have none. */
struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_table *table, uint32_t leaf, uint32_t subleaf);
uint32_t *cpuid_register(struct kvm_cpuid_entry2 *entry, enum cpuid_register reg);

/* Bits of a register, where the table has the leaf. */
bool cpuid_has(struct cpuid_table *table, uint32_t leaf, uint32_t subleaf, enum cpuid_register reg,
	unsigned bit);
void cpuid_clear(struct cpuid_table *table, uint32_t leaf, uint32_t subleaf,
	enum cpuid_register reg, uint32_t bits);

/* The entry of a leaf, made (all zero) where there is none. `indexed`: the leaf has sub-leaves. */
struct kvm_cpuid_entry2 *cpuid_get(
	struct cpuid_table *table, uint32_t leaf, uint32_t subleaf, bool indexed);

/* "GenuineIntel", ... The table must have leaf 0. */
void cpuid_vendor(struct cpuid_table *table, char vendor[static 13]);

/* The processor's name, padded with zeros. */
void cpuid_set_brand(struct cpuid_table *table, const char brand[static CPUID_BRAND_SIZE]);

/* Take a leaf with all its sub-leaves out. */
void cpuid_drop(struct cpuid_table *table, uint32_t leaf);

/* Make a model's table from KVM_GET_SUPPORTED_CPUID's. Refuses an unknown name and missing features. */
int cpuid_build(const struct cpuid_table *supported, const struct cpuid_request *request,
	struct cpuid_table *table, struct error *err);

/* Write one vCPU's own ids in, and its clock's frequency (0: unknown). */
void cpuid_personalize(struct cpuid_table *table, uint32_t apic_id, uint32_t tsc_khz);

/*
 * cpuid_levels.c: reduce the table to what the psABI level of that name has. Returns 1 when it is no
 * such name (nothing done), 0, or a negative errno: features that are missing.
 */
int cpuid_reduce_to_level(struct cpuid_table *table, const char *name, struct error *err);

/* For messages: "x86-64-v2, x86-64-v3, x86-64-v4". */
extern const char cpuid_level_names[];

/* What /proc/cpuinfo calls a feature of these levels; NULL: it is none. */
const char *cpuid_level_feature(
	uint32_t leaf, uint32_t subleaf, enum cpuid_register reg, unsigned bit);

/*
 * cpuid_compare.c: whether a guest that has seen `seen` finds on this host, whose best model is `here`, all that it may rely on. Else
 * refuses, naming what is missing.
 */
int cpuid_check_compatible(struct cpuid_table *seen, struct cpuid_table *here, struct error *err);

/* cpuid_xsave.c: take out the features whose registers cannot be saved; then tell what can. */
void cpuid_clear_stateful(struct cpuid_table *table);
void cpuid_set_xsave(struct cpuid_table *table);
