/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's state: from KVM into a file, and from a file into a vCPU of a new VM (KVM API §4; the order is ours).
 *
 * The vCPU is parked, its last exit complete (vmm/kvm/vcpu.c): what is asked of it is the state between two instructions.
 *
 * Out: the MP state is asked first, since KVM takes a pending INIT or SIPI then, and the events next, which puts what a
 * pending exception carries into CR2 or DR6.
 *
 * In: the special registers say how the local APIC is addressed, so they come before it, and the TSC-deadline register means something
 * only once the APIC's timer is in that mode (and the TSC is right: clock_state.c came before). Events and MP state are
 * last: what was set before must not make KVM think of the vCPU as one that runs.
 *
 * A vCPU that a load failed on is of no use any more: its VM has not run, and ends.
 */
#include "vmm/arch/x86_64/vcpu_state.h"

#include "vmm/arch/arch.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define XSAVE_LEGACY_SIZE 4096 /* of KVM_GET_XSAVE, whatever is in it */

static int cannot_tell(const struct vcpu *vcpu, const char *what, struct error *err)
{
	return error_errno(err, errno, "KVM cannot tell the %s of vCPU %u", what, vcpu->index);
}

static int cannot_take(const struct vcpu *vcpu, const char *what, struct error *err)
{
	if (errno == EINVAL)
		return error_set(err, ERROR_INCOMPATIBLE,
			"this host's KVM does not take the saved %s of vCPU %u", what, vcpu->index);
	return error_errno(err, errno, "KVM cannot set the %s of vCPU %u", what, vcpu->index);
}

/* What both calls have in common, with the words for each. */
#define GET(request, arg, what)                                                                    \
	(ioctl(vcpu->fd, request, arg) < 0 ? cannot_tell(vcpu, what, err) : 0)
#define SET(request, arg, what)                                                                    \
	(ioctl(vcpu->fd, request, arg) < 0 ? cannot_take(vcpu, what, err) : 0)

/* ---- special registers ---- */

/* What both forms have, under the same names. */
#define COMMON_SREGS(from)                                                                         \
	.cs = (from)->cs, .ds = (from)->ds, .es = (from)->es, .fs = (from)->fs, .gs = (from)->gs,  \
	.ss = (from)->ss, .tr = (from)->tr, .ldt = (from)->ldt, .gdt = (from)->gdt,                \
	.idt = (from)->idt, .cr0 = (from)->cr0, .cr2 = (from)->cr2, .cr3 = (from)->cr3,            \
	.cr4 = (from)->cr4, .cr8 = (from)->cr8, .efer = (from)->efer,                              \
	.apic_base = (from)->apic_base

/* A KVM without the second form says nothing of the page directory pointers: it reads them from memory itself. */
static void from_first_form(struct kvm_sregs2 *to, const struct kvm_sregs *from)
{
	*to = (struct kvm_sregs2){COMMON_SREGS(from)};
}

/* The interrupt bitmap is the events' "injected" in another form. */
static void to_first_form(struct kvm_sregs *to, const struct kvm_sregs2 *from)
{
	*to = (struct kvm_sregs){COMMON_SREGS(from)};
}

static int get_sregs(struct vcpu *vcpu, struct kvm_sregs2 *sregs, struct error *err)
{
	struct kvm_sregs first;

	if (kvm_check(vcpu->vm->kvm_fd, KVM_CAP_SREGS2) > 0)
		return GET(KVM_GET_SREGS2, sregs, "special registers");
	if (ioctl(vcpu->fd, KVM_GET_SREGS, &first) < 0)
		return cannot_tell(vcpu, "special registers", err);
	from_first_form(sregs, &first);
	return 0;
}

static int set_sregs(struct vcpu *vcpu, const struct kvm_sregs2 *sregs, struct error *err)
{
	struct kvm_sregs first;

	if (kvm_check(vcpu->vm->kvm_fd, KVM_CAP_SREGS2) > 0)
		return SET(KVM_SET_SREGS2, sregs, "special registers");
	to_first_form(&first, sregs);
	return SET(KVM_SET_SREGS, &first, "special registers");
}

/* ---- floating-point and vector registers ---- */

