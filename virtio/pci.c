/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-pci transport (virtio 1.2 §4.1), version 1 only.
 *
 * One 32 KiB BAR holds the structures, each in pages of its own:
 *   0x0000 common configuration   §4.1.4.3      0x3000 notifications, 4 bytes a queue  §4.1.4.4
 *   0x1000 ISR status             §4.1.4.5      0x4000 MSI-X table
 *   0x2000 device configuration   §4.1.4.6      0x5000 MSI-X pending bits
 * and five vendor capabilities in configuration space say so; the fifth (§4.1.4.9) is a window for
 * guests that cannot map the BAR. Interrupts are MSI-X only: there is no INTx pin. What the common
 * configuration's registers mean is in pci_common.c.
 *
 * Register accesses run on vCPU threads under the device's lock. Once a device is active, each
 * queue's notification address is an ioeventfd, moved along when the guest moves the BAR. `kick_lock`
 * guards that and nothing else; it is taken last.
 */
#include "virtio/pci_private.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>

#define BAR	    0
#define BAR_SIZE    0x8000
#define COMMON	    0x0000
#define ISR	    0x1000
#define DEVICE	    0x2000
#define NOTIFY	    0x3000
#define MSIX_TABLE  0x4000
#define MSIX_PBA    0x5000
#define REGION_MASK 0x7000

#define NOTIFY_MULTIPLIER 4
#define ISR_QUEUE	  1
#define ISR_CONFIG	  2

static struct virtio_pci *of_function(struct pci_function *fn)
{
	return container_of(fn, struct virtio_pci, function);
}

/* ---- kicks ---- */

/* Register, move or remove each queue's ioeventfd. Under kick_lock. */
static void update_kicks(struct virtio_pci *vp)
{
	struct virtio_device *dev = vp->device;

	for (unsigned i = 0; i < dev->queue_count; i++) {
		struct device_queue *dq = &dev->queues[i];
		bool wanted =
			vp->vm && vp->kicks_wanted && dq->enabled && vp->bar_gpa != PCI_BAR_NONE;
		uint64_t gpa = wanted ? vp->bar_gpa + NOTIFY + NOTIFY_MULTIPLIER * i : 0;
		unsigned len = vp->vm && vp->vm->fast_kicks ? 0 : 2;

		if (vp->kick_gpa[i] == gpa)
			continue;
		if (vp->kick_gpa[i])
			vm_ioeventfd_remove(vp->vm, vp->kick_gpa[i], len, dq->kick_fd);
		vp->kick_gpa[i] = 0;
		/* Where it cannot be had, kicks come as exits and work all the same. */
		if (gpa && vm_ioeventfd_add(vp->vm, gpa, len, dq->kick_fd) == 0)
			vp->kick_gpa[i] = gpa;
	}
}

static void set_kicks(struct virtio_device *dev, bool wanted)
{
	struct virtio_pci *vp = dev->transport_owner;

	pthread_mutex_lock(&vp->kick_lock);
	vp->kicks_wanted = wanted;
	update_kicks(vp);
	pthread_mutex_unlock(&vp->kick_lock);
}

static void kicks_connect(struct virtio_device *dev)
{
	struct virtio_pci *vp = dev->transport_owner;

	atomic_store(&vp->driven, true);
	set_kicks(dev, true);
	if (vp->on_driven)
		vp->on_driven(vp->on_driven_owner);
}

static void kicks_disconnect(struct virtio_device *dev)
{
	set_kicks(dev, false);
}

static void bar_moved(struct pci_function *fn, unsigned bar, uint64_t gpa)
{
	struct virtio_pci *vp = of_function(fn);

	(void)bar;
	pthread_mutex_lock(&vp->kick_lock);
	vp->bar_gpa = gpa;
	update_kicks(vp);
	pthread_mutex_unlock(&vp->kick_lock);
}

/* ---- interrupts ---- */

static void queue_interrupt(struct virtio_device *dev, uint16_t vector)
{
	struct virtio_pci *vp = dev->transport_owner;

	atomic_fetch_or_explicit(&vp->isr, ISR_QUEUE, memory_order_relaxed);
	msix_raise(&vp->msix, vector);
}

static void config_interrupt(struct virtio_device *dev)
{
	struct virtio_pci *vp = dev->transport_owner;

	atomic_fetch_or(&vp->isr, ISR_CONFIG);
	msix_raise(&vp->msix, atomic_load(&vp->config_vector));
}

static int vector_fd(struct virtio_device *dev, uint16_t vector)
{
	struct virtio_pci *vp = dev->transport_owner;

	return msix_vector_fd(&vp->msix, vector);
}

static void interrupts_deliver(struct virtio_device *dev)
{
	struct virtio_pci *vp = dev->transport_owner;

	msix_deliver(&vp->msix);
}

