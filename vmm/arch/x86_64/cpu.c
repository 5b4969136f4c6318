/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU models and vCPUs: cpuid.c's tables to and from KVM, and the few model-specific registers that
 * firmware would have set.
 */
#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/cpuid.h"
#include "vmm/arch/x86_64/vcpu_state.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <cpuid.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

_Static_assert(offsetof(struct cpuid_table, entries) == offsetof(struct kvm_cpuid2, entries),
	"struct cpuid_table is a struct kvm_cpuid2 with room");

struct arch_cpu_model {
	struct cpuid_table cpuid;
	uint32_t tsc_khz; /* of a guest that began elsewhere; 0: the host's */
};

#define MSR_MISC_ENABLE		 0x1a0
#define MISC_ENABLE_FAST_STRINGS (1u << 0)
#define MISC_ENABLE_NO_BTS	 (1u << 11)
#define MISC_ENABLE_NO_PEBS	 (1u << 12)
#define MSR_MTRR_DEFAULT	 0x2ff
#define MTRR_ENABLE		 (1u << 11)
#define MTRR_WRITE_BACK		 6u

/* Linux turns REP string instructions off without the first, and PAT without the second. */
static const struct kvm_msr_entry firmware_msrs[] = {
	{.index = MSR_MTRR_DEFAULT, .data = MTRR_ENABLE | MTRR_WRITE_BACK},
	{.index = MSR_MISC_ENABLE,
		.data = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS},
};

/*
 * Asked of KVM once in a process: where the host is a guest itself each leaf is an exit of its own, 0.3 ms for all, and a restore
 * asks twice.
 */
static int get_supported(int kvm_fd, struct cpuid_table *supported, struct error *err)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct cpuid_table known; /* count 0: not asked yet */
	int ret = 0;

	pthread_mutex_lock(&lock);
	if (!known.count) {
		known.count = CPUID_ENTRIES_MAX;
		if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, &known) < 0) {
			ret = error_errno(
				err, errno, "KVM cannot tell which CPU features it supports");
			known.count = 0;
		}
	}
	*supported = known;
	pthread_mutex_unlock(&lock);
	return ret;
}

/* What the processor is called is the one thing asked of it and not of KVM: a name promises nothing. */
static void get_brand(char brand[static CPUID_BRAND_SIZE])
{
	uint32_t regs[CPUID_BRAND_SIZE / 4] = {0};

	for (unsigned i = 0; i < 3; i++)
		if (!__get_cpuid(0x80000002 + i, &regs[4 * i], &regs[4 * i + 1], &regs[4 * i + 2],
			    &regs[4 * i + 3]))
			break;
	memcpy(brand, regs, sizeof(regs));
}

