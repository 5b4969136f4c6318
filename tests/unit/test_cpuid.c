/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU models, over made-up lists of what a KVM supports: a generous Intel and a generous AMD host with
 * every feature bit set, from which the tests take away. One test asks this machine's own KVM.
 */
#include "tests/unit/runner.h"
#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/cpuid.h"
#include "vmm/base/util.h"
#include "vmm/kvm/vcpu.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct cpuid_table host, made;
static struct error err;

static struct kvm_cpuid_entry2 *put(
	uint32_t leaf, uint32_t subleaf, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	struct kvm_cpuid_entry2 *e = cpuid_get(&host, leaf, subleaf,
		leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd || leaf == 0x1f ||
			leaf == 0x8000001d);

	e->eax = a, e->ebx = b, e->ecx = c, e->edx = d;
	return e;
}

static void put_text(uint32_t leaf, uint32_t a, const char *b, const char *c, const char *d)
{
	struct kvm_cpuid_entry2 *e = put(leaf, 0, a, 0, 0, 0);

	memcpy(&e->ebx, b, 4);
	memcpy(&e->ecx, c, 4);
	memcpy(&e->edx, d, 4);
}

/* XSAVE components with their sizes and offsets, as on a Sapphire Rapids. */
static void put_xsave(void)
{
	put(0xd, 0, 0x602e7, 2696, 11008, 0);
	put(0xd, 1, 0x1f, 2696, 0x1800, 0);
	put(0xd, 2, 256, 576, 0, 0);
	put(0xd, 5, 64, 1088, 0, 0);
	put(0xd, 6, 512, 1152, 0, 0);
	put(0xd, 7, 1024, 1664, 0, 0);
	put(0xd, 9, 8, 2688, 0, 0);
	put(0xd, 11, 16, 0, 1, 0);
	put(0xd, 12, 24, 0, 1, 0);
	put(0xd, 17, 64, 2752, 2, 0);
	put(0xd, 18, 8192, 2816, 6, 0);
}

static void put_common(void)
{
	uint32_t all = 0xffffffff;

	host.count = 0;
	put(1, 0, 0x000806f8, 0x12100800, all, all);
	put(2, 0, 0x00feff01, 0xf0, 0, 0);
	put(5, 0, 0x40, 0x40, 3, 0x2020);
	put(6, 0, 4, 0, 0, 0);
	put(7, 0, 2, all, all, all);
	put(7, 1, all, all, all, all);
	put(7, 2, all, all, all, all);
	put(0xa, 0, 0x08300802, 0, 0, 0x603);
	put(0xb, 0, 1, 2, 0x100, 0x12);
	put(0xb, 1, 5, 24, 0x201, 0x12);
	put(0x14, 0, 1, 1, 1, 1);
	put(0x1d, 0, 1, 0, 0, 0);
	put(0x1f, 0, 1, 2, 0x100, 0x12);
	put_xsave();
	put_text(0x40000000, 0x40000001, "KVMK", "VMKV", "M\0\0\0");
	put(0x40000001, 0, 0x01007efb, 0, 0, 0);
	put(0x80000001, 0, 0, 0, all, all);
	put(0x80000007, 0, 0, 0, 0, 0x100);
	put(0x80000008, 0, 0x3930, all, 0x7007, 0);
	put(0x80000021, 0, all, 0, 0, 0);
}

static void make_intel_host(void)
{
	put_common();
	put_text(0, 0x20, "Genu", "ntel", "ineI");
	put_text(0x80000000, 0x80000008, "\0\0\0\0", "\0\0\0\0", "\0\0\0\0");
	cpuid_find(&host, 0x80000001, 0)->ecx &= ~(1u << 22 | 1u << 2);
	put(4, 0, 0x1c004121, 0x2c0003f, 63, 0);    /* L1 data, 2 threads, 8 cores */
	put(4, 1, 0x1c004143, 0x4c0003f, 2047, 0);  /* L2 */
	put(4, 2, 0x1c03c163, 0x3c0003f, 65535, 4); /* L3 */
	put(4, 3, 0, 0, 0, 0);
}

