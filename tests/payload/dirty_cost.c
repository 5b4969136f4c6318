/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What dirty tracking costs, by KVM's bitmap and by its rings:  payload_dirty_cost bitmap|ring PAGES ROUNDS
 * OPTIONS-OF-RUN, of which kernel, memory and cmdline count.
 *
 * A guest with one vCPU writes PAGES pages once (a fault each, where they are protected) and once more.
 * Prints "BENCH name COUNT NANOSECONDS" lines: what the guest's writes took, by its own clock, and what the calls took that
 * begin and end tracking, protect all memory, fetch what is dirty, and protect it again. Of several rounds, the fastest.
 * The VM is made here of the monitor's parts, since rings must be asked for before there is a vCPU.
 */
#include "guest/payloads/dirty.h"
#include "tests/payload/dirty_ring.h"
#include "vmm/arch/arch.h"
#include "vmm/base/util.h"
#include "vmm/kvm/dirty_log.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/config.h"
#include "vmm/memory/pages.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define PAGE	     ((uint64_t)GUEST_PAGE_SIZE)
#define MAILBOX	     MIB(30)
#define FIRST	     MIB(32)
#define RING_ENTRIES 65536u

static struct vm vm;
static struct guest_memory memory;
static struct vcpu_group vcpus;
static struct dirty_ring ring;
static struct page_set dirty, harvested;
static volatile struct dirty_mailbox *mailbox;
static struct error err;
static bool by_ring;

static void must(int ret)
{
	if (ret >= 0)
		return;
	fprintf(stderr, "%s\n", err.text);
	_exit(err.kind == ERROR_INCOMPATIBLE ? 77 : 1);
}

/* ---- the guest's vCPU: nothing answers it but RAM ---- */

static void read_nothing(uint8_t *data, unsigned len)
{
	memset(data, 0xff, len);
}

static void mmio_read(void *owner, uint64_t gpa, uint8_t *data, unsigned len)
{
	(void)owner;
	(void)gpa;
	read_nothing(data, len);
}

static void mmio_write(void *owner, uint64_t gpa, const uint8_t *data, unsigned len)
{
	(void)owner;
	(void)gpa;
	(void)data;
	(void)len;
}

static void port_read(void *owner, uint16_t port, uint8_t *data, unsigned len)
{
	(void)owner;
	(void)port;
	read_nothing(data, len);
}

static void port_write(void *owner, uint16_t port, const uint8_t *data, unsigned len)
{
	(void)owner;
	(void)port;
	(void)data;
	(void)len;
}

static const struct vcpu_ops ops = {.mmio_read = mmio_read,
	.mmio_write = mmio_write,
	.port_read = port_read,
	.port_write = port_write};

/* KVM_RUN by hand: a full ring is emptied on the vCPU's own thread. */
static void *run_vcpu(void *arg)
{
	struct vcpu *vcpu = arg;

	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0 && errno != EINTR && errno != EAGAIN)
			must(error_errno(&err, errno, "KVM_RUN"));
		switch (vcpu->run->exit_reason) {
		case KVM_EXIT_DIRTY_RING_FULL:
			dirty_ring_harvest(&ring, &memory, &harvested);
			must(dirty_ring_reset(&vm, &err));
			break;
		case KVM_EXIT_IO:
			if (vcpu->run->io.direction == KVM_EXIT_IO_IN)
				read_nothing((uint8_t *)vcpu->run + vcpu->run->io.data_offset,
					vcpu->run->io.size * vcpu->run->io.count);
			break;
		case KVM_EXIT_MMIO:
			if (!vcpu->run->mmio.is_write)
				read_nothing(vcpu->run->mmio.data, vcpu->run->mmio.len);
			break;
		default:
			fprintf(stderr, "the guest stopped: KVM exit %u\n", vcpu->run->exit_reason);
			_exit(1);
		}
	}
	return NULL;
}

static void make_vm(const struct machine_config *config)
{
	struct guest_memory_config layout = {.pages = MEMORY_PAGES_THP, .prealloc = true};
	struct arch_boot_config boot = {.kernel = config->kernel,
		.cmdline = config->cmdline,
		.cpus = 1,
		.cpus_max = 1,
		.fresh = true};
	struct arch_cpu_model *model;
	struct arch_boot_entry entry;
	pthread_t thread;
	int kvm;

	must(kvm_open(&kvm, &err));
	must(arch_cpu_model_create(kvm, "host", 1, &model, &err));
	must(arch_memory_layout(config->memory, config->memory, &layout, &err));
	must(guest_memory_create(&layout, &memory, &err));
	must(vm_create(&vm, kvm, &err));
	if (by_ring)
		must(dirty_ring_enable(&vm, RING_ENTRIES, &err));
	must(arch_vm_init(&vm, &err));
	must(vm_map_memory(&vm, &memory, &err));
	vcpu_group_init(&vcpus, &vm);
	must(vcpu_add(&vcpus, &ops, NULL, &err));
	must(arch_vcpu_init(vcpus.vcpus[0], model, &err));
	must(arch_boot_load(&boot, &memory, &entry, &err));
	must(arch_vcpu_set_entry(vcpus.vcpus[0], &entry, &err));
	if (by_ring)
		must(dirty_ring_map(&ring, vcpus.vcpus[0]->fd, RING_ENTRIES, &err));
	must(page_set_create(&dirty, guest_memory_pages(&memory), &err));
	must(page_set_create(&harvested, guest_memory_pages(&memory), &err));
	mailbox = (volatile void *)guest_memory_view(&memory, MAILBOX, PAGE);
	pthread_create(&thread, NULL, run_vcpu, vcpus.vcpus[0]);
}

