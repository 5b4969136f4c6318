/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of the methods that attach and detach: those of --disk and --net, and how long the guest may take. */
#include "vmm/control/control_private.h"
#include "vmm/machine/config_members.h"

#include <stddef.h>

_Static_assert(
	!offsetof(struct attach_disk_params, disk) && !offsetof(struct attach_net_params, net),
	"the members' offsets are those of the options");

#define TIMEOUT(owner)                                                                             \
	{                                                                                          \
		.name = "timeout_ms", .type = SCHEMA_NUMBER, STORE(struct owner, timeout_ms),      \
		.min = 1, .max = 3600000, .value = "30000", .help = "how long the guest may take"  \
	}

const struct schema attach_disk_schema[] = {
#include "vmm/machine/disk_members.inc"
	TIMEOUT(attach_disk_params),
	DISK_MEMBER_BASE,
	{.name = NULL},
};

const struct schema attach_net_schema[] = {
#include "vmm/machine/net_members.inc"
	TIMEOUT(attach_net_params),
	{.name = NULL},
};

#define DETACH(field) STORE(struct detach_params, field)

const struct schema detach_disk_schema[] = {
	{.name = "id", .type = SCHEMA_ID, DETACH(id), .required = true, .help = "the disk"},
	TIMEOUT(detach_params),
	{.name = "force",
		.type = SCHEMA_BOOL,
		DETACH(force),
		.value = "off",
		.help = "take it away even while the guest has it mounted or claimed"},
	{.name = NULL},
};

const struct schema detach_net_schema[] = {
	{.name = "id",
		.type = SCHEMA_ID,
		DETACH(id),
		.required = true,
		.help = "the network device"},
	TIMEOUT(detach_params),
	{.name = NULL},
};

const struct schema *plug_task_schema(enum plug_kind kind)
{
	static const struct schema *const tables[] = {
		[PLUG_DISK] = attach_disk_schema,
		[PLUG_NET] = attach_net_schema,
		[UNPLUG_DISK] = detach_disk_schema,
		[UNPLUG_NET] = detach_net_schema,
	};

	return tables[kind];
}
