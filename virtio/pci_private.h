/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-pci transport's insides, shared by pci.c (the function, its BAR, kicks and interrupts) and
 * pci_common.c (common configuration); nobody else includes it.
 */
#pragma once

#include "virtio/pci.h"

struct virtio_pci {
	struct pci_function function;
	struct msix msix;
	struct virtio_device *device;
	struct vm *vm;
	uint32_t device_feature_select, driver_feature_select; /* registers: under device->lock */
	uint16_t queue_select;
	_Atomic uint16_t config_vector;
	_Atomic uint8_t isr;
	_Atomic bool driven;		/* shared: since the VM was connected */
	void (*on_driven)(void *owner); /* main thread only */
	void *on_driven_owner;
	unsigned window_cap; /* offset of the §4.1.4.9 capability */

	pthread_mutex_t kick_lock; /* guards what follows */
	uint64_t bar_gpa;
	bool kicks_wanted;
	uint64_t *kick_gpa; /* where each queue's ioeventfd is registered, 0: nowhere */
};

/* ---- pci_common.c; under device->lock ---- */

uint64_t virtio_pci_common_read(struct virtio_pci *vp, uint64_t offset);
void virtio_pci_common_write(struct virtio_pci *vp, uint64_t offset, uint64_t value);