static void make_amd_host(void)
{
	put_common();
	put_text(0, 0x10, "Auth", "cAMD", "enti");
	put_text(0x80000000, 0x80000021, "Auth", "cAMD", "enti");
	cpuid_find(&host, 1, 0)->eax = cpuid_find(&host, 0x80000001, 0)->eax = 0x00a10f11;
	put(0x8000000a, 0, 1, 0x8000, 0, 0xff);
	put(0x8000001d, 0, 0x4121, 0x1c0003f, 63, 0);
	put(0x8000001d, 1, 0x1c163, 0x3c0003f, 32767, 1);
	put(0x8000001e, 0, 0x12, 0x109, 0, 0);
	put(0x8000001f, 0, 0xf, 0, 0, 0);
}

static int build(const char *model, unsigned cpus)
{
	const struct cpuid_request request = {.model = model,
		.cpus = cpus,
		.tsc_deadline = true,
		.brand = "The Host's Processor"};

	return cpuid_build(&host, &request, &made, &err);
}

static void must_build(const char *model, unsigned cpus)
{
	ck_assert_msg(build(model, cpus) == 0, "%s", err.text);
}

static uint32_t reg(uint32_t leaf, uint32_t subleaf, enum cpuid_register r)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(&made, leaf, subleaf);

	return e ? *cpuid_register(e, r) : 0;
}

static bool bit(uint32_t leaf, uint32_t subleaf, enum cpuid_register r, unsigned n)
{
	return reg(leaf, subleaf, r) >> n & 1;
}

/* ---- psABI levels ---- */

/* From the psABI's own table, for levels 2 to 4, in the words of /proc/cpuinfo. */
static const struct {
	int level;
	uint32_t leaf;
	enum cpuid_register reg;
	unsigned bit;
	const char *name;
} psabi[] = {
	{2, 1, CPUID_ECX, 13, "cx16"},
	{2, 0x80000001, CPUID_ECX, 0, "lahf_lm"},
	{2, 1, CPUID_ECX, 23, "popcnt"},
	{2, 1, CPUID_ECX, 0, "pni"},
	{2, 1, CPUID_ECX, 19, "sse4_1"},
	{2, 1, CPUID_ECX, 20, "sse4_2"},
	{2, 1, CPUID_ECX, 9, "ssse3"},
	{3, 1, CPUID_ECX, 28, "avx"},
	{3, 7, CPUID_EBX, 5, "avx2"},
	{3, 7, CPUID_EBX, 3, "bmi1"},
	{3, 7, CPUID_EBX, 8, "bmi2"},
	{3, 1, CPUID_ECX, 29, "f16c"},
	{3, 1, CPUID_ECX, 12, "fma"},
	{3, 0x80000001, CPUID_ECX, 5, "abm"},
	{3, 1, CPUID_ECX, 22, "movbe"},
	{3, 1, CPUID_ECX, 26, "xsave"},
	{4, 7, CPUID_EBX, 16, "avx512f"},
	{4, 7, CPUID_EBX, 30, "avx512bw"},
	{4, 7, CPUID_EBX, 28, "avx512cd"},
	{4, 7, CPUID_EBX, 17, "avx512dq"},
	{4, 7, CPUID_EBX, 31, "avx512vl"},
};

static const char *const levels[] = {NULL, NULL, "x86-64-v2", "x86-64-v3", "x86-64-v4"};

START_TEST(a_level_has_all_of_its_features_and_none_of_the_next)
{
	for (unsigned vendor = 0; vendor < 2; vendor++) {
		vendor ? make_amd_host() : make_intel_host();
		for (int level = 2; level <= 4; level++) {
			must_build(levels[level], 2);
			for (unsigned i = 0; i < ARRAY_SIZE(psabi); i++)
				ck_assert_msg(bit(psabi[i].leaf, 0, psabi[i].reg, psabi[i].bit) ==
						      (psabi[i].level <= level),
					"%s in %s", psabi[i].name, levels[level]);
		}
	}
}
END_TEST

