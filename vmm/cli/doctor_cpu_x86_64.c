/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM of one page: three instructions, entered in flat 32-bit protected mode (real mode would be
 * emulated by older VT-x processors, and so say nothing) at privilege level 0, no paging, no
 * interrupt controllers, so that HLT comes back to us (KVM API §5, KVM_EXIT_HLT).
 *
 *	again:	dec ecx
 *		jnz again
 *		hlt
 *
 * The count is doubled until one run takes long enough to be measured; the best rate counts, since whatever
 * disturbs a run makes it slower.
 */
#include "vmm/cli/doctor_cpu.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define PAGE	    4096
#define CODE_GPA    0x1000
#define START_COUNT 500u
#define COUNT_MAX   (1u << 30)
#define LONG_ENOUGH 2000000u /* ns; run twice, and with the doublings before it, some 8 ms in all */

static const uint8_t code[] = {0x49, 0x75, 0xfd, 0xf4};

struct probe {
	int vm, vcpu;
	uint8_t *page;
	struct kvm_run *run;
	size_t run_size;
};

static void probe_destroy(struct probe *p)
{
	if (p->run)
		munmap(p->run, p->run_size);
	if (p->page)
		munmap(p->page, PAGE);
	cleanup_close(&p->vcpu);
	cleanup_close(&p->vm);
}

static int probe_memory(struct probe *p, struct error *err)
{
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = CODE_GPA, .memory_size = PAGE};
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return error_errno(err, errno, "a page of memory");
	p->page = page;
	memcpy(p->page, code, sizeof(code));
	region.userspace_addr = (uintptr_t)p->page;
	if (ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &region))
		return error_errno(err, errno, "KVM_SET_USER_MEMORY_REGION");
	return 0;
}

/* Flat segments and CR0.PE: protected mode without paging (Intel SDM vol. 3 §3.2.1). */
static int probe_protected_mode(struct probe *p, struct error *err)
{
	struct kvm_segment flat = {.limit = 0xffffffff,
		.selector = 0x10,
		.type = 3,
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1};
	struct kvm_sregs sregs;

	if (ioctl(p->vcpu, KVM_GET_SREGS, &sregs))
		return error_errno(err, errno, "KVM_GET_SREGS");
	sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = flat;
	flat.selector = 0x08;
	flat.type = 11;
	sregs.cs = flat;
	sregs.cr0 |= 1;
	if (ioctl(p->vcpu, KVM_SET_SREGS, &sregs))
		return error_errno(err, errno, "KVM_SET_SREGS");
	return 0;
}

static int probe_create(struct probe *p, int kvm_fd, struct error *err)
{
	int size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run;
	int ret;

	p->vm = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	if (p->vm < 0)
		return error_errno(err, errno, "KVM_CREATE_VM");
	ret = probe_memory(p, err);
	if (ret)
		return ret;
	p->vcpu = ioctl(p->vm, KVM_CREATE_VCPU, 0);
	if (p->vcpu < 0)
		return error_errno(err, errno, "KVM_CREATE_VCPU");
	if (size < (int)sizeof(struct kvm_run))
		return error_set(err, ERROR_INCOMPATIBLE, "KVM_GET_VCPU_MMAP_SIZE says %d", size);
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu, 0);
	if (run == MAP_FAILED)
		return error_errno(err, errno, "the vCPU's shared page");
	p->run = run;
	p->run_size = (size_t)size;
	return probe_protected_mode(p, err);
}

/* One countdown from `count`; `ns` receives how long it took. */
static int probe_run(struct probe *p, unsigned count, uint64_t *ns, struct error *err)
{
	struct kvm_regs regs = {.rip = CODE_GPA, .rcx = count, .rflags = 2};
	uint64_t start;
	int ret;

	if (ioctl(p->vcpu, KVM_SET_REGS, &regs))
		return error_errno(err, errno, "KVM_SET_REGS");
	start = now_ns();
	do {
		ret = ioctl(p->vcpu, KVM_RUN, 0);
	} while (ret && errno == EINTR);
	*ns = now_ns() - start;
	if (ret)
		return error_errno(err, errno, "KVM_RUN");
	if (p->run->exit_reason != KVM_EXIT_HLT)
		return error_set(err, ERROR_INCOMPATIBLE, "the countdown ended with KVM exit %u",
			p->run->exit_reason);
	return 0;
}

/* The better of two countdowns: the first may pay for page faults and translations of ours or the host's. */
static int probe_measure(struct probe *p, unsigned count, uint64_t *ns, struct error *err)
{
	uint64_t first;
	int ret = probe_run(p, count, &first, err);

	if (!ret)
		ret = probe_run(p, count, ns, err);
	if (!ret)
		*ns = min_u64(first, *ns);
	return ret;
}

int doctor_cpu_speed(int kvm_fd, double *speed, struct error *err)
{
	struct probe probe = {.vm = -1, .vcpu = -1};
	uint64_t ns = 0;
	int ret = probe_create(&probe, kvm_fd, err);

	*speed = 0;
	for (unsigned count = START_COUNT;
		!ret && probe.run && ns < LONG_ENOUGH && count < COUNT_MAX; count *= 2) {
		ret = probe_measure(&probe, count, &ns, err);
		if (!ret && ns && 2.0 * count * 1e9 / (double)ns > *speed)
			*speed = 2.0 * count * 1e9 / (double)ns;
	}
	probe_destroy(&probe);
	return ret;
}
