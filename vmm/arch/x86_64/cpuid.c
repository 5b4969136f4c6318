/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID for guests (Intel SDM vol. 2A "CPUID", AMD APM vol. 3 appendix E, Linux
 * Documentation/virt/kvm/x86/cpuid.rst for the leaves from 0x40000000).
 *
 * 1. Start from what KVM can give on this host.
 * 2. Take out what a guest of ours does not get: performance counters and branch records (they leak
 *    and do not migrate), nested virtualisation, SGX, processor trace, MPX, AMX (needs a permission
 *    of the process and 8 KiB of state a thread), MONITOR.
 *    What XSAVE would have to keep and KVM's XSAVE does not, is taken out as well.
 * 3. For a psABI level, keep only what the level names (cpuid_levels.c).
 * 4. Put in what is true of every guest: hypervisor, x2APIC, our topology.
 * 5. Make the XSAVE leaf agree with the features that are left (cpuid_xsave.c).
 *
 * Topology: one socket, `cpus` cores, one thread a core; APIC ids are the vCPU numbers.
 */
#include "vmm/arch/x86_64/cpuid.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <asm/kvm_para.h>
#include <string.h>

#define LEAF_KVM_TIMING                                                                            \
	0x40000010 /* EAX: TSC kHz, EBX: LAPIC timer kHz (VMware's and KVM's convention) */
#define KVM_LAPIC_KHZ 1000000 /* KVM's timer counts nanoseconds */

#define CACHE_SHARING (0xfffu << 14)

uint32_t *cpuid_register(struct kvm_cpuid_entry2 *entry, enum cpuid_register reg)
{
	switch (reg) {
	case CPUID_EAX:
		return &entry->eax;
	case CPUID_EBX:
		return &entry->ebx;
	case CPUID_ECX:
		return &entry->ecx;
	default:
		return &entry->edx;
	}
}

struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_table *table, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < table->count; i++)
		if (table->entries[i].function == leaf && table->entries[i].index == subleaf)
			return &table->entries[i];
	return NULL;
}

struct kvm_cpuid_entry2 *cpuid_get(
	struct cpuid_table *table, uint32_t leaf, uint32_t subleaf, bool indexed)
{
	struct kvm_cpuid_entry2 *entry = cpuid_find(table, leaf, subleaf);

	if (entry)
		return entry;
	BUG_ON(table->count == CPUID_ENTRIES_MAX); /* cpuid_build() leaves room */
	entry = &table->entries[table->count++];
	*entry = (struct kvm_cpuid_entry2){
		.function = leaf,
		.index = subleaf,
		.flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
	};
	return entry;
}

void cpuid_drop(struct cpuid_table *table, uint32_t leaf)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < table->count; i++)
		if (table->entries[i].function != leaf)
			table->entries[kept++] = table->entries[i];
	table->count = kept;
}

void cpuid_vendor(struct cpuid_table *table, char vendor[static 13])
{
	const struct kvm_cpuid_entry2 *entry = cpuid_find(table, 0, 0);

	memcpy(vendor, &entry->ebx, 4);
	memcpy(vendor + 4, &entry->edx, 4);
	memcpy(vendor + 8, &entry->ecx, 4);
	vendor[12] = '\0';
}

void cpuid_set_brand(struct cpuid_table *table, const char brand[static CPUID_BRAND_SIZE])
{
	for (unsigned i = 0; i < 3; i++, brand += 16) {
		struct kvm_cpuid_entry2 *entry = cpuid_get(table, 0x80000002 + i, 0, false);

		memcpy(&entry->eax, brand, 4);
		memcpy(&entry->ebx, brand + 4, 4);
		memcpy(&entry->ecx, brand + 8, 4);
		memcpy(&entry->edx, brand + 12, 4);
	}
}

void cpuid_clear(struct cpuid_table *table, uint32_t leaf, uint32_t subleaf,
	enum cpuid_register reg, uint32_t bits)
{
	struct kvm_cpuid_entry2 *entry = cpuid_find(table, leaf, subleaf);

	if (entry)
		*cpuid_register(entry, reg) &= ~bits;
}

bool cpuid_has(struct cpuid_table *table, uint32_t leaf, uint32_t subleaf, enum cpuid_register reg,
	unsigned bit)
{
	struct kvm_cpuid_entry2 *entry = cpuid_find(table, leaf, subleaf);

	return entry && (*cpuid_register(entry, reg) >> bit & 1);
}

