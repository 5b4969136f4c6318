/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of vCPUs, interrupt controllers and clocks through this machine's own KVM: what was saved of one VM and loaded into
 * another is saved of that again, and must be the same. Nothing of it runs; the state is made up.
 */
#include "tests/unit/kvm_guest.h"
#include "tests/unit/runner.h"
#include "tests/unit/state_random.h"
#include "vmm/arch/x86_64/vcpu_state.h"
#include "vmm/base/util.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

static int kvm_fd = -1;
static struct guest_memory memory;
static struct error err;
static uint64_t seed = 88172645463325252;

#define DO(call)    ck_assert_msg((call) >= 0, #call ": %s", err.text)
#define IOCTL(call) ck_assert_msg((call) >= 0, #call ": %s", strerror(errno))

static uint64_t any(void)
{
	return random_next(&seed);
}

static void setup(void)
{
	memory = kvm_guest_memory();
}

static void teardown(void)
{
	guest_memory_destroy(&memory);
}

static void make(struct kvm_guest *g, unsigned cpus)
{
	kvm_guest_make(g, kvm_fd, &memory, cpus, NULL, NULL);
}

/* ---- making up ---- */

static void set_msr(struct vcpu *vcpu, uint32_t index, uint64_t value)
{
	ck_assert_msg(
		vcpu_msr_write(vcpu, index, value), "MSR 0x%x of vCPU %u", index, vcpu->index);
}

static void disturb_registers(struct vcpu *vcpu)
{
	struct kvm_regs regs;
	struct kvm_debugregs debug = {.dr6 = 0xffff0ff0, .dr7 = 0x400};

	for (unsigned i = 0; i < sizeof(regs) / 8; i++)
		((uint64_t *)&regs)[i] = any();
	regs.rip &= 0x7fffffffffff;
	regs.rflags = 2 | (any() & 0xcd5);
	IOCTL(ioctl(vcpu->fd, KVM_SET_REGS, &regs));
	for (unsigned i = 0; i < 4; i++)
		debug.db[i] = any() & 0x7fffffffffff;
	IOCTL(ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &debug));
}

/* 64-bit mode with paging, of a guest that runs user code. */
static void disturb_mode(struct vcpu *vcpu)
{
	struct kvm_sregs sregs;
	struct kvm_segment code = {.base = 0,
		.limit = 0xffffffff,
		.selector = 0x10,
		.type = 11,
		.present = 1,
		.s = 1,
		.l = 1,
		.g = 1};
	struct kvm_segment data = {.limit = 0xffffffff,
		.selector = 0x18,
		.type = 3,
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1};

	IOCTL(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs));
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.fs.base = any() & 0x7fffffffffff;
	sregs.gs.base = any() & 0x7fffffffffff;
	sregs.gdt = (struct kvm_dtable){.base = any() & 0x7fffffffffff, .limit = 0x7f};
	sregs.idt = (struct kvm_dtable){.base = any() & 0x7fffffffffff, .limit = 0xfff};
	sregs.cr2 = any();
	sregs.cr3 = any() & 0x1ff000;
	sregs.cr4 = 0x620;
	sregs.cr0 = 0x80050033;
	sregs.efer = 0xd01;
	IOCTL(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs));
}

static void disturb_vectors(struct vcpu *vcpu)
{
	struct kvm_xsave xsave;
	uint8_t *bytes = (uint8_t *)&xsave;

	IOCTL(ioctl(vcpu->fd, KVM_GET_XSAVE, &xsave));
	for (unsigned i = 32; i < 160; i++)
		if (i % 16 < 10)
			bytes[i] = (uint8_t)any();
	for (unsigned i = 160; i < 416; i++)
		bytes[i] = (uint8_t)any();
	bytes[512] |= 3; /* x87 and SSE are in it */
	IOCTL(ioctl(vcpu->fd, KVM_SET_XSAVE, &xsave));
}

static void disturb_msrs(struct vcpu *vcpu)
{
	static const uint32_t addresses[] = {0x175, 0x176, 0xc0000082, 0xc0000083, 0xc0000102};

	for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++)
		set_msr(vcpu, addresses[i], any() & 0x7fffffffffff);
	set_msr(vcpu, 0x174, any() & 0xffff);
	set_msr(vcpu, 0xc0000081, any());
	set_msr(vcpu, 0x277, 0x0007040600070401);
	set_msr(vcpu, 0x200, 0x80000000 | 6);
	set_msr(vcpu, 0x201, 0xf80000000 | 0x800);
	set_msr(vcpu, 0x4b564d01, (0x10000 + vcpu->index * 64) | 1); /* its clock page */
}

