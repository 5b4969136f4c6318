/* SPDX-License-Identifier: Apache-2.0 */
/* The methods disk.* and net.*: what is plugged in, as it is now, and what may change while it runs. */
#include "vmm/control/control_private.h"

#include "virtio/blk.h"
#include "virtio/net.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <string.h>

static const char *const type_names[] = {[1] = "net", [2] = "disk", [19] = "vsock"};

static const char *type_of(const struct virtio_device *dev)
{
	return dev->ops->id < ARRAY_SIZE(type_names) ? type_names[dev->ops->id] : NULL;
}

json_t *control_address(struct virtio_pci *vp)
{
	return json_sprintf("0000:00:%02x.0", virtio_pci_function(vp)->slot);
}

json_t *control_describe_devices(struct machine *machine)
{
	struct machine_devices *devices = machine_devices(machine);
	json_t *list = json_array();

	for (unsigned i = 0; list && i < devices->count; i++) {
		const struct virtio_device *dev = virtio_pci_device(devices->virtio[i]);

		json_array_append_new(list,
			json_pack("{s:s, s:s, s:o, s:b}", "id", dev->id, "type", type_of(dev),
				"address", control_address(devices->virtio[i]), "driven",
				atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK ? 1 : 0));
	}
	return list;
}

static struct virtio_pci *find(struct machine *machine, uint16_t type, const char *id)
{
	return machine_devices_find(machine_devices(machine), type, id);
}

/* The device that a call names, or NULL when the call was answered that there is none. */
static struct virtio_device *device_of(struct rpc_call *call, uint16_t type, const char *id)
{
	struct virtio_pci *vp = find(control_of(call)->machine, type, id);
	struct error err;

	if (vp)
		return virtio_pci_device(vp);
	error_set(&err, ERROR_NOT_FOUND, "%s: there is no %s '%s'", call->method->name,
		type_names[type], id);
	rpc_fail(call, &err);
	return NULL;
}

/* ---- disks ---- */

static json_t *describe_disk(struct machine *machine, const struct disk_options *options)
{
	static const char *const names[] = {
		[BLK_READS] = "reads",
		[BLK_READ_BYTES] = "read_bytes",
		[BLK_WRITES] = "writes",
		[BLK_WRITTEN_BYTES] = "written_bytes",
		[BLK_FLUSHES] = "flushes",
		[BLK_DISCARDS] = "discards",
		[BLK_ZEROES] = "zeroes",
		[BLK_ERRORS] = "errors",
		[BLK_PARKED] = "parked",
	};
	struct virtio_pci *vp = find(machine, VIRTIO_ID_BLOCK, options->id);
	json_t *object = schema_dump(machine_disk_schema, options), *counts = json_object();
	uint64_t counters[BLK_COUNTERS];

	blk_get_counters(virtio_pci_device(vp), counters);
	for (unsigned i = 0; i < BLK_COUNTERS; i++)
		json_object_set_new(counts, names[i], json_integer((json_int_t)counters[i]));
	json_object_set_new(object, "address", control_address(vp));
	json_object_set_new(
		object, "size", json_integer((json_int_t)blk_size(virtio_pci_device(vp))));
	json_object_set_new(object, "counters", counts);
	return object;
}

void serve_disk_list(struct rpc_call *call)
{
	struct machine *machine = control_of(call)->machine;
	const struct machine_config *config = machine_config(machine);
	json_t *list = json_array();

	for (unsigned i = 0; i < config->disk_count; i++)
		json_array_append_new(list, describe_disk(machine, &config->disks[i]));
	rpc_reply(call, json_pack("{s:o}", "disks", list));
}

void serve_disk_resize(struct rpc_call *call)
{
	const struct resize_params *params = call->params;
	struct control *control = control_of(call);
	struct virtio_device *dev = device_of(call, VIRTIO_ID_BLOCK, params->id);
	struct error err;
	uint64_t size, before;

	if (!dev)
		return; /* the call is over, and its parameters with it */
	size = params->size;
	before = blk_size(dev);
	if (blk_resize(dev, &size, &err)) {
		rpc_fail(call, &err);
		return;
	}
	if (size != before)
		events_add(control, EVENT_DISK_RESIZED,
			json_pack("{s:s, s:I}", "id", dev->id, "size", (json_int_t)size));
	rpc_reply(call, json_pack("{s:s, s:I}", "id", dev->id, "size", (json_int_t)size));
}

/* What was not given stays as it was. */
static void take_limits(const struct limit_params *params, uint64_t *operations, uint64_t *bps)
{
	if (params->operations != UINT64_MAX)
		*operations = params->operations;
	if (params->bps != UINT64_MAX)
		*bps = params->bps;
}

void serve_disk_limit(struct rpc_call *call)
{
	const struct limit_params *params = call->params;
	struct machine_config *config = machine_config(control_of(call)->machine);
	struct virtio_device *dev = device_of(call, VIRTIO_ID_BLOCK, params->id);

	for (unsigned i = 0; dev && i < config->disk_count; i++) {
		struct disk_options *disk = &config->disks[i];

		if (strcmp(disk->id, params->id) != 0)
			continue;
		take_limits(params, &disk->iops, &disk->bps);
		blk_set_limits(dev, disk->iops, disk->bps);
		rpc_reply(call, json_pack("{s:s, s:I, s:I}", "id", disk->id, "iops",
					(json_int_t)disk->iops, "bps", (json_int_t)disk->bps));
		return;
	}
}

/* ---- networks ---- */

static json_t *describe_net(struct machine *machine, const struct net_options *options)
{
	struct virtio_pci *vp = find(machine, VIRTIO_ID_NET, options->id);
	json_t *object = schema_dump(machine_net_schema, options);
	struct net_counters n;

	net_get_counters(virtio_pci_device(vp), &n);
	json_object_set_new(object, "address", control_address(vp));
	json_object_set_new(object, "counters",
		json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "rx_packets", (json_int_t)n.rx_packets,
			"rx_bytes", (json_int_t)n.rx_bytes, "rx_dropped", (json_int_t)n.rx_dropped,
			"tx_packets", (json_int_t)n.tx_packets, "tx_bytes", (json_int_t)n.tx_bytes,
			"tx_dropped", (json_int_t)n.tx_dropped));
	return object;
}

void serve_net_list(struct rpc_call *call)
{
	struct machine *machine = control_of(call)->machine;
	const struct machine_config *config = machine_config(machine);
	json_t *list = json_array();

	for (unsigned i = 0; i < config->net_count; i++)
		json_array_append_new(list, describe_net(machine, &config->nets[i]));
	rpc_reply(call, json_pack("{s:o}", "nets", list));
}

void serve_net_limit(struct rpc_call *call)
{
	const struct limit_params *params = call->params;
	struct machine_config *config = machine_config(control_of(call)->machine);
	struct virtio_device *dev = device_of(call, VIRTIO_ID_NET, params->id);
	struct error err;

	for (unsigned i = 0; dev && i < config->net_count; i++) {
		struct net_options *net = &config->nets[i];

		if (strcmp(net->id, params->id) != 0)
			continue;
		if (net->vhost) {
			error_set(&err, ERROR_WRONG_STATE,
				"net.limit: '%s' is moved by the host's kernel (vhost), which has no limits",
				net->id);
			rpc_fail(call, &err);
			return;
		}
		take_limits(params, &net->pps, &net->bps);
		net_set_limits(dev, net->pps, net->bps);
		rpc_reply(call, json_pack("{s:s, s:I, s:I}", "id", net->id, "pps",
					(json_int_t)net->pps, "bps", (json_int_t)net->bps));
		return;
	}
}