START_TEST(a_feature_that_the_host_lacks_is_named_with_the_highest_level_it_has)
{
	for (unsigned i = 0; i < ARRAY_SIZE(psabi); i++) {
		char hint[64];

		make_intel_host();
		*cpuid_register(cpuid_find(&host, psabi[i].leaf, 0), psabi[i].reg) &=
			~(1u << psabi[i].bit);
		for (int level = 2; level <= 4; level++) {
			if (level < psabi[i].level) {
				must_build(levels[level], 1);
				continue;
			}
			ck_assert_int_lt(build(levels[level], 1), 0);
			ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
			ck_assert_msg(
				strstr(err.text, psabi[i].name), "%s: %s", psabi[i].name, err.text);
			snprintf(hint, sizeof(hint), "x86-64-v%d", psabi[i].level - 1);
			ck_assert_ptr_nonnull(
				strstr(err.hint, psabi[i].level > 2 ? hint : "--cpu-model host"));
		}
	}
}
END_TEST

START_TEST(an_unknown_model_is_refused_with_the_names_that_there_are)
{
	static const char *const names[] = {
		"x86-64-v1", "x86-64-v5", "x86-64-v33", "x86-64-v", "Host", "", "EPYC"};

	make_intel_host();
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		ck_assert_int_lt(build(names[i], 1), 0);
		ck_assert_ptr_nonnull(
			strstr(err.text, "must be one of host, x86-64-v2, x86-64-v3, x86-64-v4"));
	}
}
END_TEST

/* A host of the level with nothing more than what every server processor of it has. */
static void make_plain_v3_host(void)
{
	make_intel_host();
	cpuid_find(&host, 1, 0)->eax = 0x000306f2;
	cpuid_find(&host, 1, 0)->ecx = 0x7ffafbbf;
	cpuid_find(&host, 7, 0)->ebx = 0x000037ab;
	cpuid_find(&host, 7, 0)->ecx = 0;
	cpuid_find(&host, 0xd, 0)->eax = 7;
	cpuid_find(&host, 0xd, 1)->eax = 1;
	cpuid_drop(&host, 0x1f);
	cpuid_drop(&host, 0x14);
}

START_TEST(two_hosts_of_one_maker_give_the_same_model_of_a_level)
{
	struct cpuid_table first;

	make_intel_host();
	must_build("x86-64-v3", 4);
	first = made;
	make_plain_v3_host();
	must_build("x86-64-v3", 4);
	for (uint32_t i = 0; i < first.count; i++) {
		const struct kvm_cpuid_entry2 *a = &first.entries[i];
		struct kvm_cpuid_entry2 *b = cpuid_find(&made, a->function, a->index);

		ck_assert_msg(
			b && !memcmp(a, b, sizeof(*a)), "leaf 0x%x.%u", a->function, a->index);
	}
	ck_assert_uint_eq(made.count, first.count);
}
END_TEST

START_TEST(a_level_keeps_the_maker_and_takes_a_name_of_its_own)
{
	char brand[CPUID_BRAND_SIZE + 1] = "";

	make_amd_host();
	must_build("x86-64-v2", 1);
	ck_assert_uint_eq(reg(0, 0, CPUID_EBX), cpuid_find(&host, 0, 0)->ebx);
	/* Linux scans for AGP bridges, with 33,000 exits, on families before 17h. */
	ck_assert_uint_eq(reg(1, 0, CPUID_EAX), 0x00800f12);
	ck_assert_uint_eq(reg(0x80000001, 0, CPUID_EAX), 0x00800f12);
	for (unsigned i = 0; i < 3; i++)
		memcpy(brand + 16 * i, &cpuid_find(&made, 0x80000002 + i, 0)->eax, 16);
	ck_assert_str_eq(brand, "x86-64-v2 virtual CPU");
}
END_TEST

/* ---- host ---- */

