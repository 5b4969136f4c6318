/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a virtio-pci function: two sections. The first, named after the device's kind ("virtio-blk"), has the function, the
 * transport's registers (virtio 1.2 §4.1.4.3) and what all devices share; the second ("blk") what only this kind has. Their instance is the
 * device's id.
 *
 * Loading is in two steps, so that a machine's devices change all or none: everything is read and judged into one
 * structure, and then taken over by calls that cannot fail.
 */
#include "virtio/pci_private.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

struct virtio_pci_state {
	struct pci_function_state function;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select, config_vector;
	uint8_t isr, driven;
	struct virtio_device_state device;
	alignas(uint64_t) uint8_t own[VIRTIO_OWN_STATE_MAX]; /* the second section's */
};

#define FIELD(member, ...) STATE_UINT(struct virtio_pci_state, member, __VA_ARGS__)
#define TRUTH(member)	   STATE_BOOL(struct virtio_pci_state, member)
static const struct state_field fields[] = {
	STATE_BYTES(struct virtio_pci_state, function.config),
	STATE_LIST(struct virtio_pci_state, function.vectors, function.vector_count,
		&msix_vector_table),
	FIELD(device_feature_select),
	FIELD(driver_feature_select),
	FIELD(queue_select),
	FIELD(config_vector),
	FIELD(isr, .max = 3),
	TRUTH(driven),
	FIELD(device.type),
	FIELD(device.status),
	TRUTH(device.activated),
	TRUTH(device.broken),
	FIELD(device.config_generation),
	TRUTH(device.config_changed),
	FIELD(device.driver_features),
	STATE_LIST(
		struct virtio_pci_state, device.queues, device.queue_count, &virtqueue_state_table),
};

#define TABLE(name) STATE_TABLE(name, 1, struct virtio_pci_state, fields)
static const struct state_table tables[] = {
	TABLE("virtio-blk"), TABLE("virtio-net"), TABLE("virtio-vsock")};

static const struct state_table *table_of(const struct virtio_device *dev)
{
	unsigned i = 0;

	while (strcmp(tables[i].name, dev->ops->name) != 0)
		BUG_ON(++i == ARRAY_SIZE(tables));
	BUG_ON(dev->ops->state->size > VIRTIO_OWN_STATE_MAX);
	return &tables[i];
}

static struct virtio_pci_state *make(void)
{
	return calloc(1, sizeof(struct virtio_pci_state));
}

void virtio_pci_save(struct virtio_pci *vp, struct state_writer *out)
{
	_cleanup_free_ struct virtio_pci_state *s = make();
	struct virtio_device *dev = vp->device;

	if (!s) {
		out->failed = true;
		return;
	}
	virtio_device_save(dev, &s->device);
	pci_function_save(&vp->function, &s->function);
	s->device_feature_select = vp->device_feature_select;
	s->driver_feature_select = vp->driver_feature_select;
	s->queue_select = vp->queue_select;
	s->config_vector = atomic_load(&vp->config_vector);
	s->isr = atomic_load(&vp->isr);
	s->driven = atomic_load(&vp->driven);
	dev->ops->state_save(dev, s->own);
	state_save(out, table_of(dev), dev->id, s);
	state_save(out, dev->ops->state, dev->id, s->own);
}

static int check_vector(
	const struct virtio_pci *vp, uint16_t vector, const char *whose, struct error *err)
{
	if (vector < vp->msix.count || vector == MSIX_NO_VECTOR)
		return 0;
	return error_set(err, ERROR_CORRUPT, "%s has interrupt vector %u of %u", whose, vector,
		vp->msix.count);
}

static int check(struct virtio_pci *vp, const struct virtio_pci_state *s, struct error *err)
{
	struct virtio_device *dev = vp->device;
	int ret = virtio_device_check(dev, &s->device, err);

	if (ret == 0)
		ret = dev->ops->state_check(dev, &s->device, s->own, err);
	if (ret == 0)
		ret = pci_function_check(&vp->function, &s->function, err);
	if (ret == 0)
		ret = check_vector(vp, s->config_vector, "its configuration", err);
	for (unsigned i = 0; i < dev->queue_count && ret == 0; i++)
		ret = check_vector(vp, s->device.queues[i].vector, "a queue", err);
	return ret;
}

int virtio_pci_read(struct virtio_pci *vp, struct state_reader *in, struct virtio_pci_state **out,
	struct error *err)
{
	_cleanup_free_ struct virtio_pci_state *s = make();
	const struct virtio_device *dev = vp->device;
	int ret;

	if (!s)
		return error_errno(err, ENOMEM, "cannot load the state of '%s'", dev->id);
	ret = state_load(in, table_of(dev), dev->id, s, err);
	if (ret == 0)
		ret = state_load(in, dev->ops->state, dev->id, s->own, err);
	if (ret < 0)
		return ret;
	ret = check(vp, s, err);
	if (ret < 0)
		return error_prefix(err, "%s '%s'", dev->ops->name, dev->id);
	*out = steal_ptr(&s);
	return 0;
}

void virtio_pci_take(struct virtio_pci *vp, struct virtio_pci_state *s)
{
	struct virtio_device *dev = vp->device;

	pthread_mutex_lock(&dev->lock);
	vp->device_feature_select = s->device_feature_select;
	vp->driver_feature_select = s->driver_feature_select;
	vp->queue_select = s->queue_select;
	pthread_mutex_unlock(&dev->lock);
	atomic_store(&vp->config_vector, s->config_vector);
	atomic_store(&vp->isr, s->isr);
	atomic_store(&vp->driven, s->driven);
	virtio_device_load(dev, &s->device);
	pci_function_load(&vp->function, &s->function);
	dev->ops->state_load(dev, s->own);
	free(s);
}

int virtio_pci_load(struct virtio_pci *vp, struct state_reader *in, struct error *err)
{
	struct virtio_pci_state *s;
	int ret = virtio_pci_read(vp, in, &s, err);

	if (ret == 0)
		virtio_pci_take(vp, s);
	return ret;
}
