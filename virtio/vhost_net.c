/* SPDX-License-Identifier: Apache-2.0 */
/* vhost-net: queue pairs served by the host's kernel. See vhost_net.h. */
#include "virtio/vhost_net.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#define VHOST_DEVICE "/dev/vhost-net"

/* What vhost does itself; all else of virtio-net is the tap's business or ours. */
#define VHOST_FEATURES                                                                             \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX |                            \
		1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_NET_F_MRG_RXBUF)

static int open_device(struct error *err)
{
	int fd = open(VHOST_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		return fd;
	error_errno(err, errno, "cannot open " VHOST_DEVICE);
	if (err->code == ENOENT || err->code == ENODEV || err->code == ENXIO)
		error_hint(err, "modprobe vhost_net, or use vhost=off");
	else if (err->code == EACCES || err->code == EPERM)
		error_hint(err, "give this user access to it, or use vhost=off");
	return -err->code;
}

int vhost_net_open(struct vhost_net *vhost, struct error *err)
{
	_cleanup_close_ int fd = open_device(err);
	_cleanup_close_ int silent = -1;
	_cleanup_close_ int error = -1;
	uint64_t features = 0;

	if (fd < 0)
		return fd;
	if (ioctl(fd, VHOST_GET_FEATURES, &features) < 0)
		return error_errno(err, errno, "cannot ask " VHOST_DEVICE " for its features");
	if (VHOST_FEATURES & ~features) {
		error_set(err, ERROR_INCOMPATIBLE,
			"this kernel's vhost-net lacks features (it has 0x%llx)",
			(unsigned long long)features);
		return error_hint(err, "use vhost=off");
	}
	if (ioctl(fd, VHOST_SET_OWNER) < 0)
		return error_errno(err, errno, "cannot start a vhost-net worker");
	silent = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (silent < 0 || error < 0)
		return error_errno(err, errno, "cannot create an eventfd");
	vhost->fd = steal_fd(&fd);
	vhost->silent_fd = steal_fd(&silent);
	vhost->error_fd = steal_fd(&error);
	return 0;
}

void vhost_net_close(struct vhost_net *vhost)
{
	if (vhost->fd < 0)
		return;
	close(steal_fd(&vhost->fd));
	close(steal_fd(&vhost->silent_fd));
	close(steal_fd(&vhost->error_fd));
}

static int set_memory(int fd, const struct guest_memory *memory)
{
	struct {
		struct vhost_memory header;
		struct vhost_memory_region regions[MEMORY_REGIONS_MAX + 1];
	} table = {.header.nregions = memory->region_count};

	for (unsigned i = 0; i < memory->region_count; i++)
		table.regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = memory->regions[i].gpa,
			.memory_size = memory->regions[i].size,
			.userspace_addr = (uint64_t)(uintptr_t)memory->regions[i].host,
		};
	/* The area whole: of what is not plugged yet there is only address space, and to name it breaks the ring. */
	if (memory->area.size)
		table.regions[table.header.nregions++] = (struct vhost_memory_region){
			.guest_phys_addr = memory->area.gpa,
			.memory_size = memory->area.size,
			.userspace_addr = (uint64_t)(uintptr_t)memory->area.host,
		};
	return ioctl(fd, VHOST_SET_MEM_TABLE, &table) < 0 ? -errno : 0;
}

static int set_addresses(
	const struct vhost_net *vhost, unsigned index, const struct device_queue *dq, bool log)
{
	struct vhost_vring_addr addr = {
		.index = index,
		.flags = log ? 1u << VHOST_VRING_F_LOG : 0,
		.desc_user_addr = (uint64_t)(uintptr_t)dq->ring.desc,
		.used_user_addr = (uint64_t)(uintptr_t)dq->ring.used,
		.avail_user_addr = (uint64_t)(uintptr_t)dq->ring.avail,
		.log_guest_addr = dq->registers.device,
	};

	return ioctl(vhost->fd, VHOST_SET_VRING_ADDR, &addr) < 0 ? -errno : 0;
}

static int set_features(const struct vhost_net *vhost, const struct virtio_device *dev, bool log)
{
	uint64_t features =
		(dev->driver_features & VHOST_FEATURES) | (log ? 1ull << VHOST_F_LOG_ALL : 0);

	return ioctl(vhost->fd, VHOST_SET_FEATURES, &features) < 0 ? -errno : 0;
}

/* Buffers are logged where the feature says so, used rings where their flag does. The kernel has its own lock. */
static int log_writes(struct memory_logger *logger, uint64_t *bitmap)
{
	const struct vhost_net *vhost = container_of(logger, struct vhost_net, logger);
	uint64_t base = (uint64_t)(uintptr_t)bitmap;
	int ret = 0;

	if (bitmap && ioctl(vhost->fd, VHOST_SET_LOG_BASE, &base) < 0)
		ret = -errno;
	if (ret == 0)
		ret = set_features(vhost, vhost->rings[0]->device, bitmap);
	for (unsigned i = 0; i < 2 && ret == 0; i++)
		ret = set_addresses(vhost, i, vhost->rings[i], bitmap);
	return ret;
}

