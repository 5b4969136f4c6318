/* SPDX-License-Identifier: Apache-2.0 */
/* Hot-plug as the rest of the machine sees it. See plug.h. */
#pragma once

#include "devices/pci.h"
#include "vmm/base/loop.h"

#include <stdatomic.h>
#include <stdint.h>

struct machine;
struct machine_plug;
struct machine_plug_request;
struct virtio_pci;

struct machine_plugs {
	struct machine_plug *first;
	unsigned draining; /* devices that end: the machine may not be reset meanwhile */
	unsigned kept;	   /* machine_keep_devices() */
	bool off;	   /* in the midst of a reset: no guest exists */
	uint32_t
		late; /* slots whose guest was told to let go, and may do so though nobody waits any more */
	struct loop_job job;
	_Atomic bool posted; /* shared, like what follows: vCPU threads tell, the main loop takes */
	_Atomic uint32_t ejected, up_ok, up_failed, down_failed;
};

void plugs_init(struct machine *m);
/* From the guest: any thread. */
void plugs_ejected(void *owner, uint32_t slots);
void plugs_outcome(void *owner, unsigned slot, bool up, bool ok);
/* The guest is reset: no vCPU exists. */
void plugs_reset(struct machine *m);
/* The devices are gone. */
void plugs_destroy(struct machine *m);

/* ---- plug.c, for plug_requests.c ---- */

/* The request about that slot that is under way; NULL: none. */
struct machine_plug *plug_of_slot(struct machine *m, unsigned slot);
/* Put it in the list. Then one of the others. */
struct machine_plug *plug_begin(struct machine *m, const struct machine_plug_request *request,
	struct virtio_pci *device, bool attach);
/* Its guest acts on it, or does not in time. */
void plug_ask_guest(struct machine_plug *plug);
/* It is over: its owner is told, and it is freed. */
void plug_finish(struct machine_plug *plug);
/* The same, of a device that no guest uses, and that goes. */
void plug_take_out(struct machine_plug *plug);
