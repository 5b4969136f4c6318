/* SPDX-License-Identifier: Apache-2.0 */
/* freeze and thaw: the file systems stand still while the host takes a snapshot of their disks. */
#pragma once

#include "vmm/rpc/rpc.h"

extern const struct rpc_method freeze_methods[];

bool freeze_active(void);
/* True after answering `wrong_state`: what the call would do writes to a file system that may be frozen. */
bool freeze_refuses(struct rpc_call *call);
