/* SPDX-License-Identifier: Apache-2.0 */
/* Commands for clients: exec, exec.write, exec.close_stdin, exec.kill. */
#pragma once

#include "vmm/rpc/rpc.h"

extern const struct rpc_method exec_methods[];

unsigned exec_count(void);
