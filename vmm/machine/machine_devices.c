/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI devices of a machine: see machine_devices.h. */
#include "vmm/machine/machine_devices.h"

#include "virtio/blk.h"
#include "virtio/net.h"
#include "virtio/vsock.h"
#include "vmm/base/log.h"
#include "vmm/machine/sandbox.h"

#include <linux/virtio_ids.h>
#include <string.h>

static uint64_t bridge_bar_read(
	struct pci_function *fn, unsigned bar, uint64_t offset, unsigned size)
{
	(void)fn, (void)bar, (void)offset, (void)size;
	return UINT64_MAX; /* it has no BAR */
}

static void bridge_bar_write(
	struct pci_function *fn, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
	(void)fn, (void)bar, (void)offset, (void)size, (void)value;
}

static const struct pci_function_ops bridge_ops = {
	.bar_read = bridge_bar_read, .bar_write = bridge_bar_write};

/* A generic PCIe host bridge: Linux wants something in slot 0 and asks nothing of it. */
static const struct pci_ids bridge_ids = {.vendor = 0x1b36,
	.device = 0x0008,
	.subsystem_vendor = 0x1af4,
	.subsystem = 0x1100,
	.class_code = 0x060000};

/* First thing on each I/O thread. The main thread has installed a filter by then, so this one can too. */
static void enter_io_thread(void *arg)
{
	const struct machine_config *config = arg;
	struct error err;

	BUG_ON(sandbox_enter(SANDBOX_IO, config->seccomp, &err) < 0);
}

/* Takes `dev` over, also on failure. */
static int wrap(struct machine_devices *devices, struct virtio_device *dev, struct virtio_pci **out,
	struct error *err)
{
	int ret;

	dev->thread_enter = enter_io_thread;
	dev->thread_enter_arg = devices->config;
	dev->vcpus = devices->config->cpus;
	ret = virtio_pci_create(dev, out, err);
	if (ret < 0)
		virtio_device_destroy(dev);
	return ret;
}

int machine_devices_make_disk(struct machine_devices *devices, struct disk_options *disk,
	struct virtio_pci **out, struct error *err)
{
	const struct blk_config config = {
		.id = disk->id,
		.path = disk->path,
		.serial = disk->serial,
		.base = disk->base,
		.cache = disk->cache,
		.queues = disk->queues,
		.readonly = disk->readonly,
		.discard = disk->discard,
		.impatient = devices->made,
		.iops = disk->iops,
		.bps = disk->bps,
	};
	struct virtio_device *dev;
	int ret = blk_create(&config, devices->memory, devices->loop, &dev, err);

	if (ret < 0)
		return ret;
	disk->cache = blk_cache_mode(dev); /* where it was left to us, what it became */
	return wrap(devices, dev, out, err);
}

int machine_devices_make_net(struct machine_devices *devices, const struct net_options *net,
	struct virtio_pci **out, struct error *err)
{
	struct net_config config = {
		.id = net->id,
		.tap = net->tap,
		.fd = net->fd,
		.mtu = (uint16_t)net->mtu,
		.queues = net->queues,
		.vhost = net->vhost,
		.pps = net->pps,
		.bps = net->bps,
	};
	struct virtio_device *dev;
	int ret;

	if (net->mac_given)
		memcpy(config.mac, net->mac, sizeof(config.mac));
	else
		net_derive_mac(devices->config->name, net->id, config.mac);
	ret = net_create(&config, devices->memory, devices->loop, &dev, err);
	return ret < 0 ? ret : wrap(devices, dev, out, err);
}

static int make_vsock(struct machine_devices *devices, struct virtio_pci **out, struct error *err)
{
	const struct vsock_config config = {
		.cid = devices->config->vsock_cid, .socket = devices->config->vsock_socket};
	struct virtio_device *dev;
	int ret = vsock_create(&config, devices->memory, devices->loop, &dev, err);

	return ret < 0 ? ret : wrap(devices, dev, out, err);
}

int machine_devices_plug(
	struct machine_devices *devices, struct virtio_pci *vp, int slot, struct error *err)
{
	int ret;

	if (devices->count == MACHINE_DEVICES_MAX)
		return error_set(err, ERROR_NO_RESOURCE, "the VM has %u PCI devices: no more fit",
			devices->count);
	ret = pci_host_plug(&devices->host, virtio_pci_function(vp), slot, err);
	if (ret < 0)
		return error_prefix(err, "device '%s'", virtio_pci_device(vp)->id);
	devices->virtio[devices->count++] = vp;
	return 0;
}

/* At the start: in `slot`; 0: the next that is free. `vp` is taken over, also on failure. */
static int plug_at_start(
	struct machine_devices *devices, struct virtio_pci *vp, unsigned slot, struct error *err)
{
	int ret = machine_devices_plug(devices, vp, slot ? (int)slot : -1, err);

	if (ret < 0)
		virtio_pci_destroy(vp);
	return ret;
}

static int add_all(struct machine_devices *devices, struct error *err)
{
	struct machine_config *config = devices->config;
	struct virtio_pci *vp;
	int ret = 0;

	for (unsigned i = 0; i < config->disk_count && ret == 0; i++) {
		ret = machine_devices_make_disk(devices, &config->disks[i], &vp, err);
		if (ret == 0)
			ret = plug_at_start(devices, vp, config->disks[i].slot, err);
	}
	for (unsigned i = 0; i < config->net_count && ret == 0; i++) {
		ret = machine_devices_make_net(devices, &config->nets[i], &vp, err);
		if (ret == 0)
			ret = plug_at_start(devices, vp, config->nets[i].slot, err);
	}
	if (ret < 0 || !config->vsock_cid)
		return ret;
	ret = make_vsock(devices, &vp, err);
	return ret < 0 ? ret : plug_at_start(devices, vp, config->vsock_slot, err);
}

