/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks and networks that come and go while the machine exists.
 *
 * A request ends once, by its `done`, when the guest has acted: an attach when a driver has set the device going,
 * a detach when the guest has let go of it and the host has closed what is behind it. What the guest refuses or does not
 * do in time leaves all as it was, and says which of the two it is. A machine that was not started yet, or
 * is reset meanwhile, has no guest to ask: there a device just comes or goes.
 *
 * The configuration (machine_config()) has a device from the request to attach it until it is gone.
 *
 * Threads: the main thread, callbacks too.
 */
#pragma once

#include "vmm/machine/machine.h"
#include "vmm/machine/machine_devices.h"

/* A request under way, owned by the machine. */
struct machine_plug;

/*
 * How it ended: `err` is NULL where it was done. After that the request is gone. For an attach that is done, `device` is what
 * was attached. May come from within the request, and always comes before the machine is destroyed.
 */
typedef void machine_plug_done(void *owner, struct virtio_pci *device, const struct error *err);

struct machine_plug_request {
	int slot; /* -1: any */
	unsigned timeout_ms;
	machine_plug_done *done;
	void *owner;
};

/*
 * `options` move into the configuration, their texts with them: on success they are zeroed, on failure (a negative errno,
 * `done` is not called) they are the caller's still. An empty id is filled in. *out is the request, or NULL where it is
 * done already.
 */
int machine_attach_disk(struct machine *machine, struct disk_options *options,
	const struct machine_plug_request *request, struct machine_plug **out, struct error *err);
int machine_attach_net(struct machine *machine, struct net_options *options,
	const struct machine_plug_request *request, struct machine_plug **out, struct error *err);

/* `type`: VIRTIO_ID_BLOCK or VIRTIO_ID_NET. */
int machine_detach(struct machine *machine, uint16_t type, const char *id,
	const struct machine_plug_request *request, struct machine_plug **out, struct error *err);

/* End it before its time: `done` gets the kind `cancelled`, at once or when all is as it was. */
void machine_plug_cancel(struct machine *machine, struct machine_plug *plug);

/* End all of them: nobody will be there for their outcome. What is being drained goes on. */
void machine_plugs_release(struct machine *machine);
