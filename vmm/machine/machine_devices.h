/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI side of a machine: the host bridge in slot 0 and the virtio devices in the slots after it,
 * disks first, so that disk N of the configuration is the guest's Nth.
 */
#pragma once

#include "virtio/pci.h"
#include "vmm/arch/arch.h"
#include "vmm/machine/config.h"

struct machine_devices {
	struct pci_host host;
	struct pci_function bridge;
	unsigned count;
	struct virtio_pci *virtio[MACHINE_DEVICES_MAX];
	unsigned resetting; /* devices whose reset is under way */
	void (*reset_done)(void *owner);
	void *owner;
};

/* Opens every back end and plugs every device; nothing stays behind on failure. */
int machine_devices_create(struct machine_devices *devices, struct machine_config *config,
	const struct arch_address_map *map, const struct guest_memory *memory, struct loop *loop,
	struct error *err);
void machine_devices_destroy(struct machine_devices *devices);

/* The machine has another number of vCPUs: see virtio_device.vcpus. */
void machine_devices_set_vcpus(struct machine_devices *devices, unsigned vcpus);

/* Connect all to a VM / disconnect all (they are reset by then). */
void machine_devices_set_vm(struct machine_devices *devices, struct vm *vm);

/*
 * Whether a driver has set one of them going since the VM was connected: the guest has come so far. A
 * machine without devices cannot tell and says yes. Any thread, while a VM is connected.
 */
bool machine_devices_were_driven(const struct machine_devices *devices);

/* Reset all; `done` is called on the main loop when nothing is in flight any more. */
void machine_devices_reset(struct machine_devices *devices, void (*done)(void *owner), void *owner);