/* Interrupts that wait and one that is in service; the timer is in TSC-deadline mode. */
static void disturb_apic(struct vcpu *vcpu)
{
	struct kvm_lapic_state lapic;
	uint32_t on = 0x1ff, timer = 0x400ef, waiting = 0x80010000, serviced = 0x2;

	IOCTL(ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic));
	memcpy(lapic.regs + 0xf0, &on, 4);
	memcpy(lapic.regs + 0x320, &timer, 4);
	memcpy(lapic.regs + 0x220, &waiting, 4);
	memcpy(lapic.regs + 0x130, &serviced, 4);
	IOCTL(ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic));
	set_msr(vcpu, MSR_TSC_DEADLINE, UINT64_MAX / 2 + any() % 1000);
}

static void disturb_events(struct vcpu *vcpu)
{
	static const uint32_t states[] = {
		KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_HALTED, KVM_MP_STATE_UNINITIALIZED};
	struct kvm_mp_state mp = {.mp_state = states[vcpu->index % 3]};
	struct kvm_vcpu_events events;

	IOCTL(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events));
	if (vcpu->index % 3 == 0) {
		events.interrupt.injected = 1;
		events.interrupt.nr = 0x51;
		events.nmi.pending = 1;
		events.nmi.masked = 1;
	}
	IOCTL(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events));
	IOCTL(ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp));
	vcpu_set_out(vcpu, vcpu->index % 5 == 4);
}

static void disturb_chips(struct kvm_guest *g)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};

	IOCTL(ioctl(g->vm.fd, KVM_GET_IRQCHIP, &chip));
	for (unsigned pin = 0; pin < VM_IOAPIC_PINS; pin++)
		chip.chip.ioapic.redirtbl[pin].bits = 0x10030 + pin; /* masked */
	chip.chip.ioapic.ioregsel = 0x17;
	chip.chip.ioapic.irr = 1u << 4 | 1u << 9; /* edges that wait for their pins to be opened */
	IOCTL(ioctl(g->vm.fd, KVM_SET_IRQCHIP, &chip));
	chip = (struct kvm_irqchip){.chip_id = KVM_IRQCHIP_PIC_MASTER};
	IOCTL(ioctl(g->vm.fd, KVM_GET_IRQCHIP, &chip));
	chip.chip.pic.imr = 0xff;
	IOCTL(ioctl(g->vm.fd, KVM_SET_IRQCHIP, &chip));
}

static void disturb(struct kvm_guest *g)
{
	disturb_chips(g);
	for (unsigned i = 0; i < g->vcpus.count; i++) {
		struct vcpu *vcpu = g->vcpus.vcpus[i];

		disturb_mode(vcpu);
		disturb_registers(vcpu);
		disturb_vectors(vcpu);
		disturb_msrs(vcpu);
		disturb_apic(vcpu);
		disturb_events(vcpu);
	}
}

/* ---- saving and loading ---- */

/* Where two sections differ, for the one who must mend it. */
static void check_section(const struct state_section *a, const struct state_section *b)
{
	uint32_t at = 0;

	ck_assert_uint_eq(a->size, b->size);
	while (at < a->size && a->body[at] == b->body[at])
		at++;
	ck_assert_msg(at == a->size, "%s '%s' differs at byte %u of %u, behind \"%.40s\"", a->name,
		a->instance, at, a->size, (const char *)a->body + (at > 40 ? at - 40 : 0));
}

/* All but the clock, which has moved on. */
static void check_equal(const struct state_writer *a, const struct state_writer *b)
{
	struct state_reader first, second;

	DO(state_open(&first, a->bytes, a->size, &err));
	DO(state_open(&second, b->bytes, b->size, &err));
	ck_assert_uint_eq(first.count, second.count);
	for (unsigned i = 0; i < first.count; i++) {
		ck_assert_str_eq(first.sections[i].name, second.sections[i].name);
		if (strcmp(first.sections[i].name, "clock") != 0)
			check_section(&first.sections[i], &second.sections[i]);
	}
	state_close(&first);
	state_close(&second);
}

