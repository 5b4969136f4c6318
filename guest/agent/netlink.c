/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtnetlink(7). See netlink.h. One socket a request: these are rare, and a fresh socket has no leftover answers.
 */
#include "guest/agent/netlink.h"

#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>

/* The kernel's macros for walking over messages cast char pointers; the buffers here are aligned for it. */
#pragma GCC diagnostic ignored "-Wcast-align"

struct request {
	struct nlmsghdr header;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg address;
		struct rtmsg route;
		struct ndmsg neighbour;
	} u;
	char room[256];
};

static void request_start(struct request *request, uint16_t type, uint16_t flags, size_t body)
{
	memset(request, 0, sizeof(*request));
	request->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
	request->header.nlmsg_type = type;
	request->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
}

static void request_put(struct request *request, uint16_t type, const void *data, size_t size)
{
	struct rtattr *attribute =
		(void *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));

	attribute->rta_type = type;
	attribute->rta_len = (uint16_t)RTA_LENGTH(size);
	memcpy(RTA_DATA(attribute), data, size);
	request->header.nlmsg_len =
		NLMSG_ALIGN(request->header.nlmsg_len) + (uint32_t)RTA_ALIGN(attribute->rta_len);
}

/* Hand the messages of one datagram to `each`. True when the answer is complete; *result is its errno. */
static bool take_answer(const char *buf, ssize_t len, void (*each)(const struct nlmsghdr *, void *),
	void *user, int *result)
{
	const struct nlmsghdr *message = (const void *)buf;

	for (; NLMSG_OK(message, (size_t)len); message = NLMSG_NEXT(message, len)) {
		if (message->nlmsg_type == NLMSG_DONE)
			return true;
		if (message->nlmsg_type == NLMSG_ERROR) {
			*result = -((const struct nlmsgerr *)NLMSG_DATA(message))->error;
			return true;
		}
		if (each)
			each(message, user);
	}
	return false;
}

static int talk(struct request *request, void (*each)(const struct nlmsghdr *, void *), void *user,
	const char *what, struct error *err)
{
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	static _Alignas(8) char buf[65536];
	int result = 0;
	ssize_t len;

	if (fd < 0 || sendto(fd, request, request->header.nlmsg_len, 0, (struct sockaddr *)&kernel,
			      sizeof(kernel)) < 0)
		return error_errno(err, errno, "%s", what);
	do {
		len = recv(fd, buf, sizeof(buf), 0);
		if (len <= 0)
			return error_errno(err, len ? errno : EIO, "%s", what);
	} while (!take_answer(buf, len, each, user, &result));
	return result ? error_errno(err, result, "%s", what) : 0;
}

bool cidr_parse(const char *text, struct cidr *cidr)
{
	char address[64], *slash, *end;
	unsigned most;

	memset(cidr, 0, sizeof(*cidr));
	if (strlen(text) >= sizeof(address))
		return false;
	snprintf(address, sizeof(address), "%s", text);
	slash = strchr(address, '/');
	if (slash)
		*slash = '\0';
	cidr->family = strchr(address, ':') ? AF_INET6 : AF_INET;
	most = cidr->family == AF_INET ? 32 : 128;
	cidr->prefix = most;
	if (inet_pton(cidr->family, address, cidr->address) != 1)
		return false;
	if (!slash)
		return true;
	cidr->prefix = (unsigned)strtoul(slash + 1, &end, 10);
	return slash[1] >= '0' && slash[1] <= '9' && !*end && cidr->prefix <= most;
}

struct links {
	struct link *links;
	int count;
};

static void take_stats(struct link *link, const struct rtattr *attribute)
{
	struct rtnl_link_stats64 stats = {0};

	memcpy(&stats, RTA_DATA(attribute), min_u64(sizeof(stats), RTA_PAYLOAD(attribute)));
	link->rx_bytes = stats.rx_bytes;
	link->tx_bytes = stats.tx_bytes;
	link->rx_packets = stats.rx_packets;
	link->tx_packets = stats.tx_packets;
	link->rx_dropped = stats.rx_dropped;
	link->tx_dropped = stats.tx_dropped;
}