START_TEST(host_gives_what_kvm_lists_but_what_no_guest_gets)
{
	static const struct {
		uint32_t leaf, subleaf;
		enum cpuid_register reg;
		unsigned bit;
	} gone[] = {
		{1, 0, CPUID_ECX, 3},		/* MONITOR */
		{1, 0, CPUID_ECX, 5},		/* VMX */
		{1, 0, CPUID_ECX, 15},		/* PDCM */
		{1, 0, CPUID_EDX, 21},		/* DS */
		{7, 0, CPUID_EBX, 2},		/* SGX */
		{7, 0, CPUID_EBX, 25},		/* processor trace */
		{7, 0, CPUID_EDX, 24},		/* AMX */
		{0x80000001, 0, CPUID_ECX, 2},	/* SVM */
		{0x80000001, 0, CPUID_ECX, 23}, /* counters */
	};
	static const uint32_t gone_leaves[] = {5, 0xa, 0x14, 0x1d, 0x1f, 0x8000000a, 0x8000001f};

	make_amd_host();
	must_build("host", 1);
	for (unsigned i = 0; i < ARRAY_SIZE(gone); i++)
		ck_assert_msg(!bit(gone[i].leaf, gone[i].subleaf, gone[i].reg, gone[i].bit),
			"leaf 0x%x register %d bit %u", gone[i].leaf, gone[i].reg, gone[i].bit);
	for (unsigned i = 0; i < ARRAY_SIZE(gone_leaves); i++)
		ck_assert_ptr_null(cpuid_find(&made, gone_leaves[i], 0));
	ck_assert(bit(7, 0, CPUID_EBX, 16) && bit(7, 0, CPUID_EBX, 5) && bit(1, 0, CPUID_ECX, 25));
	ck_assert(bit(0x80000007, 0, CPUID_EDX, 8));
	ck_assert(!memcmp(&cpuid_find(&made, 0x80000002, 0)->eax, "The Host's Proce", 16));
}
END_TEST

START_TEST(every_guest_knows_that_it_is_one_and_has_an_x2apic_and_a_deadline_timer)
{
	struct cpuid_request request = {.model = "host", .cpus = 1, .tsc_deadline = false};

	make_intel_host();
	cpuid_find(&host, 1, 0)->ecx &= ~(1u << 21 | 1u << 24 | 1u << 31);
	must_build("host", 1);
	ck_assert(bit(1, 0, CPUID_ECX, 31) && bit(1, 0, CPUID_ECX, 21) && bit(1, 0, CPUID_ECX, 24));
	ck_assert_uint_eq(reg(0x40000001, 0, CPUID_EAX), 0x01007efb);
	make_intel_host();
	ck_assert_int_eq(cpuid_build(&host, &request, &made, &err), 0);
	ck_assert(!bit(1, 0, CPUID_ECX, 24)); /* KVM listed it, but cannot emulate it */
}
END_TEST

START_TEST(a_host_without_a_64_bit_processor_is_refused)
{
	make_intel_host();
	cpuid_find(&host, 0x80000001, 0)->edx = 0;
	ck_assert_int_lt(build("host", 1), 0);
	make_intel_host();
	cpuid_drop(&host, 1);
	ck_assert_int_lt(build("host", 1), 0);
	host.count = 0;
	ck_assert_int_lt(build("x86-64-v2", 1), 0);
}
END_TEST

/* ---- topology ---- */

static void check_topology(unsigned cpus)
{
	unsigned bits = reg(0xb, 1, CPUID_EAX);

	ck_assert_uint_eq(reg(0xb, 0, CPUID_EAX), 0); /* threads take no bits of the id */
	ck_assert_uint_eq(reg(0xb, 0, CPUID_EBX), 1);
	ck_assert_uint_eq(reg(0xb, 0, CPUID_ECX), 0x100);
	ck_assert_uint_eq(reg(0xb, 1, CPUID_EBX), cpus);
	ck_assert_uint_eq(reg(0xb, 1, CPUID_ECX), 0x201);
	ck_assert(1u << bits >= cpus && (!bits || 1u << (bits - 1) < cpus));
	ck_assert_uint_eq(reg(0xb, 2, CPUID_EBX), 0);
	ck_assert_uint_ge(reg(0, 0, CPUID_EAX), 0xb);
	ck_assert_uint_eq(reg(1, 0, CPUID_EBX) >> 16 & 0xff, cpus);
	ck_assert_uint_eq(bit(1, 0, CPUID_EDX, 28), cpus > 1);
}

START_TEST(cpus_are_cores_of_one_socket_on_intel)
{
	make_intel_host();
	for (unsigned cpus = 1; cpus <= VCPUS_MAX; cpus++) {
		unsigned top;

		must_build("host", cpus);
		check_topology(cpus);
		top = (1u << reg(0xb, 1, CPUID_EAX)) - 1;
		ck_assert_uint_eq(reg(4, 0, CPUID_EAX) >> 14 & 0xfff, 0);
		ck_assert_uint_eq(reg(4, 1, CPUID_EAX) >> 14 & 0xfff, 0);
		ck_assert_uint_eq(
			reg(4, 2, CPUID_EAX) >> 14 & 0xfff, top); /* the L3 is everybody's */
		ck_assert_uint_eq(reg(4, 2, CPUID_EAX) >> 26, top);
		ck_assert_uint_eq(reg(4, 3, CPUID_EAX), 0);
		ck_assert_ptr_null(cpuid_find(&made, 0x8000001e, 0));
	}
}
END_TEST

