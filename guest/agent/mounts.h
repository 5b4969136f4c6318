/* SPDX-License-Identifier: Apache-2.0 */
/* Mounting and unmounting, for clients and for /etc/fstab at boot. */
#pragma once

#include "vmm/rpc/rpc.h"

struct mount_params {
	char *disk, *path, *type, *options, *format;
	bool readonly;
	unsigned timeout_ms;
};

extern const struct rpc_method mount_methods[];

/* A worker's function; params are a struct mount_params. */
json_t *mount_run(const void *params, struct error *err);
