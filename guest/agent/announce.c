/* SPDX-License-Identifier: Apache-2.0 */
/* ARP announcements and unsolicited neighbour advertisements. See announce.h. */
#include "guest/agent/announce.h"

#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <string.h>
#include <sys/socket.h>

static bool send_arp(const struct link *link, const struct cidr *cidr)
{
	_cleanup_close_ int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ARP));
	struct sockaddr_ll to = {.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ARP),
		.sll_ifindex = link->index,
		.sll_halen = ETH_ALEN};
	struct ether_arp arp = {
		.ea_hdr = {.ar_hrd = htons(ARPHRD_ETHER),
			.ar_pro = htons(ETH_P_IP),
			.ar_hln = ETH_ALEN,
			.ar_pln = 4,
			.ar_op = htons(ARPOP_REQUEST)},
	};

	memset(to.sll_addr, 0xff, ETH_ALEN);
	memcpy(arp.arp_sha, link->mac, ETH_ALEN);
	memcpy(arp.arp_spa, cidr->address, 4);
	memcpy(arp.arp_tpa, cidr->address, 4);
	return fd >= 0 && sendto(fd, &arp, sizeof(arp), 0, (struct sockaddr *)&to, sizeof(to)) ==
				  (ssize_t)sizeof(arp);
}

/* The kernel fills in the checksum of a raw ICMPv6 socket's messages (RFC 3542 §3.1). */
static bool send_advertisement(const struct link *link, const struct cidr *cidr)
{
	_cleanup_close_ int fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
	struct sockaddr_in6 from = {.sin6_family = AF_INET6}, to = from;
	int hops = 255; /* RFC 4861 §7.1.2: none that came through a router is believed */
	struct {
		struct nd_neighbor_advert advert;
		struct nd_opt_hdr option;
		uint8_t mac[6];
	} message = {
		.advert = {.nd_na_type = ND_NEIGHBOR_ADVERT,
			.nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE},
		.option = {.nd_opt_type = ND_OPT_TARGET_LINKADDR, .nd_opt_len = 1},
	};

	memcpy(&from.sin6_addr, cidr->address, 16);
	memcpy(&message.advert.nd_na_target, cidr->address, 16);
	memcpy(message.mac, link->mac, 6);
	inet_pton(AF_INET6, "ff02::1", &to.sin6_addr);
	to.sin6_scope_id = from.sin6_scope_id = (uint32_t)link->index;
	return fd >= 0 &&
	       setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops)) == 0 &&
	       setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &link->index, sizeof(link->index)) ==
		       0 &&
	       bind(fd, (struct sockaddr *)&from, sizeof(from)) == 0 &&
	       sendto(fd, &message, sizeof(message), 0, (struct sockaddr *)&to, sizeof(to)) ==
		       (ssize_t)sizeof(message);
}

unsigned announce_link(const struct link *link)
{
	struct error err;
	json_t *all = link->has_mac ? netlink_addresses(&err) : NULL, *entry;
	unsigned announced = 0;
	struct cidr cidr;
	size_t i;

	if (link->has_mac)
		netlink_forget_neighbours(link);
	json_array_foreach(all, i, entry)
	{
		const char *text = json_string_value(json_object_get(entry, "address"));

		if (json_integer_value(json_object_get(entry, "index")) != link->index ||
			!cidr_parse(text, &cidr))
			continue;
		announced += cidr.family == AF_INET ? send_arp(link, &cidr)
						    : send_advertisement(link, &cidr);
	}
	json_decref(all);
	return announced;
}