START_TEST(cpus_are_cores_of_one_socket_on_amd_with_and_without_topology_extensions)
{
	for (unsigned cpus = 1; cpus <= VCPUS_MAX; cpus++) {
		make_amd_host();
		must_build("host", cpus);
		check_topology(cpus);
		ck_assert_uint_eq(reg(0x80000008, 0, CPUID_ECX) & 0xff, cpus - 1);
		ck_assert_uint_eq(reg(0x80000008, 0, CPUID_ECX) >> 12, reg(0xb, 1, CPUID_EAX));
		ck_assert_uint_eq(bit(0x80000001, 0, CPUID_ECX, 1), cpus > 1);
		ck_assert_uint_eq(reg(0x8000001d, 0, CPUID_EAX) >> 14 & 0xfff, 0);
		ck_assert_uint_ge(reg(0x8000001d, 1, CPUID_EAX) >> 14 & 0xfff, cpus - 1);
		cpuid_find(&host, 0x80000001, 0)->ecx &= ~(1u << 22);
		must_build("host", cpus);
		ck_assert_uint_eq(reg(0x80000008, 0, CPUID_ECX) & 0xff, cpus - 1);
		ck_assert_ptr_null(cpuid_find(&made, 0x8000001e, 0));
	}
}
END_TEST

START_TEST(each_vcpu_finds_its_own_id_everywhere_and_its_clocks_frequency)
{
	make_amd_host();
	for (uint32_t id = 0; id < 64; id += 9) {
		must_build("host", 64);
		cpuid_personalize(&made, id, 2450000);
		ck_assert_uint_eq(reg(1, 0, CPUID_EBX) >> 24, id);
		for (unsigned i = 0; i < 3; i++)
			ck_assert_uint_eq(reg(0xb, i, CPUID_EDX), id);
		ck_assert_uint_eq(reg(0x8000001e, 0, CPUID_EAX), id);
		ck_assert_uint_eq(
			reg(0x8000001e, 0, CPUID_EBX), id); /* the core's number, one thread */
		ck_assert_uint_eq(reg(0x40000000, 0, CPUID_EAX), 0x40000010);
		ck_assert_uint_eq(reg(0x40000010, 0, CPUID_EAX), 2450000);
		ck_assert_uint_eq(reg(0x40000010, 0, CPUID_EBX), 1000000);
	}
	must_build("host", 1);
	cpuid_personalize(&made, 0, 0);
	ck_assert_ptr_null(cpuid_find(&made, 0x40000010, 0));
	ck_assert_uint_eq(reg(0x40000000, 0, CPUID_EAX), 0x40000001);
}
END_TEST

/* ---- XSAVE ---- */

START_TEST(the_xsave_leaf_has_the_components_of_the_features_and_their_size)
{
	static const struct {
		const char *model;
		uint32_t xcr0, size;
	} cases[] = {
		{"host", 0x2e7, 2696}, /* all but the tiles */
		{"x86-64-v3", 7, 832},
		{"x86-64-v4", 0xe7, 2688},
	};

	make_intel_host();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		must_build(cases[i].model, 1);
		ck_assert_uint_eq(reg(0xd, 0, CPUID_EAX), cases[i].xcr0);
		ck_assert_uint_eq(reg(0xd, 0, CPUID_ECX), cases[i].size);
		for (unsigned c = 2; c < 64; c++)
			ck_assert_msg(
				(cpuid_find(&made, 0xd, c) != NULL) ==
					((cases[i].xcr0 | reg(0xd, 1, CPUID_ECX)) >> (c & 31) & 1 &&
						c < 32),
				"%s: component %u", cases[i].model, c);
	}
}
END_TEST

