/* SPDX-License-Identifier: Apache-2.0 */
/* Every method of the agent in one table, and that table as a document. */
#pragma once

#include "vmm/rpc/rpc.h"

const struct rpc_method *agent_methods(void);
/* As Markdown, on standard output: the middle of docs/agent.md. */
void agent_methods_print(void);