static void take_link(const struct nlmsghdr *message, void *user)
{
	const struct ifinfomsg *info = NLMSG_DATA(message);
	int left = (int)IFLA_PAYLOAD(message);
	struct links *links = user;
	struct link *link = &links->links[links->count];

	if (message->nlmsg_type != RTM_NEWLINK || links->count == LINKS_MAX)
		return;
	*link = (struct link){.index = info->ifi_index, .up = info->ifi_flags & IFF_UP};
	for (const struct rtattr *a = IFLA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_IFNAME)
			snprintf(link->name, sizeof(link->name), "%s", (const char *)RTA_DATA(a));
		if (a->rta_type == IFLA_MTU)
			memcpy(&link->mtu, RTA_DATA(a), sizeof(link->mtu));
		if (a->rta_type == IFLA_STATS64)
			take_stats(link, a);
		if (a->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(a) == 6 &&
			info->ifi_type == ARPHRD_ETHER) {
			memcpy(link->mac, RTA_DATA(a), 6);
			link->has_mac = true;
		}
	}
	links->count++;
}

int netlink_links(struct link links[LINKS_MAX], struct error *err)
{
	struct links all = {.links = links};
	struct request request;
	int ret;

	request_start(&request, RTM_GETLINK, NLM_F_DUMP, sizeof(request.u.link));
	ret = talk(&request, take_link, &all, "cannot list the network interfaces", err);
	return ret ? ret : all.count;
}

