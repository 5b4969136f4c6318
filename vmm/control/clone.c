/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clone becomes another guest: what the generation id cannot change for it, its agent does.
 *
 * The clone of a snapshot begins as its sibling: the same host name, machine id, addresses. So once it runs, its agent is told who it
 * is now (identity.change): the VM's name as the host name, a machine id at random, for each network the MAC address that the VM's
 * configuration gives or its name leads to, the IP addresses that were given, the time, and entropy. An agent that was in the midst of something, or whose
 * connection ended with the restore, is asked again for a while; a guest without one keeps what it has, and the log says so.
 */
#include "vmm/control/control_private.h"

#include "virtio/net.h"
#include "vmm/base/log.h"

#include <linux/virtio_ids.h>

#define WITHIN_MS 15000
#define AGAIN_NS  500000000u
#define TRIES	  60

static json_t *mac_text(const uint8_t mac[6])
{
	return json_sprintf(
		"%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

/* The guest knows its interfaces by the addresses that they had when it was saved. */
static void add_interface(
	struct control *control, const struct net_options *options, json_t *interfaces)
{
	struct virtio_pci *vp =
		machine_devices_find(machine_devices(control->machine), VIRTIO_ID_NET, options->id);
	const struct restore_options *chosen = control->clone.options;
	uint8_t had[6], wanted[6];
	json_t *interface;
	bool changes;

	if (!vp)
		return;
	net_mac(virtio_pci_device(vp), had);
	if (options->mac_given)
		memcpy(wanted, options->mac, sizeof(wanted));
	else
		net_derive_mac(machine_config(control->machine)->name, options->id, wanted);
	interface = json_pack("{s:o}", "mac", mac_text(had));
	changes = clone_addresses_describe(
		chosen->addresses, chosen->address_count, options->id, interface);
	if (memcmp(had, wanted, sizeof(had)) != 0) {
		json_object_set_new(interface, "new_mac", mac_text(wanted));
		changes = true;
	}
	if (changes)
		json_array_append(interfaces, interface);
	json_decref(interface);
}

static json_t *describe(struct control *control)
{
	const struct machine_config *config = machine_config(control->machine);
	json_t *interfaces = json_array();
	json_t *params = json_pack("{s:s, s:s}", "hostname", config->name, "machine_id", "random");

	for (unsigned i = 0; i < config->net_count; i++)
		add_interface(control, &config->nets[i], interfaces);
	if (json_array_size(interfaces))
		json_object_set(params, "interfaces", interfaces);
	json_decref(interfaces);
	guest_complete_identity(params);
	return params;
}

static void ask(struct clone_identity *clone)
{
	struct control *control = container_of(clone, struct control, clone);

	ask_guest(control, &clone->asker, "restore --clone", "identity.change", describe(control),
		WITHIN_MS);
}

static void ask_again(struct loop_timer *timer)
{
	ask(container_of(timer, struct clone_identity, again));
}

static void answered(struct guest_asker *asker, json_t *result, const struct error *err)
{
	struct clone_identity *clone = container_of(asker, struct clone_identity, asker);
	struct control *control = container_of(clone, struct control, clone);

	if (err && err->kind == ERROR_AGENT_ABSENT && ++clone->tries < TRIES) {
		loop_timer_set(control->loop, &clone->again, now_ns() + AGAIN_NS);
		return;
	}
	clone->wanted = false;
	if (err)
		log_warn("the clone keeps its host name, machine id and addresses: %s", err->text);
	else if (!json_is_true(json_object_get(result, "complete")))
		log_warn(
			"the clone did not take all of its new identity: guest.identify tells what");
	else
		log_info("the clone has its new identity");
}

void clone_init(struct control *control)
{
	control->clone.asker.answered = answered;
	control->clone.again.fire = ask_again;
}

void clone_begin(struct control *control, const struct restore_options *options)
{
	const struct machine_config *config = machine_config(control->machine);

	control->clone.options = options;
	control->clone.wanted = config->vsock_cid;
	if (!config->vsock_cid)
		log_warn(
			"the clone has no vsock, so no agent: it keeps its host name, machine id and addresses");
	else
		clone_state_changed(control, machine_state(control->machine));
}

void clone_state_changed(struct control *control, enum machine_state state)
{
	struct clone_identity *clone = &control->clone;

	if (state == MACHINE_RUNNING && clone->wanted && !clone->asked) {
		clone->asked = true;
		loop_timer_set(control->loop, &clone->again, now_ns());
	} else if (state == MACHINE_RESETTING || state == MACHINE_ENDED) {
		clone->wanted = false; /* a new guest is nobody's clone */
		loop_timer_clear(control->loop, &clone->again);
		stop_asking(&clone->asker);
	}
}
