/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot-plug: the course of a request. See plug.h for what it promises; plug_requests.c takes them.
 *
 *   attach   OFFERED ------- driver sets it going, and the guest says the slot is done -------> done
 *               |  time-out, refusal, cancel
 *               +--> nobody has seen it: drained;  else WITHDRAWN ---- ejected, or its time is up ----> drained
 *   detach   ASKED -- ejected --> drained --> done
 *               |  time-out, refusal, cancel: the device stays as it is
 *
 * The guest is asked by ACPI (devices/pci_hotplug.h) and answers by _EJ0 and _OST on a vCPU thread, which leave marks
 * for the main loop. All that is believed of it: a slot for which nothing was asked may be "ejected" by a guest as often as
 * it likes, the device stays.
 *
 * A guest that lets go only after its time was up has lost a device that the host was told it still has: it is offered
 * the slot anew, and has it back.
 *
 * Draining is a device reset with all vCPUs stopped, so that no driver can begin anew; for a guest that has let go
 * there is nothing in flight, and it takes microseconds. What an earlier driver left in flight is waited for: a write that
 * was taken is done.
 */
#include "vmm/machine/plug.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/machine/machine_private.h"

#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REMIND_NS 500000000ull /* an interrupt that came before the guest listened is lost */
#define OUTCOME_NS                                                                                 \
	2000000000ull /* a driver runs: how long for the guest's word that the slot is done */
#define WITHDRAW_NS 5000000000ull /* how long a guest has to let go of what it did not take */

enum phase { OFFERED, WITHDRAWN, ASKED, DRAINING };

struct machine_plug {
	struct machine_plug *next;
	struct machine *machine;
	struct virtio_pci *device;
	unsigned slot;
	enum phase phase;
	bool attach;
	bool outcome;	      /* the guest's methods have dealt with the slot */
	uint64_t driven_ns;   /* when a driver set it going; 0: not yet */
	uint64_t deadline_ns; /* of the phase */
	struct loop_timer timer;
	machine_plug_done *done;
	void *owner;
	bool failed;
	struct error err; /* how it ends, where `failed` */
};

static const char *device_id(const struct machine_plug *plug)
{
	return virtio_pci_device(plug->device)->id;
}

struct machine_plug *plug_of_slot(struct machine *m, unsigned slot)
{
	struct machine_plug *plug = m->plugs.first;

	while (plug && plug->slot != slot)
		plug = plug->next;
	return plug;
}

/* ---- the configuration follows ---- */

static void forget_config(struct machine_config *config, uint16_t type, const char *id)
{
	for (unsigned i = 0; type == VIRTIO_ID_BLOCK && i < config->disk_count; i++) {
		struct disk_options *disk = &config->disks[i];

		if (strcmp(disk->id, id) != 0)
			continue;
		schema_release(machine_disk_schema, disk);
		memmove(disk, disk + 1, (--config->disk_count - i) * sizeof(*disk));
		memset(&config->disks[config->disk_count], 0, sizeof(*disk));
		return;
	}
	for (unsigned i = 0; type == VIRTIO_ID_NET && i < config->net_count; i++) {
		struct net_options *net = &config->nets[i];

		if (strcmp(net->id, id) != 0)
			continue;
		schema_release(machine_net_schema, net);
		memmove(net, net + 1, (--config->net_count - i) * sizeof(*net));
		memset(&config->nets[config->net_count], 0, sizeof(*net));
		return;
	}
}

/* ---- the end of a request ---- */

void plug_finish(struct machine_plug *plug)
{
	struct machine *m = plug->machine;
	struct machine_plug **at = &m->plugs.first;

	while (*at != plug)
		at = &(*at)->next;
	*at = plug->next;
	loop_timer_clear(m->loop, &plug->timer);
	if (plug->device)
		virtio_pci_on_driven(plug->device, NULL, NULL);
	plug->done(plug->owner, plug->failed || !plug->attach ? NULL : plug->device,
		plug->failed ? &plug->err : NULL);
	free(plug);
}

/* Nothing of the device is in flight, and no vCPU runs. */
static void pull(struct machine_plug *plug)
{
	virtio_pci_on_driven(plug->device, NULL, NULL);
	virtio_pci_set_vm(plug->device, NULL);
	machine_devices_unplug(&plug->machine->devices, plug->device);
}

/* It is in no slot: close what is behind it. */
static void end_device(struct machine_plug *plug)
{
	const struct virtio_device *dev = virtio_pci_device(plug->device);
	uint16_t type = dev->ops->id;
	char id[SCHEMA_ID_SIZE];

	snprintf(id, sizeof(id), "%s", dev->id);
	virtio_pci_destroy(plug->device);
	plug->device = NULL;
	forget_config(plug->machine->config, type, id);
}

void plug_take_out(struct machine_plug *plug)
{
	pull(plug);
	end_device(plug);
	plug_finish(plug);
}

