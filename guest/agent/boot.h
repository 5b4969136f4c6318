/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What process 1 does to the guest before anything runs in it, one function a step. None fails: what does not work is
 * one line on the console, and the boot goes on, so that the agent can be asked.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define CGROUP_ROOT	"/sys/fs/cgroup"
#define CGROUP_SERVICES CGROUP_ROOT "/services"

/* /proc, /sys, /dev and what belongs below them, /run, /tmp; descriptors 0 to 2 where there are none. */
void boot_mounts(void);
/* cgroup2: all controllers for CGROUP_SERVICES, and there for each service. */
void boot_cgroups(void);
/* /etc/hostname. */
void boot_hostname(void);
/* lo; then eth0 from the command line, or what /etc/bulkhead/network.json says. */
void boot_network(void);
/* /etc/fstab, with LABEL=, UUID= and SERIAL=. */
void boot_fstab(void);

/* The value of `key` (with its "=") on the kernel's command line; without "=": whether the word is there. */
bool boot_argument(const char *key, char *value, size_t size);

/* Whether this is the machine's own process 1, and not that of a container: only it may touch the machine. */
bool boot_is_machine(void);
