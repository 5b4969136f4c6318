/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU models by the x86-64 psABI's levels ("System V ABI, AMD64 supplement", micro-architecture
 * levels): a baseline that every host of a fleet can give, so that a VM can move between them.
 *
 * A feature in the table is either named by the psABI (REQUIRED: the host must have it), or found in
 * every server processor of that level (USUAL: given where the host has it, and it does), or a guard
 * against speculative execution (GUARD: given where the host has it, whatever the level; without them
 * the guest could not protect itself). Nothing else gets through, so two hosts of one maker and one
 * level give the same model. Names are those of /proc/cpuinfo.
 *
 * The maker stays the host's (system call and workaround code depends on it). Family, model and
 * stepping are those of a widespread processor of the level.
 */
#include "vmm/arch/x86_64/cpuid.h"

#include "vmm/base/util.h"

#include <asm/kvm_para.h>
#include <stdio.h>
#include <string.h>

const char cpuid_level_names[] = "x86-64-v2, x86-64-v3, x86-64-v4";

enum kind { REQUIRED, USUAL, GUARD };

struct feature {
	uint32_t leaf;
	uint8_t subleaf, reg, bit;
	uint8_t level; /* from which on */
	uint8_t kind;
	const char *name;
};

static const struct feature features[] = {
	{1, 0, CPUID_EDX, 0, 1, REQUIRED, "fpu"}, {1, 0, CPUID_EDX, 1, 1, USUAL, "vme"},
	{1, 0, CPUID_EDX, 2, 1, USUAL, "de"}, {1, 0, CPUID_EDX, 3, 1, USUAL, "pse"},
	{1, 0, CPUID_EDX, 4, 1, REQUIRED, "tsc"}, {1, 0, CPUID_EDX, 5, 1, REQUIRED, "msr"},
	{1, 0, CPUID_EDX, 6, 1, REQUIRED, "pae"}, {1, 0, CPUID_EDX, 7, 1, USUAL, "mce"},
	{1, 0, CPUID_EDX, 8, 1, REQUIRED, "cx8"}, {1, 0, CPUID_EDX, 9, 1, REQUIRED, "apic"},
	{1, 0, CPUID_EDX, 11, 1, USUAL, "sep"}, {1, 0, CPUID_EDX, 12, 1, USUAL, "mtrr"},
	{1, 0, CPUID_EDX, 13, 1, USUAL, "pge"}, {1, 0, CPUID_EDX, 14, 1, USUAL, "mca"},
	{1, 0, CPUID_EDX, 15, 1, REQUIRED, "cmov"}, {1, 0, CPUID_EDX, 16, 1, USUAL, "pat"},
	{1, 0, CPUID_EDX, 17, 1, USUAL, "pse36"}, {1, 0, CPUID_EDX, 19, 1, USUAL, "clflush"},
	{1, 0, CPUID_EDX, 23, 1, REQUIRED, "mmx"}, {1, 0, CPUID_EDX, 24, 1, REQUIRED, "fxsr"},
	{1, 0, CPUID_EDX, 25, 1, REQUIRED, "sse"}, {1, 0, CPUID_EDX, 26, 1, REQUIRED, "sse2"},
	{0x80000001, 0, CPUID_EDX, 11, 1, REQUIRED, "syscall"},
	{0x80000001, 0, CPUID_EDX, 20, 1, USUAL, "nx"},
	{0x80000001, 0, CPUID_EDX, 29, 1, REQUIRED, "lm"},
	{6, 0, CPUID_EAX, 2, 1, USUAL, "arat"}, /* the LAPIC timer runs in every idle state */

	{1, 0, CPUID_ECX, 0, 2, REQUIRED, "pni"}, {1, 0, CPUID_ECX, 9, 2, REQUIRED, "ssse3"},
	{1, 0, CPUID_ECX, 13, 2, REQUIRED, "cx16"}, {1, 0, CPUID_ECX, 19, 2, REQUIRED, "sse4_1"},
	{1, 0, CPUID_ECX, 20, 2, REQUIRED, "sse4_2"}, {1, 0, CPUID_ECX, 23, 2, REQUIRED, "popcnt"},
	{0x80000001, 0, CPUID_ECX, 0, 2, REQUIRED, "lahf_lm"},
	{0x80000001, 0, CPUID_EDX, 27, 2, USUAL, "rdtscp"},
	{0x80000001, 0, CPUID_ECX, 22, 2, USUAL, "topoext"}, /* AMD: how topology is told */

	{1, 0, CPUID_ECX, 12, 3, REQUIRED, "fma"}, {1, 0, CPUID_ECX, 22, 3, REQUIRED, "movbe"},
	{1, 0, CPUID_ECX, 26, 3, REQUIRED, "xsave"}, {1, 0, CPUID_ECX, 28, 3, REQUIRED, "avx"},
	{1, 0, CPUID_ECX, 29, 3, REQUIRED, "f16c"}, {7, 0, CPUID_EBX, 3, 3, REQUIRED, "bmi1"},
	{7, 0, CPUID_EBX, 5, 3, REQUIRED, "avx2"}, {7, 0, CPUID_EBX, 8, 3, REQUIRED, "bmi2"},
	{0x80000001, 0, CPUID_ECX, 5, 3, REQUIRED, "abm"},
	{1, 0, CPUID_ECX, 1, 3, USUAL, "pclmulqdq"}, {1, 0, CPUID_ECX, 25, 3, USUAL, "aes"},
	{1, 0, CPUID_ECX, 30, 3, USUAL, "rdrand"}, {7, 0, CPUID_EBX, 0, 3, USUAL, "fsgsbase"},
	{7, 0, CPUID_EBX, 7, 3, USUAL, "smep"}, {0xd, 1, CPUID_EAX, 0, 3, USUAL, "xsaveopt"},
	{0x80000001, 0, CPUID_EDX, 26, 3, USUAL, "pdpe1gb"},

	{7, 0, CPUID_EBX, 16, 4, REQUIRED, "avx512f"},
	{7, 0, CPUID_EBX, 17, 4, REQUIRED, "avx512dq"},
	{7, 0, CPUID_EBX, 28, 4, REQUIRED, "avx512cd"},
	{7, 0, CPUID_EBX, 30, 4, REQUIRED, "avx512bw"},
	{7, 0, CPUID_EBX, 31, 4, REQUIRED, "avx512vl"}, {1, 0, CPUID_ECX, 17, 4, USUAL, "pcid"},
	{7, 0, CPUID_EBX, 9, 4, USUAL, "erms"}, {7, 0, CPUID_EBX, 10, 4, USUAL, "invpcid"},
	{7, 0, CPUID_EBX, 18, 4, USUAL, "rdseed"}, {7, 0, CPUID_EBX, 19, 4, USUAL, "adx"},
	{7, 0, CPUID_EBX, 20, 4, USUAL, "smap"}, {7, 0, CPUID_EBX, 23, 4, USUAL, "clflushopt"},
	{7, 0, CPUID_EBX, 24, 4, USUAL, "clwb"}, {0xd, 1, CPUID_EAX, 1, 4, USUAL, "xsavec"},
	{0xd, 1, CPUID_EAX, 2, 4, USUAL, "xgetbv1"}, {0xd, 1, CPUID_EAX, 3, 4, USUAL, "xsaves"},

	{7, 0, CPUID_EDX, 10, 1, GUARD, "md_clear"}, {7, 0, CPUID_EDX, 26, 1, GUARD, "spec_ctrl"},
	{7, 0, CPUID_EDX, 27, 1, GUARD, "intel_stibp"},
	{7, 0, CPUID_EDX, 28, 1, GUARD, "flush_l1d"}, {7, 0, CPUID_EDX, 31, 1, GUARD, "ssbd"},
	{0x80000008, 0, CPUID_EBX, 12, 1, GUARD, "ibpb"},
	{0x80000008, 0, CPUID_EBX, 14, 1, GUARD, "ibrs"},
	{0x80000008, 0, CPUID_EBX, 15, 1, GUARD, "stibp"},
	{0x80000008, 0, CPUID_EBX, 24, 1, GUARD, "amd_ssbd"},
	{0x80000008, 0, CPUID_EBX, 25, 1, GUARD, "virt_ssbd"},
	{0x80000021, 0, CPUID_EAX, 2, 1, GUARD, "lfence_rdtsc"}, /* LFENCE serializes */
};

