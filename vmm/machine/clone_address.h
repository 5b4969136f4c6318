/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a clone's guest is to call itself on its networks: said when it is restored, since each clone needs another, and told to
 * the guest's agent once it runs.
 *
 * Threads: the main thread.
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/schema/schema.h"

#include <jansson.h>

struct machine_config;

#define CLONE_ADDRESSES_MAX 32

/* One address; an interface may be given several. */
struct clone_address {
	char net[SCHEMA_ID_SIZE];
	char *address; /* ADDRESS/PREFIX */
	char *gateway; /* NULL: the default route stays */
};

/* Each is an address, and of a network that the VM has; of each network one has a gateway at most. */
int clone_addresses_check(const struct clone_address *addresses, unsigned count,
	const struct machine_config *config, struct error *err);

/* Add `addresses` and `gateway` of network `net` to an object as network.configure takes it. False: it has none. */
bool clone_addresses_describe(
	const struct clone_address *addresses, unsigned count, const char *net, json_t *interface);
