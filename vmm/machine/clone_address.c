/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses of a clone's guest: see clone_address.h. */
#include "vmm/machine/clone_address.h"

#include "vmm/machine/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* `text` up to `size` is an address of IPv4 or IPv6: how many bits it has; 0: it is none. */
static unsigned address_bits(const char *text, size_t size)
{
	char copy[INET6_ADDRSTRLEN];
	struct in6_addr parsed;

	if (size >= sizeof(copy))
		return 0;
	memcpy(copy, text, size);
	copy[size] = 0;
	if (inet_pton(AF_INET, copy, &parsed) == 1)
		return 32;
	return inet_pton(AF_INET6, copy, &parsed) == 1 ? 128 : 0;
}

static bool is_address_with_prefix(const char *text)
{
	const char *slash = strchr(text, '/');
	unsigned bits = slash ? address_bits(text, (size_t)(slash - text)) : 0;
	unsigned long prefix;
	char *end;

	if (!bits || !isdigit((unsigned char)slash[1]))
		return false;
	prefix = strtoul(slash + 1, &end, 10);
	return !*end && end - slash <= 4 && prefix <= bits;
}

/* The agent sets one default route. */
static bool has_gateway(const struct clone_address *addresses, unsigned count, const char *net)
{
	for (unsigned i = 0; i < count; i++)
		if (addresses[i].gateway && !strcmp(addresses[i].net, net))
			return true;
	return false;
}

static bool has_net(const struct machine_config *config, const char *id)
{
	for (unsigned i = 0; i < config->net_count; i++)
		if (!strcmp(config->nets[i].id, id))
			return true;
	return false;
}

int clone_addresses_check(const struct clone_address *addresses, unsigned count,
	const struct machine_config *config, struct error *err)
{
	for (unsigned i = 0; i < count; i++) {
		const struct clone_address *a = &addresses[i];

		if (!is_address_with_prefix(a->address))
			return error_set(err, ERROR_BAD_REQUEST,
				"guest-address[%u].address: '%.80s' is no address with a prefix, such as 10.0.0.7/24",
				i, a->address);
		if (a->gateway && !address_bits(a->gateway, strlen(a->gateway)))
			return error_set(err, ERROR_BAD_REQUEST,
				"guest-address[%u].gateway: '%.80s' is no address", i, a->gateway);
		if (a->gateway && has_gateway(addresses, i, a->net))
			return error_set(err, ERROR_BAD_REQUEST,
				"guest-address[%u].gateway: network '%s' has one already", i,
				a->net);
		if (!has_net(config, a->net))
			return error_set(err, ERROR_BAD_REQUEST,
				"guest-address[%u].net: the VM has no network '%s'", i, a->net);
	}
	return 0;
}

bool clone_addresses_describe(
	const struct clone_address *addresses, unsigned count, const char *net, json_t *interface)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < count; i++) {
		if (strcmp(addresses[i].net, net) != 0)
			continue;
		json_array_append_new(list, json_string(addresses[i].address));
		if (addresses[i].gateway)
			json_object_set_new(
				interface, "gateway", json_string(addresses[i].gateway));
	}
	if (json_array_size(list))
		json_object_set(interface, "addresses", list);
	json_decref(list);
	return json_object_get(interface, "addresses");
}