static const struct virtio_transport transport = {
	.queue_interrupt = queue_interrupt,
	.config_interrupt = config_interrupt,
	.vector_fd = vector_fd,
	.kicks_connect = kicks_connect,
	.kicks_disconnect = kicks_disconnect,
	.interrupts_deliver = interrupts_deliver,
};

/* ---- device configuration (§2.5): any access that lies inside it ---- */

static bool inside_config(const struct virtio_device *dev, uint64_t offset, unsigned size)
{
	return offset < dev->config_size && size <= dev->config_size - offset;
}

static uint64_t device_read(struct virtio_pci *vp, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	if (inside_config(vp->device, offset, size))
		vp->device->ops->config_read(vp->device, (uint32_t)offset, &value, size);
	return value;
}

static void device_write(struct virtio_pci *vp, uint64_t offset, unsigned size, uint64_t value)
{
	if (vp->device->ops->config_write && inside_config(vp->device, offset, size))
		vp->device->ops->config_write(vp->device, (uint32_t)offset, &value, size);
}

/* ---- the BAR ---- */

static uint64_t bar_read(struct pci_function *fn, unsigned bar, uint64_t offset, unsigned size)
{
	struct virtio_pci *vp = of_function(fn);
	uint64_t value = 0;

	(void)bar;
	switch (offset & REGION_MASK) {
	case MSIX_TABLE:
		return msix_table_read(&vp->msix, offset - MSIX_TABLE, size);
	case MSIX_PBA:
		return msix_pba_read(&vp->msix, offset - MSIX_PBA, size);
	case ISR:
		return offset == ISR ? atomic_exchange(&vp->isr, 0) : 0;
	case COMMON:
	case DEVICE:
		break;
	default:
		return 0;
	}
	pthread_mutex_lock(&vp->device->lock);
	value = offset < ISR ? virtio_pci_common_read(vp, offset)
			     : device_read(vp, offset - DEVICE, size);
	pthread_mutex_unlock(&vp->device->lock);
	return value;
}

static void bar_write(
	struct pci_function *fn, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio_pci *vp = of_function(fn);

	(void)bar;
	switch (offset & REGION_MASK) {
	case MSIX_TABLE:
		msix_table_write(&vp->msix, offset - MSIX_TABLE, size, value);
		return;
	case NOTIFY:
		virtio_device_kick(vp->device, (unsigned)((offset - NOTIFY) / NOTIFY_MULTIPLIER));
		return;
	case COMMON:
	case DEVICE:
		break;
	default:
		return;
	}
	pthread_mutex_lock(&vp->device->lock);
	if (offset < ISR) {
		virtio_pci_common_write(vp, offset, size == 8 ? (uint32_t)value : value);
		if (size == 8) /* a 64-bit field in one access */
			virtio_pci_common_write(vp, offset + 4, value >> 32);
	} else {
		device_write(vp, offset - DEVICE, size, value);
	}
	pthread_mutex_unlock(&vp->device->lock);
}

/* ---- the configuration-space window (§4.1.4.9) ---- */

struct window {
	uint8_t bar;
	uint32_t offset, length;
};

static bool window_valid(const struct virtio_pci *vp, struct window *w)
{
	const uint8_t *cap = vp->function.config + vp->window_cap;

	w->bar = cap[offsetof(struct virtio_pci_cap, bar)];
	memcpy(&w->offset, cap + offsetof(struct virtio_pci_cap, offset), 4);
	memcpy(&w->length, cap + offsetof(struct virtio_pci_cap, length), 4);
	return w->bar == BAR && (w->length == 1 || w->length == 2 || w->length == 4) &&
	       w->offset % w->length == 0 && w->offset < BAR_SIZE &&
	       w->length <= BAR_SIZE - w->offset;
}

static uint32_t config_read(struct pci_function *fn, unsigned offset, unsigned size, uint32_t value)
{
	struct virtio_pci *vp = of_function(fn);
	struct window w;

	(void)size;
	if (offset != vp->window_cap + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data) ||
		!window_valid(vp, &w))
		return value;
	return (uint32_t)bar_read(fn, BAR, w.offset, w.length);
}

static void config_written(struct pci_function *fn, unsigned offset, unsigned size)
{
	struct virtio_pci *vp = of_function(fn);
	struct window w;
	uint32_t value;

	(void)size;
	if (offset != vp->window_cap + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data) ||
		!window_valid(vp, &w))
		return;
	memcpy(&value, fn->config + offset, sizeof(value));
	bar_write(fn, BAR, w.offset, w.length, value);
}

static const struct pci_function_ops function_ops = {
	.bar_read = bar_read,
	.bar_write = bar_write,
	.bar_moved = bar_moved,
	.config_read = config_read,
	.config_written = config_written,
};

/* ---- describing ourselves ---- */

static unsigned add_structure(
	struct virtio_pci *vp, uint8_t type, uint32_t offset, uint32_t length, unsigned cap_len)
{
	struct virtio_pci_notify_cap body = {
		.cap = {.cap_len = (uint8_t)cap_len,
			.cfg_type = type,
			.bar = BAR,
			.offset = offset,
			.length = length},
		.notify_off_multiplier = type == VIRTIO_PCI_CAP_NOTIFY_CFG ? NOTIFY_MULTIPLIER : 0,
	};