static void survives(unsigned cpus)
{
	struct kvm_guest from, to;
	struct state_writer first, second;

	make(&from, cpus);
	disturb(&from);
	first = kvm_guest_save(&from);
	kvm_guest_end(&from);
	make(&to, cpus);
	kvm_guest_load(&to, &first);
	second = kvm_guest_save(&to);
	check_equal(&first, &second);
	for (unsigned i = 0; i < cpus; i++)
		ck_assert_uint_eq(atomic_load(&to.vcpus.vcpus[i]->out), i % 5 == 4);
	kvm_guest_end(&to);
	state_release(&first);
	state_release(&second);
}

START_TEST(a_vcpu_is_the_same_after_a_save_and_a_load)
{
	for (unsigned i = 0; i < 20; i++)
		survives(3);
}
END_TEST

START_TEST(sixty_four_vcpus_are)
{
	survives(VCPUS_MAX);
}
END_TEST

/* ---- clocks ---- */

struct clocks {
	uint64_t before, after; /* the host's wall clock */
	uint64_t kvmclock, tsc;
};

static uint64_t wall_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static struct clocks look(struct kvm_guest *g, unsigned cpu)
{
	struct clocks c;
	struct kvm_clock_data clock = {0};

	c.before = wall_clock();
	IOCTL(ioctl(g->vm.fd, KVM_GET_CLOCK, &clock));
	ck_assert(vcpu_msr_read(g->vcpus.vcpus[cpu], MSR_TSC, &c.tsc));
	c.after = wall_clock();
	c.kvmclock = clock.clock;
	return c;
}

#define RIGHT_NS 10000000 /* what we promise */

static void check_passed(
	uint64_t ns, const struct clocks *then, const struct clocks *now, const char *what)
{
	uint64_t least = now->before - then->after, most = now->after - then->before;

	ck_assert_msg(ns + RIGHT_NS >= least && ns <= most + RIGHT_NS,
		"%s moved on by %llu ns, and the host's wall clock by %llu to %llu", what,
		(unsigned long long)ns, (unsigned long long)least, (unsigned long long)most);
}

START_TEST(the_clocks_have_moved_on_by_as_much_as_the_hosts)
{
	const struct timespec nap = {.tv_nsec = 300000000};
	struct kvm_guest from, to;
	struct state_writer saved;
	struct clocks then, now;
	uint64_t khz;

	make(&from, 3);
	for (unsigned i = 0; i < 3; i++) /* a guest that was up for a while */
		set_msr(from.vcpus.vcpus[i], MSR_TSC, 1ull << 50);
	then = look(&from, 0);
	saved = kvm_guest_save(&from);
	khz = (uint64_t)ioctl(from.vcpus.vcpus[0]->fd, KVM_GET_TSC_KHZ, 0);
	kvm_guest_end(&from);
	nanosleep(&nap, NULL);
	make(&to, 3);
	kvm_guest_load(&to, &saved);
	for (unsigned i = 0; i < 3; i++) {
		now = look(&to, i);
		check_passed(now.kvmclock - then.kvmclock, &then, &now, "kvmclock");
		check_passed((now.tsc - then.tsc) * 1000000 / khz, &then, &now, "the TSC");
	}
	kvm_guest_end(&to);
	state_release(&saved);
}
END_TEST

static bool offset_of(const struct vcpu *vcpu, uint64_t *offset)
{
	struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uint64_t)(uintptr_t)offset};

	return ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr) == 0;
}

