/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each kind of thread may ask of the kernel once the machine runs, with the reason beside each
 * line. Everything else ends the process (--seccomp on) or is logged (--seccomp log).
 *
 * A thread's I/O goes through its io_uring, which system-call filters do not see: the ring itself is
 * restricted to the few operations we use (see restrict_ring() in vmm/base/loop.c).
 */
#include "jailer/seccomp/policy.h"

#include <asm/termbits.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/membarrier.h>
#include <linux/sockios.h>
#include <linux/userfaultfd.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define ANY		   0, 0, 0
#define IOCTL(request)	   2, 0xffffffff, request
#define IOCTL_FAMILY(type) 2, 0xff00, (type) << 8
#define ONLY(arg, value)   arg, 0xffffffff, value

const struct policy_rule policy_rules[] = {
	/* Memory and threads: what the C library does beneath us. */
	{"mmap", POLICY_ALL, ANY, "malloc, thread stacks"},
	{"munmap", POLICY_ALL, ANY, "malloc, thread stacks"},
	{"mremap", POLICY_ALL, ANY, "realloc of large blocks"},
	{"mprotect", POLICY_ALL, ANY, "growing a thread's heap, guard pages"},
	{"madvise", POLICY_ALL, ANY, "giving memory back"},
	{"brk", POLICY_ALL, ANY, "malloc"},
	{"futex", POLICY_ALL, ANY, "mutexes, conditions, joins"},
	{"rseq", POLICY_ALL, ANY, "start and end of a thread"},
	{"set_robust_list", POLICY_ALL, ANY, "start of a thread"},
	{"sched_yield", POLICY_ALL, ANY, "the C library's spinning locks"},
	{"getrandom", POLICY_ALL, ANY, "malloc's tcache key, identifiers"},
	{"exit", POLICY_ALL, ANY, "end of a thread"},
	{"exit_group", POLICY_ALL, ANY, "end of the process"},
	{"restart_syscall", POLICY_ALL, ANY, "waits continued after a stop"},
	{"clock_gettime", POLICY_ALL, ANY, "where the vDSO cannot answer"},
	{"gettimeofday", POLICY_ALL, ANY, "where the vDSO cannot answer"},
	{"clock_nanosleep", POLICY_MAIN, ANY, "bounded waits at the end"},
	{"prctl", POLICY_ALL, ONLY(1, PR_SET_NAME), "a thread names itself"},
	{"prctl", POLICY_ALL, ONLY(1, PR_SET_NO_NEW_PRIVS), "a thread narrows its filter further"},
	{"seccomp", POLICY_ALL, ANY, "a thread narrows its filter further"},
	{"rt_sigprocmask", POLICY_ALL, ANY, "threads start with signals blocked"},
	{"rt_sigreturn", POLICY_ALL, ANY, "end of a signal handler"},
	{"rt_sigaction", POLICY_ALL, ANY, "abort()"},
	{"getpid", POLICY_ALL, ANY, "abort(), pthread_kill()"},
	{"gettid", POLICY_ALL, ANY, "abort(), pthread_kill()"},
	{"tgkill", POLICY_ALL, ANY, "abort(), kicking a vCPU"},
	{"clone3", POLICY_MAIN, ANY, "starting vCPU and I/O threads"},
	{"clone", POLICY_MAIN, ANY, "starting threads where clone3 is refused"},

	/* Descriptors that are already open. */
	{"read", POLICY_ALL, ANY, "eventfds, the console, packets"},
	{"write", POLICY_ALL, ANY, "eventfds (interrupts, wake-ups), the log"},
	{"close", POLICY_ALL, ANY, "closing streams and devices"},
	{"eventfd2", POLICY_ALL, ANY, "a vector's or queue's eventfd, made at first use"},
	{"io_uring_enter", POLICY_MAIN | POLICY_IO, ANY, "the event loop"},
	{"io_uring_register", POLICY_MAIN | POLICY_IO, ANY,
		"enabling a ring, registering its files"},
	{"io_uring_setup", POLICY_MAIN, ANY, "the ring of an I/O thread"},
	{"readv", POLICY_MAIN | POLICY_IO, ANY, "packets and streams into guest buffers"},
	{"writev", POLICY_MAIN | POLICY_IO, ANY, "packets and streams out of guest buffers"},
	{"pread64", POLICY_MAIN | POLICY_IO, ANY,
		"loading the kernel again, unaligned disk requests"},
	{"pwrite64", POLICY_MAIN | POLICY_IO, ANY, "unaligned disk requests"},
	{"fallocate", POLICY_MAIN | POLICY_IO, ANY, "discard and write-zeroes"},
	{"fdatasync", POLICY_MAIN | POLICY_IO, ANY, "flush"},
	{"fstat", POLICY_MAIN | POLICY_IO, ANY, "a disk's present size"},
	{"newfstatat", POLICY_MAIN | POLICY_IO, ANY, "a disk's present size"},
	{"lseek", POLICY_MAIN | POLICY_IO, ANY, "a block device's size, a kernel file's holes"},
	{"fcntl", POLICY_MAIN | POLICY_IO, ANY, "locks, non-blocking mode"},

	/* KVM: vCPUs run and route interrupts; the main thread also builds the machine anew at a reset. */
	{"ioctl", POLICY_VCPU, IOCTL(KVM_RUN), "running the guest"},
	{"ioctl", POLICY_VCPU, IOCTL(KVM_IRQFD), "connecting an MSI-X vector"},
	{"ioctl", POLICY_VCPU, IOCTL(KVM_IOEVENTFD), "a BAR that moved"},
	{"ioctl", POLICY_VCPU, IOCTL(KVM_SET_GSI_ROUTING), "routing an MSI-X vector"},
	{"ioctl", POLICY_VCPU, IOCTL(KVM_IRQ_LINE), "an interrupt of a legacy device"},
	{"ioctl", POLICY_VCPU, IOCTL(KVM_GET_IRQCHIP), "telling a reset from a crash"},
	{"ioctl", POLICY_VCPU, IOCTL(KVM_GET_LAPIC), "telling a reset from a crash"},
	{"ioctl", POLICY_MAIN, IOCTL_FAMILY(KVMIO), "machine reset, kicks"},
	{"rt_sigtimedwait", POLICY_VCPU | POLICY_MAIN, ANY, "taking a kick"},

	/* Guest memory that is copied or filled while the guest runs. */
	{"ioctl", POLICY_FAULTS | POLICY_MAIN, IOCTL_FAMILY(UFFDIO), "answering page faults"},
	{"userfaultfd", POLICY_MAIN, ANY, "being told of page faults"},
	{"pread64", POLICY_FAULTS, ANY, "reading a snapshot's memory"},
	{"poll", POLICY_FAULTS, ANY, "waiting for page faults"},
	{"ppoll", POLICY_FAULTS, ANY, "waiting for page faults"},

	/* Back ends. */
	{"ioctl", POLICY_MAIN | POLICY_IO, IOCTL(TUNSETOFFLOAD), "offloads as negotiated"},
	{"ioctl", POLICY_MAIN | POLICY_IO, IOCTL(TUNSETQUEUE), "queue pairs as negotiated"},
	{"ioctl", POLICY_MAIN | POLICY_IO, IOCTL(TUNSETVNETHDRSZ), "packet header as negotiated"},
	{"ioctl", POLICY_MAIN | POLICY_IO, IOCTL_FAMILY(VHOST_VIRTIO), "vhost-net"},
	{"socket", POLICY_MAIN | POLICY_IO, ONLY(1, AF_UNIX), "vsock streams"},
	{"connect", POLICY_MAIN | POLICY_IO, ANY, "vsock streams"},
	{"accept4", POLICY_MAIN | POLICY_IO, ANY, "vsock streams, the console's client"},
	{"shutdown", POLICY_MAIN | POLICY_IO, ANY, "half-closed vsock streams"},
	{"sendmsg", POLICY_MAIN | POLICY_IO, ANY, "streams"},
	{"recvmsg", POLICY_MAIN | POLICY_IO, ANY, "streams"},
	{"sendto", POLICY_MAIN | POLICY_IO, ANY, "streams, words to the service manager"},
	{"recvfrom", POLICY_MAIN | POLICY_IO, ANY, "streams"},
	{"getsockopt", POLICY_MAIN | POLICY_IO, ANY, "the outcome of a connect"},
	{"setsockopt", POLICY_MAIN | POLICY_IO, ANY, "stream buffers"},
	{"poll", POLICY_MAIN | POLICY_IO, ANY, "draining the console at the end"},
	{"ppoll", POLICY_MAIN | POLICY_IO, ANY, "draining the console at the end"},

	/* Devices that are plugged in while the machine runs. */
	{"socket", POLICY_MAIN, ONLY(1, AF_INET), "asking and setting up a tap"},
	{"ioctl", POLICY_MAIN, IOCTL(SIOCETHTOOL), "whether an interface is a tap, and up"},
	{"ioctl", POLICY_MAIN, IOCTL(SIOCGIFINDEX), "whether a tap exists"},
	{"ioctl", POLICY_MAIN, IOCTL(SIOCGIFFLAGS), "bringing a tap up"},
	{"ioctl", POLICY_MAIN, IOCTL(SIOCSIFFLAGS), "bringing a tap up"},
	{"ioctl", POLICY_MAIN, IOCTL(SIOCGIFMTU), "a tap's MTU"},
	{"ioctl", POLICY_MAIN, IOCTL(TUNSETIFF), "opening a tap"},
	{"ioctl", POLICY_MAIN, IOCTL(TUNGETIFF), "what a passed tap is"},
	{"ioctl", POLICY_MAIN, IOCTL(TUNSETVNETLE), "packet header's byte order"},
	{"ioctl", POLICY_MAIN, IOCTL(BLKSSZGET), "a volume's block size"},
	{"ioctl", POLICY_MAIN, IOCTL(BLKPBSZGET), "a volume's block size"},

	/* Dirty tracking. */
	{"membarrier", POLICY_MAIN, ONLY(1, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED),
		"following what devices write"},
	{"membarrier", POLICY_MAIN, ONLY(1, MEMBARRIER_CMD_PRIVATE_EXPEDITED),
		"following what devices write"},

	/* A snapshot's folder, by the threads that the main thread starts for it: they have its filter. */
	{"mkdirat", POLICY_MAIN, ANY, "the folder as it grows"},
	{"flock", POLICY_MAIN, ANY, "telling a growing folder from a dead process's"},
	{"getdents64", POLICY_MAIN, ANY, "what dead processes left"},
	{"sync_file_range", POLICY_MAIN, ANY,
		"memory on its way to the disk while more is written"},
	{"fsync", POLICY_MAIN, ANY, "a part, and the folder, on the disk"},
	{"renameat2", POLICY_MAIN, ANY, "the folder's name, never over anything"},
	{"readlink", POLICY_MAIN, ANY, "the way from a snapshot to its parent"},
	{"readlinkat", POLICY_MAIN, ANY, "the same where there is no readlink"},
	{"faccessat2", POLICY_MAIN, ANY, "the same: realpath() asks whether the end is a folder"},
	{"getcwd", POLICY_MAIN, ANY, "the same, where it is named from the working directory"},
	{"ioctl", POLICY_MAIN, IOCTL(FICLONE), "a disk that shares its image's blocks"},
	{"ioctl", POLICY_MAIN, IOCTL(FICLONERANGE), "whether it could"},
	{"sysinfo", POLICY_MAIN, ANY,
		"qsort() of more than a kibibyte: how much it may take for that"},

	/* The main thread only. */
	{"getrusage", POLICY_MAIN, ANY, "page faults, for the metrics"},
	{"ftruncate", POLICY_MAIN, ANY, "growing a disk's file"},
	{"openat", POLICY_MAIN, ANY,
		"reading kernel and initrd again at a reset, the metrics file, threads' times"},
	{"rename", POLICY_MAIN, ANY, "the metrics file"},
	{"renameat", POLICY_MAIN, ANY, "the metrics file, where there is no rename"},
	{"statx", POLICY_MAIN, ANY, "the same"},
	{"unlink", POLICY_MAIN, ANY, "removing our sockets at the end"},
	{"unlinkat", POLICY_MAIN, ANY, "removing our sockets at the end"},
	{"ioctl", POLICY_MAIN, IOCTL(TCGETS), "the terminal"},
	{"ioctl", POLICY_MAIN, IOCTL(TCSETS), "giving the terminal back as it was"},
	{"ioctl", POLICY_MAIN, IOCTL(TCSETSW), "giving the terminal back as it was"},
	{"ioctl", POLICY_MAIN, IOCTL(TCSETSF), "giving the terminal back as it was"},
	{"signalfd4", POLICY_MAIN, ANY, "SIGTERM and SIGINT"},
	{"sched_getaffinity", POLICY_MAIN, ANY, "how many threads preallocate"},
	{"writev", POLICY_VCPU, ANY, "the C library's message on abort()"},
};

const unsigned policy_rule_count = sizeof(policy_rules) / sizeof(policy_rules[0]);
