/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of methods. The server checks by it, rpc.discover and docs/control-api.md are made from it,
 * so that no method can lack its documents and no parameter its check.
 */
#include "vmm/control/control_private.h"

#include <stddef.h>

#define TIMEOUT_MAX 3600000
#define SINCE_MAX   ((uint64_t)1 << 53) /* what every JSON reader keeps exactly */

static const struct schema subscribe_params[] = {
	{.name = "types",
		.type = SCHEMA_TEXTS,
		.offset = offsetof(struct subscribe_params, types),
		.max = 32,
		.fallback = "all",
		.help = "the types of events that are wanted"},
	{.name = "since",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct subscribe_params, since),
		.size = sizeof(uint64_t),
		.max = SINCE_MAX,
		.fallback = "none of the past",
		.help = "the number of the last event that was seen: later ones that are still kept are sent first"},
	{.name = NULL},
};

static const struct schema shutdown_params[] = {
	{.name = "timeout_ms",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct shutdown_params, timeout_ms),
		.size = sizeof(unsigned),
		.min = 1,
		.max = TIMEOUT_MAX,
		.value = "60000",
		.help = "how long the guest may take"},
	{.name = NULL},
};

static const struct schema resize_params[] = {
	{.name = "id",
		.type = SCHEMA_ID,
		.offset = offsetof(struct resize_params, id),
		.required = true,
		.help = "the disk"},
	{.name = "size",
		.type = SCHEMA_SIZE,
		.offset = offsetof(struct resize_params, size),
		.min = 512,
		.max = (uint64_t)1 << 62,
		.fallback = "as its file is now",
		.help = "bytes, not less than it has"},
	{.name = NULL},
};

#define LIMIT(name_, field, type_, help_)                                                          \
	{                                                                                          \
		.name = name_, .type = type_, .offset = offsetof(struct limit_params, field),      \
		.size = sizeof(uint64_t), .max = (uint64_t)1 << 53, .fallback = "as it was",       \
		.help = help_                                                                      \
	}

static const struct schema disk_limit_params[] = {
	{.name = "id",
		.type = SCHEMA_ID,
		.offset = offsetof(struct limit_params, id),
		.required = true,
		.help = "the disk"},
	LIMIT("iops", operations, SCHEMA_NUMBER, "requests a second; 0: no limit"),
	LIMIT("bps", bps, SCHEMA_SIZE, "bytes a second; 0: no limit"),
	{.name = NULL},
};

static const struct schema net_limit_params[] = {
	{.name = "id",
		.type = SCHEMA_ID,
		.offset = offsetof(struct limit_params, id),
		.required = true,
		.help = "the network device"},
	LIMIT("pps", operations, SCHEMA_NUMBER, "packets a second, each direction; 0: no limit"),
	LIMIT("bps", bps, SCHEMA_SIZE, "bytes a second, each direction; 0: no limit"),
	{.name = NULL},
};

/* Members that are UINT64_MAX where a call does not give them. */
static const struct subscribe_params subscribe_blank = {.since = UINT64_MAX};
static const struct limit_params limit_blank = {.operations = UINT64_MAX, .bps = UINT64_MAX};

const struct rpc_method control_methods[] = {
	{.name = "rpc.discover",
		.serve = serve_discover,
		.summary = "Describes all methods as an OpenRPC document.",
		.result = "{openrpc, info, methods, components}"},
	{.name = "vm.info",
		.serve = serve_vm_info,
		.summary =
			"Tells what the VM is: its state, its configuration as it is now, its devices.",
		.result =
			"{name, state, uptime_ms, version, pid, config, devices: [{id, type, address, driven}]}"},
	{.name = "vm.start",
		.serve = serve_vm_start,
		.summary = "Starts a VM that was made with --paused.",
		.result = "{state}"},
	{.name = "vm.pause",
		.serve = serve_vm_pause,
		.summary =
			"Stops all vCPUs; answered when none runs any more. What is paused stays so.",
		.result = "{state}"},
	{.name = "vm.resume",
		.serve = serve_vm_resume,
		.summary = "Lets the vCPUs go on.",
		.result = "{state}"},
	{.name = "vm.reset",
		.serve = serve_vm_reset,
		.summary =
			"Resets the guest, as its own reboot would; answered when it has begun anew.",
		.result = "{state}"},
	{.name = "vm.shutdown",
		.serve = serve_vm_shutdown,
		.params = shutdown_params,
		.params_size = sizeof(struct shutdown_params),
		.summary =
			"Presses the power button; answered when the guest has shut down. When its time is up the error is guest_timeout, and the VM runs on.",
		.result = "{state, how}"},
	{.name = "vm.kill",
		.serve = serve_vm_kill,
		.summary = "Ends the VM and its process at once.",
		.result = "{state}"},
	{.name = "disk.list",
		.serve = serve_disk_list,
		.summary = "Lists the disks with their options as they are now.",
		.result = "{disks: [{id, path, size, address, counters, …as --disk}]}"},
	{.name = "disk.resize",
		.serve = serve_disk_resize,
		.params = resize_params,
		.params_size = sizeof(struct resize_params),
		.summary =
			"Grows a disk's file, or takes up its present size, and tells the guest.",
		.result = "{id, size}"},
	{.name = "disk.limit",
		.serve = serve_disk_limit,
		.params = disk_limit_params,
		.params_size = sizeof(struct limit_params),
		.params_blank = &limit_blank,
		.summary = "Sets a disk's limits, from the next request on.",
		.result = "{id, iops, bps}"},
	{.name = "net.list",
		.serve = serve_net_list,
		.summary = "Lists the network devices with their options as they are now.",
		.result = "{nets: [{id, tap, address, counters, …as --net}]}"},
	{.name = "net.limit",
		.serve = serve_net_limit,
		.params = net_limit_params,
		.params_size = sizeof(struct limit_params),
		.params_blank = &limit_blank,
		.summary = "Sets a network device's limits, from the next packet on.",
		.result = "{id, pps, bps}"},
	{.name = "metrics.get",
		.serve = serve_metrics_get,
		.summary = "Tells what the VM does, in Prometheus' text format.",
		.result = "the text, as a string"},
	{.name = "events.subscribe",
		.serve = serve_events_subscribe,
		.params = subscribe_params,
		.params_size = sizeof(struct subscribe_params),
		.params_blank = &subscribe_blank,
		.summary =
			"Sends this connection a notification for each event from now on, and those since a number.",
		.result =
			"{first, last}: the numbers of the first event that is sent, and of the newest so far; a first greater than since + 1 says that some are lost"},
	{.name = NULL},
};
