/* SPDX-License-Identifier: Apache-2.0 */
/* The method disk.users. */
#pragma once

#include "vmm/rpc/rpc.h"

extern const struct rpc_method disk_users_methods[];