int netlink_find(const char *name, const uint8_t *mac, struct link *link, struct error *err)
{
	static struct link links[LINKS_MAX];
	int count = netlink_links(links, err);

	for (int i = 0; i < count; i++)
		if (name ? !strcmp(links[i].name, name)
			 : links[i].has_mac && !memcmp(links[i].mac, mac, 6)) {
			*link = links[i];
			return 0;
		}
	if (count < 0)
		return count;
	if (name)
		return error_set(
			err, ERROR_NOT_FOUND, "there is no network interface '%.16s'", name);
	return error_set(err, ERROR_NOT_FOUND,
		"there is no network interface with the address %02x:%02x:%02x:%02x:%02x:%02x",
		mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static void take_address(const struct nlmsghdr *message, void *user)
{
	const struct ifaddrmsg *info = NLMSG_DATA(message);
	int left = (int)IFA_PAYLOAD(message);
	const void *address = NULL;
	char text[INET6_ADDRSTRLEN], cidr[64];

	if (message->nlmsg_type != RTM_NEWADDR)
		return;
	for (const struct rtattr *a = IFA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == IFA_LOCAL || (a->rta_type == IFA_ADDRESS && !address))
			address = RTA_DATA(a);
	if (!address || !inet_ntop(info->ifa_family, address, text, sizeof(text)))
		return;
	snprintf(cidr, sizeof(cidr), "%s/%u", text, info->ifa_prefixlen);
	json_array_append_new(
		user, json_pack("{s:i, s:s}", "index", (int)info->ifa_index, "address", cidr));
}

json_t *netlink_addresses(struct error *err)
{
	json_t *list = json_array();
	struct request request;

	request_start(&request, RTM_GETADDR, NLM_F_DUMP, sizeof(request.u.address));
	if (!talk(&request, take_address, list, "cannot list the addresses", err))
		return list;
	json_decref(list);
	return NULL;
}

int netlink_up(const struct link *link, bool up, struct error *err)
{
	struct request request;

	request_start(&request, RTM_NEWLINK, NLM_F_ACK, sizeof(request.u.link));
	request.u.link.ifi_index = link->index;
	request.u.link.ifi_change = IFF_UP;
	request.u.link.ifi_flags = up ? IFF_UP : 0;
	return talk(&request, NULL, NULL,
		up ? "cannot bring the interface up" : "cannot take the interface down", err);
}

int netlink_set(const struct link *link, const uint8_t *mac, unsigned mtu, struct error *err)
{
	struct request request;
	int ret = 0;

	if (!mac && !mtu)
		return 0;
	if (mac && link->up)
		ret = netlink_up(link, false, err); /* many drivers refuse a running interface */
	if (ret)
		return ret;
	request_start(&request, RTM_NEWLINK, NLM_F_ACK, sizeof(request.u.link));
	request.u.link.ifi_index = link->index;
	if (mac)
		request_put(&request, IFLA_ADDRESS, mac, 6);
	if (mtu)
		request_put(&request, IFLA_MTU, &mtu, sizeof(mtu));
	ret = talk(&request, NULL, NULL, "cannot set the interface's MAC address or MTU", err);
	if (mac && link->up) {
		struct error other;
		int back = netlink_up(link, true, ret ? &other : err);

		ret = ret ? ret : back;
	}
	return ret;
}

static int change_address(
	const struct link *link, const struct cidr *cidr, bool add, struct error *err)
{
	size_t size = cidr->family == AF_INET ? 4 : 16;
	struct request request;

	request_start(&request, add ? RTM_NEWADDR : RTM_DELADDR,
		(uint16_t)(NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_REPLACE : 0)),
		sizeof(request.u.address));
	request.u.address.ifa_family = (uint8_t)cidr->family;
	request.u.address.ifa_prefixlen = (uint8_t)cidr->prefix;
	request.u.address.ifa_index = (unsigned)link->index;
	if (cidr->family == AF_INET6 && add)
		request.u.address.ifa_flags =
			IFA_F_NODAD; /* the host gave it: no need to ask around first */
	request_put(&request, IFA_LOCAL, cidr->address, size);
	request_put(&request, IFA_ADDRESS, cidr->address, size);
	return talk(&request, NULL, NULL,
		add ? "cannot add the address" : "cannot remove the address", err);
}

int netlink_add(const struct link *link, const struct cidr *cidr, struct error *err)
{
	return change_address(link, cidr, true, err);
}

int netlink_flush(const struct link *link, struct error *err)
{
	json_t *all = netlink_addresses(err), *entry;
	struct cidr cidr;
	int ret = all ? 0 : -err->code;
	size_t i;

	json_array_foreach(all, i, entry)
	{
		const char *text = json_string_value(json_object_get(entry, "address"));

		if (ret || json_integer_value(json_object_get(entry, "index")) != link->index ||
			!cidr_parse(text, &cidr))
			continue;
		if (cidr.family == AF_INET6 && cidr.address[0] == 0xfe &&
			(cidr.address[1] & 0xc0) == 0x80)
			continue;
		ret = change_address(link, &cidr, false, err);
		/* Removing an address takes its secondary ones along. */
		if (ret == -EADDRNOTAVAIL) {
			ret = 0;
			*err = (struct error){0};
		}
	}
	json_decref(all);
	return ret;
}

int netlink_gateway(const struct link *link, const struct cidr *gateway, struct error *err)
{
	struct request request;

	request_start(&request, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
		sizeof(request.u.route));
	request.u.route.rtm_family = (uint8_t)gateway->family;
	request.u.route.rtm_table = RT_TABLE_MAIN;
	request.u.route.rtm_protocol = RTPROT_STATIC;
	request.u.route.rtm_scope = RT_SCOPE_UNIVERSE;
	request.u.route.rtm_type = RTN_UNICAST;
	request_put(&request, RTA_GATEWAY, gateway->address, gateway->family == AF_INET ? 4 : 16);
	request_put(&request, RTA_OIF, &link->index, sizeof(link->index));
	return talk(&request, NULL, NULL, "cannot set the gateway", err);
}

/* ---- neighbours ---- */

#define NEIGHBOURS_MAX 1024

struct neighbours {
	int link;
	unsigned count;
	struct {
		uint8_t family;
		uint8_t address[16];
	} list[NEIGHBOURS_MAX];
};

static void take_neighbour(const struct nlmsghdr *message, void *user)
{
	const struct ndmsg *info = NLMSG_DATA(message);
	int left = (int)(message->nlmsg_len - NLMSG_LENGTH(sizeof(*info)));
	const struct rtattr *a = (const void *)((const char *)info + NLMSG_ALIGN(sizeof(*info)));
	struct neighbours *all = user;

	if (message->nlmsg_type != RTM_NEWNEIGH || info->ndm_ifindex != all->link ||
		info->ndm_state & (NUD_PERMANENT | NUD_NOARP) || all->count == NEIGHBOURS_MAX)
		return;
	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == NDA_DST && RTA_PAYLOAD(a) <= 16) {
			all->list[all->count].family = info->ndm_family;
			memcpy(all->list[all->count].address, RTA_DATA(a), RTA_PAYLOAD(a));
			all->count++;
			return;
		}
}

void netlink_forget_neighbours(const struct link *link)
{
	static struct neighbours all;
	struct request request;
	struct error err;

	all.link = link->index;
	all.count = 0;
	request_start(&request, RTM_GETNEIGH, NLM_F_DUMP, sizeof(request.u.neighbour));
	if (talk(&request, take_neighbour, &all, "cannot list the neighbours", &err))
		return;
	for (unsigned i = 0; i < all.count; i++) {
		request_start(&request, RTM_DELNEIGH, NLM_F_ACK, sizeof(request.u.neighbour));
		request.u.neighbour.ndm_family = all.list[i].family;
		request.u.neighbour.ndm_ifindex = link->index;
		request_put(&request, NDA_DST, all.list[i].address,
			all.list[i].family == AF_INET ? 4 : 16);
		/* One that went by itself meanwhile is as good. */
		talk(&request, NULL, NULL, "cannot forget a neighbour", &err);
	}
}
