/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's model-specific registers (Intel SDM vol. 4; Linux Documentation/virt/kvm/x86/msr.rst for KVM's own).
 *
 * Which there are is asked of KVM (KVM_GET_MSR_INDEX_LIST), and a few more that a guest can write and KVM does not list. What
 * KVM does not give is left out. What a new vCPU does not take is refused, unless it has that very value already (it is
 * read-only) or neither side had anything there.
 *
 * Left out on purpose: the TSC, which is the clock's; Hyper-V's, which no guest of ours is offered (some of
 * them are clocks); KVM's two old names for its clock's registers. The wall clock's register is one of the VM: setting
 * it writes to guest memory, which is done once.
 */
#include "vmm/arch/x86_64/vcpu_state.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>

#define BATCH 128 /* KVM takes 255 at once */

#define MSR_ARCH_CAPABILITIES  0x10a
#define MSR_KVM_OLD_WALL_CLOCK 0x11
#define MSR_KVM_OLD_TIME       0x12
#define MSR_KVM_WALL_CLOCK_NEW 0x4b564d00
#define MSR_HYPERV_FIRST       0x40000000
#define MSR_HYPERV_LAST	       0x400001ff

/* Memory types, the one bank of machine checks (cpu.c), and how LFENCE works on AMD. */
static const uint32_t unlisted[] = {0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208,
	0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f, 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
	0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x2ff, 0x17a, 0x17b, 0x400, 0x401, 0x402, 0x403,
	0xc0011029};

/* For messages: those that a refusal is likely to be about. */
static const struct {
	uint32_t index;
	const char *name;
} names[] = {
	{0x3a, "feature control"},
	{0x48, "speculation control"},
	{MSR_ARCH_CAPABILITIES, "architectural capabilities"},
	{0x122, "transactional memory control"},
	{0x140, "miscellaneous features"},
	{0x1a0, "miscellaneous enables"},
	{0x277, "page attributes"},
	{MSR_TSC_DEADLINE, "TSC deadline"},
	{0x6a0, "control-flow enforcement, user"},
	{0x6a2, "control-flow enforcement, supervisor"},
	{0xda0, "extended supervisor state"},
	{0xc0000080, "extended features"},
	{0xc0000103, "TSC_AUX"},
	{0xc001011f, "virtual speculation control"},
	{0x4b564d01, "KVM's clock"},
	{0x4b564d02, "KVM's asynchronous page faults"},
	{0x4b564d03, "KVM's stolen time"},
	{0x4b564d04, "KVM's end of interrupt"},
};

struct msr_list {
	struct kvm_msr_list head;
	uint32_t indices[VCPU_MSRS_MAX];
};

struct msr_batch {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[BATCH];
};

bool vcpu_msr_read(const struct vcpu *vcpu, uint32_t index, uint64_t *value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} request = {.head.nmsrs = 1, .entry.index = index};

	if (ioctl(vcpu->fd, KVM_GET_MSRS, &request) != 1)
		return false;
	*value = request.entry.data;
	return true;
}

bool vcpu_msr_write(const struct vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} request = {.head.nmsrs = 1, .entry = {.index = index, .data = value}};

	return ioctl(vcpu->fd, KVM_SET_MSRS, &request) == 1;
}

/* ---- out ---- */

static bool left_out(const struct vcpu *vcpu, uint32_t index)
{
	return index == MSR_TSC || index == MSR_KVM_OLD_WALL_CLOCK || index == MSR_KVM_OLD_TIME ||
	       (index == MSR_KVM_WALL_CLOCK_NEW && vcpu->index) ||
	       (index >= MSR_HYPERV_FIRST && index <= MSR_HYPERV_LAST);
}

static bool have(const struct vcpu_state *s, uint32_t index)
{
	for (uint32_t i = 0; i < s->msr_count; i++)
		if (s->msrs[i].index == index)
			return true;
	return false;
}

/* The registers to ask for: s->msrs, without their values. */
static int list(struct vcpu *vcpu, struct vcpu_state *s, struct error *err)
{
	_cleanup_free_ struct msr_list *known = calloc(1, sizeof(*known));

	if (!known)
		return error_errno(err, ENOMEM, "cannot save vCPU %u", vcpu->index);
	known->head.nmsrs = VCPU_MSRS_MAX - ARRAY_SIZE(unlisted);
	if (ioctl(vcpu->vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, known) < 0)
		return error_errno(
			err, errno, "KVM cannot tell which model-specific registers it has");
	for (uint32_t i = 0; i < known->head.nmsrs; i++)
		if (!left_out(vcpu, known->indices[i]))
			s->msrs[s->msr_count++] =
				(struct kvm_msr_entry){.index = known->indices[i]};
	for (unsigned i = 0; i < ARRAY_SIZE(unlisted); i++)
		if (!have(s, unlisted[i]))
			s->msrs[s->msr_count++] = (struct kvm_msr_entry){.index = unlisted[i]};
	return 0;
}

