// SPDX-License-Identifier: Apache-2.0
/* Host tap interfaces: opening, checking, offloads. See tap.h. */
#include "virtio/tap.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define TUN_DEVICE "/dev/net/tun"

/* What the kernel would take as an interface name, less '%', which it would number itself. */
static bool valid_name(const char *name)
{
	size_t len = strlen(name);

	if (!len || len >= IFNAMSIZ || !strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] > '~' || name[i] == '/' || name[i] == ':' ||
			name[i] == '%')
			return false;
	return true;
}

static struct ifreq named(const char *name)
{
	struct ifreq ifr;

	memset(&ifr, 0, sizeof(ifr));
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return ifr;
}

/* One ioctl about an interface, on a socket made for it. */
static int interface_ioctl(unsigned long request, struct ifreq *ifr)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, request, ifr) < 0)
		return -errno;
	return 0;
}

static int open_device(struct error *err)
{
	int fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO) {
		error_errno(err, errno, "cannot open " TUN_DEVICE);
		return error_hint(err, "this host has no tun driver: modprobe tun");
	}
	error_errno(err, errno, "cannot open " TUN_DEVICE);
	if (err->code == EACCES || err->code == EPERM)
		error_hint(err, "run as root, or hand over an open tap with fd=N");
	return -err->code;
}

static int set_interface(int fd, const char *name, int flags)
{
	struct ifreq ifr = named(name);

	ifr.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags);
	return ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : 0;
}

static int busy(const char *name, struct error *err)
{
	error_errno(err, EBUSY, "tap '%s' is in use", name);
	return error_hint(err, "another process holds it: give each VM a tap of its own");
}

/*
 * A multi-queue tap takes further queues from anyone, so that a second VM would silently get half of
 * the first one's packets: refuse an interface that has a carrier, which means an open descriptor.
 */
static bool held_by_another(const char *name)
{
	struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
	struct ethtool_value link = {.cmd = ETHTOOL_GLINK};
	struct ifreq ifr = named(name);

	ifr.ifr_data = (void *)&driver;
	if (interface_ioctl(SIOCETHTOOL, &ifr) < 0 || strcmp(driver.driver, "tun") != 0)
		return false;
	ifr.ifr_data = (void *)&link;
	return interface_ioctl(SIOCETHTOOL, &ifr) == 0 && link.data;
}

/* Say what TUNSETIFF's error means; EINVAL needs a second try to tell its two causes apart. */
static int attach_error(int fd, const char *name, unsigned queues, int ret, struct error *err)
{
	if (ret == -EINVAL && queues > 1) {
		ret = set_interface(fd, name, 0);
		if (ret == 0) {
			error_set(err, ERROR_BAD_REQUEST,
				"tap '%s' has one queue, but queues=%u is asked for", name, queues);
			return error_hint(
				err, "make it with: ip tuntap add %s mode tap multi_queue", name);
		}
	}
	if (ret == -EBUSY)
		return busy(name, err);
	if (ret == -EINVAL)
		return error_set(err, ERROR_BAD_REQUEST, "the interface '%s' is not a tap", name);
	error_errno(err, -ret, "cannot attach to the tap '%s'", name);
	if (ret == -EPERM)
		error_hint(err,
			"give it to this user: ip tuntap add %s mode tap user NAME; or run as root",
			name);
	return ret;
}

/* The header is 12 bytes (VIRTIO_F_VERSION_1) and little-endian, whatever the host is. */
static int set_header(int fd, struct error *err)
{
	int size = sizeof(struct virtio_net_hdr_v1), little = 1;

	if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0 || ioctl(fd, TUNSETVNETLE, &little) < 0)
		return error_errno(
			err, errno, "the tap does not take 12-byte little-endian packet headers");
	return 0;
}