START_TEST(the_vcpus_clocks_are_as_far_apart_as_they_were)
{
	uint64_t ahead[4] = {0}, offset, first;
	struct state_writer saved;
	struct kvm_guest from, to;

	make(&from, 4);
	set_msr(from.vcpus.vcpus[2], MSR_TSC, 1ull << 55); /* the guest set one of them */
	ck_assert(vcpu_msr_read(from.vcpus.vcpus[2], MSR_TSC, &offset));
	if (offset < 1ull << 55 || !offset_of(from.vcpus.vcpus[0], &first)) {
		puts("skip the_vcpus_clocks_are_as_far_apart_as_they_were # this KVM does not set TSCs");
		kvm_guest_end(&from);
		return;
	}
	for (unsigned i = 0; i < 4; i++) {
		ck_assert(offset_of(from.vcpus.vcpus[i], &offset));
		ahead[i] = offset - first;
	}
	ck_assert_uint_ne(ahead[2], 0);
	saved = kvm_guest_save(&from);
	kvm_guest_end(&from);
	make(&to, 4);
	kvm_guest_load(&to, &saved);
	ck_assert(offset_of(to.vcpus.vcpus[0], &first));
	for (unsigned i = 0; i < 4; i++) {
		ck_assert(offset_of(to.vcpus.vcpus[i], &offset));
		ck_assert_uint_eq(offset - first, ahead[i]);
	}
	kvm_guest_end(&to);
	state_release(&saved);
}
END_TEST

START_TEST(another_frequency_of_the_tsc_is_scaled_or_refused)
{
	struct kvm_guest g;
	struct vcpu *vcpu;
	uint32_t khz = 0, now = 0;

	make(&g, 1);
	vcpu = g.vcpus.vcpus[0];
	DO(clock_frequency(vcpu, &khz, &err));
	DO(clock_set_frequency(vcpu, khz, &err));
	if (kvm_check(kvm_fd, KVM_CAP_TSC_CONTROL) > 0) {
		DO(clock_set_frequency(vcpu, khz / 2, &err));
		DO(clock_frequency(vcpu, &now, &err));
		ck_assert_uint_eq(now, khz / 2);
	} else {
		ck_assert_int_lt(clock_set_frequency(vcpu, khz / 2, &err), 0);
		ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
		ck_assert_ptr_nonnull(strstr(err.text, "cannot scale it"));
		ck_assert_int_lt(clock_set_frequency(vcpu, khz + khz / 1000, &err), 0);
	}
	kvm_guest_end(&g);
}
END_TEST

/* ---- what another host cannot take ---- */

static struct vcpu_state *state_of(const struct state_writer *saved)
{
	struct vcpu_state *state = calloc(1, sizeof(*state));
	struct state_reader in;

	DO(state_open(&in, saved->bytes, saved->size, &err));
	DO(state_load(&in, &vcpu_state_table, "0", state, &err));
	state_close(&in);
	return state;
}

static int load_vcpu(struct kvm_guest *g, const struct vcpu_state *state)
{
	struct state_writer out;
	struct state_reader in;
	int ret;

	state_begin(&out);
	state_save(&out, &vcpu_state_table, "0", state);
	DO(state_finish(&out, &err));
	DO(state_open(&in, out.bytes, out.size, &err));
	ret = arch_vcpu_load(g->vcpus.vcpus[0], &in, &err);
	state_close(&in);
	state_release(&out);
	return ret;
}

static void put_msr(struct vcpu_state *state, uint32_t index, uint64_t value)
{
	uint32_t i = 0;

	while (i < state->msr_count && state->msrs[i].index != index)
		i++;
	if (i == state->msr_count)
		state->msr_count++;
	state->msrs[i] = (struct kvm_msr_entry){.index = index, .data = value};
}

static void refused(struct kvm_guest *g, struct vcpu_state *state, const char *words)
{
	ck_assert_int_lt(load_vcpu(g, state), 0);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	ck_assert_msg(strstr(err.text, words), "'%s' is not in: %s", words, err.text);
}

START_TEST(a_register_that_this_kvm_does_not_take_is_named)
{
	struct kvm_guest g;
	struct state_writer saved;
	struct vcpu_state *state, *good;

	make(&g, 1);
	saved = kvm_guest_save(&g);
	good = state_of(&saved);
	state = malloc(sizeof(*state));

	*state = *good;
	put_msr(state, 0x123456, 0); /* nothing was in it */
	ck_assert_msg(load_vcpu(&g, state) == 0, "%s", err.text);
	put_msr(state, 0x123456, 5);
	refused(&g, state, "MSR 0x123456, 0x5");

	*state = *good;
	put_msr(state, 0x10a, UINT64_MAX);
	refused(&g, state, "immune");

	*state = *good;
	state->sregs.cr4 = UINT64_MAX;
	refused(&g, state, "special registers of vCPU 0");

	*state = *good;
	state->xsave_size = VCPU_XSAVE_ROOM;
	state->xsave[VCPU_XSAVE_ROOM - 1] = 1;
	refused(&g, state, "vector registers of vCPU 0");

	ck_assert_msg(load_vcpu(&g, good) == 0, "%s", err.text);
	free(state);
	free(good);
	state_release(&saved);
	kvm_guest_end(&g);
}
END_TEST

