/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The common configuration structure (virtio 1.2 §4.1.4.3): feature words, status and the registers of
 * the selected queue, as the device shared by all transports keeps them (virtio/device.h).
 */
#include "virtio/pci_private.h"

#include <linux/virtio_pci.h>

static struct device_queue *selected_queue(struct virtio_pci *vp)
{
	return vp->queue_select < vp->device->queue_count ? &vp->device->queues[vp->queue_select]
							  : NULL;
}

static uint64_t queue_field_read(const struct device_queue *dq, uint64_t offset)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return dq->registers.size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return dq->vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return dq->enabled;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return dq->index;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		return (uint32_t)dq->registers.desc;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return dq->registers.desc >> 32;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		return (uint32_t)dq->registers.driver;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return dq->registers.driver >> 32;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		return (uint32_t)dq->registers.device;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return dq->registers.device >> 32;
	default:
		return 0;
	}
}

uint64_t virtio_pci_common_read(struct virtio_pci *vp, uint64_t offset)
{
	struct virtio_device *dev = vp->device;
	struct device_queue *dq = selected_queue(vp);

	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return vp->device_feature_select;
	case VIRTIO_PCI_COMMON_DF:
		return vp->device_feature_select < 2
			       ? (uint32_t)(dev->features >> 32 * vp->device_feature_select)
			       : 0;
	case VIRTIO_PCI_COMMON_GFSELECT:
		return vp->driver_feature_select;
	case VIRTIO_PCI_COMMON_GF:
		return vp->driver_feature_select < 2
			       ? (uint32_t)(dev->driver_features >> 32 * vp->driver_feature_select)
			       : 0;
	case VIRTIO_PCI_COMMON_MSIX:
		return atomic_load(&vp->config_vector);
	case VIRTIO_PCI_COMMON_NUMQ:
		return dev->queue_count;
	case VIRTIO_PCI_COMMON_STATUS:
		return atomic_load(&dev->status);
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return atomic_load(&dev->config_generation);
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return vp->queue_select;
	default:
		return dq ? queue_field_read(dq, offset) : 0; /* size 0: no such queue */
	}
}

/* A vector the device does not have reads back as NO_VECTOR (§4.1.5.1.2.2). */
static uint16_t checked_vector(const struct virtio_pci *vp, uint64_t value)
{
	return value < vp->msix.count ? (uint16_t)value : MSIX_NO_VECTOR;
}

static void set_low(uint64_t *field, uint64_t value)
{
	*field = (*field & 0xffffffff00000000) | (uint32_t)value;
}

static void set_high(uint64_t *field, uint64_t value)
{
	*field = (uint32_t)*field | value << 32;
}

static void queue_field_write(
	struct virtio_pci *vp, struct device_queue *dq, uint64_t offset, uint64_t value)
{
	struct virtqueue_registers *r = &dq->registers;

	/* §4.1.4.3: an enabled queue's registers are not the driver's to change until a reset. */
	if (!virtio_device_configurable(vp->device) || dq->enabled)
		return;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		r->size = (uint16_t)value;
		break;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		dq->vector = checked_vector(vp, value);
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		dq->enabled = value == 1;
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		set_low(&r->desc, value);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_high(&r->desc, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		set_low(&r->driver, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_high(&r->driver, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		set_low(&r->device, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_high(&r->device, value);
		break;
	default:
		break;
	}
}

void virtio_pci_common_write(struct virtio_pci *vp, uint64_t offset, uint64_t value)
{
	struct virtio_device *dev = vp->device;
	struct device_queue *dq = selected_queue(vp);

	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		vp->device_feature_select = (uint32_t)value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		vp->driver_feature_select = (uint32_t)value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		virtio_device_set_driver_features(dev, vp->driver_feature_select, (uint32_t)value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		if (virtio_device_configurable(dev))
			atomic_store(&vp->config_vector, checked_vector(vp, value));
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		virtio_device_set_status(dev, (uint8_t)value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		vp->queue_select = (uint16_t)value;
		break;
	default:
		if (dq)
			queue_field_write(vp, dq, offset, value);
		break;
	}
}
