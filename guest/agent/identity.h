/* SPDX-License-Identifier: Apache-2.0 */
/* identity.change, and the host's name at boot. */
#pragma once

#include "vmm/rpc/rpc.h"

extern const struct rpc_method identity_methods[];

/* Letters, digits, dots and dashes as hostname(7) allows them, 1 to 64. */
bool identity_is_hostname(const char *name);