START_TEST(without_xsave_there_is_no_feature_that_needs_it)
{
	make_intel_host();
	must_build("x86-64-v2", 1);
	ck_assert_ptr_null(cpuid_find(&made, 0xd, 0));
	cpuid_find(&host, 1, 0)->ecx &= ~(1u << 26);
	must_build("host", 1);
	ck_assert_ptr_null(cpuid_find(&made, 0xd, 0));
	ck_assert(
		!bit(1, 0, CPUID_ECX, 28) && !bit(7, 0, CPUID_EBX, 5) && !bit(7, 0, CPUID_EBX, 16));
	ck_assert(
		!bit(1, 0, CPUID_ECX, 12) && !bit(7, 0, CPUID_ECX, 3) && !bit(7, 0, CPUID_ECX, 9));
	/* KVM withholds AVX-512's state (a host booted with clearcpuid=...): the features go too. */
	make_intel_host();
	cpuid_find(&host, 0xd, 0)->eax &= ~0x40u;
	must_build("host", 1);
	ck_assert_uint_eq(reg(0xd, 0, CPUID_EAX), 0x207);
	ck_assert(!bit(7, 0, CPUID_EBX, 16) && bit(7, 0, CPUID_EBX, 5));
	ck_assert_int_lt(build("x86-64-v4", 1), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "avx512f"));
}
END_TEST

/* ---- another host ---- */

static struct cpuid_table seen;

/* What the guest began with; `made` is the best of the host that it comes to. */
static int move(void)
{
	must_build("host", 2);
	return cpuid_check_compatible(&seen, &made, &err);
}

static void begin(unsigned vendor, const char *model)
{
	vendor ? make_amd_host() : make_intel_host();
	must_build(model, 2);
	seen = made;
}

static void must_lack(const char *words)
{
	ck_assert_int_lt(move(), 0);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	ck_assert_msg(strstr(err.text, words), "'%s' is not in: %s", words, err.text);
}

START_TEST(a_guest_of_any_model_goes_on_where_it_began_and_on_a_richer_host)
{
	static const char *const models[] = {"host", "x86-64-v2", "x86-64-v3", "x86-64-v4"};

	for (unsigned vendor = 0; vendor < 2; vendor++)
		for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
			begin(vendor, models[i]);
			ck_assert_msg(move() == 0, "%s: %s", models[i], err.text);
		}
	begin(0, "host");
	seen = made;
	cpuid_find(&seen, 7, 0)->ebx &= ~(1u << 16); /* it never saw what this host has */
	ck_assert_msg(cpuid_check_compatible(&seen, &made, &err) == 0, "%s", err.text);
}
END_TEST

START_TEST(each_feature_that_another_host_lacks_is_named)
{
	for (unsigned i = 0; i < ARRAY_SIZE(psabi); i++) {
		if (!strcmp(psabi[i].name, "xsave"))
			continue; /* takes many with it: below */
		begin(0, "host");
		*cpuid_register(cpuid_find(&host, psabi[i].leaf, 0), psabi[i].reg) &=
			~(1u << psabi[i].bit);
		must_lack(psabi[i].name);
	}
	begin(0, "x86-64-v3");
	cpuid_find(&host, 1, 0)->ecx &= ~(1u << 26);
	must_lack("xsave");
	ck_assert_ptr_nonnull(strstr(err.text, "avx2"));
	begin(1, "host");
	cpuid_find(&host, 0x40000001, 0)->eax &= ~(1u << 3);
	must_lack("KVM clocksource2");
	begin(1, "host");
	cpuid_find(&host, 0x80000007, 0)->edx = 0;
	must_lack("nonstop_tsc");
	begin(0, "host");
	cpuid_find(&host, 7, 1)->eax &= ~(1u << 31); /* nobody knows its name yet */
	must_lack("CPUID 0x7/1 EAX bit 31");
	ck_assert_ptr_nonnull(strstr(err.hint, "--cpu-model"));
}
END_TEST

START_TEST(a_host_with_much_less_is_refused_in_a_text_of_bounded_length)
{
	begin(0, "host");
	cpuid_find(&host, 7, 0)->ebx = cpuid_find(&host, 7, 0)->ecx = 0;
	cpuid_find(&host, 7, 0)->edx = 0;
	must_lack(" more");
	ck_assert_uint_lt(strlen(err.text), sizeof(err.text) - 1);
}
END_TEST

