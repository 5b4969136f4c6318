/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a machine's PCI side: the list of devices, the host, the bridge, and each device (virtio/pci_state.c).
 *
 * A guest finds its devices where they were: each goes into the slot that the state says, wherever the next free one would
 * be. The list must be the machine's, device by device; what is behind them (a disk's path, a tap) may be another.
 * Everything is read and judged before anything is changed.
 */
#include "vmm/machine/machine_devices.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_list(const void *thing, struct error *err)
{
	const struct machine_devices_state *list = thing;
	uint32_t slots = 1; /* the bridge's */

	for (uint32_t i = 0; i < list->count; i++) {
		const struct machine_device_state *device = &list->devices[i];

		if (!*device->id || slots >> device->slot & 1)
			return error_set(err, ERROR_CORRUPT,
				"device %" PRIu32 " ('%s') is in slot %u", i, device->id,
				device->slot);
		slots |= 1u << device->slot;
	}
	return 0;
}

static const struct state_field device_fields[] = {
	STATE_UINT(struct machine_device_state, type),
	STATE_UINT(struct machine_device_state, slot, .max = PCI_SLOTS - 1),
	STATE_TEXT(struct machine_device_state, id),
};
static const struct state_table device_table =
	STATE_TABLE("device", 1, struct machine_device_state, device_fields);

static const struct state_field list_fields[] = {
	STATE_LIST(struct machine_devices_state, devices, count, &device_table),
};
const struct state_table machine_devices_list_table =
	STATE_TABLE("devices", 1, struct machine_devices_state, list_fields, .check = check_list);

static const char *kind(uint16_t type)
{
	switch (type) {
	case VIRTIO_ID_BLOCK:
		return "disk";
	case VIRTIO_ID_NET:
		return "network";
	case VIRTIO_ID_VSOCK:
		return "vsock";
	default:
		return "device";
	}
}

/* ---- placing ---- */

int machine_devices_read(
	struct state_reader *in, struct machine_devices_state *list, struct error *err)
{
	memset(list, 0, sizeof(*list));
	return state_load(in, &machine_devices_list_table, "", list, err);
}

/* Where the configuration keeps the slot of a device; NULL: it has no such device. */
static unsigned *slot_of(struct machine_config *config, uint16_t type, const char *id)
{
	for (unsigned i = 0; i < config->disk_count && type == VIRTIO_ID_BLOCK; i++)
		if (!strcmp(config->disks[i].id, id))
			return &config->disks[i].slot;
	for (unsigned i = 0; i < config->net_count && type == VIRTIO_ID_NET; i++)
		if (!strcmp(config->nets[i].id, id))
			return &config->nets[i].slot;
	return type == VIRTIO_ID_VSOCK && config->vsock_cid ? &config->vsock_slot : NULL;
}

static int superfluous(struct error *err, uint16_t type, const char *id)
{
	return error_set(err, ERROR_INCOMPATIBLE,
		"the VM is to have the %s '%s', which the state does not have", kind(type), id);
}

int machine_devices_place(
	struct machine_config *config, const struct machine_devices_state *list, struct error *err)
{
	for (unsigned i = 0; i < config->disk_count; i++)
		config->disks[i].slot = 0;
	for (unsigned i = 0; i < config->net_count; i++)
		config->nets[i].slot = 0;
	config->vsock_slot = 0;
	for (uint32_t i = 0; i < list->count; i++) {
		const struct machine_device_state *device = &list->devices[i];
		unsigned *slot = slot_of(config, device->type, device->id);

		if (!slot || *slot)
			return error_set(err, ERROR_INCOMPATIBLE,
				"the state has the %s '%s', which the VM is not to have",
				kind(device->type), device->id);
		*slot = device->slot;
	}
	for (unsigned i = 0; i < config->disk_count; i++)
		if (!config->disks[i].slot)
			return superfluous(err, VIRTIO_ID_BLOCK, config->disks[i].id);
	for (unsigned i = 0; i < config->net_count; i++)
		if (!config->nets[i].slot)
			return superfluous(err, VIRTIO_ID_NET, config->nets[i].id);
	if (config->vsock_cid && !config->vsock_slot)
		return superfluous(err, VIRTIO_ID_VSOCK, "vsock");
	return 0;
}

