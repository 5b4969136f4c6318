/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a guest can go on with another processor than it began on.
 *
 * It keeps the CPUID table that it has seen, so what this host has beyond that does not matter. What it may rely on must be here:
 * each feature bit, each component of XSAVE at the same place in the saved area (a guest works that place out once), as many
 * address bits, and the same maker, after which system calls and workarounds are chosen. What only describes
 * (caches, names, model numbers) stays as it was told and binds nobody.
 */
#include "vmm/arch/x86_64/cpuid.h"

#include "vmm/base/util.h"

#include <asm/kvm_para.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Registers of which each bit is a feature, but for those that follow what the guest does (CR4). */
static const struct {
	uint32_t leaf;
	uint8_t subleaf, reg;
	uint32_t ignored;
} feature_registers[] = {
	{1, 0, CPUID_ECX, 1u << 27}, /* OSXSAVE */
	{1, 0, CPUID_EDX, 0},
	{6, 0, CPUID_EAX, 0},
	{7, 0, CPUID_EBX, 0},
	{7, 0, CPUID_ECX, 1u << 4}, /* OSPKE */
	{7, 0, CPUID_EDX, 0},
	{7, 1, CPUID_EAX, 0},
	{7, 1, CPUID_EBX, 0},
	{7, 1, CPUID_ECX, 0},
	{7, 1, CPUID_EDX, 0},
	{7, 2, CPUID_EDX, 0},
	{0xd, 0, CPUID_EAX, 0},
	{0xd, 0, CPUID_EDX, 0},
	{0xd, 1, CPUID_EAX, 0},
	{0xd, 1, CPUID_ECX, 0},
	{0xd, 1, CPUID_EDX, 0},
	{KVM_CPUID_FEATURES, 0, CPUID_EAX, 0},
	{0x80000001, 0, CPUID_ECX, 0},
	{0x80000001, 0, CPUID_EDX, 0},
	{0x80000007, 0, CPUID_EBX, 0},
	{0x80000007, 0, CPUID_EDX, 0},
	{0x80000008, 0, CPUID_EBX, 0},
	{0x80000021, 0, CPUID_EAX, 0},
	{0x80000021, 0, CPUID_ECX, 0},
};

