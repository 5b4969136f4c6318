/* SPDX-License-Identifier: Apache-2.0 */
/* userfaultfd(2): opening it by whichever way is open to us, and its ioctls. See uffd.h for the contract. */
#include "vmm/memory/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* Linux 6.1 */
#endif

#define FLAGS (O_CLOEXEC | O_NONBLOCK)

int uffd_device_open(void)
{
	return open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
}

/* The device first: who was given it needs no privilege else. */
static int new_descriptor(int device)
{
	int fd = device >= 0 ? ioctl(device, USERFAULTFD_IOC_NEW, FLAGS) : -1;

	return fd >= 0 ? fd : (int)syscall(SYS_userfaultfd, FLAGS);
}

static int refused(int errnum, struct error *err)
{
	error_errno(err, errnum, "cannot be told of faults in guest memory by userfaultfd");
	if (errnum == EPERM)
		return error_hint(err,
			"set the sysctl vm.unprivileged_userfaultfd to 1, or let this user open /dev/userfaultfd");
	if (errnum == ENOSYS)
		return error_hint(err, "the host's kernel was built without CONFIG_USERFAULTFD");
	return -err->code;
}

int uffd_open(struct uffd *uffd, int device, uint64_t features, struct error *err)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};

	uffd->fd = new_descriptor(device);
	if (uffd->fd < 0)
		return refused(errno, err);
	if (ioctl(uffd->fd, UFFDIO_API, &api) < 0) {
		error_set(err, ERROR_INCOMPATIBLE,
			"the host's kernel lacks features of userfaultfd that are needed (%#" PRIx64
			")",
			features);
		uffd_close(uffd);
		return error_hint(err, "Linux 5.7 or later has them on x86_64, 6.1 is recommended");
	}
	uffd->features = api.features;
	return 0;
}

void uffd_close(struct uffd *uffd)
{
	if (uffd->fd >= 0)
		close(uffd->fd);
	*uffd = UFFD_CLOSED;
}

static struct uffdio_range range_of(const void *start, uint64_t size)
{
	return (struct uffdio_range){.start = (uintptr_t)start, .len = size};
}

int uffd_register(
	const struct uffd *uffd, void *start, uint64_t size, uint64_t mode, struct error *err)
{
	struct uffdio_register reg = {.range = range_of(start, size), .mode = mode};

	if (ioctl(uffd->fd, UFFDIO_REGISTER, &reg) == 0)
		return 0;
	if (errno == EINVAL)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the host's kernel cannot watch this memory by userfaultfd: only anonymous memory, and no file that is mapped");
	if (errno == EBUSY)
		return error_set(err, ERROR_WRONG_STATE,
			"memory is still being filled from a snapshot, or copied for another");
	return error_errno(
		err, errno, "cannot watch %" PRIu64 " MiB of memory by userfaultfd", size >> 20);
}

/*
 * The kernel wakes who waits before it takes the watch off, and with a lock for each mapping a fault may come in between, and
 * nobody would ever wake that one: by now all who wait are in the queue, and no other can come.
 */
int uffd_unregister(const struct uffd *uffd, void *start, uint64_t size)
{
	struct uffdio_range range = range_of(start, size);

	return ioctl(uffd->fd, UFFDIO_UNREGISTER, &range) < 0 ? -errno
							      : uffd_wake(uffd, start, size);
}

/* EAGAIN: the address space is being changed elsewhere (fork, mremap); the call has done nothing then. */
static int set_protection(const struct uffd *uffd, void *start, uint64_t size, uint64_t mode)
{
	struct uffdio_writeprotect wp = {.range = range_of(start, size), .mode = mode};

	while (ioctl(uffd->fd, UFFDIO_WRITEPROTECT, &wp) < 0)
		if (errno != EAGAIN)
			return -errno;
	return 0;
}

int uffd_protect(const struct uffd *uffd, void *start, uint64_t size)
{
	return set_protection(uffd, start, size, UFFDIO_WRITEPROTECT_MODE_WP);
}

int uffd_unprotect(const struct uffd *uffd, void *start, uint64_t size)
{
	return set_protection(uffd, start, size, 0);
}

/* Both calls tell how far they came. A page that is there already (EEXIST) is passed over, and its waiters are woken. */
static int after_part(
	const struct uffd *uffd, uint8_t *at, int64_t done, uint64_t left, int errnum, uint64_t *by)
{
	*by = done > 0 ? (uint64_t)done : 0;
	if (*by || errnum == EAGAIN)
		return 0;
	if (errnum != EEXIST)
		return -errnum;
	*by = left < 4096 ? left : 4096;
	return uffd_wake(uffd, at, *by);
}

int uffd_copy(const struct uffd *uffd, void *start, const void *from, uint64_t size)
{
	uint64_t at = 0, by;
	int ret = 0;

	for (; at < size && ret == 0; at += by) {
		struct uffdio_copy copy = {.dst = (uintptr_t)start + at,
			.src = (uintptr_t)from + at,
			.len = size - at};

		if (ioctl(uffd->fd, UFFDIO_COPY, &copy) == 0)
			return 0;
		ret = after_part(uffd, (uint8_t *)start + at, copy.copy, size - at, errno, &by);
	}
	return ret;
}

int uffd_zero(const struct uffd *uffd, void *start, uint64_t size)
{
	uint64_t at = 0, by;
	int ret = 0;

	for (; at < size && ret == 0; at += by) {
		struct uffdio_zeropage zero = {.range = range_of((uint8_t *)start + at, size - at)};

		if (ioctl(uffd->fd, UFFDIO_ZEROPAGE, &zero) == 0)
			return 0;
		ret = after_part(uffd, (uint8_t *)start + at, zero.zeropage, size - at, errno, &by);
	}
	return ret;
}

int uffd_wake(const struct uffd *uffd, void *start, uint64_t size)
{
	struct uffdio_range range = range_of(start, size);

	return ioctl(uffd->fd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}

int uffd_read(const struct uffd *uffd, struct uffd_msg *messages, unsigned count)
{
	ssize_t len = read(uffd->fd, messages, count * sizeof(*messages));

	if (len < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return (int)((size_t)len / sizeof(*messages));
}