static void drained(struct virtio_device *dev, void *arg)
{
	struct machine_plug *plug = arg;
	struct machine *m = plug->machine;

	(void)dev;
	pull(plug);
	m->plugs.draining--;
	machine_resume(m);
	end_device(plug);
	/* A reset waited. */
	if (atomic_load(&m->request))
		machine_request(m, (enum machine_request)atomic_load(&m->request));
	plug_finish(plug);
}

static void drain(struct machine_plug *plug)
{
	struct machine *m = plug->machine;

	plug->phase = DRAINING;
	loop_timer_clear(m->loop, &plug->timer);
	m->plugs.draining++;
	machine_pause(m);
	virtio_device_reset(virtio_pci_device(plug->device), drained, plug);
}

/* ---- time ---- */

static void set_timer(struct machine_plug *plug)
{
	uint64_t next = now_ns() + REMIND_NS;

	if (plug->machine->resetting)
		; /* its deadline may have passed: it looks again when the guest has begun anew */
	else if (plug->driven_ns)
		next = min_u64(next, min_u64(plug->driven_ns + OUTCOME_NS, plug->deadline_ns));
	else
		next = min_u64(next, plug->deadline_ns);
	loop_timer_set(plug->machine->loop, &plug->timer, next);
}

/* It has failed, `plug->err` says why: bring all back to what it was. */
static void give_up(struct machine_plug *plug)
{
	struct machine *m = plug->machine;
	bool unheard = arch_platform_withdraw_slot(m->platform, plug->slot);

	plug->failed = true;
	if (!plug->attach) {
		if (!unheard)
			m->plugs.late |= 1u << plug->slot;
		plug_finish(plug);
	} else if (m->resetting) {
		plug->phase = WITHDRAWN; /* the reset takes it */
	} else if (unheard && !plug->driven_ns) {
		drain(plug);
	} else {
		/* Pulling a device away from under a driver that may be about to start hangs some guests. */
		plug->phase = WITHDRAWN;
		plug->deadline_ns = now_ns() + WITHDRAW_NS;
		arch_platform_ask_slot(m->platform, plug->slot, false);
		set_timer(plug);
	}
}

static void time_is_up(struct machine_plug *plug)
{
	if (plug->phase == WITHDRAWN) {
		arch_platform_withdraw_slot(plug->machine->platform, plug->slot);
		drain(plug);
		return;
	}
	error_set(&plug->err, ERROR_GUEST_TIMEOUT,
		plug->attach ? "'%s': no driver in the guest took it in time"
			     : "'%s': the guest did not let go of it in time; it stays attached",
		device_id(plug));
	give_up(plug);
}

static void look_at(struct machine_plug *plug)
{
	uint64_t now = now_ns();

	if (plug->machine->resetting) {
		set_timer(plug);
		return;
	}
	/* Found by the guest itself, as it starts; or its methods are silent. */
	if (plug->phase == OFFERED && plug->driven_ns &&
		(plug->outcome ||
			arch_platform_withdraw_slot(plug->machine->platform, plug->slot) ||
			now >= plug->driven_ns + OUTCOME_NS)) {
		plug_finish(plug);
		return;
	}
	if (now >= plug->deadline_ns) {
		time_is_up(plug);
		return;
	}
	arch_platform_remind_slot(plug->machine->platform, plug->slot);
	set_timer(plug);
}

static void timer_fired(struct loop_timer *timer)
{
	look_at(container_of(timer, struct machine_plug, timer));
}

/* ---- what the guest says ---- */

static void driven(void *owner)
{
	struct machine_plug *plug = owner;

	plug->driven_ns = now_ns();
	if (plug->phase == OFFERED)
		look_at(plug);
}

static void refused(struct machine_plug *plug)
{
	error_set(&plug->err, ERROR_GUEST_REFUSED,
		plug->attach ? "'%s': the guest could not take it"
			     : "'%s': the guest refuses to let go of it; it stays attached",
		device_id(plug));
	give_up(plug);
}

static void slot_ejected(struct machine *m, unsigned slot)
{
	struct machine_plug *plug = plug_of_slot(m, slot);
	uint32_t bit = 1u << slot;

	if (plug && (plug->phase == ASKED || plug->phase == WITHDRAWN)) {
		drain(plug);
	} else if (!plug && m->plugs.late & bit) {
		m->plugs.late &= ~bit;
		log_info("the guest let go of slot %u after its time: it gets the device back",
			slot);
		arch_platform_ask_slot(m->platform, slot, true);
	} else {
		log_guest(
			"the guest ejects slot %u, which nobody asked for: its device stays", slot);
	}
}

static void slot_settled(struct machine *m, unsigned slot, bool up, bool ok)
{
	struct machine_plug *plug = plug_of_slot(m, slot);

	if (!up && !ok)
		m->plugs.late &= ~(1u << slot);
	if (!plug || plug->phase != (up ? OFFERED : ASKED))
		return;
	plug->outcome = true;
	if (!ok)
		refused(plug);
	else
		look_at(plug);
}

