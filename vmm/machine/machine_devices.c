/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI devices of a machine: see machine_devices.h. */
#include "vmm/machine/machine_devices.h"

#include "virtio/blk.h"
#include "virtio/net.h"
#include "virtio/vsock.h"
#include "vmm/base/log.h"
#include "vmm/machine/sandbox.h"

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

/* Takes `dev` over, also on failure. */
static int plug(struct machine_devices *devices, struct virtio_device *dev, struct error *err)
{
	struct virtio_pci *vp;
	int ret = virtio_pci_create(dev, &vp, err);

	if (ret < 0) {
		virtio_device_destroy(dev);
		return ret;
	}
	ret = pci_host_plug(&devices->host, virtio_pci_function(vp), -1, err);
	if (ret < 0) {
		error_prefix(err, "device '%s'", dev->id);
		virtio_pci_destroy(vp);
		return ret;
	}
	BUG_ON(devices->count == MACHINE_DEVICES_MAX);
	devices->virtio[devices->count++] = vp;
	return 0;
}

static int add_disk(struct machine_devices *devices, struct disk_options *disk,
	const struct guest_memory *memory, struct loop *loop, struct error *err)
{
	const struct blk_config config = {
		.id = disk->id,
		.path = disk->path,
		.serial = disk->serial,
		.cache = disk->cache,
		.queues = disk->queues,
		.readonly = disk->readonly,
		.discard = disk->discard,
		.iops = disk->iops,
		.bps = disk->bps,
	};
	struct virtio_device *dev;
	int ret = blk_create(&config, memory, loop, &dev, err);

	if (ret < 0)
		return ret;
	disk->cache = blk_cache_mode(dev); /* where it was left to us, what it became */
	return plug(devices, dev, err);
}

static int add_net(struct machine_devices *devices, const struct machine_config *machine,
	const struct net_options *net, const struct guest_memory *memory, struct loop *loop,
	struct error *err)
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
		net_derive_mac(machine->name, net->id, config.mac);
	ret = net_create(&config, memory, loop, &dev, err);
	return ret < 0 ? ret : plug(devices, dev, err);
}

static int add_vsock(struct machine_devices *devices, const struct machine_config *machine,
	const struct guest_memory *memory, struct loop *loop, struct error *err)
{
	const struct vsock_config config = {
		.cid = machine->vsock_cid, .socket = machine->vsock_socket};
	struct virtio_device *dev;
	int ret = vsock_create(&config, memory, loop, &dev, err);

	return ret < 0 ? ret : plug(devices, dev, err);
}

/* First thing on each I/O thread. The main thread has installed a filter by then, so this one can too. */
static void enter_io_thread(void *arg)
{
	const struct machine_config *config = arg;
	struct error err;

	BUG_ON(sandbox_enter(SANDBOX_IO, config->seccomp, &err) < 0);
}

static int add_all(struct machine_devices *devices, struct machine_config *config,
	const struct guest_memory *memory, struct loop *loop, struct error *err)
{
	int ret = 0;

	for (unsigned i = 0; i < config->disk_count && ret == 0; i++)
		ret = add_disk(devices, &config->disks[i], memory, loop, err);
	for (unsigned i = 0; i < config->net_count && ret == 0; i++)
		ret = add_net(devices, config, &config->nets[i], memory, loop, err);
	if (ret == 0 && config->vsock_cid)
		ret = add_vsock(devices, config, memory, loop, err);
	return ret;
}

int machine_devices_create(struct machine_devices *devices, struct machine_config *config,
	const struct arch_address_map *map, const struct guest_memory *memory, struct loop *loop,
	struct error *err)
{
	int ret;

	memset(devices, 0, sizeof(*devices));
	pci_host_init(&devices->host, map->pci_window_base, map->pci_window_size);
	pci_function_init(&devices->bridge, &bridge_ops, &bridge_ids);
	ret = pci_host_plug(&devices->host, &devices->bridge, 0, err);
	if (ret == 0)
		ret = add_all(devices, config, memory, loop, err);
	if (ret < 0)
		machine_devices_destroy(devices);
	for (unsigned i = 0; i < devices->count; i++) {
		struct virtio_device *dev = virtio_pci_device(devices->virtio[i]);

		dev->thread_enter = enter_io_thread;
		dev->thread_enter_arg = (void *)(uintptr_t)config;
		dev->vcpus = config->cpus;
	}
	return ret;
}

void machine_devices_destroy(struct machine_devices *devices)
{
	while (devices->count) {
		struct virtio_pci *vp = devices->virtio[--devices->count];

		pci_host_unplug(&devices->host, virtio_pci_function(vp));
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
