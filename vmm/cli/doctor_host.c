/* SPDX-License-Identifier: Apache-2.0 */
/* The doctor's look at the rest of the host: devices, kernel features, memory, limits. */
#include "vmm/cli/doctor.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <liburing.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <linux/vhost.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define NOFILE_WANTED  4096
#define MEMLOCK_WANTED MIB(8)

/* A short file of /proc or /sys without its newline; "" when it cannot be read. */
static const char *read_text(const char *path, char *buf, size_t size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, buf, size - 1);

	buf[got > 0 ? got : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return buf;
}

void doctor_look_io_uring(struct doctor_finding *finding)
{
	static const char mend[] =
		"use kernel 5.19 or newer, set sysctl kernel.io_uring_disabled=0, and allow io_uring in the "
		"container's seccomp profile";
	struct io_uring ring;
	int ret = io_uring_queue_init(
		8, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

	if (!ret) {
		io_uring_queue_exit(&ring);
		doctor_ok(finding, "with SINGLE_ISSUER and DEFER_TASKRUN");
		return;
	}
	if (ret == -EINVAL)
		ret = io_uring_queue_init(8, &ring, 0);
	if (ret) {
		doctor_missing(finding, mend, "io_uring_setup: %s", strerror(-ret));
		return;
	}
	io_uring_queue_exit(&ring);
	doctor_ok(finding, "without DEFER_TASKRUN (kernel 6.1 or newer is faster)");
}

static const char *device_mend(int errnum, const char *module, char *buf, size_t size)
{
	if (errnum == EACCES || errnum == EPERM)
		snprintf(buf, size, "run as root, or allow the device in the container");
	else
		snprintf(buf, size, "modprobe %s", module);
	return buf;
}

void doctor_look_tun(struct doctor_finding *finding)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	unsigned features = 0;
	char mend[64];

	if (fd < 0 || ioctl(fd, TUNGETFEATURES, &features))
		doctor_missing(finding, device_mend(errno, "tun", mend, sizeof(mend)),
			"/dev/net/tun: %s", strerror(errno));
	else if (!(features & IFF_VNET_HDR))
		doctor_missing(finding, "use a newer kernel", "/dev/net/tun lacks IFF_VNET_HDR");
	else
		doctor_ok(finding, "/dev/net/tun, with offloads%s",
			features & IFF_MULTI_QUEUE ? " and several queues" : "");
}

void doctor_look_vhost_net(struct doctor_finding *finding)
{
	_cleanup_close_ int fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
	uint64_t features = 0;
	char mend[64];

	if (fd < 0 || ioctl(fd, VHOST_GET_FEATURES, &features))
		doctor_missing(finding, device_mend(errno, "vhost_net", mend, sizeof(mend)),
			"/dev/vhost-net: %s", strerror(errno));
	else
		doctor_ok(finding, "/dev/vhost-net, features 0x%" PRIx64, features);
}

/* KVM's own faults on guest memory are kernel faults: a descriptor for user faults only will not do. */
static int open_userfaultfd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	_cleanup_close_ int dev = -1;

	if (fd >= 0 || errno != EPERM)
		return fd;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev < 0) {
		errno = EPERM;
		return -1;
	}
	return ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
}

void doctor_look_userfaultfd(struct doctor_finding *finding)
{
	_cleanup_close_ int fd = open_userfaultfd();
	struct uffdio_api api = {.api = UFFD_API};

	if (fd < 0)
		doctor_missing(finding,
			"run as root, set sysctl vm.unprivileged_userfaultfd=1, or allow /dev/userfaultfd",
			"userfaultfd: %s", strerror(errno));
	else if (ioctl(fd, UFFDIO_API, &api))
		doctor_missing(
			finding, "use kernel 5.7 or newer", "UFFDIO_API: %s", strerror(errno));
	else if (!(api.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP))
		doctor_missing(finding, "use kernel 5.7 or newer, on x86_64 or arm64",
			"userfaultfd without write protection");
	else
		doctor_ok(finding, "with write protection, features 0x%" PRIx64,
			(uint64_t)api.features);
}

void doctor_look_cgroup(struct doctor_finding *finding)
{
	struct statfs fs;
	char controllers[160];

	if (!statfs("/sys/fs/cgroup", &fs) && fs.f_type == CGROUP2_SUPER_MAGIC)
		doctor_ok(finding, "/sys/fs/cgroup, controllers: %s",
			read_text("/sys/fs/cgroup/cgroup.controllers", controllers,
				sizeof(controllers)));
	else
		doctor_missing(finding,
			"boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none /sys/fs/cgroup",
			"/sys/fs/cgroup is not cgroup v2");
}

void doctor_look_thp(struct doctor_finding *finding)
{
	static const char path[] = "/sys/kernel/mm/transparent_hugepage/enabled";
	char modes[64];

	read_text(path, modes, sizeof(modes));
	if (strstr(modes, "[always]") || strstr(modes, "[madvise]"))
		doctor_ok(finding, "transparent huge pages: %s", modes);
	else
		doctor_missing(finding, "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled",
			"transparent huge pages: %s", *modes ? modes : "not in this kernel");
}

static void look_huge(struct doctor_finding *finding, unsigned kib, const char *mend)
{
	char path[96], total[24], free_pages[24];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%ukB/nr_hugepages", kib);
	read_text(path, total, sizeof(total));
	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%ukB/free_hugepages", kib);
	read_text(path, free_pages, sizeof(free_pages));
	if (!*total)
		doctor_missing(finding, "use a processor and kernel that have them",
			"not known to this kernel");
	else if (!strcmp(total, "0"))
		doctor_missing(finding, mend, "none reserved");
	else
		doctor_ok(finding, "%s reserved, %s free", total, free_pages);
}

void doctor_look_huge_2m(struct doctor_finding *finding)
{
	look_huge(finding, 2048, "echo N >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
}

void doctor_look_huge_1g(struct doctor_finding *finding)
{
	look_huge(finding, 1048576, "boot the host with hugepagesz=1G hugepages=N");
}

/* The hard limit counts: `run` raises its own soft one. */
static void look_limit(struct doctor_finding *finding, int resource, uint64_t wanted,
	const char *unit, const char *mend)
{
	struct rlimit limit = {0};

	getrlimit((__rlimit_resource_t)resource, &limit);
	if (limit.rlim_max == RLIM_INFINITY)
		doctor_ok(finding, "no limit");
	else if (limit.rlim_max >= wanted)
		doctor_ok(finding, "at most %" PRIu64 " %s", (uint64_t)limit.rlim_max, unit);
	else
		doctor_missing(finding, mend, "at most %" PRIu64 " %s, %" PRIu64 " are wanted",
			(uint64_t)limit.rlim_max, unit, wanted);
}

void doctor_look_nofile(struct doctor_finding *finding)
{
	look_limit(finding, RLIMIT_NOFILE, NOFILE_WANTED, "open files",
		"raise it: LimitNOFILE= in the unit, or /etc/security/limits.conf");
}

void doctor_look_memlock(struct doctor_finding *finding)
{
	look_limit(finding, RLIMIT_MEMLOCK, MEMLOCK_WANTED, "bytes locked",
		"raise it: LimitMEMLOCK= in the unit, or /etc/security/limits.conf");
}