static void take_marks(struct loop_job *job)
{
	struct machine *m = container_of(job, struct machine, plugs.job);
	struct machine_plugs *h = &m->plugs;
	uint32_t ejected, up_ok, up_failed, down_failed;

	atomic_store(&h->posted, false);
	ejected = h->kept ? 0 : atomic_exchange(&h->ejected, 0);
	up_ok = atomic_exchange(&h->up_ok, 0);
	up_failed = atomic_exchange(&h->up_failed, 0);
	down_failed = atomic_exchange(&h->down_failed, 0);
	if (m->resetting || m->ended)
		return; /* what an earlier guest said */
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		if (ejected >> slot & 1)
			slot_ejected(m, slot);
		if (up_failed >> slot & 1)
			slot_settled(m, slot, true, false);
		else if (up_ok >> slot & 1)
			slot_settled(m, slot, true, true);
		if (down_failed >> slot & 1)
			slot_settled(m, slot, false, false);
	}
}

static void leave_mark(struct machine *m, _Atomic uint32_t *marks, uint32_t slots)
{
	atomic_fetch_or(marks, slots);
	if (!atomic_exchange(&m->plugs.posted, true))
		loop_post(m->loop, &m->plugs.job);
}

void plugs_ejected(void *owner, uint32_t slots)
{
	struct machine *m = owner;

	leave_mark(m, &m->plugs.ejected, slots);
}

void plugs_outcome(void *owner, unsigned slot, bool up, bool ok)
{
	struct machine *m = owner;
	struct machine_plugs *h = &m->plugs;

	if (up || !ok) /* a detach that went well has been ejected */
		leave_mark(m, up ? ok ? &h->up_ok : &h->up_failed : &h->down_failed, 1u << slot);
}

/* ---- a request begins, and is called back ---- */

struct machine_plug *plug_begin(struct machine *m, const struct machine_plug_request *request,
	struct virtio_pci *device, bool attach)
{
	struct machine_plug *plug = calloc(1, sizeof(*plug));

	BUG_ON(!plug); /* some hundred bytes */
	plug->machine = m;
	plug->device = device;
	plug->slot = virtio_pci_function(device)->slot;
	plug->attach = attach;
	plug->phase = attach ? OFFERED : ASKED;
	plug->done = request->done;
	plug->owner = request->owner;
	plug->deadline_ns = now_ns() + (uint64_t)request->timeout_ms * 1000000;
	plug->timer.fire = timer_fired;
	plug->next = m->plugs.first;
	m->plugs.first = plug;
	m->plugs.late &= ~(1u << plug->slot);
	if (attach)
		virtio_pci_on_driven(device, driven, plug);
	return plug;
}

void plug_ask_guest(struct machine_plug *plug)
{
	arch_platform_ask_slot(plug->machine->platform, plug->slot, plug->attach);
	set_timer(plug);
}

void machine_plug_cancel(struct machine *m, struct machine_plug *plug)
{
	(void)m;
	if (plug->phase != OFFERED && plug->phase != ASKED)
		return; /* past what can be called back, or on the way back */
	error_set(&plug->err, ERROR_CANCELLED, "'%s': cancelled", device_id(plug));
	give_up(plug);
}

/* ---- the machine's own changes ---- */

void plugs_init(struct machine *m)
{
	m->plugs.job.run = take_marks;
}

/* One that the reset ends, or NULL: what is offered is found by the guest as it starts. */
static struct machine_plug *ended_by_reset(struct machine *m)
{
	struct machine_plug *plug = m->plugs.first;

	while (plug && plug->phase == OFFERED)
		plug = plug->next;
	return plug;
}

void plugs_reset(struct machine *m)
{
	struct machine_plug *plug;

	m->plugs.late = 0;
	m->plugs.off = true;
	for (plug = m->plugs.first; plug; plug = plug->next) {
		plug->outcome = false;
		plug->driven_ns = 0;
	}
	/* Who is told may ask for something at once: the list changes. */
	while ((plug = ended_by_reset(m)))
		plug_take_out(plug);
	m->plugs.off = false;
}

static void nobody(void *owner, struct virtio_pci *device, const struct error *err)
{
	(void)owner, (void)device, (void)err;
}

void machine_plugs_release(struct machine *m)
{
	struct machine_plug *plug;

	for (plug = m->plugs.first; plug; plug = plug->next) {
		machine_plug_done *done = plug->done;

		if (done == nobody)
			continue;
		loop_timer_clear(m->loop, &plug->timer);
		plug->done = nobody; /* if it is drained, that still ends later */
		error_set(&plug->err, ERROR_CANCELLED, "'%s': the VM has ended", device_id(plug));
		done(plug->owner, NULL, &plug->err);
	}
}

void plugs_destroy(struct machine *m)
{
	while (m->plugs.first) {
		struct machine_plug *plug = m->plugs.first;

		m->plugs.first = plug->next;
		free(plug);
	}
}
