/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd(2) by name: a descriptor that tells of faults in ranges of our own memory, and with which they are answered.
 *
 * A thread that touches a registered page which is not there (MISSING), or writes to one that is protected, sleeps until
 * somebody answers: by a page put there, by the end of the protection, or by a wake, after which it tries again. That holds
 * for whoever touches the page: a vCPU inside KVM_RUN, the kernel for an io_uring or a vhost worker, and us. So the thread that
 * answers must not touch what is not there itself.
 *
 * Faults that the kernel takes on a program's behalf are what we need told, and that is a privilege: root's, or of whoever
 * may open /dev/userfaultfd (Linux 6.1), or everyone's where vm.unprivileged_userfaultfd is 1.
 *
 * The functions without a struct error are for the thread that answers; they return 0 or a negative errno. Ranges are whole pages.
 * All are thread-safe.
 */
#pragma once

#include "vmm/base/error.h"

#include <linux/userfaultfd.h>
#include <stddef.h>
#include <stdint.h>

#define UFFD_CLOSED ((struct uffd){.fd = -1})

struct uffd {
	int fd; /* never blocks; readable when a fault waits */
	uint64_t features;
};

/* /dev/userfaultfd, for a process that will not be able to open it later. -1: there is none for us. */
int uffd_device_open(void);

/* `device`: what uffd_device_open() gave, or -1; stays the caller's. `features`: UFFD_FEATURE_* that must be there. */
int uffd_open(struct uffd *uffd, int device, uint64_t features, struct error *err);
void uffd_close(struct uffd *uffd);

/* `mode`: UFFDIO_REGISTER_MODE_*. At the end everyone who waits is let go, and no protection is left. */
int uffd_register(
	const struct uffd *uffd, void *start, uint64_t size, uint64_t mode, struct error *err);
int uffd_unregister(const struct uffd *uffd, void *start, uint64_t size);

/* Of pages that are there: those that are not are left as they are. */
int uffd_protect(const struct uffd *uffd, void *start, uint64_t size);
/* And wake who waits. */
int uffd_unprotect(const struct uffd *uffd, void *start, uint64_t size);

/* Put pages where there are none, and wake who waits. Where one is there already it stays as it is, and that is no error. */
int uffd_copy(const struct uffd *uffd, void *start, const void *from, uint64_t size);
int uffd_zero(const struct uffd *uffd, void *start, uint64_t size);

/* Who waits in this range tries again, and where nothing has changed is told of again. */
int uffd_wake(const struct uffd *uffd, void *start, uint64_t size);

/* As many messages as are there, `count` at most; 0: none. */
int uffd_read(const struct uffd *uffd, struct uffd_msg *messages, unsigned count);
