/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot-plug: what is asked for, checked, and made ready: the options go into the configuration, the device into its slot. What happens then
 * is plug.c's.
 */
#include "vmm/machine/plug.h"

#include "vmm/base/util.h"
#include "vmm/machine/machine_private.h"

#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>

static bool has_guest(const struct machine *m)
{
	return machine_state(m) != MACHINE_CREATED && !m->plugs.off;
}

static int refuse_state(struct machine *m, struct error *err)
{
	enum machine_state state = machine_state(m);

	if (m->plugs.kept) {
		error_set(err, ERROR_WRONG_STATE,
			"a snapshot is being taken: devices stay as they are until it is there");
		return error_hint(err, "job.list tells how far it is; job.cancel ends it");
	}
	if (m->hold)
		return error_set(
			err, ERROR_WRONG_STATE, "the VM stands still: try again in a moment");
	if (state == MACHINE_RUNNING || !has_guest(m))
		return 0;
	error_set(err, ERROR_WRONG_STATE, "the VM is %s: its guest cannot act on it",
		machine_state_name(state));
	return state == MACHINE_PAUSED ? error_hint(err, "see vm.resume") : -err->code;
}

/* The device is in its slot, and its options in the configuration. */
static void attached(struct machine *m, struct virtio_pci *device,
	const struct machine_plug_request *request, struct machine_plug **out)
{
	struct machine_plug *plug = plug_begin(m, request, device, true);

	*out = NULL;
	if (!has_guest(m)) {
		plug_finish(plug); /* found when it starts */
		return;
	}
	plug_ask_guest(plug);
	*out = plug;
}

/* The lowest number that no device has. */
static void choose_id(const struct machine *m, uint16_t type, char id[SCHEMA_ID_SIZE])
{
	const char *name = type == VIRTIO_ID_BLOCK ? "disk" : "net";
	unsigned number = 0;

	if (*id)
		return;
	do
		snprintf(id, SCHEMA_ID_SIZE, "%s%u", name, number++);
	while (machine_devices_find(&m->devices, VIRTIO_ID_BLOCK, id) ||
		machine_devices_find(&m->devices, VIRTIO_ID_NET, id));
}

static int refuse_full(const char *what, unsigned count, struct error *err)
{
	return error_set(err, ERROR_NO_RESOURCE, "the VM has %u %s: no more fit", count, what);
}

/* Takes `device` over. */
static int plug_in(struct machine *m, struct virtio_pci *device, int slot, struct error *err)
{
	int ret;

	machine_pause(m);
	if (m->powered)
		virtio_pci_set_vm(device, &m->vm);
	ret = machine_devices_plug(&m->devices, device, slot, err);
	machine_resume(m);
	if (ret < 0)
		virtio_pci_destroy(device);
	return ret;
}

int machine_attach_disk(struct machine *m, struct disk_options *options,
	const struct machine_plug_request *request, struct machine_plug **out, struct error *err)
{
	struct machine_config *config = m->config;
	struct disk_options *disk = &config->disks[config->disk_count];
	struct virtio_pci *device = NULL;
	int ret = refuse_state(m, err);

	if (ret < 0)
		return ret;
	if (config->disk_count == MACHINE_DISKS_MAX)
		return refuse_full("disks", config->disk_count, err);
	choose_id(m, VIRTIO_ID_BLOCK, options->id);
	*disk = *options;
	config->disk_count++;
	ret = machine_config_check(config, err);
	if (ret == 0)
		ret = machine_devices_make_disk(&m->devices, disk, &device, err);
	if (ret == 0)
		ret = plug_in(m, device, request->slot, err);
	if (ret < 0) {
		config->disk_count--;
		memset(disk, 0, sizeof(*disk));
		return ret;
	}
	memset(options, 0, sizeof(*options));
	attached(m, device, request, out);
	return 0;
}

int machine_attach_net(struct machine *m, struct net_options *options,
	const struct machine_plug_request *request, struct machine_plug **out, struct error *err)
{
	struct machine_config *config = m->config;
	struct net_options *net = &config->nets[config->net_count];
	struct virtio_pci *device = NULL;
	int ret = refuse_state(m, err);

	if (ret < 0)
		return ret;
	if (config->net_count == MACHINE_NETS_MAX)
		return refuse_full("networks", config->net_count, err);
	choose_id(m, VIRTIO_ID_NET, options->id);
	*net = *options;
	config->net_count++;
	ret = machine_config_check(config, err);
	if (ret == 0)
		ret = machine_devices_make_net(&m->devices, net, &device, err);
	if (ret == 0)
		ret = plug_in(m, device, request->slot, err);
	if (ret < 0) {
		config->net_count--;
		memset(net, 0, sizeof(*net));
		return ret;
	}
	memset(options, 0, sizeof(*options));
	attached(m, device, request, out);
	return 0;
}

int machine_detach(struct machine *m, uint16_t type, const char *id,
	const struct machine_plug_request *request, struct machine_plug **out, struct error *err)
{
	struct virtio_pci *device = machine_devices_find(&m->devices, type, id);
	struct machine_plug *plug;
	int ret = refuse_state(m, err);

	*out = NULL;
	if (ret < 0)
		return ret;
	if (!device)
		return error_set(err, ERROR_NOT_FOUND, "there is no %s '%s'",
			type == VIRTIO_ID_BLOCK ? "disk" : "network", id);
	if (plug_of_slot(m, virtio_pci_function(device)->slot))
		return error_set(err, ERROR_WRONG_STATE, "'%s' is being attached or detached", id);
	plug = plug_begin(m, request, device, false);
	if (!has_guest(m)) {
		plug_take_out(plug);
		return 0;
	}
	plug_ask_guest(plug);
	*out = plug;
	return 0;
}
