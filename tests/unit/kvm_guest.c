/* SPDX-License-Identifier: Apache-2.0 */
/* A small VM for tests: see kvm_guest.h. */
#include "tests/unit/kvm_guest.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define DO(call) ck_assert_msg((call) >= 0, #call ": %s", err.text)

int kvm_guest_open(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		printf("skip: what needs /dev/kvm: %s\n", strerror(errno));
	return fd;
}

struct guest_memory kvm_guest_memory(void)
{
	const struct guest_memory_config layout = {
		.region_count = 1, .regions[0] = {.size = MIB(2)}, .pages = MEMORY_PAGES_OFF};
	struct guest_memory memory;
	struct error err;

	DO(guest_memory_create(&layout, &memory, &err));
	return memory;
}

void kvm_guest_make_with(struct kvm_guest *g, int kvm_fd, const struct guest_memory *memory,
	unsigned cpus, const struct vcpu_ops *ops, void *owner, struct arch_cpu_model *model)
{
	struct error err;

	g->model = model;
	DO(vm_create(&g->vm, kvm_fd, &err));
	DO(arch_vm_init(&g->vm, &err));
	DO(vm_map_memory(&g->vm, memory, &err));
	vcpu_group_init(&g->vcpus, &g->vm);
	for (unsigned i = 0; i < cpus; i++) {
		DO(vcpu_add(&g->vcpus, ops, owner, &err));
		DO(arch_vcpu_init(g->vcpus.vcpus[i], model, &err));
	}
}

void kvm_guest_make(struct kvm_guest *g, int kvm_fd, const struct guest_memory *memory,
	unsigned cpus, const struct vcpu_ops *ops, void *owner)
{
	struct arch_cpu_model *model;
	struct error err;

	DO(arch_cpu_model_create(kvm_fd, "host", cpus, &model, &err));
	kvm_guest_make_with(g, kvm_fd, memory, cpus, ops, owner, model);
}

void kvm_guest_end(struct kvm_guest *g)
{
	vcpus_destroy(&g->vcpus);
	vm_destroy(&g->vm);
	arch_cpu_model_destroy(g->model);
}

struct state_writer kvm_guest_save(struct kvm_guest *g)
{
	struct state_writer out;
	struct error err;

	state_begin(&out);
	DO(arch_vm_save(&g->vcpus, &out, &err));
	for (unsigned i = 0; i < g->vcpus.count; i++)
		DO(arch_vcpu_save(g->vcpus.vcpus[i], &out, &err));
	DO(state_finish(&out, &err));
	return out;
}

void kvm_guest_load(struct kvm_guest *g, const struct state_writer *saved)
{
	struct state_reader in;
	struct error err;

	DO(state_open(&in, saved->bytes, saved->size, &err));
	DO(arch_vm_load(&g->vcpus, &in, &err));
	for (unsigned i = 0; i < g->vcpus.count; i++)
		DO(arch_vcpu_load(g->vcpus.vcpus[i], &in, &err));
	DO(state_all_taken(&in, &err));
	state_close(&in);
}
