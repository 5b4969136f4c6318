/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an architecture is to the machine: an address map, a CPU model, a way to load a kernel and to
 * put the first instruction in front of a vCPU. One folder beside this file implements it; nothing
 * above this floor knows a register, a port of the platform or a firmware table.
 */
#pragma once

#include "devices/bus.h"
#include "devices/hotplug_slots.h"
#include "devices/pci.h"
#include "devices/serial.h"
#include "vmm/base/error.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/state/state.h"

#include <stdint.h>

/* "x86_64", as uname -m has it. */
extern const char arch_name[];

/* Where the platform's devices sit. Constants of the architecture, filled in by arch_address_map(). */
struct arch_address_map {
	uint64_t pci_window_base, pci_window_size; /* 32-bit BARs */
	uint64_t ecam_base;			   /* 1 MiB: bus 0 */
	uint64_t vmgenid_gpa;			   /* 16 bytes of reserved RAM */
	unsigned serial_gsi, event_gsi; /* interrupt pins: first UART, event device (GED) */
};

void arch_address_map(struct arch_address_map *map);

/*
 * Split `size` bytes of RAM around the holes, and find an area where it can grow to `max`. Refuses what the address map cannot
 * hold, and steps of growth that a guest could not take.
 */
int arch_memory_layout(
	uint64_t size, uint64_t max, struct guest_memory_config *layout, struct error *err);

/* A CPU model made for one machine: the CPUID leaves (ID registers) every vCPU gets, but for its own ids. */
struct arch_cpu_model;

/* `name`: "host", "x86-64-v2", "x86-64-v3", "x86-64-v4". Refuses, naming the features, what this host lacks. */
int arch_cpu_model_create(int kvm_fd, const char *name, unsigned cpus, struct arch_cpu_model **out,
	struct error *err);
void arch_cpu_model_destroy(struct arch_cpu_model *model);

/*
 * The model that a guest began with, and goes on with on another host (vmm/state/state.h). `vcpu` is any of the guest's, for its clock's
 * frequency; `cpus` as for arch_cpu_model_create(). Load refuses, in words, what this host cannot give; nothing needs to be made before.
 */
int arch_cpu_model_save(const struct arch_cpu_model *model, const struct vcpu *vcpu,
	struct state_writer *out, struct error *err);
int arch_cpu_model_load(int kvm_fd, unsigned cpus, struct state_reader *in,
	struct arch_cpu_model **out, struct error *err);

/* After vm_create(), before any vCPU: interrupt controllers, clocks, platform pages. */
int arch_vm_init(struct vm *vm, struct error *err);

/* After KVM_CREATE_VCPU: CPUID, MSRs, LAPIC. Every vCPU. */
int arch_vcpu_init(struct vcpu *vcpu, const struct arch_cpu_model *model, struct error *err);

/* After that, of a vCPU that comes to a running guest: interrupts of the others must find it. */
int arch_vcpu_announce(struct vcpu *vcpu, struct error *err);

/*
 * The state of a VM (vmm/state/state.h). Main thread, while no vCPU runs and no device raises an interrupt.
 *
 *   save   arch_vm_save(), arch_vcpu_save() of each, arch_platform_save()
 *   load   into a new VM with as many vCPUs, initialised and without an entry: arch_vm_load(), then
 *          arch_vcpu_load() of each, then arch_platform_load(). Guest memory must be there: KVM writes some of it.
 *
 * Between save and load the guest's clocks have moved on by what the host's wall clock has. A VM in which a load failed must end.
 */
int arch_vm_save(struct vcpu_group *vcpus, struct state_writer *out, struct error *err);
int arch_vm_load(struct vcpu_group *vcpus, struct state_reader *in, struct error *err);
int arch_vcpu_save(struct vcpu *vcpu, struct state_writer *out, struct error *err);
int arch_vcpu_load(struct vcpu *vcpu, struct state_reader *in, struct error *err);

/* What to boot. Strings are not kept. */
struct arch_boot_config {
	const char *kernel;  /* path */
	const char *initrd;  /* path or NULL */
	const char *cmdline; /* complete */
	unsigned cpus, cpus_max;
	bool plugs_cpus; /* the guest is told how they come and go */
	bool fresh;	 /* RAM was never written (no reset): what must be zero is zero already */
};

