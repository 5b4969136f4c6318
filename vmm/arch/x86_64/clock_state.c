/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's clocks across a save and a load (KVM API §4.29 KVM_GET_CLOCK; Linux Documentation/virt/kvm/devices/vcpu.rst §4).
 *
 * A guest keeps time by adding to what it knew at its boot what has passed on kvmclock or on the TSC. So both must have moved on
 * by as much as the host's wall clock has, and then the guest's is right before it executes anything: to the guest it
 * is as if its CPUs had been taken away for that long, as in any pause of a VM.
 *
 * Out: one moment, at which the wall clock, kvmclock and the TSC of vCPU 0 were these. The three are read between two looks at
 * the wall clock, again if something came in between. The other vCPUs' TSCs are told by how far they are ahead of the first,
 * which is exact: a TSC is the host's plus an offset. Nearly always it is 0.
 *
 * In: the same three are read of the new VM, which says by how much vCPU 0's offset must change; from it follow the
 * others'. So it does not matter how long we take. A KVM that does not show offsets (before Linux 5.16) is given TSC values, and
 * makes vCPUs equal that get nearly equal ones. kvmclock is KVM's to move on where it knows how (KVM_CLOCK_REALTIME), ours else.
 *
 * A host whose wall clock is behind the saved one moves nothing: time does not go backwards.
 */
#include "vmm/arch/x86_64/vcpu_state.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>

#define NS_PER_SEC     1000000000ull
#define SAMPLE_TRIES   32
#define SAMPLE_GOOD_NS 20000
#define RIGHT_NS       10000000
#define TSC_TOLERANCE  250 /* parts per million: KVM's own, below which it does not scale */

struct clock_state {
	uint64_t realtime; /* ns since 1970 */
	uint64_t kvmclock; /* ns */
	uint64_t tsc;	   /* of vCPU 0 */
	uint32_t tsc_khz;
	uint32_t vcpus;
	uint64_t ahead[VCPUS_MAX]; /* of vCPU 0, modulo 2^64 */
};

static int check(const void *thing, struct error *err)
{
	const struct clock_state *s = thing;

	if (!s->tsc_khz || !s->vcpus)
		return error_set(err, ERROR_CORRUPT, "its TSC does not tick");
	return 0;
}

static const struct state_field fields[] = {
	STATE_UINT(struct clock_state, realtime),
	STATE_UINT(struct clock_state, kvmclock),
	STATE_UINT(struct clock_state, tsc),
	STATE_UINT(struct clock_state, tsc_khz),
	{
		.name = "ahead",
		.kind = STATE_KIND_UINT,
		.offset = offsetof(struct clock_state, ahead),
		.size = sizeof(uint64_t),
		.count = VCPUS_MAX,
		.used = offsetof(struct clock_state, vcpus),
	},
};

const struct state_table clock_state_table =
	STATE_TABLE("clock", 1, struct clock_state, fields, .check = check);

static uint64_t wall_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* 0 where the clock was set back. */
static uint64_t passed_since(uint64_t moment)
{
	uint64_t now = wall_clock();

	return now > moment ? now - moment : 0;
}

/* The offset of a vCPU's TSC; false: this KVM does not show it. */
static bool tsc_offset(const struct vcpu *vcpu, unsigned long request, uint64_t *offset)
{
	const struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uint64_t)(uintptr_t)offset,
	};

	return ioctl(vcpu->fd, request, &attr) == 0;
}

static bool get_offset(const struct vcpu *vcpu, uint64_t *offset)
{
	return tsc_offset(vcpu, KVM_GET_DEVICE_ATTR, offset);
}

static bool set_offset(const struct vcpu *vcpu, uint64_t offset)
{
	return tsc_offset(vcpu, KVM_SET_DEVICE_ATTR, &offset);
}

static int sample_once(const struct vcpu *first, struct clock_state *s, struct error *err)
{
	struct kvm_clock_data clock = {0};

	if (ioctl(first->vm->fd, KVM_GET_CLOCK, &clock) < 0 ||
		!vcpu_msr_read(first, MSR_TSC, &s->tsc))
		return error_errno(err, errno ?: EIO, "KVM cannot tell the guest's clock");
	s->kvmclock = clock.clock;
	return 0;
}

/* What the clocks show at one moment: that in the middle of the shortest of some attempts. */
static int sample(const struct vcpu *first, struct clock_state *s, struct error *err)
{
	uint64_t best = UINT64_MAX;

	for (unsigned i = 0; i < SAMPLE_TRIES && best > SAMPLE_GOOD_NS; i++) {
		struct clock_state now = *s;
		uint64_t before = wall_clock(), after;
		int ret = sample_once(first, &now, err);

		if (ret < 0)
			return ret;
		after = wall_clock();
		if (after < before || after - before >= best)
			continue; /* the clock was set, or it was no better */
		best = after - before;
		now.realtime = before + best / 2;
		*s = now;
	}
	return 0;
}

int clock_frequency(const struct vcpu *vcpu, uint32_t *khz, struct error *err)
{
	int ret = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	if (ret <= 0)
		return error_errno(err, ret ? errno : EIO, "KVM cannot tell the TSC's frequency");
	*khz = (uint32_t)ret;
	return 0;
}

