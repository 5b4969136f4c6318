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
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <string.h>

#define ROUNDS	    8000
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

/* Into another VM over the same memory. */
static void move(struct kvm_guest *g, int kvm_fd, const struct guest_memory *memory)
{
	struct state_writer saved = kvm_guest_save(g);

	kvm_guest_end(g);
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
		move(&g, kvm_fd, &memory);
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

int main(void)
{
	TCase *tc = tcase_create("vcpu_moves");
	int kvm_fd = kvm_guest_open();

	if (kvm_fd < 0)
		return 77;
	close(kvm_fd);
	tcase_set_timeout(tc, 50);
	tcase_add_test(tc, no_access_of_a_guest_that_moves_is_lost_or_done_twice);
	return run_tests("vcpu_moves", tc, NULL);
}