/* Features that no guest gets. */
static const struct {
	uint32_t leaf, subleaf;
	enum cpuid_register reg;
	uint32_t bits;
} withheld[] = {
	/* DTES64, MONITOR, DS-CPL, VMX, SMX, SDBG, PDCM */
	{1, 0, CPUID_ECX, 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 11 | 1u << 15},
	{1, 0, CPUID_EDX, 1u << 21},			  /* DS */
	{7, 0, CPUID_EBX, 1u << 2 | 1u << 14 | 1u << 25}, /* SGX, MPX, processor trace */
	{7, 0, CPUID_ECX, 1u << 30},			  /* SGX launch control */
	{7, 0, CPUID_EDX, 1u << 19 | 1u << 22 | 1u << 24 | 1u << 25}, /* branch records, AMX */
	{7, 1, CPUID_EAX, 1u << 21},				      /* AMX-FP16 */
	{7, 1, CPUID_EDX, 1u << 8},				      /* AMX-COMPLEX */
	{0xd, 1, CPUID_EAX, 1u << 4},				      /* XFD: only AMX uses it */
	{0x80000001, 0, CPUID_ECX,
		1u << 2 | 1u << 10 | 1u << 23 | 1u << 24 | 1u << 28}, /* SVM, IBS, counters */
};

static const uint32_t withheld_leaves[] = {
	0x5,	    /* MONITOR */
	0xa,	    /* performance counters */
	0x12,	    /* SGX */
	0x14,	    /* processor trace */
	0x1c,	    /* branch records */
	0x1d, 0x1e, /* AMX */
	0x1f,	    /* topology of dies and modules: 0xb says all there is */
	0x8000000a, /* SVM */
	0x8000001b, /* IBS */
	0x8000001f, /* SEV */
	0x80000022, /* performance counters */
	0x80000026, /* topology of complexes */
};

static void withhold(struct cpuid_table *table)
{
	for (unsigned i = 0; i < ARRAY_SIZE(withheld); i++)
		cpuid_clear(table, withheld[i].leaf, withheld[i].subleaf, withheld[i].reg,
			withheld[i].bits);
	for (unsigned i = 0; i < ARRAY_SIZE(withheld_leaves); i++)
		cpuid_drop(table, withheld_leaves[i]);
}

static unsigned id_bits(unsigned cpus)
{
	unsigned bits = 0;

	while (1u << bits < cpus)
		bits++;
	return bits;
}

/* Leaves 4 (Intel) and 0x8000001d (AMD): levels 1 and 2 are a core's own, those above are everybody's. */
static void share_caches(struct cpuid_table *table, uint32_t leaf, unsigned cpus)
{
	uint32_t all = (1u << id_bits(cpus)) - 1;

	for (uint32_t i = 0; i < table->count; i++) {
		struct kvm_cpuid_entry2 *e = &table->entries[i];
		unsigned level = e->eax >> 5 & 7;

		if (e->function != leaf || !(e->eax & 0x1f))
			continue;
		e->eax = (e->eax & ~CACHE_SHARING) | (level > 2 ? all << 14 : 0);
		if (leaf == 4)
			e->eax = (e->eax & 0x03ffffff) | all << 26;
	}
}

static void set_extended_topology(struct cpuid_table *table, unsigned cpus)
{
	struct kvm_cpuid_entry2 *entry;

	cpuid_drop(table, 0xb);
	entry = cpuid_get(table, 0xb, 0, true); /* threads of a core: one */
	entry->ebx = 1;
	entry->ecx = 0 | 1 << 8;
	entry = cpuid_get(table, 0xb, 1, true); /* cores of the socket */
	entry->eax = id_bits(cpus);
	entry->ebx = cpus;
	entry->ecx = 1 | 2 << 8;
	entry = cpuid_get(table, 0xb, 2, true); /* no further level */
	entry->ecx = 2;
	entry = cpuid_get(table, 0, 0, false);
	if (entry->eax < 0xb)
		entry->eax = 0xb;
}

