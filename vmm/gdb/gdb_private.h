/* SPDX-License-Identifier: Apache-2.0 */
/* The debugger's insides, for the files of this folder. See gdb.h. */
#pragma once

#include "vmm/arch/gdb.h"
#include "vmm/base/loop.h"
#include "vmm/base/unix_listener.h"
#include "vmm/base/util.h"
#include "vmm/gdb/gdb.h"
#include "vmm/gdb/packet.h"

#define GDB_BREAKPOINTS_MAX 256
#define GDB_READ_SIZE	    4096
#define GDB_OUT_SIZE	    (2 * GDB_PACKET_MADE(GDB_PACKET_MAX))

enum gdb_action { GDB_STAY, GDB_GO, GDB_STEP };

/* An instruction of ours in the guest's memory. */
struct gdb_breakpoint {
	uint64_t address, gpa;
	uint8_t original[ARCH_GDB_INSTRUCTION];
};

struct gdb {
	struct machine *machine;
	struct loop *loop;
	uid_t uid;
	struct unix_listener listener;
	struct loop_poll accepting;
	struct loop_timer accept_again;
	bool left; /* the machine ends */
	struct machine_observer observer;
	struct machine_debugger debugger;

	/* The client. */
	int fd;	       /* -1: none */
	bool attached; /* it may ask; else it is going, and the kernel still holds the poll */
	struct loop_poll poll;
	struct loop_timer again; /* it has sent more than its turn */
	uint8_t bytes[GDB_READ_SIZE];
	size_t bytes_at, bytes_used;
	struct gdb_packet in;
	char reply[GDB_PACKET_MAX]; /* what a command builds */
	char out[GDB_OUT_SIZE];	    /* `sent` to `used` wait */
	size_t used, sent;
	size_t last_at, last_size; /* the last packet in it, for who missed it */
	bool acks;
	bool names_reasons; /* it knows swbreak and hwbreak */

	/* What it has the guest do. */
	enum { GDB_ALIVE, GDB_CRASHED, GDB_CRASH_TOLD } guest;
	bool paused;	      /* one of the machine's pauses is ours */
	bool running;	      /* it waits to be told of a stop */
	bool resetting;	      /* another pause of ours, until the new vCPUs are ready */
	unsigned vcpu;	      /* that registers and memory are seen of */
	unsigned vcpu_to_run; /* that 's' steps */
	bool stepping[VCPUS_MAX];
	struct {
		bool is;
		struct arch_gdb_trap trap;
	} pending[VCPUS_MAX]; /* a watchpoint that was passed while another vCPU's stop was told */
	unsigned breakpoint_count;
	struct gdb_breakpoint breakpoints[GDB_BREAKPOINTS_MAX];
	struct arch_gdb_slot slots[ARCH_GDB_SLOTS_MAX];
};

/* ---- gdb.c ---- */

/* Send a packet; the client goes where it has not read those before. */
void gdb_send(struct gdb *gdb, const char *data, size_t size);
void gdb_sendf(struct gdb *gdb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A line for the person at the debugger, who waits for the guest to stop. */
void gdb_say(struct gdb *gdb, const char *text);
/* Its breakpoints go, the guest runs on, the connection is closed. */
void gdb_let_client_go(struct gdb *gdb);

/* ---- commands.c ---- */

/* gdb->in is a whole packet. */
void gdb_serve(struct gdb *gdb);

/* ---- run.c ---- */

/* vCPU number `index`, or NULL. */
struct vcpu *gdb_vcpu(struct gdb *gdb, unsigned index);
/* Let it go on; the answer is the next stop. An action for each of VCPUS_MAX. */
void gdb_run(struct gdb *gdb, const enum gdb_action *actions);
void gdb_interrupt(struct gdb *gdb);
/* Stop the guest because a client is there, or let it go since it has gone. */
void gdb_attach(struct gdb *gdb);
void gdb_detach(struct gdb *gdb);
/* All vCPUs trap what is asked for, and nothing else. */
void gdb_set_all_traps(struct gdb *gdb);
void gdb_vcpu_trapped(struct machine_debugger *debugger);
void gdb_vcpu_added(struct machine_debugger *debugger, struct vcpu *vcpu);
bool gdb_guest_crashed(struct machine_debugger *debugger);
void gdb_state_changed(
	struct machine_observer *observer, enum machine_state state, enum machine_exit how);

/* ---- memory.c ---- */

/* How many bytes could be read or written before one that is not mapped, or not RAM. */
size_t gdb_read_memory(struct gdb *gdb, uint64_t address, uint8_t *bytes, size_t size);
size_t gdb_write_memory(struct gdb *gdb, uint64_t address, const uint8_t *bytes, size_t size);

/* 0 or a negative errno. Inserting what is there, and removing what is not, is no error. */
int gdb_insert_breakpoint(struct gdb *gdb, uint64_t address);
int gdb_remove_breakpoint(struct gdb *gdb, uint64_t address);
void gdb_remove_all_breakpoints(struct gdb *gdb);
bool gdb_breakpoint_is_at(const struct gdb *gdb, uint64_t gpa);

int gdb_insert_slot(struct gdb *gdb, const struct arch_gdb_slot *slot);
int gdb_remove_slot(struct gdb *gdb, const struct arch_gdb_slot *slot);