/* Registers that hold features, each bit one: what the table above does not name is cleared. */
static const struct {
	uint32_t leaf;
	uint8_t subleaf, reg;
} feature_registers[] = {
	{1, 0, CPUID_ECX},
	{1, 0, CPUID_EDX},
	{6, 0, CPUID_EAX},
	{6, 0, CPUID_EBX},
	{6, 0, CPUID_ECX},
	{7, 0, CPUID_EBX},
	{7, 0, CPUID_ECX},
	{7, 0, CPUID_EDX},
	{0xd, 1, CPUID_EAX},
	{0x80000001, 0, CPUID_ECX},
	{0x80000001, 0, CPUID_EDX},
	{0x80000007, 0, CPUID_EAX},
	{0x80000007, 0, CPUID_EBX},
	{0x80000007, 0, CPUID_ECX},
	{0x80000007, 0,
		CPUID_EDX}, /* also invariant TSC: the next host's may run at another rate */
	{0x80000008, 0, CPUID_EBX},
	{0x80000021, 0, CPUID_EAX},
	{0x80000021, 0, CPUID_EBX},
	{0x80000021, 0, CPUID_ECX},
	{0x80000021, 0, CPUID_EDX},
};

/* Leaves that a level's guest can see; all others are dropped. */
static const uint32_t kept_leaves[] = {
	0,
	1,
	2,
	4,
	6,
	7,
	0xb,
	0xd,
	KVM_CPUID_SIGNATURE,
	KVM_CPUID_FEATURES,
	0x80000000,
	0x80000001,
	0x80000002,
	0x80000003,
	0x80000004,
	0x80000005,
	0x80000006,
	0x80000007,
	0x80000008,
	0x8000001d,
	0x80000021,
};