/* AMD and Hygon tell the number of cores in extended leaves; the last two only with topology extensions. */
static void set_amd_topology(struct cpuid_table *table, unsigned cpus)
{
	struct kvm_cpuid_entry2 *entry = cpuid_get(table, 0x80000008, 0, false);

	entry->ecx = (cpus - 1) | id_bits(cpus) << 12;
	if (cpus > 1)
		cpuid_find(table, 0x80000001, 0)->ecx |= 1u << 1; /* CmpLegacy: HTT means cores */
	if (!cpuid_has(table, 0x80000001, 0, CPUID_ECX, 22))
		return;
	cpuid_get(table, 0x8000001e, 0, false);
	share_caches(table, 0x8000001d, cpus);
	entry = cpuid_get(table, 0x80000000, 0, false);
	if (entry->eax < 0x8000001e)
		entry->eax = 0x8000001e;
}

static void set_topology(struct cpuid_table *table, unsigned cpus)
{
	struct kvm_cpuid_entry2 *entry = cpuid_find(table, 1, 0);
	char vendor[13];

	entry->ebx = (entry->ebx & 0x0000ffff) | cpus << 16;
	entry->edx &= ~(1u << 28);
	if (cpus > 1)
		entry->edx |= 1u << 28; /* HTT: the count above is valid */
	share_caches(table, 4, cpus);
	set_extended_topology(table, cpus);
	cpuid_clear(table, 0x80000001, 0, CPUID_ECX, 1u << 1);
	cpuid_drop(table, 0x8000001e);
	cpuid_vendor(table, vendor);
	if (!strcmp(vendor, "AuthenticAMD") || !strcmp(vendor, "HygonGenuine"))
		set_amd_topology(table, cpus);
}

/* What is true of every guest, whatever KVM listed. */
static void set_platform(struct cpuid_table *table, const struct cpuid_request *request)
{
	struct kvm_cpuid_entry2 *entry = cpuid_find(table, 1, 0);

	entry->ecx |= 1u << 31; /* hypervisor */
	entry->ecx |= 1u << 21; /* x2APIC: KVM's LAPIC has it */
	entry->ecx &= ~(1u << 24);
	if (request->tsc_deadline)
		entry->ecx |= 1u << 24;
	entry->ecx &= ~(1u << 27); /* OSXSAVE follows CR4: KVM sets it */
}

static int check_supported(const struct cpuid_table *supported, struct error *err)
{
	struct cpuid_table *table = (struct cpuid_table *)(uintptr_t)supported; /* only read */

	/* What is added below is less than a score of leaves. */
	if (supported->count > CPUID_ENTRIES_MAX - 20 || !cpuid_find(table, 0, 0) ||
		!cpuid_find(table, 1, 0) || !cpuid_has(table, 0x80000001, 0, CPUID_EDX, 29))
		return error_set(err, ERROR_INCOMPATIBLE,
			"this host's KVM lists no 64-bit processor in its supported CPUID");
	return 0;
}

int cpuid_build(const struct cpuid_table *supported, const struct cpuid_request *request,
	struct cpuid_table *table, struct error *err)
{
	int ret = check_supported(supported, err);

	if (ret < 0)
		return ret;
	*table = *supported;
	withhold(table);
	cpuid_clear_stateful(table);
	if (!strcmp(request->model, "host")) {
		cpuid_set_brand(table, request->brand);
	} else {
		ret = cpuid_reduce_to_level(table, request->model, err);
		if (ret > 0)
			return error_set(err, ERROR_BAD_REQUEST,
				"unknown CPU model '%s': must be one of host, %s", request->model,
				cpuid_level_names);
		if (ret < 0)
			return ret;
	}
	set_platform(table, request);
	set_topology(table, request->cpus);
	cpuid_set_xsave(table);
	return 0;
}

void cpuid_personalize(struct cpuid_table *table, uint32_t apic_id, uint32_t tsc_khz)
{
	struct kvm_cpuid_entry2 *entry = cpuid_find(table, 1, 0);

	entry->ebx = (entry->ebx & 0x00ffffff) | apic_id << 24;
	for (unsigned i = 0; i < 3; i++)
		cpuid_find(table, 0xb, i)->edx = apic_id;
	entry = cpuid_find(table, 0x8000001e, 0);
	if (entry) {
		entry->eax = apic_id;
		entry->ebx = apic_id & 0xff; /* core id; one thread */
	}
	entry = cpuid_find(table, KVM_CPUID_SIGNATURE, 0);
	if (!entry || !tsc_khz)
		return;
	if (entry->eax < LEAF_KVM_TIMING)
		entry->eax = LEAF_KVM_TIMING;
	entry = cpuid_get(table, LEAF_KVM_TIMING, 0, false);
	entry->eax = tsc_khz;
	entry->ebx = KVM_LAPIC_KHZ;
}
