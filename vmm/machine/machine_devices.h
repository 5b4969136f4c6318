/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI side of a machine: the host bridge in slot 0 and the virtio devices in the slots after it,
 * disks first, so that disk N of the configuration is the guest's Nth. What is plugged in later takes the first free slot.
 *
 * vCPU threads look into the table: it changes only while none of them runs.
 */
#pragma once

#include "virtio/pci.h"
#include "vmm/arch/arch.h"
#include "vmm/machine/config.h"
#include "vmm/state/state.h"

struct machine_devices {
	struct pci_host host;
	struct pci_function bridge;
	unsigned count;
	struct virtio_pci *virtio[MACHINE_DEVICES_MAX];
	struct machine_config *config;
	const struct guest_memory *memory;
	struct loop *loop;
	bool made;	    /* the machine is there: the main thread may not be kept */
	unsigned resetting; /* devices whose reset is under way */
	void (*reset_done)(void *owner);
	void *owner;
	unsigned quiescing; /* devices that do not stand still yet */
	void (*quiesce_done)(void *owner);
	void *quiesce_owner;
	unsigned flushing;	    /* disks whose flush is under way */
	struct error flush_failure; /* the first */
	bool flush_failed;
	void (*flush_done)(void *owner, const struct error *err);
	void *flush_owner;
};

/* Opens every back end and plugs every device; nothing stays behind on failure. */
int machine_devices_create(struct machine_devices *devices, struct machine_config *config,
	const struct arch_address_map *map, const struct guest_memory *memory, struct loop *loop,
	struct error *err);
void machine_devices_destroy(struct machine_devices *devices);

/* The machine has another number of vCPUs: see virtio_device.vcpus. */
void machine_devices_set_vcpus(struct machine_devices *devices, unsigned vcpus);
/* Open what is behind a device and make it, in no slot yet. virtio_pci_destroy() ends it. An automatic cache mode becomes what it is. */
int machine_devices_make_disk(struct machine_devices *devices, struct disk_options *disk,
	struct virtio_pci **out, struct error *err);
int machine_devices_make_net(struct machine_devices *devices, const struct net_options *net,
	struct virtio_pci **out, struct error *err);

/* Put one in `slot` (-1: the first that is free). It is the caller's still on failure. */
int machine_devices_plug(
	struct machine_devices *devices, struct virtio_pci *vp, int slot, struct error *err);
/* Take one out. It was reset, nothing of it is in flight. */
void machine_devices_unplug(struct machine_devices *devices, struct virtio_pci *vp);

/* By its id and virtio type; NULL: there is none. */
struct virtio_pci *machine_devices_find(
	const struct machine_devices *devices, uint16_t type, const char *id);

/* Connect all to a VM / disconnect all (they are reset by then). */
void machine_devices_set_vm(struct machine_devices *devices, struct vm *vm);

/*
 * Whether a driver has set one of them going since the VM was connected: the guest has come so far. A
 * machine without devices cannot tell and says yes. Any thread, while a VM is connected.
 */
bool machine_devices_were_driven(const struct machine_devices *devices);

/* Reset all; `done` is called on the main loop when nothing is in flight any more. */
void machine_devices_reset(struct machine_devices *devices, void (*done)(void *owner), void *owner);

/*
 * Make all stand still, and call `done` on the main loop when they do, perhaps at once; let them go on (before `done` was called: it
 * never will be). See virtio_device_quiesce(). One that is plugged in meanwhile is not driven, as no vCPU runs.
 */
void machine_devices_quiesce(
	struct machine_devices *devices, void (*done)(void *owner), void *owner);
void machine_devices_unquiesce(struct machine_devices *devices);

/*
 * Make what the disks have completed stable, all at once, and call `done` on the main loop when they are, perhaps at once: with NULL, or with the
 * first failure. One such call at a time. Quiet or not: quiet disks have nothing else.
 */
void machine_devices_flush(struct machine_devices *devices,
	void (*done)(void *owner, const struct error *err), void *owner);

/* ---- state (devices_state.c) ---- */

/* Which devices a state has: the list at its front, by which a machine is made that can take it. */
struct machine_device_state {
	uint16_t type; /* virtio's: 1 net, 2 blk, 19 vsock */
	uint8_t slot;
	char id[SCHEMA_ID_SIZE];
};

struct machine_devices_state {
	uint32_t count;
	struct machine_device_state devices[MACHINE_DEVICES_MAX];
};

extern const struct state_table machine_devices_list_table;

int machine_devices_read(
	struct state_reader *in, struct machine_devices_state *list, struct error *err);

/* Before machine_create(): the configuration's devices go where the state has them. Refuses where the two are not the same devices. */
int machine_devices_place(
	struct machine_config *config, const struct machine_devices_state *list, struct error *err);

/*
 * Save all, which are quiet, with the bus they are on; load them into a machine that was made as above and is connected to its VM, before
 * the state of the vCPUs. They are quiet then, and go on with machine_devices_unquiesce(). On failure none has changed.
 */
void machine_devices_save(struct machine_devices *devices, struct state_writer *out);
int machine_devices_load(
	struct machine_devices *devices, struct state_reader *in, struct error *err);
