/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of network.configure; the monitor's control API has them too. */
#include "guest/agent/network.h"

#include <stddef.h>

#define NET(member) .offset = offsetof(struct network_params, member)

const struct schema network_schema[] = {
	{.name = "name",
		.type = SCHEMA_TEXT,
		NET(name),
		.min = 1,
		.max = 15,
		.help = "the interface, by name"},
	{.name = "mac", .type = SCHEMA_MAC, NET(mac), .help = "or by its MAC address as it is now"},
	{.name = "new_mac", .type = SCHEMA_MAC, NET(new_mac), .help = "the MAC address to give it"},
	{.name = "mtu",
		.type = SCHEMA_NUMBER,
		NET(mtu),
		.min = 68,
		.max = 65535,
		.help = "the largest packet"},
	{.name = "addresses",
		.type = SCHEMA_TEXTS,
		NET(addresses),
		.max = 32,
		.help = "ADDRESS/PREFIX texts that replace the interface's addresses"},
	{.name = "gateway",
		.type = SCHEMA_TEXT,
		NET(gateway),
		.min = 1,
		.max = 63,
		.help = "where the default route goes"},
	{.name = "dns",
		.type = SCHEMA_TEXTS,
		NET(dns),
		.max = 8,
		.help = "name servers for /etc/resolv.conf"},
	{.name = "up", .type = SCHEMA_BOOL, NET(up), .value = "on", .help = "whether it runs"},
	{.name = NULL},
};