/* Where the boot vCPU starts, and in which way. */
struct arch_boot_entry {
	uint64_t entry;
	uint64_t info; /* GPA of hvm_start_info or of the zero page */
	enum { ARCH_BOOT_PVH, ARCH_BOOT_LINUX64 } protocol;
};

/* Load kernel, initrd, command line, memory map and firmware tables into RAM. May be called again (machine reset). */
int arch_boot_load(const struct arch_boot_config *config, const struct guest_memory *memory,
	struct arch_boot_entry *entry, struct error *err);

/* Point the boot vCPU at the entry. The other vCPUs wait for INIT/SIPI by themselves. */
int arch_vcpu_set_entry(struct vcpu *vcpu, const struct arch_boot_entry *entry, struct error *err);

/*
 * After VCPU_STOP_SHUTDOWN of `vcpu`, on its thread: whether the guest had shut its interrupt
 * controllers down first, as an orderly reboot=t does, so that the triple fault is a request to reset
 * and not a crash. A guest that has not come to starting its drivers may look the same.
 */
bool arch_shutdown_was_orderly(const struct vcpu *vcpu);

/*
 * The platform's own devices, those that are neither PCI nor virtio: serial port, power and event
 * registers, clock, generation id, and the legacy ports a guest touches. Made once a machine; their
 * interrupt pins are connected to each new VM (machine reset) and let go of before it is destroyed.
 */
struct arch_platform;

struct arch_platform_config {
	const struct guest_memory *memory;
	/* The guest asked for it. On a vCPU thread: must not wait for that vCPU to stop. */
	void (*power_off)(void *owner);
	void (*reset)(void *owner);
	/* Likewise: see arch_platform_cpus(). */
	void (*cpus_changed)(void *owner);
	void (*memory_changed)(void *owner);
	/* Of PCI slots, likewise: the guest says that it has let go of some; how it took what it was asked of one. */
	void (*slots_ejected)(void *owner, uint32_t slots);
	void (*slot_outcome)(void *owner, unsigned slot, bool up, bool ok);
	void *owner;
};

int arch_platform_create(
	const struct arch_platform_config *config, struct arch_platform **out, struct error *err);
void arch_platform_destroy(struct arch_platform *platform);

/* Put the devices, and the ways to the PCI host, on the buses, once. */
void arch_platform_add(
	struct arch_platform *platform, struct bus *ports, struct bus *mmio, struct pci_host *pci);

/* Power-on state; interrupt pins to `vm`. arch_vm_init() came before. */
int arch_platform_connect(struct arch_platform *platform, struct vm *vm, struct error *err);
void arch_platform_disconnect(struct arch_platform *platform, struct vm *vm);

/* The generation id is written to RAM after each arch_boot_load(). */
int arch_platform_place(struct arch_platform *platform, struct error *err);

/* See arch_vm_save(). The platform is connected to the VM; it is not placed, for guest memory has its id. */
int arch_platform_save(struct arch_platform *platform, struct state_writer *out, struct error *err);
int arch_platform_load(struct arch_platform *platform, struct state_reader *in, struct error *err);

/*
 * The guest has become a copy: another generation id, in guest memory when this returns, with its interrupt in the controller. For a clone
 * after arch_platform_load(), before any vCPU runs.
 */
int arch_platform_new_generation(struct arch_platform *platform, struct error *err);

struct serial *arch_platform_serial(struct arch_platform *platform);
/* Slot n is vCPU n. arch_platform_connect() forgets all: tell it then which are present. */
struct hotplug_slots *arch_platform_cpus(struct arch_platform *platform);
/* Slot n is that of the guest memory's area. */
struct hotplug_slots *arch_platform_memory(struct arch_platform *platform);
void arch_platform_press_power_button(struct arch_platform *platform);

/*
 * PCI hot-plug: ask the guest to look at a slot that was filled (`up`) or to let go of one; remind it where it has
 * not read that yet; take it back (both return whether it had not). Forgotten by arch_platform_connect().
 */
void arch_platform_ask_slot(struct arch_platform *platform, unsigned slot, bool up);
bool arch_platform_remind_slot(struct arch_platform *platform, unsigned slot);
bool arch_platform_withdraw_slot(struct arch_platform *platform, unsigned slot);