/* KVM stops at the first that it does not give: that one goes. */
int vcpu_msrs_get(struct vcpu *vcpu, struct vcpu_state *s, struct error *err)
{
	struct msr_batch batch;
	uint32_t at = 0, kept = 0, asked;
	int ret = list(vcpu, s, err);

	while (at < s->msr_count && ret == 0) {
		int n;

		asked = (uint32_t)min_u64(s->msr_count - at, BATCH);
		batch.head = (struct kvm_msrs){.nmsrs = asked};
		memcpy(batch.entries, s->msrs + at, asked * sizeof(batch.entries[0]));
		n = ioctl(vcpu->fd, KVM_GET_MSRS, &batch);
		if (n < 0)
			return error_errno(err, errno,
				"KVM cannot tell the model-specific registers of vCPU %u",
				vcpu->index);
		memcpy(s->msrs + kept, batch.entries, (unsigned)n * sizeof(batch.entries[0]));
		kept += (uint32_t)n;
		at += (uint32_t)n + ((uint32_t)n < asked);
	}
	s->msr_count = kept;
	return ret;
}

/* ---- in ---- */

static const char *name_of(uint32_t index)
{
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].index == index)
			return names[i].name;
	return "";
}

static int refuse(const struct vcpu *vcpu, const struct kvm_msr_entry *msr, struct error *err)
{
	const char *name = name_of(msr->index);

	return error_set(err, ERROR_INCOMPATIBLE,
		"this host's KVM does not take what vCPU %u has in MSR 0x%x%s%s%s, 0x%" PRIx64,
		vcpu->index, msr->index, *name ? " (" : "", name, *name ? ")" : "",
		(uint64_t)msr->data);
}

/* KVM did not take it. 0: nothing is lost by that. */
static int pass_over(const struct vcpu *vcpu, const struct kvm_msr_entry *msr, struct error *err)
{
	uint64_t now = 0;

	vcpu_msr_read(vcpu, msr->index, &now); /* what is not there reads as 0 */
	if (now != msr->data)
		return refuse(vcpu, msr, err);
	log_debug("KVM takes no MSR 0x%x for vCPU %u: left as it is", msr->index, vcpu->index);
	return 0;
}

/*
 * Each bit of it but one says that the processor need not be guarded against something: a guest that was told so would go without
 * the guard. KVM would take any.
 */
static int check_capabilities(
	const struct vcpu *vcpu, const struct kvm_msr_entry *msr, struct error *err)
{
	const uint64_t rsba = 1ull << 2; /* says that a guard is needed: more is better */
	uint64_t now = 0;

	vcpu_msr_read(vcpu, msr->index, &now);
	if (((msr->data | rsba) & ~(now | rsba)) || (now & rsba & ~msr->data))
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest was told that its processor is immune to attacks which this host's "
			"is not (MSR 0x%x: it has 0x%" PRIx64 ", here is 0x%" PRIx64 ")",
			msr->index, (uint64_t)msr->data, now);
	return 0;
}

static int set_batch(struct vcpu *vcpu, const struct kvm_msr_entry *msrs, uint32_t count,
	uint32_t *done, struct error *err)
{
	struct msr_batch batch = {.head.nmsrs = (uint32_t)min_u64(count, BATCH)};
	int n;

	memcpy(batch.entries, msrs, batch.head.nmsrs * sizeof(*msrs));
	n = ioctl(vcpu->fd, KVM_SET_MSRS, &batch);
	if (n < 0)
		return error_errno(err, errno,
			"KVM cannot set the model-specific registers of vCPU %u", vcpu->index);
	*done += (uint32_t)n;
	if ((uint32_t)n == batch.head.nmsrs)
		return 0;
	++*done;
	return pass_over(vcpu, &msrs[n], err);
}

int vcpu_msrs_set(struct vcpu *vcpu, const struct vcpu_state *s, bool late, struct error *err)
{
	_cleanup_free_ struct kvm_msr_entry *msrs = malloc(sizeof(s->msrs));
	uint32_t count = 0, done = 0;
	int ret = 0;

	if (!msrs)
		return error_errno(err, ENOMEM, "cannot restore vCPU %u", vcpu->index);
	for (uint32_t i = 0; i < s->msr_count && ret == 0; i++) {
		const struct kvm_msr_entry *msr = &s->msrs[i];

		if (left_out(vcpu, msr->index) || (msr->index == MSR_TSC_DEADLINE) != late)
			continue;
		if (msr->index == MSR_ARCH_CAPABILITIES)
			ret = check_capabilities(vcpu, msr, err);
		msrs[count++] = *msr;
	}
	while (done < count && ret == 0)
		ret = set_batch(vcpu, msrs + done, count - done, &done, err);
	return ret;
}