START_TEST(another_maker_another_xsave_area_and_fewer_address_bits_are_refused)
{
	begin(0, "x86-64-v3");
	make_amd_host();
	must_lack("GenuineIntel, this host's is of AuthenticAMD");
	begin(0, "host");
	cpuid_find(&host, 0xd, 9)->ebx = 2432; /* PKRU, where AMD has it */
	must_lack("XSAVE component 9 at offset 2688");
	begin(0, "host");
	cpuid_find(&host, 0x80000008, 0)->eax = 0x302e;
	must_lack("57 virtual address bits (it has 48)");
	begin(1, "host");
	cpuid_find(&host, 0x80000008, 0)->eax = 0x3028;
	must_lack("physical address bits (it has 40)");
}
END_TEST

/* ---- this machine's KVM ---- */

static void try_model(int kvm_fd, const char *name, unsigned cpus)
{
	struct arch_cpu_model *model;
	struct vcpu_group group;
	struct vm vm;
	int ret = arch_cpu_model_create(kvm_fd, name, cpus, &model, &err);

	if (ret < 0) {
		ck_assert_msg(strcmp(name, "host") && err.kind == ERROR_INCOMPATIBLE, "%s: %s",
			name, err.text);
		return;
	}
	ck_assert_msg(vm_create(&vm, kvm_fd, &err) == 0, "%s", err.text);
	ck_assert_msg(arch_vm_init(&vm, &err) == 0, "%s", err.text);
	vcpu_group_init(&group, &vm);
	for (unsigned i = 0; i < cpus; i++) {
		ck_assert_msg(vcpu_add(&group, NULL, NULL, &err) == 0, "%s", err.text);
		ck_assert_msg(
			arch_vcpu_init(group.vcpus[i], model, &err) == 0, "%s: %s", name, err.text);
	}
	ck_assert(!arch_shutdown_was_orderly(group.vcpus[0])); /* nothing has run */
	vcpus_destroy(&group);
	vm_destroy(&vm);
	arch_cpu_model_destroy(model);
}

START_TEST(this_machines_kvm_takes_every_model_that_it_can_give)
{
	int kvm_fd;

	ck_assert_msg(kvm_open(&kvm_fd, &err) == 0, "%s", err.text);
	try_model(kvm_fd, "host", 1);
	try_model(kvm_fd, "host", 4);
	for (int level = 2; level <= 4; level++)
		try_model(kvm_fd, levels[level], 2);
	close(kvm_fd);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("CPU models");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_level_has_all_of_its_features_and_none_of_the_next);
	tcase_add_test(tc, a_feature_that_the_host_lacks_is_named_with_the_highest_level_it_has);
	tcase_add_test(tc, an_unknown_model_is_refused_with_the_names_that_there_are);
	tcase_add_test(tc, two_hosts_of_one_maker_give_the_same_model_of_a_level);
	tcase_add_test(tc, a_level_keeps_the_maker_and_takes_a_name_of_its_own);
	tcase_add_test(tc, host_gives_what_kvm_lists_but_what_no_guest_gets);
	tcase_add_test(tc, every_guest_knows_that_it_is_one_and_has_an_x2apic_and_a_deadline_timer);
	tcase_add_test(tc, a_host_without_a_64_bit_processor_is_refused);
	tcase_add_test(tc, cpus_are_cores_of_one_socket_on_intel);
	tcase_add_test(
		tc, cpus_are_cores_of_one_socket_on_amd_with_and_without_topology_extensions);
	tcase_add_test(tc, each_vcpu_finds_its_own_id_everywhere_and_its_clocks_frequency);
	tcase_add_test(tc, the_xsave_leaf_has_the_components_of_the_features_and_their_size);
	tcase_add_test(tc, without_xsave_there_is_no_feature_that_needs_it);
	tcase_add_test(tc, a_guest_of_any_model_goes_on_where_it_began_and_on_a_richer_host);
	tcase_add_test(tc, each_feature_that_another_host_lacks_is_named);
	tcase_add_test(tc, a_host_with_much_less_is_refused_in_a_text_of_bounded_length);
	tcase_add_test(tc, another_maker_another_xsave_area_and_fewer_address_bits_are_refused);
	/* What needs a KVM is left out, not failed, where there is none. */
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		tcase_add_test(tc, this_machines_kvm_takes_every_model_that_it_can_give);
	return run_tests("cpuid", tc, NULL);
}
