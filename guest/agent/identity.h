/* SPDX-License-Identifier: Apache-2.0 */
/* identity.change, and the host's name at boot. */
#pragma once

#include "guest/agent/network.h"
#include "vmm/rpc/rpc.h"

struct identity_params {
	uint64_t time_ns; /* 0: not given */
	struct schema_bytes entropy;
	char *hostname, *machine_id;
	struct network_params interfaces[NETWORK_INTERFACES_MAX];
	unsigned interface_count;
};

extern const struct schema identity_schema[];
extern const struct rpc_method identity_methods[];

/* Letters, digits, dots and dashes as hostname(7) allows them, 1 to 64. */
bool identity_is_hostname(const char *name);
