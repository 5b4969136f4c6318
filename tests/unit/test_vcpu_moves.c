/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that runs is saved at any moment, mostly in the middle of an access to a port or a register, and goes on in another VM:
 * each access happens once, and its value arrives.
 *
 * The guest adds up what it reads: from a port, from a register in memory, and four at once with a string instruction. Each
 * read is answered by the next number, so the sum says whether any was lost, done twice or given to the wrong one.
 */
#include "tests/unit/kvm_guest.h"
#include "tests/unit/runner.h"
#include "tests/unit/state_random.h"
#include "vmm/arch/x86_64/vcpu_state.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <string.h>

#define ROUNDS	    8000
#define MOVES	    60
#define READS	    6 /* a round */
#define ENTRY	    0x1000
#define PORT_NUMBER 0x10
#define PORT_SUM    0x20
#define MMIO_NUMBER 0xd0000000

/* 32-bit code without paging; EBX is the sum, ESI counts rounds. */
static const uint8_t code[] = {
	0xbf, 0x00, 0x20, 0x00, 0x00,			    /* mov edi, 0x2000 */
	0x66, 0xba, PORT_NUMBER, 0x00,			    /* next: mov dx, PORT_NUMBER */
	0xed,						    /* in eax, dx */
	0x01, 0xc3,					    /* add ebx, eax */
	0xa1, 0x00, 0x00, 0x00, 0xd0,			    /* mov eax, [MMIO_NUMBER] */
	0x01, 0xc3,					    /* add ebx, eax */
	0xb9, 0x04, 0x00, 0x00, 0x00,			    /* mov ecx, 4 */
	0xf3, 0x6d,					    /* rep insd */
	0x83, 0xef, 0x10,				    /* sub edi, 16 */
	0x03, 0x1f,					    /* add ebx, [edi] */
	0x03, 0x5f, 0x04,				    /* add ebx, [edi + 4] */
	0x03, 0x5f, 0x08,				    /* add ebx, [edi + 8] */
	0x03, 0x5f, 0x0c,				    /* add ebx, [edi + 12] */
	0x46,						    /* inc esi */
	0x81, 0xfe, ROUNDS & 0xff, ROUNDS >> 8, 0x00, 0x00, /* cmp esi, ROUNDS */
	0x72, 0xd4,					    /* jb next */
	0x89, 0xd8,					    /* mov eax, ebx */
	0x66, 0xba, PORT_SUM, 0x00,			    /* mov dx, PORT_SUM */
	0xef,						    /* out dx, eax */
	0xeb, 0xfe,					    /* jmp self */
};

static struct error err;
static uint32_t next_number; /* the vCPU's thread only, of which there is one at a time */
static _Atomic uint32_t sum;
static _Atomic bool done;

#define DO(call) ck_assert_msg((call) >= 0, #call ": %s", err.text)

static void answer(uint8_t *data, unsigned len)
{
	BUG_ON(len != 4);
	memcpy(data, &next_number, 4);
	next_number++;
}

static void port_read(void *owner, uint16_t port, uint8_t *data, unsigned len)
{
	(void)owner;
	BUG_ON(port != PORT_NUMBER);
	answer(data, len);
}

static void mmio_read(void *owner, uint64_t gpa, uint8_t *data, unsigned len)
{
	(void)owner;
	BUG_ON(gpa != MMIO_NUMBER);
	answer(data, len);
}

static void port_write(void *owner, uint16_t port, const uint8_t *data, unsigned len)
{
	uint32_t value;

	(void)owner;
	BUG_ON(port != PORT_SUM || len != 4);
	memcpy(&value, data, 4);
	atomic_store(&sum, value);
	atomic_store(&done, true);
}

static void mmio_write(void *owner, uint64_t gpa, const uint8_t *data, unsigned len)
{
	(void)owner, (void)gpa, (void)data, (void)len;
	abort();
}

static void stopped(void *owner, struct vcpu *vcpu, enum vcpu_stop why, uint64_t detail)
{
	(void)owner;
	fprintf(stderr, "vCPU %u stopped: %d, %llu\n", vcpu->index, (int)why,
		(unsigned long long)detail);
	abort();
}

static const struct vcpu_ops ops = {.port_read = port_read,
	.port_write = port_write,
	.mmio_read = mmio_read,
	.mmio_write = mmio_write,
	.stopped = stopped};

/* Into another VM over the same memory, after a while in which there is none. */
static void move(
	struct kvm_guest *g, int kvm_fd, const struct guest_memory *memory, useconds_t while_us)
{
	struct state_writer saved = kvm_guest_save(g);

	kvm_guest_end(g);
	usleep(while_us);
	kvm_guest_make(g, kvm_fd, memory, 1, &ops, NULL);
	kvm_guest_load(g, &saved);
	DO(vcpus_start(&g->vcpus, &err));
	state_release(&saved);
}

