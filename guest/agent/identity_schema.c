/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of identity.change, which are those of the control API's guest.identify too. */
#include "guest/agent/identity.h"

#include <stddef.h>

const struct schema identity_schema[] = {
	{.name = "time_ns",
		.type = SCHEMA_NUMBER,
		.offset = offsetof(struct identity_params, time_ns),
		.size = 8,
		.min = 1000000000,
		.max = (uint64_t)1 << 62, /* what is one more is a number to every JSON reader */
		.help = "the time, in nanoseconds since 1970, UTC, as of the call: the clock is set to it if it is a second behind or 20 ahead"},
	{.name = "entropy",
		.type = SCHEMA_BYTES,
		.offset = offsetof(struct identity_params, entropy),
		.min = 16,
		.max = 4096,
		.help = "random bytes that nobody else has, for the kernel's random numbers"},
	{.name = "hostname",
		.type = SCHEMA_TEXT,
		.offset = offsetof(struct identity_params, hostname),
		.min = 1,
		.max = 64,
		.help = "the new host name, kept in /etc/hostname"},
	{.name = "machine_id",
		.type = SCHEMA_TEXT,
		.offset = offsetof(struct identity_params, machine_id),
		.min = 1,
		.max = 32,
		.help = "32 hexadecimal digits for /etc/machine-id, or 'random'"},
	{.name = "interfaces",
		.type = SCHEMA_LIST,
		.offset = offsetof(struct identity_params, interfaces),
		.size = sizeof(struct network_params),
		.extra = offsetof(struct identity_params, interface_count),
		.max = NETWORK_INTERFACES_MAX,
		.members = network_schema,
		.help = "what to change on network interfaces, each as for network.configure"},
	{.name = NULL},
};