/* ---- the CPU model ---- */

static struct state_writer save_model(struct kvm_guest *g)
{
	struct state_writer out;

	state_begin(&out);
	DO(arch_cpu_model_save(g->model, g->vcpus.vcpus[0], &out, &err));
	DO(state_finish(&out, &err));
	return out;
}

/* All that a vCPU says of itself. */
static void get_cpuid(struct vcpu *vcpu, struct kvm_cpuid2 *cpuid)
{
	cpuid->nent = 256;
	IOCTL(ioctl(vcpu->fd, KVM_GET_CPUID2, cpuid));
}

START_TEST(a_guest_goes_on_with_the_cpuid_that_it_has_seen)
{
	const size_t size = sizeof(struct kvm_cpuid2) + 256 * sizeof(struct kvm_cpuid_entry2);
	struct kvm_cpuid2 *first = calloc(1, size), *second = calloc(1, size);
	struct arch_cpu_model *model;
	struct state_writer saved, again;
	struct state_reader in;
	struct kvm_guest g;

	make(&g, 2);
	get_cpuid(g.vcpus.vcpus[1], first);
	saved = save_model(&g);
	DO(state_open(&in, saved.bytes, saved.size, &err));
	ck_assert_int_lt(arch_cpu_model_load(kvm_fd, 3, &in, &model, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "2 vCPUs at most"));
	DO(arch_cpu_model_load(kvm_fd, 2, &in, &model, &err));
	state_close(&in);
	kvm_guest_end(&g);
	kvm_guest_make_with(&g, kvm_fd, &memory, 2, NULL, NULL, model);
	get_cpuid(g.vcpus.vcpus[1], second);
	ck_assert_uint_eq(first->nent, second->nent);
	ck_assert_mem_eq(first->entries, second->entries, first->nent * sizeof(first->entries[0]));
	again = save_model(&g);
	ck_assert_uint_eq(saved.size, again.size);
	ck_assert_mem_eq(saved.bytes, again.bytes, saved.size);
	kvm_guest_end(&g);
	state_release(&saved);
	state_release(&again);
	free(first);
	free(second);
}
END_TEST

START_TEST(a_damaged_cpu_model_is_refused_or_is_one)
{
	struct arch_cpu_model *model;
	struct kvm_guest g;
	unsigned refused = 0;

	make(&g, 1);
	for (unsigned i = 0; i < 1000; i++) {
		struct state_writer saved = save_model(&g);
		struct state_reader in;
		bool opened;

		state_damage(&saved, &seed);
		opened = state_open(&in, saved.bytes, saved.size, &err) == 0;
		if (opened && arch_cpu_model_load(kvm_fd, 1, &in, &model, &err) == 0) {
			arch_cpu_model_destroy(model);
		} else {
			refused++;
			ck_assert_msg(err.kind == ERROR_CORRUPT || err.kind == ERROR_INCOMPATIBLE,
				"%s", err.text);
		}
		if (opened)
			state_close(&in);
		state_release(&saved);
	}
	ck_assert_uint_gt(refused, 500);
	kvm_guest_end(&g);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("vcpu_state");

	kvm_fd = kvm_guest_open();
	if (kvm_fd < 0)
		return 77;
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 50);
	tcase_add_test(tc, a_vcpu_is_the_same_after_a_save_and_a_load);
	tcase_add_test(tc, sixty_four_vcpus_are);
	tcase_add_test(tc, the_clocks_have_moved_on_by_as_much_as_the_hosts);
	tcase_add_test(tc, the_vcpus_clocks_are_as_far_apart_as_they_were);
	tcase_add_test(tc, another_frequency_of_the_tsc_is_scaled_or_refused);
	tcase_add_test(tc, a_register_that_this_kvm_does_not_take_is_named);
	tcase_add_test(tc, a_guest_goes_on_with_the_cpuid_that_it_has_seen);
	tcase_add_test(tc, a_damaged_cpu_model_is_refused_or_is_one);
	return run_tests("vcpu_state", tc, NULL);
}
