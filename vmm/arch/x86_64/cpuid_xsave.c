/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XSAVE (Intel SDM vol. 1 ch. 13): which register state a guest may have saved, told in leaf 0xd, and
 * the features that live in those registers. The two must agree: a guest that sees AVX and cannot
 * save its registers loses data; one that can save what it does not see wastes a page a thread.
 */
#include "vmm/arch/x86_64/cpuid.h"

#include "vmm/base/util.h"

#define XCR0_X87_SSE 0x3ull
#define XCR0_AVX     (1ull << 2)
#define XCR0_AVX512  (7ull << 5)
#define XCR0_PKRU    (1ull << 9)
#define XSAVE_LEGACY 576 /* legacy area and header */

/* The XSAVE components that belong to the features in the table. */
static uint64_t wanted_xcr0(struct cpuid_table *table)
{
	uint64_t mask = XCR0_X87_SSE;

	if (cpuid_has(table, 1, 0, CPUID_ECX, 28))
		mask |= XCR0_AVX;
	if (cpuid_has(table, 7, 0, CPUID_EBX, 16))
		mask |= XCR0_AVX512;
	if (cpuid_has(table, 7, 0, CPUID_ECX, 3))
		mask |= XCR0_PKRU;
	return mask;
}

static void drop_xsave_components(struct cpuid_table *table, uint64_t xcr0, uint64_t xss)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < table->count; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[i];

		if (e->function == 0xd && e->index >= 2 &&
			(e->index >= 64 || !((xcr0 | xss) >> e->index & 1)))
			continue;
		table->entries[kept++] = *e;
	}
	table->count = kept;
}

/* Supervisor state: CET's two (11, 12), where the features are there and KVM lists the state. */
static uint64_t wanted_xss(struct cpuid_table *table)
{
	bool cet = cpuid_has(table, 7, 0, CPUID_ECX, 7) || cpuid_has(table, 7, 0, CPUID_EDX, 20);

	return cet ? 3ull << 11 : 0;
}

/* Features whose registers XSAVE keeps: without the state they must not be told. */
static const struct {
	uint64_t state;
	uint32_t leaf, subleaf;
	enum cpuid_register reg;
	uint32_t bits;
} stateful[] = {
	{XCR0_AVX, 1, 0, CPUID_ECX, 1u << 12 | 1u << 28 | 1u << 29}, /* FMA, AVX, F16C */
	{XCR0_AVX, 7, 0, CPUID_EBX, 1u << 5},			     /* AVX2 */
	{XCR0_AVX, 7, 0, CPUID_ECX, 1u << 9 | 1u << 10},	     /* VAES, VPCLMULQDQ */
	{XCR0_AVX, 7, 1, CPUID_EAX, 7u | 1u << 4 | 1u << 23}, /* SHA512, SM3, SM4, VNNI, IFMA */
	{XCR0_AVX, 7, 1, CPUID_EDX,
		1u << 4 | 1u << 5 | 1u << 10}, /* VNNI-INT8, NE-CONVERT, VNNI-INT16 */
	{XCR0_AVX, 0x80000001, 0, CPUID_ECX, 1u << 11 | 1u << 16}, /* XOP, FMA4 */
	{XCR0_AVX512, 7, 0, CPUID_EBX, 0xdc230000}, /* all with AVX512 in their names */
	{XCR0_AVX512, 7, 0, CPUID_ECX, 1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14},
	{XCR0_AVX512, 7, 0, CPUID_EDX, 1u << 2 | 1u << 3 | 1u << 8 | 1u << 23},
	{XCR0_AVX512, 7, 1, CPUID_EAX, 1u << 5},
	{XCR0_PKRU, 7, 0, CPUID_ECX, 1u << 3},
};

static void clear_without(struct cpuid_table *table, uint64_t xcr0)
{
	for (unsigned i = 0; i < ARRAY_SIZE(stateful); i++)
		if ((stateful[i].state & xcr0) != stateful[i].state)
			cpuid_clear(table, stateful[i].leaf, stateful[i].subleaf, stateful[i].reg,
				stateful[i].bits);
}

/* Of the components that the features want, those that KVM lists. */
static uint64_t usable_xcr0(struct cpuid_table *table)
{
	const struct kvm_cpuid_entry2 *state = cpuid_find(table, 0xd, 0);
	uint64_t xcr0;

	if (!state || !cpuid_has(table, 1, 0, CPUID_ECX, 26))
		return 0;
	xcr0 = wanted_xcr0(table) & (state->eax | (uint64_t)state->edx << 32);
	if ((xcr0 & XCR0_AVX512) != XCR0_AVX512 || !(xcr0 & XCR0_AVX))
		xcr0 &= ~XCR0_AVX512; /* its three components come together, and on top of AVX */
	return xcr0;
}

void cpuid_clear_stateful(struct cpuid_table *table)
{
	clear_without(table, usable_xcr0(table));
}

/* Offsets and sizes are KVM's, in the standard format: the area ends behind the furthest component. */
static uint32_t xsave_size(struct cpuid_table *table, uint64_t xcr0)
{
	uint32_t size = XSAVE_LEGACY;

	for (unsigned i = 2; i < 64; i++) {
		const struct kvm_cpuid_entry2 *e = cpuid_find(table, 0xd, i);

		if (e && (xcr0 >> i & 1) && e->eax + e->ebx > size)
			size = e->eax + e->ebx;
	}
	return size;
}

void cpuid_set_xsave(struct cpuid_table *table)
{
	uint64_t xcr0 = usable_xcr0(table), xss = 0;
	struct kvm_cpuid_entry2 *entry;

	if (!xcr0) {
		cpuid_clear(table, 1, 0, CPUID_ECX, 1u << 26);
		cpuid_drop(table, 0xd);
		return;
	}
	entry = cpuid_find(table, 0xd, 1);
	if (entry) {
		xss = wanted_xss(table) & (entry->ecx | (uint64_t)entry->edx << 32);
		entry->ecx = (uint32_t)xss;
		entry->edx = 0;
	}
	drop_xsave_components(table, xcr0, xss);
	entry = cpuid_find(table, 0xd, 0);
	entry->eax = (uint32_t)xcr0;
	entry->edx = (uint32_t)(xcr0 >> 32);
	entry->ecx = xsave_size(table, xcr0);
	entry->ebx = entry->ecx; /* KVM keeps it up to date with the guest's XCR0 */
}