START_TEST(no_access_of_a_guest_that_moves_is_lost_or_done_twice)
{
	const struct arch_boot_entry entry = {.entry = ENTRY, .protocol = ARCH_BOOT_PVH};
	struct guest_memory memory = kvm_guest_memory();
	int kvm_fd = kvm_guest_open();
	uint64_t seed = 88172645463325252;
	struct kvm_guest g;
	unsigned moves = 0;

	ck_assert(guest_memory_write(&memory, ENTRY, code, sizeof(code)));
	kvm_guest_make(&g, kvm_fd, &memory, 1, &ops, NULL);
	DO(arch_vcpu_set_entry(g.vcpus.vcpus[0], &entry, &err));
	DO(vcpus_start(&g.vcpus, &err));
	while (!atomic_load(&done)) {
		vcpus_resume(&g.vcpus);
		usleep((useconds_t)(random_next(&seed) % 4000));
		vcpus_pause(&g.vcpus);
		if (moves == MOVES)
			continue; /* on a slow host it would take for ever */
		move(&g, kvm_fd, &memory, 0);
		moves++;
	}
	kvm_guest_end(&g);
	guest_memory_destroy(&memory);
	close(kvm_fd);
	ck_assert_uint_eq(next_number, ROUNDS * READS);
	ck_assert_uint_eq(
		atomic_load(&sum), (uint32_t)((uint64_t)ROUNDS * READS * (ROUNDS * READS - 1) / 2));
	ck_assert_uint_gt(moves, 1);
}
END_TEST

/* ---- the clock as the guest computes it ---- */

#define CLOCK_PAGE    0x3000
#define LOOP	      0x1800
#define MSR_CLOCK     0x4b564d01
#define RIGHT_NS      10000000 /* what we promise */
#define GUEST_STOPPED 2

/* Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW */
struct clock_page {
	uint32_t version, padding;
	uint64_t tsc, time;
	uint32_t multiplier;
	int8_t shift;
	uint8_t flags, reserved[2];
};

/* What KVM tells a guest that has just been let run: complete where the version is even. */
static struct clock_page fresh_clock(struct kvm_guest *g, const struct guest_memory *memory)
{
	struct clock_page page = {0};

	ck_assert(guest_memory_write(memory, CLOCK_PAGE, &page, sizeof(page)));
	while (!page.version || page.version % 2) {
		vcpus_resume(&g->vcpus);
		usleep(1000);
		vcpus_pause(&g->vcpus);
		ck_assert(guest_memory_read(memory, CLOCK_PAGE, &page, sizeof(page)));
	}
	return page;
}

static uint64_t wall_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* When the guest's clock was 0, by the host's wall clock: the one number that must not change. */
static uint64_t clock_began(struct kvm_guest *g, const struct clock_page *page)
{
	uint64_t best = UINT64_MAX, began = 0;

	for (unsigned i = 0; i < 32; i++) {
		uint64_t before = wall_clock(), tsc, after, since;

		ck_assert(vcpu_msr_read(g->vcpus.vcpus[0], MSR_TSC, &tsc));
		after = wall_clock();
		if (after - before >= best)
			continue;
		best = after - before;
		since = tsc - page->tsc;
		since = page->shift < 0 ? since >> -page->shift : since << page->shift;
		began = before + best / 2 - page->time -
			(uint64_t)((unsigned __int128)since * page->multiplier >> 32);
	}
	return began;
}

START_TEST(the_time_that_a_guest_computes_is_right_and_it_is_told_that_it_stood_still)
{
	static const uint8_t loop[] = {0xeb, 0xfe}; /* jmp self */
	const struct arch_boot_entry entry = {.entry = LOOP, .protocol = ARCH_BOOT_PVH};
	struct guest_memory memory = kvm_guest_memory();
	int kvm_fd = kvm_guest_open();
	struct clock_page page;
	struct kvm_guest g;
	uint64_t began, now;

	ck_assert(guest_memory_write(&memory, LOOP, loop, sizeof(loop)));
	kvm_guest_make(&g, kvm_fd, &memory, 1, &ops, NULL);
	DO(arch_vcpu_set_entry(g.vcpus.vcpus[0], &entry, &err));
	ck_assert(vcpu_msr_write(g.vcpus.vcpus[0], MSR_CLOCK, CLOCK_PAGE | 1));
	DO(vcpus_start(&g.vcpus, &err));
	page = fresh_clock(&g, &memory);
	ck_assert_uint_eq(page.flags & GUEST_STOPPED, 0);
	began = clock_began(&g, &page);
	for (unsigned i = 0; i < 3; i++) {
		move(&g, kvm_fd, &memory, 200000);
		page = fresh_clock(&g, &memory);
		ck_assert_uint_eq(page.flags & GUEST_STOPPED, GUEST_STOPPED);
		now = clock_began(&g, &page);
		ck_assert_msg(now + RIGHT_NS > began && now < began + RIGHT_NS,
			"the guest's clock is off by %lld ns", (long long)(began - now));
	}
	kvm_guest_end(&g);
	guest_memory_destroy(&memory);
	close(kvm_fd);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("vcpu_moves");
	int kvm_fd = kvm_guest_open();

	if (kvm_fd < 0)
		return 77;
	close(kvm_fd);
	tcase_set_timeout(tc, 50);
	tcase_add_test(tc, no_access_of_a_guest_that_moves_is_lost_or_done_twice);
	tcase_add_test(
		tc, the_time_that_a_guest_computes_is_right_and_it_is_told_that_it_stood_still);
	return run_tests("vcpu_moves", tc, NULL);
}