	return pci_add_capability(&vp->function, PCI_CAP_ID_VNDR, &body, cap_len);
}

static void add_window(struct virtio_pci *vp)
{
	uint8_t *writable;

	vp->window_cap =
		add_structure(vp, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, sizeof(struct virtio_pci_cfg_cap));
	writable = vp->function.writable + vp->window_cap;
	writable[offsetof(struct virtio_pci_cap, bar)] = 0xff;
	memset(writable + offsetof(struct virtio_pci_cap, offset), 0xff,
		12); /* offset, length, data */
}

static uint32_t class_of(uint16_t id)
{
	switch (id) {
	case 1:
		return 0x020000; /* Ethernet controller */
	case 2:
		return 0x010000; /* mass storage */
	default:
		return 0x078000; /* other communication controller */
	}
}

static void describe(struct virtio_pci *vp)
{
	struct virtio_device *dev = vp->device;
	const struct pci_ids ids = {
		.vendor = 0x1af4,			     /* §4.1.2 */
		.device = (uint16_t)(0x1040 + dev->ops->id), /* §4.1.2.1 */
		.subsystem_vendor = 0x1af4,
		.subsystem = 0x1100,
		.class_code = class_of(dev->ops->id),
		.revision = 1,
	};
	const unsigned plain = sizeof(struct virtio_pci_cap);

	pci_function_init(&vp->function, &function_ops, &ids);
	pci_add_bar(&vp->function, BAR, BAR_SIZE);
	add_structure(
		vp, VIRTIO_PCI_CAP_COMMON_CFG, COMMON, sizeof(struct virtio_pci_common_cfg), plain);
	add_structure(vp, VIRTIO_PCI_CAP_ISR_CFG, ISR, 1, plain);
	if (dev->config_size)
		add_structure(vp, VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE, dev->config_size, plain);
	add_structure(vp, VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY, NOTIFY_MULTIPLIER * dev->queue_count,
		sizeof(struct virtio_pci_notify_cap));
	add_window(vp);
	pci_add_msix(&vp->function, &vp->msix, BAR, MSIX_TABLE, MSIX_PBA);
}

int virtio_pci_create(struct virtio_device *dev, struct virtio_pci **out, struct error *err)
{
	_cleanup_free_ struct virtio_pci *vp = calloc(1, sizeof(*vp));
	_cleanup_free_ uint64_t *kick_gpa = calloc(dev->queue_count, sizeof(*kick_gpa));
	int ret;

	if (!vp || !kick_gpa)
		return error_errno(err, ENOMEM, "cannot create the device '%s'", dev->id);
	ret = msix_init(&vp->msix, dev->queue_count + 1, err);
	if (ret < 0)
		return error_prefix(err, "device '%s'", dev->id);
	vp->kick_gpa = steal_ptr(&kick_gpa);
	vp->device = dev;
	vp->bar_gpa = PCI_BAR_NONE;
	atomic_init(&vp->config_vector, MSIX_NO_VECTOR);
	pthread_mutex_init(&vp->kick_lock, NULL);
	describe(vp);
	dev->transport = &transport;
	dev->transport_owner = vp;
	*out = steal_ptr(&vp);
	return 0;
}

void virtio_pci_destroy(struct virtio_pci *vp)
{
	if (!vp)
		return;
	virtio_device_destroy(vp->device);
	msix_destroy(&vp->msix);
	pthread_mutex_destroy(&vp->kick_lock);
	free(vp->kick_gpa);
	free(vp);
}

struct pci_function *virtio_pci_function(struct virtio_pci *vp)
{
	return &vp->function;
}

struct virtio_device *virtio_pci_device(struct virtio_pci *vp)
{
	return vp->device;
}

bool virtio_pci_was_driven(const struct virtio_pci *vp)
{
	return atomic_load(&vp->driven);
}

void virtio_pci_on_driven(struct virtio_pci *vp, void (*fn)(void *owner), void *owner)
{
	vp->on_driven = fn;
	vp->on_driven_owner = owner;
}

void virtio_pci_set_vm(struct virtio_pci *vp, struct vm *vm)
{
	if (!vm) {
		pci_function_reset(&vp->function); /* lets go of routes, irqfds and ioeventfds */
		vp->device_feature_select = vp->driver_feature_select = vp->queue_select = 0;
		atomic_store(&vp->config_vector, MSIX_NO_VECTOR);
		atomic_store(&vp->isr, 0);
		atomic_store(&vp->driven, false);
	}
	msix_set_vm(&vp->msix, vm);
	pthread_mutex_lock(&vp->kick_lock);
	vp->vm = vm;
	pthread_mutex_unlock(&vp->kick_lock);
}