/* How many bytes this VM's KVM gives and takes; 0: more than there is room for. */
static uint32_t xsave_size(const struct vcpu *vcpu, bool *second)
{
	int size = ioctl(vcpu->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	*second = size > 0;
	if (size < XSAVE_LEGACY_SIZE)
		size = XSAVE_LEGACY_SIZE;
	return size > VCPU_XSAVE_ROOM ? 0 : (uint32_t)size;
}

static int get_xsave(struct vcpu *vcpu, struct vcpu_state *s, struct error *err)
{
	struct kvm_xcrs xcrs = {0};
	bool second;

	s->xsave_size = xsave_size(vcpu, &second);
	if (!s->xsave_size)
		return error_set(err, ERROR_INCOMPATIBLE,
			"this host's KVM keeps more vector registers than a state has room for");
	if (ioctl(vcpu->fd, second ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, s->xsave) < 0)
		return cannot_tell(vcpu, "vector registers", err);
	if (kvm_check(vcpu->vm->kvm_fd, KVM_CAP_XCRS) > 0 &&
		ioctl(vcpu->fd, KVM_GET_XCRS, &xcrs) < 0)
		return cannot_tell(vcpu, "extended control register", err);
	for (uint32_t i = 0; i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
		if (xcrs.xcrs[i].xcr == 0)
			s->xcr0 = xcrs.xcrs[i].value;
	return 0;
}

/* KVM reads as much as it would give: what is beyond that must be nothing. */
static bool fits(const struct vcpu_state *s, uint32_t size)
{
	for (uint32_t i = size; i < s->xsave_size; i++)
		if (s->xsave[i])
			return false;
	return size;
}

static int set_xsave(struct vcpu *vcpu, const struct vcpu_state *s, struct error *err)
{
	const struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = s->xcr0};
	bool second;

	if (!fits(s, xsave_size(vcpu, &second))) {
		errno = EINVAL;
		return cannot_take(vcpu, "vector registers", err);
	}
	if (s->xcr0 && ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs) < 0)
		return cannot_take(vcpu, "extended control register", err);
	return SET(KVM_SET_XSAVE, s->xsave, "vector registers");
}

/* ---- all of it ---- */

static int get(struct vcpu *vcpu, struct vcpu_state *s, struct error *err)
{
	struct kvm_mp_state mp;
	int ret = GET(KVM_GET_MP_STATE, &mp, "run state");

	if (ret == 0) {
		s->mp_state = mp.mp_state;
		s->out = atomic_load(&vcpu->out);
		ret = GET(KVM_GET_VCPU_EVENTS, &s->events, "pending events");
	}
	if (ret == 0)
		ret = GET(KVM_GET_REGS, &s->regs, "registers");
	if (ret == 0)
		ret = get_sregs(vcpu, &s->sregs, err);
	if (ret == 0)
		ret = get_xsave(vcpu, s, err);
	if (ret == 0)
		ret = GET(KVM_GET_DEBUGREGS, &s->debug, "debug registers");
	if (ret == 0)
		ret = GET(KVM_GET_LAPIC, s->lapic, "local APIC");
	return ret == 0 ? vcpu_msrs_get(vcpu, s, err) : ret;
}

static int set(struct vcpu *vcpu, const struct vcpu_state *s, struct error *err)
{
	const struct kvm_mp_state mp = {.mp_state = s->mp_state};
	int ret = set_sregs(vcpu, &s->sregs, err);

	if (ret == 0)
		ret = SET(KVM_SET_REGS, &s->regs, "registers");
	if (ret == 0)
		ret = set_xsave(vcpu, s, err);
	if (ret == 0)
		ret = SET(KVM_SET_DEBUGREGS, &s->debug, "debug registers");
	if (ret == 0)
		ret = vcpu_msrs_set(vcpu, s, false, err);
	if (ret == 0)
		ret = SET(KVM_SET_LAPIC, s->lapic, "local APIC");
	if (ret == 0)
		ret = vcpu_msrs_set(vcpu, s, true, err);
	if (ret == 0)
		ret = SET(KVM_SET_VCPU_EVENTS, &s->events, "pending events");
	return ret == 0 ? SET(KVM_SET_MP_STATE, &mp, "run state") : ret;
}

static const char *instance_of(unsigned index, char name[static 12])
{
	snprintf(name, 12, "%u", index);
	return name;
}

int arch_vcpu_save(struct vcpu *vcpu, struct state_writer *out, struct error *err)
{
	_cleanup_free_ struct vcpu_state *state = calloc(1, sizeof(*state));
	char name[12];
	int ret;

	if (!state)
		return error_errno(err, ENOMEM, "cannot save vCPU %u", vcpu->index);
	ret = get(vcpu, state, err);
	if (ret == 0)
		state_save(out, &vcpu_state_table, instance_of(vcpu->index, name), state);
	return ret;
}

/*
 * The guest's watchdogs must not count the time in between as a hang (KVM API §4.70). A guest that does not use KVM's clock
 * cannot be told so.
 */
static void tell_of_stop(struct vcpu *vcpu)
{
	if (ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0) < 0)
		log_debug("vCPU %u cannot be told that it stood still (errno %d)", vcpu->index,
			errno);
}

int arch_vcpu_load(struct vcpu *vcpu, struct state_reader *in, struct error *err)
{
	_cleanup_free_ struct vcpu_state *state = calloc(1, sizeof(*state));
	char name[12];
	int ret;

	if (!state)
		return error_errno(err, ENOMEM, "cannot restore vCPU %u", vcpu->index);
	ret = state_load(in, &vcpu_state_table, instance_of(vcpu->index, name), state, err);
	if (ret == 0)
		ret = set(vcpu, state, err);
	if (ret < 0)
		return ret;
	tell_of_stop(vcpu);
	vcpu_set_out(vcpu, state->out);
	return 0;
}
