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

/* Connect interrupts and kicks to a VM; NULL disconnects (device reset first). */
void virtio_pci_set_vm(struct virtio_pci *vp, struct vm *vm);