/* Those that are in no level (cpuid_levels.c), as /proc/cpuinfo has them; of KVM, as its header has them. */
static const struct {
	uint32_t leaf;
	uint8_t subleaf, reg, bit;
	const char *name;
} names[] = {
	{1, 0, CPUID_ECX, 10, "cnxt_id"},
	{1, 0, CPUID_ECX, 21, "x2apic"},
	{1, 0, CPUID_ECX, 24, "tsc_deadline_timer"},
	{1, 0, CPUID_ECX, 31, "hypervisor"},
	{1, 0, CPUID_EDX, 27, "ss"},
	{1, 0, CPUID_EDX, 28, "ht"},
	{7, 0, CPUID_EBX, 1, "tsc_adjust"},
	{7, 0, CPUID_EBX, 4, "hle"},
	{7, 0, CPUID_EBX, 6, "fdp_excptn_only"},
	{7, 0, CPUID_EBX, 11, "rtm"},
	{7, 0, CPUID_EBX, 13, "zero_fcs_fds"},
	{7, 0, CPUID_EBX, 21, "avx512ifma"},
	{7, 0, CPUID_EBX, 26, "avx512pf"},
	{7, 0, CPUID_EBX, 27, "avx512er"},
	{7, 0, CPUID_EBX, 29, "sha_ni"},
	{7, 0, CPUID_ECX, 1, "avx512vbmi"},
	{7, 0, CPUID_ECX, 2, "umip"},
	{7, 0, CPUID_ECX, 3, "pku"},
	{7, 0, CPUID_ECX, 5, "waitpkg"},
	{7, 0, CPUID_ECX, 6, "avx512_vbmi2"},
	{7, 0, CPUID_ECX, 7, "user_shstk"},
	{7, 0, CPUID_ECX, 8, "gfni"},
	{7, 0, CPUID_ECX, 9, "vaes"},
	{7, 0, CPUID_ECX, 10, "vpclmulqdq"},
	{7, 0, CPUID_ECX, 11, "avx512_vnni"},
	{7, 0, CPUID_ECX, 12, "avx512_bitalg"},
	{7, 0, CPUID_ECX, 14, "avx512_vpopcntdq"},
	{7, 0, CPUID_ECX, 16, "la57"},
	{7, 0, CPUID_ECX, 22, "rdpid"},
	{7, 0, CPUID_ECX, 24, "bus_lock_detect"},
	{7, 0, CPUID_ECX, 25, "cldemote"},
	{7, 0, CPUID_ECX, 27, "movdiri"},
	{7, 0, CPUID_ECX, 28, "movdir64b"},
	{7, 0, CPUID_EDX, 4, "fsrm"},
	{7, 0, CPUID_EDX, 8, "avx512_vp2intersect"},
	{7, 0, CPUID_EDX, 14, "serialize"},
	{7, 0, CPUID_EDX, 16, "tsxldtrk"},
	{7, 0, CPUID_EDX, 20, "ibt"},
	{7, 0, CPUID_EDX, 23, "avx512_fp16"},
	{7, 0, CPUID_EDX, 29, "arch_capabilities"},
	{7, 0, CPUID_EDX, 30, "core_capabilities"},
	{7, 1, CPUID_EAX, 4, "avx_vnni"},
	{7, 1, CPUID_EAX, 5, "avx512_bf16"},
	{7, 1, CPUID_EAX, 7, "cmpccxadd"},
	{7, 1, CPUID_EAX, 23, "avx_ifma"},
	{7, 1, CPUID_EAX, 26, "lam"},
	{7, 2, CPUID_EDX, 0, "intel_psfd"},
	{7, 2, CPUID_EDX, 4, "bhi_ctrl"},
	{KVM_CPUID_FEATURES, 0, CPUID_EAX, KVM_FEATURE_CLOCKSOURCE, "KVM clocksource"},
	{KVM_CPUID_FEATURES, 0, CPUID_EAX, KVM_FEATURE_CLOCKSOURCE2, "KVM clocksource2"},
	{KVM_CPUID_FEATURES, 0, CPUID_EAX, KVM_FEATURE_ASYNC_PF, "KVM async_pf"},
	{KVM_CPUID_FEATURES, 0, CPUID_EAX, KVM_FEATURE_STEAL_TIME, "KVM steal_time"},
	{KVM_CPUID_FEATURES, 0, CPUID_EAX, KVM_FEATURE_PV_EOI, "KVM pv_eoi"},
	{KVM_CPUID_FEATURES, 0, CPUID_EAX, KVM_FEATURE_PV_UNHALT, "KVM pv_unhalt"},
	{KVM_CPUID_FEATURES, 0, CPUID_EAX, KVM_FEATURE_PV_TLB_FLUSH, "KVM pv_tlb_flush"},
	{KVM_CPUID_FEATURES, 0, CPUID_EAX, KVM_FEATURE_PV_SEND_IPI, "KVM pv_send_ipi"},
	{KVM_CPUID_FEATURES, 0, CPUID_EAX, KVM_FEATURE_ASYNC_PF_INT, "KVM async_pf_int"},
	{KVM_CPUID_FEATURES, 0, CPUID_EAX, KVM_FEATURE_CLOCKSOURCE_STABLE_BIT,
		"KVM clocksource_stable"},
	{0x80000001, 0, CPUID_ECX, 4, "cr8_legacy"},
	{0x80000001, 0, CPUID_ECX, 6, "sse4a"},
	{0x80000001, 0, CPUID_ECX, 7, "misalignsse"},
	{0x80000001, 0, CPUID_ECX, 8, "3dnowprefetch"},
	{0x80000001, 0, CPUID_ECX, 9, "osvw"},
	{0x80000001, 0, CPUID_ECX, 11, "xop"},
	{0x80000001, 0, CPUID_ECX, 16, "fma4"},
	{0x80000001, 0, CPUID_ECX, 21, "tbm"},
	{0x80000001, 0, CPUID_EDX, 22, "mmxext"},
	{0x80000001, 0, CPUID_EDX, 25, "fxsr_opt"},
	{0x80000007, 0, CPUID_EDX, 8, "nonstop_tsc"},
	{0x80000008, 0, CPUID_EBX, 0, "clzero"},
	{0x80000008, 0, CPUID_EBX, 2, "xsaveerptr"},
	{0x80000008, 0, CPUID_EBX, 9, "wbnoinvd"},
	{0x80000008, 0, CPUID_EBX, 26, "amd_ssb_no"},
	{0x80000008, 0, CPUID_EBX, 28, "amd_psfd"},
	{0x80000008, 0, CPUID_EBX, 29, "btc_no"},
	{0x80000008, 0, CPUID_EBX, 30, "ibpb_ret"},
	{0x80000021, 0, CPUID_EAX, 0, "no_nested_data_bp"},
	{0x80000021, 0, CPUID_EAX, 6, "null_sel_clr_base"},
	{0x80000021, 0, CPUID_EAX, 8, "autoibrs"},
};

struct missing {
	char list[320];
	unsigned count, unlisted;
};

