/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: JSON-RPC 2.0, one object a line, by which a node agent owns a machine's life.
 *
 *   connection.c   a client: bytes of a Unix socket in and out of a `struct rpc_peer`
 *   events.c       what happened, numbered, kept for a while, sent to those who subscribed
 *   methods.c      the one table of methods: name, parameters, function, what documents say
 *   vm.c, devices.c ...  the methods' functions
 *   discover.c     the same table as an OpenRPC document
 *
 * All of it lives on the machine's main loop: no lock, and no call waits for another client. Requests of
 * one client are answered in the order they came; a call that takes long (vm.shutdown) holds up its own
 * client only. A client is known by its credentials: this user and root are let in.
 *
 * Nothing that a client sends or fails to read disturbs the machine: input is bounded by rpc.h, output by
 * CONTROL_OUT_MAX, clients by CONTROL_CLIENTS_MAX and by the descriptors that the machine itself may need.
 */
#pragma once

#include "vmm/base/error.h"
#include "vmm/machine/machine.h"
#include "vmm/transfer/restore.h"

#define CONTROL_CLIENTS_MAX 128

struct control;

/*
 * Listen on `path`; NULL: on the socket of the configuration's control_fd, which is taken over; where there is none either, nobody
 * comes in but those who are admitted. The machine outlives it; main thread, before machine_run().
 */
int control_create(
	struct machine *machine, const char *path, struct control **out, struct error *err);

/* The machine began from this snapshot: the next incremental one has it as its parent. Before machine_run(); it outlives control. */
void control_continue(struct control *control, const struct restore *restore);

/* A connected stream socket as a client, whoever its peer is; taken over. Main thread. */
void control_admit(struct control *control, int fd);

/* After machine_run(), before machine_destroy(). It turns the main loop for a moment. What was answered is sent before it returns, for a second at the most. NULL is accepted. */
void control_destroy(struct control *control);