int arch_cpu_model_create(
	int kvm_fd, const char *name, unsigned cpus, struct arch_cpu_model **out, struct error *err)
{
	struct cpuid_request request = {
		.model = name,
		.cpus = cpus,
		.tsc_deadline = kvm_check(kvm_fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
	};
	_cleanup_free_ struct arch_cpu_model *model = calloc(1, sizeof(*model));
	struct cpuid_table supported;
	int ret;

	if (!model)
		return error_errno(err, ENOMEM, "cannot create the CPU model");
	get_brand(request.brand);
	ret = get_supported(kvm_fd, &supported, err);
	if (ret == 0)
		ret = cpuid_build(&supported, &request, &model->cpuid, err);
	if (ret < 0)
		return ret;
	*out = steal_ptr(&model);
	return 0;
}

void arch_cpu_model_destroy(struct arch_cpu_model *model)
{
	free(model);
}

/* ---- the state of a model ---- */

/* Leaves that are looked for without asking whether they are there. */
static bool is_whole(struct cpuid_table *table)
{
	return table->count <= CPUID_ENTRIES_MAX - 20 && cpuid_find(table, 0, 0) &&
	       cpuid_find(table, 1, 0) && cpuid_find(table, 0x80000001, 0) &&
	       cpuid_find(table, 0xb, 0) && cpuid_find(table, 0xb, 1) && cpuid_find(table, 0xb, 2);
}

static int check_model(const void *thing, struct error *err)
{
	const struct arch_cpu_model *model = thing;
	struct cpuid_table *table = (struct cpuid_table *)(uintptr_t)&model->cpuid; /* only read */

	if (!is_whole(table))
		return error_set(err, ERROR_CORRUPT, "its CPUID is not that of a VM's processor");
	for (uint32_t i = 0; i < table->count; i++) /* some old KVMs list leaf 2 more than once */
		if (table->entries[i].function != 2 &&
			cpuid_find(table, table->entries[i].function, table->entries[i].index) !=
				&table->entries[i])
			return error_set(err, ERROR_CORRUPT,
				"its CPUID has leaf 0x%" PRIx32 " twice",
				table->entries[i].function);
	return 0;
}

#define KVM_CPUID_FLAGS                                                                            \
	(KVM_CPUID_FLAG_SIGNIFCANT_INDEX | KVM_CPUID_FLAG_STATEFUL_FUNC |                          \
		KVM_CPUID_FLAG_STATE_READ_NEXT)
#define ENTRY(member, ...) STATE_UINT(struct kvm_cpuid_entry2, member, __VA_ARGS__)
static const struct state_field entry_fields[] = {
	ENTRY(function),
	ENTRY(index),
	ENTRY(flags, .max = KVM_CPUID_FLAGS),
	ENTRY(eax),
	ENTRY(ebx),
	ENTRY(ecx),
	ENTRY(edx),
};
static const struct state_table entry_table =
	STATE_TABLE("cpuid", 1, struct kvm_cpuid_entry2, entry_fields);

static const struct state_field model_fields[] = {
	STATE_LIST(struct arch_cpu_model, cpuid.entries, cpuid.count, &entry_table),
	STATE_UINT(struct arch_cpu_model, tsc_khz),
};
const struct state_table cpu_model_state_table =
	STATE_TABLE("cpu_model", 1, struct arch_cpu_model, model_fields, .check = check_model);

int arch_cpu_model_save(const struct arch_cpu_model *model, const struct vcpu *vcpu,
	struct state_writer *out, struct error *err)
{
	struct arch_cpu_model seen = *model;
	int ret = clock_frequency(vcpu, &seen.tsc_khz, err);

	if (ret == 0)
		state_save(out, &cpu_model_state_table, "", &seen);
	return ret;
}

static int check_here(int kvm_fd, unsigned cpus, struct arch_cpu_model *model, struct error *err)
{
	struct arch_cpu_model *here;
	unsigned told = cpuid_find(&model->cpuid, 1, 0)->ebx >> 16 & 0xff;
	int ret;

	if (told != cpus)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest was told of %u vCPUs at most, and this VM has %u", told, cpus);
	ret = arch_cpu_model_create(kvm_fd, "host", cpus, &here, err);
	if (ret < 0)
		return ret;
	ret = cpuid_check_compatible(&model->cpuid, &here->cpuid, err);
	arch_cpu_model_destroy(here);
	return ret;
}

int arch_cpu_model_load(int kvm_fd, unsigned cpus, struct state_reader *in,
	struct arch_cpu_model **out, struct error *err)
{
	_cleanup_free_ struct arch_cpu_model *model = calloc(1, sizeof(*model));
	int ret;

	if (!model)
		return error_errno(err, ENOMEM, "cannot create the CPU model");
	ret = state_load(in, &cpu_model_state_table, "", model, err);
	if (ret == 0)
		ret = check_here(kvm_fd, cpus, model, err);
	if (ret < 0)
		return ret;
	*out = steal_ptr(&model);
	return 0;
}

/* KVM stops at the first register that it does not have: leave that one out and go on. */
static int set_msrs(
	struct vcpu *vcpu, const struct kvm_msr_entry *msrs, unsigned count, struct error *err)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[ARRAY_SIZE(firmware_msrs)];
	} request;
	unsigned at = 0;

	while (at < count) {
		int n;

		request.head = (struct kvm_msrs){.nmsrs = count - at};
		memcpy(request.entries, msrs + at, (count - at) * sizeof(*msrs));
		n = ioctl(vcpu->fd, KVM_SET_MSRS, &request);
		if (n < 0)
			return error_errno(
				err, errno, "KVM cannot set the MSRs of vCPU %u", vcpu->index);
		at += (unsigned)n;
		if (at < count)
			log_debug("KVM has no MSR 0x%x for vCPU %u: left out", msrs[at++].index,
				vcpu->index);
	}
	return 0;
}

/*
 * One bank of machine check registers instead of KVM's 32: a guest writes each of them twice, which is
 * 200 exits a vCPU, and nobody reports errors there. Only advice.
 */
static void limit_mce_banks(struct vcpu *vcpu)
{
	uint64_t mcg_cap = 1;

	if (ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &mcg_cap) < 0)
		log_debug("KVM keeps its machine check banks for vCPU %u (errno %d)", vcpu->index,
			errno);
}

int arch_vcpu_init(struct vcpu *vcpu, const struct arch_cpu_model *model, struct error *err)
{
	struct cpuid_table cpuid = model->cpuid;
	int tsc_khz;

	if (model->tsc_khz) {
		int ret = clock_set_frequency(vcpu, model->tsc_khz, err);

		if (ret < 0)
			return ret;
	}
	tsc_khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	cpuid_personalize(&cpuid, vcpu->index, tsc_khz > 0 ? (uint32_t)tsc_khz : 0);
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, &cpuid) < 0)
		return error_errno(
			err, errno, "KVM does not take the CPU model of vCPU %u", vcpu->index);
	limit_mce_banks(vcpu);
	return set_msrs(vcpu, firmware_msrs, ARRAY_SIZE(firmware_msrs), err);
}

/*
 * KVM keeps a map of local APICs by id, and makes it anew when one of them changes; but while it makes a vCPU, that one is not among
 * them yet. At power-on the guest's own set-up of its APIC comes later. Here, its INIT would go nowhere: so the new APIC is
 * "changed" to what it is (kvm_apic_set_state() in arch/x86/kvm/lapic.c).
 */
int arch_vcpu_announce(struct vcpu *vcpu, struct error *err)
{
	struct kvm_lapic_state lapic;

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic) < 0 ||
		ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic) < 0)
		return error_errno(err, errno,
			"KVM cannot make the local APIC of vCPU %u known to the others",
			vcpu->index);
	return 0;
}