int machine_devices_create(struct machine_devices *devices, struct machine_config *config,
	const struct arch_address_map *map, const struct guest_memory *memory, struct loop *loop,
	struct error *err)
{
	int ret;

	memset(devices, 0, sizeof(*devices));
	devices->config = config;
	devices->memory = memory;
	devices->loop = loop;
	pci_host_init(&devices->host, map->pci_window_base, map->pci_window_size);
	pci_function_init(&devices->bridge, &bridge_ops, &bridge_ids);
	ret = pci_host_plug(&devices->host, &devices->bridge, 0, err);
	if (ret == 0)
		ret = add_all(devices, err);
	if (ret < 0)
		machine_devices_destroy(devices);
	devices->made = ret == 0;
	return ret;
}

void machine_devices_unplug(struct machine_devices *devices, struct virtio_pci *vp)
{
	unsigned i = 0;

	while (devices->virtio[i] != vp)
		i++;
	devices->count--;
	memmove(&devices->virtio[i], &devices->virtio[i + 1],
		(devices->count - i) * sizeof(struct virtio_pci *));
	pci_host_unplug(&devices->host, virtio_pci_function(vp));
}

struct virtio_pci *machine_devices_find(
	const struct machine_devices *devices, uint16_t type, const char *id)
{
	for (unsigned i = 0; i < devices->count; i++) {
		const struct virtio_device *dev = virtio_pci_device(devices->virtio[i]);

		if (dev->ops->id == type && !strcmp(dev->id, id))
			return devices->virtio[i];
	}
	return NULL;
}

void machine_devices_destroy(struct machine_devices *devices)
{
	while (devices->count) {
		struct virtio_pci *vp = devices->virtio[devices->count - 1];

		machine_devices_unplug(devices, vp);
		virtio_pci_destroy(vp);
	}
	pci_host_destroy(&devices->host);
}

void machine_devices_set_vcpus(struct machine_devices *devices, unsigned vcpus)
{
	for (unsigned i = 0; i < devices->count; i++)
		virtio_pci_device(devices->virtio[i])->vcpus = vcpus;
}

void machine_devices_set_vm(struct machine_devices *devices, struct vm *vm)
{
	if (!vm)
		pci_function_reset(&devices->bridge);
	for (unsigned i = 0; i < devices->count; i++)
		virtio_pci_set_vm(devices->virtio[i], vm);
}

bool machine_devices_were_driven(const struct machine_devices *devices)
{
	for (unsigned i = 0; i < devices->count; i++)
		if (virtio_pci_was_driven(devices->virtio[i]))
			return true;
	return !devices->count;
}

static void one_reset(struct virtio_device *dev, void *arg)
{
	struct machine_devices *devices = arg;

	(void)dev;
	if (--devices->resetting == 0)
		devices->reset_done(devices->owner);
}

void machine_devices_reset(struct machine_devices *devices, void (*done)(void *owner), void *owner)
{
	devices->reset_done = done;
	devices->owner = owner;
	devices->resetting = devices->count;
	if (!devices->count) {
		done(owner);
		return;
	}
	for (unsigned i = 0; i < devices->count; i++)
		virtio_device_reset(virtio_pci_device(devices->virtio[i]), one_reset, devices);
}

static void one_quiet(struct virtio_device *dev, void *arg)
{
	struct machine_devices *devices = arg;
	void (*done)(void *owner) = devices->quiesce_done;

	(void)dev;
	if (--devices->quiescing)
		return;
	devices->quiesce_done = NULL;
	done(devices->quiesce_owner);
}

void machine_devices_quiesce(
	struct machine_devices *devices, void (*done)(void *owner), void *owner)
{
	BUG_ON(devices->quiescing);
	devices->quiesce_done = done;
	devices->quiesce_owner = owner;
	devices->quiescing = devices->count + 1; /* the last is this function */
	for (unsigned i = 0; i < devices->count; i++)
		virtio_device_quiesce(virtio_pci_device(devices->virtio[i]), one_quiet, devices);
	one_quiet(NULL, devices);
}

static void flush_ends(struct machine_devices *devices)
{
	if (--devices->flushing)
		return;
	devices->flush_done(
		devices->flush_owner, devices->flush_failed ? &devices->flush_failure : NULL);
}

static void one_flushed(struct virtio_device *dev, int ret, void *arg)
{
	struct machine_devices *devices = arg;

	if (ret < 0 && !devices->flush_failed) {
		devices->flush_failed = true;
		error_errno(&devices->flush_failure, -ret,
			"disk '%s' cannot be flushed to stable storage", dev->id);
	}
	flush_ends(devices);
}

void machine_devices_flush(struct machine_devices *devices,
	void (*done)(void *owner, const struct error *err), void *owner)
{
	BUG_ON(devices->flushing);
	devices->flush_done = done;
	devices->flush_owner = owner;
	devices->flush_failed = false;
	devices->flushing = 1; /* this function */
	for (unsigned i = 0; i < devices->count; i++) {
		struct virtio_device *dev = virtio_pci_device(devices->virtio[i]);

		if (dev->ops->id != VIRTIO_ID_BLOCK)
			continue;
		devices->flushing++;
		blk_flush(dev, one_flushed, devices);
	}
	flush_ends(devices);
}

void machine_devices_unquiesce(struct machine_devices *devices)
{
	devices->quiescing = 0;
	for (unsigned i = 0; i < devices->count; i++)
		virtio_device_unquiesce(virtio_pci_device(devices->virtio[i]));
}
