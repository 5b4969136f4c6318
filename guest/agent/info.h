/* SPDX-License-Identifier: Apache-2.0 */
/* info: the guest's statistics. */
#pragma once

#include "vmm/rpc/rpc.h"

extern const struct rpc_method info_methods[];

/* The parts, for the tests: each reads what it needs from /proc and /sys. */
json_t *info_system(void);
json_t *info_memory(void);
json_t *info_disks(void);
json_t *info_interfaces(void);
