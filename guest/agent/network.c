/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network interfaces: found by name or MAC address, and set to what is given. Given addresses replace those that are there;
 * what is not given stays. A new MAC address comes first, then MTU, addresses, up, and last the gateway, which needs
 * both. Name servers are the whole guest's: /etc/resolv.conf. A link whose address of either kind was given forgets its
 * neighbours, and tells them where it is now: `announced` counts its addresses that they were told of.
 */
#include "guest/agent/network.h"

#include "guest/agent/announce.h"
#include "guest/agent/files.h"
#include "guest/agent/freeze.h"
#include "guest/agent/netlink.h"
#include "guest/agent/worker.h"
#include "vmm/base/util.h"

#include <stdio.h>
#include <string.h>

static bool is_given(const uint8_t mac[6])
{
	return mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5];
}

int network_check(const struct network_params *p, const char *path, struct error *err)
{
	struct cidr cidr;

	if (!p->name == !is_given(p->mac))
		return error_set(
			err, ERROR_BAD_REQUEST, "%sname, mac: exactly one of them is needed", path);
	for (unsigned i = 0; i < p->addresses.count; i++)
		if (!cidr_parse(p->addresses.items[i], &cidr))
			return error_set(err, ERROR_BAD_REQUEST,
				"%saddresses[%u]: '%.64s' is not ADDRESS/PREFIX", path, i,
				p->addresses.items[i]);
	if (p->gateway && (!cidr_parse(p->gateway, &cidr) || strchr(p->gateway, '/')))
		return error_set(err, ERROR_BAD_REQUEST, "%sgateway: '%.64s' is no address", path,
			p->gateway);
	for (unsigned i = 0; i < p->dns.count; i++)
		if (!cidr_parse(p->dns.items[i], &cidr) || strchr(p->dns.items[i], '/'))
			return error_set(err, ERROR_BAD_REQUEST, "%sdns[%u]: '%.64s' is no address",
				path, i, p->dns.items[i]);
	return 0;
}

static int write_dns(const struct schema_texts *dns, struct error *err)
{
	char text[1024] = "";
	size_t used = 0;

	for (unsigned i = 0; i < dns->count && used < sizeof(text); i++)
		used += (size_t)snprintf(
			text + used, sizeof(text) - used, "nameserver %s\n", dns->items[i]);
	return dns->items ? file_replace("/etc/resolv.conf", text, err) : 0;
}

static int set_addresses(const struct network_params *p, const struct link *link, struct error *err)
{
	struct cidr cidr;
	int ret = p->addresses.items ? netlink_flush(link, err) : 0;

	for (unsigned i = 0; p->addresses.items && i < p->addresses.count && !ret; i++) {
		cidr_parse(p->addresses.items[i], &cidr);
		ret = netlink_add(link, &cidr, err);
		if (ret)
			error_prefix(err, "addresses[%u]", i);
	}
	return ret;
}

json_t *network_apply(const struct network_params *p, struct error *err)
{
	struct link link;
	struct cidr gateway;
	unsigned announced = 0;
	char mac[18];

	if (netlink_find(p->name, p->mac, &link, err) ||
		netlink_set(&link, is_given(p->new_mac) ? p->new_mac : NULL, p->mtu, err) ||
		set_addresses(p, &link, err) || netlink_up(&link, p->up, err))
		return NULL;
	if (p->gateway) {
		cidr_parse(p->gateway, &gateway);
		if (netlink_gateway(&link, &gateway, err))
			return NULL;
	}
	if (write_dns(&p->dns, err) || netlink_find(link.name, NULL, &link, err))
		return NULL;
	if (link.up && (p->addresses.items || is_given(p->new_mac)))
		announced = announce_link(&link);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", link.mac[0], link.mac[1],
		link.mac[2], link.mac[3], link.mac[4], link.mac[5]);
	return json_pack("{s:s, s:s, s:i, s:b, s:i}", "name", link.name, "mac", mac, "mtu",
		(int)link.mtu, "up", link.up, "announced", (int)announced);
}

static json_t *network_run(const void *params, struct error *err)
{
	return network_apply(params, err);
}

static void serve_network(struct rpc_call *call)
{
	struct error err;

	if (network_check(call->params, "", &err))
		rpc_fail(call, &err);
	else if (!freeze_refuses(call))
		worker_serve(call, 10000, network_run);
}

const struct rpc_method network_methods[] = {
	{"network.configure", serve_network, network_schema, sizeof(struct network_params),
		"Sets a network interface's addresses, MAC address, MTU, gateway and name servers.",
		"{name, mac, mtu, up, announced}"},
	{.name = NULL},
};
