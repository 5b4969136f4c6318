/* SPDX-License-Identifier: Apache-2.0 */
/* network.configure, and the same at boot. */
#pragma once

#include "vmm/rpc/rpc.h"

#define NETWORK_INTERFACES_MAX 16

struct network_params {
	char *name;
	uint8_t mac[6], new_mac[6];
	unsigned mtu;
	struct schema_texts addresses, dns;
	char *gateway;
	bool up;
};

extern const struct schema network_schema[];
extern const struct rpc_method network_methods[];

/* What is wrong with it that its table cannot say. `path` goes in front, as in "interfaces[0].". */
int network_check(const struct network_params *p, const char *path, struct error *err);
/* Do it. Blocking: workers and boot only. Returns {"name", "mac"} or NULL. */
json_t *network_apply(const struct network_params *p, struct error *err);
