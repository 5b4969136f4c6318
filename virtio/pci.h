/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-pci transport, version 1 only (virtio 1.2 §4.1): one virtio device behind one PCI
 * function, MSI-X, kicks by ioeventfd.
 */
#pragma once

#include "devices/pci.h"
#include "virtio/device.h"

struct virtio_pci;

/* Wrap `dev` in a PCI function; `dev` is owned on success only. */
int virtio_pci_create(struct virtio_device *dev, struct virtio_pci **out, struct error *err);

/* Destroys the device too. Not while plugged. */
void virtio_pci_destroy(struct virtio_pci *vp);

struct pci_function *virtio_pci_function(struct virtio_pci *vp);
struct virtio_device *virtio_pci_device(struct virtio_pci *vp);

/* Whether a driver has set the device going since the VM was connected; a reset of it changes nothing. Any thread. */
bool virtio_pci_was_driven(const struct virtio_pci *vp);

/* Call `fn` on the main loop each time a driver sets the device going. NULL: no more. Main thread. */
void virtio_pci_on_driven(struct virtio_pci *vp, void (*fn)(void *owner), void *owner);

/*
 * Save the function and its device, which is quiet; load them into those of a machine whose driver has not come yet, connected to its
 * VM. The device is quiet then, and goes on, activated or not as it was, with virtio_device_unquiesce(): after the vCPUs' state
 * was loaded, which holds the interrupts of before. On failure nothing has changed. Main thread, no vCPU running.
 */
void virtio_pci_save(struct virtio_pci *vp, struct state_writer *out);
int virtio_pci_load(struct virtio_pci *vp, struct state_reader *in, struct error *err);

/* The same in two steps, for those who load several or none: nothing of `vp` changes before the second, which cannot fail. */
struct virtio_pci_state;
int virtio_pci_read(struct virtio_pci *vp, struct state_reader *in, struct virtio_pci_state **out,
	struct error *err);
void virtio_pci_take(struct virtio_pci *vp, struct virtio_pci_state *state); /* frees it */

/* Connect interrupts and kicks to a VM; NULL disconnects (device reset first). */
void virtio_pci_set_vm(struct virtio_pci *vp, struct vm *vm);
