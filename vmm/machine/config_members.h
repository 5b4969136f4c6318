/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tables need that have the members of a disk (disk_members.inc) or of a network device (net_members.inc) among theirs:
 * limits, and where the values go.
 */
#pragma once

#include "vmm/base/util.h"
#include "vmm/machine/config.h"

#define PATH_LENGTH_MAX	   4095
#define SOCKET_LENGTH_MAX  107			    /* sun_path less its NUL */
#define VSOCK_LENGTH_MAX   (SOCKET_LENGTH_MAX - 11) /* PATH_PORT with ten digits must fit too */
#define CMDLINE_LENGTH_MAX (MACHINE_CMDLINE_SIZE - 1)
#define TAP_LENGTH_MAX	   15 /* IFNAMSIZ less its NUL */
#define OPERATIONS_MAX	   1000000000u
#define BYTES_A_SECOND_MAX (1ULL << 50)
#define MEMORY_MIN	   MIB(16) /* Linux needs more; arch has the last word */
#define MEMORY_MAX	   GIB(16384)
#define MTU_MIN		   68 /* virtio 1.2 §5.1.4.1 */
#define MTU_MAX		   65535
#define VSOCK_CID_FIRST	   3 /* below: hypervisor, loopback, host (virtio 1.2 §5.10.4) */
#define VSOCK_CID_LAST	   0xfffffffe

#define STORE(type, field) .offset = offsetof(type, field), .size = sizeof(((type *)NULL)->field)
#define DISK(field)	   STORE(struct disk_options, field)
#define NET(field)	   STORE(struct net_options, field)

extern const struct schema_choice machine_cache_modes[];

/* A member of a disk that came later than those of disk_members.inc, and is last in each table: see vmm/lib/generate. */
#define DISK_MEMBER_BASE                                                                                                                        \
	{                                                                                                                                       \
		.name = "base", .type = SCHEMA_PATH, DISK(base), .max = PATH_LENGTH_MAX,                                                        \
		.placeholder = "FILE",                                                                                                          \
		.help = "what the disk begins as: only read, and shared with others; the path has what differs, and is made when it is missing" \
	}