/* Leaf 1 EAX: stepping 3:0, model 7:4 and 19:16, family 11:8 and 27:20. */
static const struct {
	const char *vendor;
	uint32_t signature[5]; /* by level */
} signatures[] = {
	{"GenuineIntel",
		{0, 0, 0x000106a5, 0x000306f2, 0x00050654}}, /* Nehalem, Haswell, Skylake server */
	{"AuthenticAMD",
		{0, 0, 0x00800f12, 0x00800f12, 0x00a10f11}}, /* Zen: Naples, Naples, Genoa */
};

const char *cpuid_level_feature(
	uint32_t leaf, uint32_t subleaf, enum cpuid_register reg, unsigned bit)
{
	for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
		const struct feature *f = &features[i];

		if (f->leaf == leaf && f->subleaf == subleaf && f->reg == reg && f->bit == bit)
			return f->name;
	}
	return NULL;
}

static int level_of(const char *name)
{
	if (strncmp(name, "x86-64-v", 8) == 0 && name[8] >= '2' && name[8] <= '4' && !name[9])
		return name[8] - '0';
	return 0;
}

static void append(char *list, size_t size, const char *name)
{
	size_t len = strlen(list);

	snprintf(list + len, size - len, "%s%s", len ? ", " : "", name);
}

static int check_required(struct cpuid_table *table, const char *name, int level, struct error *err)
{
	char missing[256] = "";
	int best = level - 1;

	for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
		const struct feature *f = &features[i];
		struct kvm_cpuid_entry2 *entry = cpuid_find(table, f->leaf, f->subleaf);

		if (f->kind != REQUIRED || f->level > level)
			continue;
		if (entry && (*cpuid_register(entry, f->reg) >> f->bit & 1))
			continue;
		append(missing, sizeof(missing), f->name);
		if (f->level <= best)
			best = f->level - 1;
	}
	if (!missing[0])
		return 0;
	error_set(err, ERROR_INCOMPATIBLE, "this host's KVM cannot give CPU model %s: it lacks %s",
		name, missing);
	if (best >= 2)
		return error_hint(err, "the highest level here is x86-64-v%d", best);
	return error_hint(err, "use --cpu-model host");
}

static bool leaf_kept(uint32_t leaf)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kept_leaves); i++)
		if (kept_leaves[i] == leaf)
			return true;
	return false;
}

static void drop_other_leaves(struct cpuid_table *table)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < table->count; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[i];

		if (leaf_kept(e->function) && !(e->function == 7 && e->index > 0))
			table->entries[kept++] = *e;
	}
	table->count = kept;
}

static void mask_features(struct cpuid_table *table, int level)
{
	for (unsigned i = 0; i < ARRAY_SIZE(feature_registers); i++) {
		struct kvm_cpuid_entry2 *entry =
			cpuid_find(table, feature_registers[i].leaf, feature_registers[i].subleaf);
		uint32_t mask = 0;

		if (!entry)
			continue;
		for (unsigned j = 0; j < ARRAY_SIZE(features); j++) {
			const struct feature *f = &features[j];

			if (f->leaf == entry->function && f->subleaf == entry->index &&
				f->reg == feature_registers[i].reg && f->level <= level)
				mask |= 1u << f->bit;
		}
		*cpuid_register(entry, feature_registers[i].reg) &= mask;
	}
}

static void set_identity(struct cpuid_table *table, const char *name, int level)
{
	struct kvm_cpuid_entry2 *extended = cpuid_find(table, 0x80000001, 0);
	char vendor[13], brand[CPUID_BRAND_SIZE] = "";

	cpuid_vendor(table, vendor);
	for (unsigned i = 0; i < ARRAY_SIZE(signatures); i++) {
		if (strcmp(signatures[i].vendor, vendor) != 0)
			continue;
		cpuid_find(table, 1, 0)->eax = signatures[i].signature[level];
		if (extended->eax) /* AMD repeats it there */
			extended->eax = signatures[i].signature[level];
	}
	snprintf(brand, sizeof(brand), "%s virtual CPU", name);
	cpuid_set_brand(table, brand);
}

static void limit_leaf(struct cpuid_table *table, uint32_t leaf, uint32_t max)
{
	struct kvm_cpuid_entry2 *entry = cpuid_find(table, leaf, 0);

	if (entry && entry->eax > max)
		entry->eax = max;
}

int cpuid_reduce_to_level(struct cpuid_table *table, const char *name, struct error *err)
{
	int level = level_of(name);
	int ret;

	if (!level)
		return 1;
	ret = check_required(table, name, level, err);
	if (ret < 0)
		return ret;
	drop_other_leaves(table);
	mask_features(table, level);
	set_identity(table, name, level);
	limit_leaf(table, 0, 0xd);
	limit_leaf(table, 0x80000000, 0x80000021);
	if (cpuid_find(table, 7, 0))
		cpuid_find(table, 7, 0)->eax = 0; /* no further sub-leaves */
	return 0;
}