/* ---- saving ---- */

void machine_devices_save(struct machine_devices *devices, struct state_writer *out)
{
	struct machine_devices_state list = {.count = devices->count};
	struct pci_function_state bridge;

	for (unsigned i = 0; i < devices->count; i++) {
		const struct virtio_device *dev = virtio_pci_device(devices->virtio[i]);

		list.devices[i].type = dev->ops->id;
		list.devices[i].slot = (uint8_t)virtio_pci_function(devices->virtio[i])->slot;
		snprintf(list.devices[i].id, sizeof(list.devices[i].id), "%s", dev->id);
	}
	state_save(out, &machine_devices_list_table, "", &list);
	pci_host_save(&devices->host, out);
	pci_function_save(&devices->bridge, &bridge);
	state_save(out, &pci_function_table, "bridge", &bridge);
	for (unsigned i = 0; i < devices->count; i++)
		virtio_pci_save(devices->virtio[i], out);
}

/* ---- loading ---- */

static int check_devices(const struct machine_devices *devices,
	const struct machine_devices_state *list, struct error *err)
{
	for (uint32_t i = 0; i < list->count; i++) {
		const struct machine_device_state *wanted = &list->devices[i];
		struct virtio_pci *vp = machine_devices_find(devices, wanted->type, wanted->id);

		if (!vp)
			return error_set(err, ERROR_INCOMPATIBLE,
				"the state has the %s '%s', which the VM does not have",
				kind(wanted->type), wanted->id);
		if (virtio_pci_function(vp)->slot != wanted->slot)
			return error_set(err, ERROR_INCOMPATIBLE,
				"the guest knows the %s '%s' in slot %u, and it is in slot %u",
				kind(wanted->type), wanted->id, wanted->slot,
				virtio_pci_function(vp)->slot);
	}
	/* Slots are single, so are the devices found: where there are more, one was not named. */
	for (unsigned i = 0; i < devices->count; i++) {
		const struct virtio_device *dev = virtio_pci_device(devices->virtio[i]);
		uint32_t n = 0;

		while (n < list->count && (list->devices[n].type != dev->ops->id ||
						  strcmp(list->devices[n].id, dev->id) != 0))
			n++;
		if (n == list->count)
			return error_set(err, ERROR_INCOMPATIBLE,
				"the VM has the %s '%s', which the state does not have",
				kind(dev->ops->id), dev->id);
	}
	return 0;
}

struct loading {
	struct pci_function_state bridge;
	struct virtio_pci_state *states[MACHINE_DEVICES_MAX];
};

static int read_all(struct machine_devices *devices, struct state_reader *in,
	struct loading *loading, struct error *err)
{
	struct machine_devices_state list;
	int ret = machine_devices_read(in, &list, err);

	if (ret == 0)
		ret = check_devices(devices, &list, err);
	if (ret == 0)
		ret = pci_host_load(&devices->host, in, err);
	if (ret == 0)
		ret = state_load(in, &pci_function_table, "bridge", &loading->bridge, err);
	if (ret == 0)
		ret = pci_function_check(&devices->bridge, &loading->bridge, err);
	for (unsigned i = 0; i < devices->count && ret == 0; i++)
		ret = virtio_pci_read(devices->virtio[i], in, &loading->states[i], err);
	return ret;
}

int machine_devices_load(
	struct machine_devices *devices, struct state_reader *in, struct error *err)
{
	_cleanup_free_ struct loading *loading = calloc(1, sizeof(*loading));
	int ret;

	if (!loading)
		return error_errno(err, ENOMEM, "cannot load the devices' state");
	ret = read_all(devices, in, loading, err);
	if (ret == 0)
		pci_function_load(&devices->bridge, &loading->bridge);
	for (unsigned i = 0; i < devices->count; i++) {
		if (ret == 0)
			virtio_pci_take(devices->virtio[i], loading->states[i]);
		else
			free(loading->states[i]);
	}
	return ret;
}
