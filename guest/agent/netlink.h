/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's network configuration by rtnetlink(7): links, addresses, the default routes. Blocking; workers and boot only. */
#pragma once

#include "vmm/base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define LINKS_MAX 64

struct link {
	int index;
	char name[16];
	uint8_t mac[6];
	bool has_mac, up;
	unsigned mtu;
	uint64_t rx_bytes, tx_bytes, rx_packets, tx_packets, rx_dropped, tx_dropped;
};

/* "10.0.0.2/24", "fd00::2/64"; without a prefix it is 32 or 128. */
struct cidr {
	int family;
	uint8_t address[16];
	unsigned prefix;
};
bool cidr_parse(const char *text, struct cidr *cidr);

/* All links; returns their number, or a negative errno. */
int netlink_links(struct link links[LINKS_MAX], struct error *err);
/* By name, or by MAC address where name is NULL. */
int netlink_find(const char *name, const uint8_t *mac, struct link *link, struct error *err);
/* [{"index", "address": "10.0.0.2/24"}] */
json_t *netlink_addresses(struct error *err);

/* What is not to change is NULL or 0. A link that is up goes down for its address's change, and up again. */
int netlink_set(const struct link *link, const uint8_t *mac, unsigned mtu, struct error *err);
int netlink_up(const struct link *link, bool up, struct error *err);
/* Take away every address but link-local IPv6 ones. */
int netlink_flush(const struct link *link, struct error *err);
int netlink_add(const struct link *link, const struct cidr *cidr, struct error *err);
/* The default route of the gateway's family: replaced. */
int netlink_gateway(const struct link *link, const struct cidr *gateway, struct error *err);
/* Forget who was reached where over the link; entries that somebody made by hand stay. */
void netlink_forget_neighbours(const struct link *link);