int clock_save(struct vcpu_group *vcpus, struct state_writer *out, struct error *err)
{
	struct clock_state state = {.vcpus = vcpus->count};
	uint64_t first, other;
	int ret = clock_frequency(vcpus->vcpus[0], &state.tsc_khz, err);

	if (ret == 0)
		ret = sample(vcpus->vcpus[0], &state, err);
	if (ret < 0)
		return ret;
	if (get_offset(vcpus->vcpus[0], &first))
		for (unsigned i = 1; i < vcpus->count; i++)
			if (get_offset(vcpus->vcpus[i], &other))
				state.ahead[i] = other - first;
	state_save(out, &clock_state_table, "", &state);
	return 0;
}

/* ---- in ---- */

static uint64_t ticks(uint64_t ns, uint32_t khz)
{
	return (uint64_t)((unsigned __int128)ns * khz / 1000000);
}

/* A guest of another frequency: KVM scales its TSC where the processor can. */
int clock_set_frequency(const struct vcpu *vcpu, uint32_t khz, struct error *err)
{
	uint32_t now = khz;
	int ret = clock_frequency(vcpu, &now, err);
	uint64_t apart = now > khz ? now - khz : khz - now;

	if (ret < 0 || !apart)
		return ret;
	if (kvm_check(vcpu->vm->kvm_fd, KVM_CAP_TSC_CONTROL) <= 0 &&
		apart * 1000000 > (uint64_t)now * TSC_TOLERANCE)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest's TSC runs at %" PRIu32 " kHz, this host's at %" PRIu32
			", and its processor cannot scale it",
			khz, now);
	if (ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (unsigned long)khz) < 0)
		return error_errno(err, errno,
			"KVM cannot run the TSC of vCPU %u at %" PRIu32 " kHz", vcpu->index, khz);
	return 0;
}

/* `base`: vCPU 0's offset, or where there are none to be seen its value at `now`. */
static int set_tsc(const struct vcpu *vcpu, const struct clock_state *state,
	const struct clock_state *now, uint64_t base, bool offsets, struct error *err)
{
	uint64_t ahead = vcpu->index < state->vcpus ? state->ahead[vcpu->index] : 0;
	uint64_t later = passed_since(now->realtime);

	if (offsets ? set_offset(vcpu, base + ahead)
		    : vcpu_msr_write(vcpu, MSR_TSC, base + ticks(later, state->tsc_khz)))
		return 0;
	return error_errno(err, errno ?: EIO, "KVM cannot set the TSC of vCPU %u", vcpu->index);
}

/* A KVM in software takes an offset and shows the guest the host's TSC all the same. */
static void check_tsc(const struct vcpu *first, const struct clock_state *then, uint64_t wanted)
{
	uint64_t tsc, later, off;

	if (!vcpu_msr_read(first, MSR_TSC, &tsc))
		return;
	later = passed_since(then->realtime);
	off = tsc - (wanted + ticks(later, then->tsc_khz));
	if (off + ticks(RIGHT_NS, then->tsc_khz) > 2 * ticks(RIGHT_NS, then->tsc_khz))
		log_warn("this host's KVM does not set a guest's TSC: it has jumped; "
			 "a guest that keeps time by kvmclock is right all the same");
}

static int set_tscs(struct vcpu_group *vcpus, const struct clock_state *state,
	const struct clock_state *now, struct error *err)
{
	uint64_t passed = now->realtime > state->realtime ? now->realtime - state->realtime : 0;
	uint64_t wanted = state->tsc + ticks(passed, state->tsc_khz), offset = 0;
	bool offsets = get_offset(vcpus->vcpus[0], &offset);
	uint64_t base = offsets ? offset + (wanted - now->tsc) : wanted;
	int ret = 0;

	for (unsigned i = 0; i < vcpus->count && ret == 0; i++)
		ret = set_tsc(vcpus->vcpus[i], state, now, base, offsets, err);
	if (ret == 0)
		check_tsc(vcpus->vcpus[0], now, wanted);
	return ret;
}

static int set_kvmclock(struct vm *vm, const struct clock_state *state, struct error *err)
{
	struct kvm_clock_data clock = {.clock = state->kvmclock};
	int knows = kvm_check(vm->kvm_fd, KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_REALTIME;

	if (knows) {
		clock.flags = KVM_CLOCK_REALTIME;
		clock.realtime = state->realtime;
	} else {
		clock.clock += passed_since(state->realtime);
	}
	if (ioctl(vm->fd, KVM_SET_CLOCK, &clock) < 0)
		return error_errno(err, errno, "KVM cannot set the guest's clock");
	return 0;
}

int clock_load(struct vcpu_group *vcpus, struct state_reader *in, struct error *err)
{
	struct clock_state state = {0}, now;
	int ret = state_load(in, &clock_state_table, "", &state, err);

	now = state; /* its frequency */
	for (unsigned i = 0; i < vcpus->count && ret == 0; i++)
		ret = clock_set_frequency(vcpus->vcpus[i], state.tsc_khz, err);
	if (ret == 0)
		ret = sample(vcpus->vcpus[0], &now, err);
	if (ret == 0)
		ret = set_tscs(vcpus, &state, &now, err);
	return ret == 0 ? set_kvmclock(vcpus->vm, &state, err) : ret;
}