static uint64_t guest_writes(uint64_t pages)
{
	uint64_t number = mailbox->number + 1;

	mailbox->order = DIRTY_WRITE;
	mailbox->args[0] = FIRST;
	mailbox->args[1] = pages;
	mailbox->args[2] = PAGE;
	__atomic_store_n(&mailbox->number, number, __ATOMIC_RELEASE);
	while (__atomic_load_n(&mailbox->done, __ATOMIC_ACQUIRE) != number)
		;
	return mailbox->ns;
}

/* ---- one round ---- */

enum cost { UNTRACKED, START, ARM, FIRST_WRITE, REWRITE, FETCH, REARM, FETCH_NOTHING, STOP, COSTS };

static const char *const names[COSTS] = {
	"dirty_untracked_write",
	"dirty_start",
	"dirty_protect_all",
	"dirty_first_write",
	"dirty_rewrite",
	"dirty_fetch",
	"dirty_protect_again",
	"dirty_fetch_nothing",
	"dirty_stop",
};

static void start(uint64_t costs[COSTS])
{
	uint64_t began = now_ns();

	if (by_ring) {
		must(vm_log_writes(&vm, &memory, true, &err));
		costs[START] = now_ns() - began;
		costs[ARM] = 0; /* it is one with starting */
		return;
	}
	must(dirty_log_start(&vm, &memory, false, &err));
	costs[START] = now_ns() - began;
	began = now_ns();
	must(dirty_log_look(&vm, &memory, &dirty, &err));
	must(dirty_log_rearm(&vm, &memory, &dirty, 0, dirty.count, &err));
	costs[ARM] = now_ns() - began;
}

/* Fetch what is dirty, protect it again; how many pages that were. */
static uint64_t collect(uint64_t *fetch, uint64_t *rearm)
{
	uint64_t began = now_ns();

	if (by_ring) {
		page_set_copy(&dirty, &harvested);
		page_set_clear(&harvested);
		dirty_ring_harvest(&ring, &memory, &dirty);
	} else {
		must(dirty_log_look(&vm, &memory, &dirty, &err));
	}
	*fetch = now_ns() - began;
	began = now_ns();
	if (by_ring)
		must(dirty_ring_reset(&vm, &err));
	else
		must(dirty_log_rearm(&vm, &memory, &dirty, 0, dirty.count, &err));
	*rearm = now_ns() - began;
	return page_set_size_of(&dirty, FIRST / PAGE, dirty.count - FIRST / PAGE);
}

static void round_of(uint64_t pages, uint64_t costs[COSTS])
{
	uint64_t began, ignored;

	guest_writes(pages);
	costs[UNTRACKED] = guest_writes(pages);
	start(costs);
	costs[FIRST_WRITE] = guest_writes(pages);
	costs[REWRITE] = guest_writes(pages);
	if (collect(&costs[FETCH], &costs[REARM]) != pages)
		must(error_set(&err, ERROR_INTERNAL, "other pages are dirty than were written"));
	if (collect(&costs[FETCH_NOTHING], &ignored))
		must(error_set(&err, ERROR_INTERNAL, "pages are dirty that were not written"));
	guest_writes(1);
	began = now_ns();
	if (by_ring)
		must(vm_log_writes(&vm, &memory, false, &err));
	else
		dirty_log_stop(&vm, &memory);
	costs[STOP] = now_ns() - began;
	if (by_ring)
		collect(&ignored, &ignored);
}

int main(int argc, char **argv)
{
	uint64_t best[COSTS], costs[COSTS], pages, rounds;
	struct machine_config config;
	bool help;

	if (argc < 5) {
		printf("usage: payload_dirty_cost bitmap|ring PAGES ROUNDS OPTION...\n");
		return 2;
	}
	by_ring = !strcmp(argv[1], "ring");
	pages = strtoull(argv[2], NULL, 10);
	rounds = strtoull(argv[3], NULL, 10);
	must(machine_config_from_args(&config, argc - 4, argv + 4, &help, &err));
	make_vm(&config);
	memset(best, 0xff, sizeof(best));
	while (rounds--) {
		round_of(pages, costs);
		for (unsigned i = 0; i < COSTS; i++)
			best[i] = min_u64(best[i], costs[i]);
	}
	for (unsigned i = 0; i < COSTS; i++)
		printf("BENCH %s %" PRIu64 " %" PRIu64 "\n", names[i],
			i == UNTRACKED || i == FIRST_WRITE || i == REWRITE || i == REARM ? pages
											 : 1,
			best[i]);
	fflush(stdout);
	_exit(0);
}