static void add_missing(struct missing *missing, const char *name)
{
	size_t used = strlen(missing->list);

	missing->count++;
	if (used + strlen(name) + 3 > sizeof(missing->list))
		missing->unlisted++;
	else
		snprintf(missing->list + used, sizeof(missing->list) - used, "%s%s",
			used ? ", " : "", name);
}

static const char *feature_name(
	uint32_t leaf, uint32_t subleaf, enum cpuid_register reg, unsigned bit)
{
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].leaf == leaf && names[i].subleaf == subleaf && names[i].reg == reg &&
			names[i].bit == bit)
			return names[i].name;
	return cpuid_level_feature(leaf, subleaf, reg, bit);
}

static void add_feature(struct missing *missing, uint32_t leaf, uint32_t subleaf,
	enum cpuid_register reg, unsigned bit)
{
	static const char *const registers[] = {"EAX", "EBX", "ECX", "EDX"};
	const char *name = feature_name(leaf, subleaf, reg, bit);
	char text[64];

	if (!name) {
		snprintf(text, sizeof(text), "CPUID 0x%" PRIx32 "/%" PRIu32 " %s bit %u", leaf,
			subleaf, registers[reg], bit);
		name = text;
	}
	add_missing(missing, name);
}

static uint32_t value(
	struct cpuid_table *table, uint32_t leaf, uint32_t subleaf, enum cpuid_register reg)
{
	struct kvm_cpuid_entry2 *entry = cpuid_find(table, leaf, subleaf);

	return entry ? *cpuid_register(entry, reg) : 0;
}

static void compare_features(
	struct cpuid_table *seen, struct cpuid_table *here, struct missing *missing)
{
	for (unsigned i = 0; i < ARRAY_SIZE(feature_registers); i++) {
		uint32_t leaf = feature_registers[i].leaf, subleaf = feature_registers[i].subleaf;
		enum cpuid_register reg = feature_registers[i].reg;
		uint32_t lack = value(seen, leaf, subleaf, reg) & ~value(here, leaf, subleaf, reg);

		for (lack &= ~feature_registers[i].ignored; lack; lack &= lack - 1)
			add_feature(missing, leaf, subleaf, reg, (unsigned)__builtin_ctz(lack));
	}
}

/* EAX: size, EBX: offset, ECX: whether it is the supervisor's, and aligned. */
static void compare_xsave(
	struct cpuid_table *seen, struct cpuid_table *here, struct missing *missing)
{
	char text[64];

	for (uint32_t i = 0; i < seen->count; i++) {
		const struct kvm_cpuid_entry2 *a = &seen->entries[i], *b;

		if (a->function != 0xd || a->index < 2 || a->index >= 64)
			continue;
		b = cpuid_find(here, 0xd, a->index);
		if (b && a->eax == b->eax && a->ebx == b->ebx && a->ecx == b->ecx)
			continue;
		snprintf(text, sizeof(text), "XSAVE component %" PRIu32 " at offset %" PRIu32,
			a->index, a->ebx);
		add_missing(missing, text);
	}
}

static void compare_address_bits(
	struct cpuid_table *seen, struct cpuid_table *here, struct missing *missing)
{
	uint32_t a = value(seen, 0x80000008, 0, CPUID_EAX);
	uint32_t b = value(here, 0x80000008, 0, CPUID_EAX);
	char text[64];

	if ((a & 0xff) > (b & 0xff)) {
		snprintf(text, sizeof(text),
			"%" PRIu32 " physical address bits (it has %" PRIu32 ")", a & 0xff,
			b & 0xff);
		add_missing(missing, text);
	}
	if ((a >> 8 & 0xff) > (b >> 8 & 0xff)) {
		snprintf(text, sizeof(text),
			"%" PRIu32 " virtual address bits (it has %" PRIu32 ")", a >> 8 & 0xff,
			b >> 8 & 0xff);
		add_missing(missing, text);
	}
}

int cpuid_check_compatible(struct cpuid_table *seen, struct cpuid_table *here, struct error *err)
{
	char was[13], is[13], more[32] = "";
	struct missing missing = {0};

	cpuid_vendor(seen, was);
	cpuid_vendor(here, is);
	if (strcmp(was, is) != 0)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest began on a processor of %s, this host's is of %s", was, is);
	compare_features(seen, here, &missing);
	compare_xsave(seen, here, &missing);
	compare_address_bits(seen, here, &missing);
	if (!missing.count)
		return 0;
	if (missing.unlisted)
		snprintf(more, sizeof(more), " and %u more", missing.unlisted);
	error_set(err, ERROR_INCOMPATIBLE,
		"this host's KVM cannot give the guest the CPU that it has: it lacks %s%s",
		missing.list, more);
	return error_hint(
		err, "VMs that are to move between such hosts need a --cpu-model that both have");
}