/* An interface that we have just made is of no use down; one that was there is its owner's to raise. */
static void bring_up(const char *name, bool created)
{
	struct ifreq ifr = named(name);

	if (interface_ioctl(SIOCGIFFLAGS, &ifr) < 0 || ifr.ifr_flags & IFF_UP)
		return;
	if (!created) {
		log_warn(
			"tap '%s' is down: no packet passes until 'ip link set %s up'", name, name);
		return;
	}
	ifr.ifr_flags |= IFF_UP;
	if (interface_ioctl(SIOCSIFFLAGS, &ifr) < 0)
		log_warn("tap '%s' was created, but cannot be brought up: %s", name,
			strerrordesc_np(errno));
}

static int open_queues(const char *name, unsigned queues, int *fds, struct error *err)
{
	int flags = queues > 1 ? IFF_MULTI_QUEUE : 0;

	for (unsigned i = 0; i < queues; i++) {
		int ret;

		fds[i] = open_device(err);
		if (fds[i] < 0)
			return fds[i];
		ret = set_interface(fds[i], name, flags);
		if (ret == -EINVAL && queues == 1) {
			/* One queue of a multi-queue tap is as good. */
			if (held_by_another(name))
				return busy(name, err);
			ret = set_interface(fds[i], name, IFF_MULTI_QUEUE);
		}
		if (ret < 0)
			return attach_error(fds[i], name, queues, ret, err);
		ret = set_header(fds[i], err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int tap_open(const char *name, unsigned queues, int *fds, struct error *err)
{
	struct ifreq ifr;
	bool created;
	int ret;

	if (!valid_name(name)) {
		error_set(err, ERROR_BAD_REQUEST, "'%s' is not a tap's name", name);
		return error_hint(
			err, "1 to %d printable characters, without / : and %%", IFNAMSIZ - 1);
	}
	ifr = named(name);
	created = interface_ioctl(SIOCGIFINDEX, &ifr) == -ENODEV;
	if (queues > 1 && held_by_another(name))
		return busy(name, err);
	for (unsigned i = 0; i < queues; i++)
		fds[i] = -1;
	ret = open_queues(name, queues, fds, err);
	if (ret < 0) {
		for (unsigned i = 0; i < queues; i++)
			if (fds[i] >= 0)
				close(steal_fd(&fds[i]));
		return ret;
	}
	if (created)
		log_info("tap '%s' did not exist and was created; it goes with this VM", name);
	bring_up(name, created);
	return 0;
}

int tap_adopt(int fd, struct error *err)
{
	struct ifreq ifr = named("");
	int flags;

	if (ioctl(fd, TUNGETIFF, &ifr) < 0) {
		error_set(err, ERROR_BAD_REQUEST, "descriptor %d is not an open tap: %s", fd,
			strerrordesc_np(errno));
		return error_hint(err, "open " TUN_DEVICE " and attach it with TUNSETIFF first");
	}
	if ((ifr.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)) !=
		(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)) {
		error_set(err, ERROR_BAD_REQUEST,
			"descriptor %d ('%.15s') is attached in the wrong mode", fd, ifr.ifr_name);
		return error_hint(err, "attach it with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR");
	}
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
		fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot prepare the descriptor %d", fd);
	return set_header(fd, err);
}

uint16_t tap_mtu(const char *name)
{
	struct ifreq ifr = named(name);

	if (interface_ioctl(SIOCGIFMTU, &ifr) < 0 || ifr.ifr_mtu <= 0 || ifr.ifr_mtu > UINT16_MAX)
		return 0;
	return (uint16_t)ifr.ifr_mtu;
}

int tap_set_offloads(int fd, uint64_t guest_features)
{
	static const struct {
		unsigned feature, offload;
	} table[] = {
		{VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM},
		{VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
		{VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
		{VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
	};
	unsigned long offloads = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
		if (guest_features >> table[i].feature & 1)
			offloads |= table[i].offload;
	return ioctl(fd, TUNSETOFFLOAD, offloads) < 0 ? -errno : 0;
}

int tap_attach_queue(int fd, bool attach)
{
	struct ifreq ifr = named("");

	ifr.ifr_flags = attach ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
	return ioctl(fd, TUNSETQUEUE, &ifr) < 0 ? -errno : 0;
}
