/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that was restored is told so by its agent.
 *
 * First it is to thaw: a snapshot that holds disks is of a moment at which the guest's file systems were frozen, and who would have thawed
 * them then is not here. One that nobody had frozen says so.
 *
 * Then a clone becomes another guest: what the generation id cannot change for it, its agent does. It begins as its sibling: the
 * same host name, machine id, addresses. So its agent is told who it is now (identity.change): the VM's name as the
 * host name, a machine id at random, for each network the MAC address that the VM's configuration gives or its name leads to, the
 * IP addresses that were given, the time, and entropy.
 *
 * An agent that was in the midst of something, or whose connection ended with the restore, is asked again for a while; a guest
 * without one keeps what it has, and a clone's log says so.
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
	const struct restore_options *chosen = control->restored.options;
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

static struct control *control_of_guest(struct restored_guest *guest)
{
	return container_of(guest, struct control, restored);
}

static void ask(struct restored_guest *guest)
{
	struct control *control = control_of_guest(guest);

	if (guest->thawed)
		ask_guest(control, &guest->asker, "restore --clone", "identity.change",
			describe(control), WITHIN_MS);
	else
		ask_guest(control, &guest->asker, "restore", "thaw", json_object(), WITHIN_MS);
}

static void ask_again(struct loop_timer *timer)
{
	ask(container_of(timer, struct restored_guest, again));
}

static void ask_in(struct restored_guest *guest, uint64_t ns)
{
	loop_timer_set(control_of_guest(guest)->loop, &guest->again, now_ns() + ns);
}

/* A freeze that was under way when it was saved ends by itself; until then a thaw and a change are refused in its state. */
static bool may_be_answered_later(struct restored_guest *guest, const struct error *err)
{
	bool busy = guest->thawed && err->kind == ERROR_WRONG_STATE;

	return (err->kind == ERROR_AGENT_ABSENT || busy) && ++guest->tries < TRIES;
}

static void thawed(struct restored_guest *guest, const struct error *err)
{
	if (!err)
		log_info("the guest's file systems, frozen when it was saved, are thawed");
	else if (err->kind != ERROR_WRONG_STATE && err->kind != ERROR_AGENT_ABSENT)
		log_warn("the guest's file systems may be frozen for some seconds: %s", err->text);
	guest->thawed = true;
	guest->wanted = guest->options->clone;
	if (guest->wanted)
		ask_in(guest, 0);
}

static void changed(struct restored_guest *guest, json_t *result, const struct error *err)
{
	guest->wanted = false;
	if (err)
		log_warn("the clone keeps its host name, machine id and addresses: %s", err->text);
	else if (!json_is_true(json_object_get(result, "complete")))
		log_warn(
			"the clone did not take all of its new identity: guest.identify tells what");
	else
		log_info("the clone has its new identity");
}

static void answered(struct guest_asker *asker, json_t *result, const struct error *err)
{
	struct restored_guest *guest = container_of(asker, struct restored_guest, asker);

	if (err && may_be_answered_later(guest, err))
		ask_in(guest, AGAIN_NS);
	else if (!guest->thawed)
		thawed(guest, err);
	else
		changed(guest, result, err);
}

void restored_init(struct control *control)
{
	control->restored.asker.answered = answered;
	control->restored.again.fire = ask_again;
}

void restored_begin(struct control *control, const struct restore_options *options)
{
	struct restored_guest *guest = &control->restored;

	guest->options = options;
	guest->wanted = machine_config(control->machine)->vsock_cid;
	if (guest->wanted)
		restored_state_changed(control, machine_state(control->machine));
	else if (options->clone)
		log_warn(
			"the clone has no vsock, so no agent: it keeps its host name, machine id and addresses");
}

void restored_state_changed(struct control *control, enum machine_state state)
{
	struct restored_guest *guest = &control->restored;

	if (state == MACHINE_RUNNING && guest->wanted && !guest->asked) {
		guest->asked = true;
		ask_in(guest, 0);
	} else if (state == MACHINE_RESETTING || state == MACHINE_ENDED) {
		guest->wanted = false; /* a new guest is nobody's clone */
		loop_timer_clear(control->loop, &guest->again);
		stop_asking(&guest->asker);
	}
}