static int set_ring(struct vhost_net *vhost, unsigned index, struct device_queue *dq)
{
	const struct virtqueue *ring = &dq->ring;
	const struct virtio_transport *transport = dq->device->transport;
	struct vhost_vring_state size = {.index = index, .num = ring->size};
	struct vhost_vring_state base = {.index = index, .num = ring->next_avail};
	struct vhost_vring_file kick = {.index = index, .fd = dq->kick_fd};
	struct vhost_vring_file call = {.index = index, .fd = -1};
	struct vhost_vring_file error = {.index = index, .fd = vhost->error_fd};

	if (transport)
		call.fd = transport->vector_fd(dq->device, dq->vector);
	if (call.fd < 0)
		call.fd = vhost->silent_fd;
	if (ioctl(vhost->fd, VHOST_SET_VRING_NUM, &size) < 0 ||
		ioctl(vhost->fd, VHOST_SET_VRING_BASE, &base) < 0 ||
		set_addresses(vhost, index, dq, false) < 0 ||
		ioctl(vhost->fd, VHOST_SET_VRING_KICK, &kick) < 0 ||
		ioctl(vhost->fd, VHOST_SET_VRING_CALL, &call) < 0 ||
		ioctl(vhost->fd, VHOST_SET_VRING_ERR, &error) < 0)
		return -errno;
	return 0;
}

static int set_backend(struct vhost_net *vhost, unsigned index, int fd)
{
	struct vhost_vring_file backend = {.index = index, .fd = fd};

	return ioctl(vhost->fd, VHOST_NET_SET_BACKEND, &backend) < 0 ? -errno : 0;
}

static void error_reported(struct loop_poll *poll, uint32_t revents)
{
	struct vhost_net *vhost = container_of(poll, struct vhost_net, error_poll);

	(void)revents;
	vhost->failed(vhost);
}

static void watch_errors(struct vhost_net *vhost, struct loop *loop)
{
	vhost->error_poll.fd = vhost->error_fd;
	vhost->error_poll.events = POLLIN;
	vhost->error_poll.ready = error_reported;
	loop_poll_start(loop, &vhost->error_poll);
}

/* What was reported of the rings of before must not count against those that start now. */
static void forget_errors(const struct vhost_net *vhost)
{
	uint64_t count;
	ssize_t ignored = read(vhost->error_fd, &count, sizeof(count));

	(void)ignored;
}

int vhost_net_start(struct vhost_net *vhost, struct device_queue *rx, struct device_queue *tx,
	int tap_fd, struct error *err)
{
	const struct guest_memory *memory = rx->device->memory;
	int ret;

	BUG_ON(vhost->running || vhost->ending);
	forget_errors(vhost);
	ret = set_features(vhost, rx->device, false);
	if (ret < 0)
		return error_errno(err, -ret, "vhost-net refuses the negotiated features");
	ret = set_memory(vhost->fd, memory);
	if (ret < 0)
		return error_errno(err, -ret, "vhost-net refuses the guest's memory");
	ret = set_ring(vhost, 0, rx);
	if (ret == 0)
		ret = set_ring(vhost, 1, tx);
	if (ret < 0)
		return error_errno(err, -ret, "vhost-net refuses a ring");
	vhost->rings[0] = rx;
	vhost->rings[1] = tx;
	vhost->logger.log = log_writes;
	ret = guest_memory_add_logger(memory, &vhost->logger);
	if (ret < 0)
		return error_errno(err, -ret, "vhost-net cannot log what it writes");
	ret = set_backend(vhost, 0, tap_fd);
	if (ret == 0)
		ret = set_backend(vhost, 1, tap_fd);
	if (ret < 0) {
		set_backend(vhost, 0, -1);
		guest_memory_remove_logger(memory, &vhost->logger);
		return error_errno(err, -ret, "vhost-net refuses the tap");
	}
	vhost->running = true;
	watch_errors(vhost, rx->loop);
	return 0;
}

static void take_back(struct vhost_net *vhost, unsigned index, struct device_queue *dq)
{
	struct vhost_vring_state base = {.index = index};

	/* Waits until the worker has let go of the ring. */
	if (set_backend(vhost, index, -1) < 0 ||
		ioctl(vhost->fd, VHOST_GET_VRING_BASE, &base) < 0) {
		log_error("%s '%s': vhost-net does not give back a ring: %s", dq->device->ops->name,
			dq->device->id, strerrordesc_np(errno));
		return;
	}
	dq->ring.next_avail = (uint16_t)base.num;
	/* It completes in order whatever it takes. Not asked of the used ring, which the guest can write. */
	dq->ring.next_used = dq->ring.signalled_used = dq->ring.next_avail;
}

static void errors_released(struct loop_poll *poll)
{
	struct vhost_net *vhost = container_of(poll, struct vhost_net, error_poll);

	vhost->ending = false;
	vhost->stopped(vhost);
}

void vhost_net_stop(struct vhost_net *vhost, struct device_queue *rx, struct device_queue *tx)
{
	if (!vhost->running)
		return;
	vhost->running = false;
	/* It may log still, and what it logs is taken; but it is told nothing of rings that are about to go. */
	guest_memory_remove_logger(rx->device->memory, &vhost->logger);
	take_back(vhost, 0, rx);
	take_back(vhost, 1, tx);
	vhost->ending = true;
	loop_poll_stop(&vhost->error_poll, errors_released);
}
