/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest for tests of the debugger, without KVM: three vCPUs that trap when they are told to, and a few pages of RAM behind
 * page tables that shuffle them. The debugger's bytes are fed by hand, what it is sent comes out of a socket.
 */
#pragma once

#include "vmm/gdb/gdb_private.h"

#define GDB_GUEST_VCPUS	    3
#define GDB_GUEST_RAM	    (16 * 4096)
#define GDB_GUEST_REGISTERS 100

/* Where the page tables have an address (below 1 MiB); each place has two below GDB_GUEST_TWIN, and the same again above it. */
#define GDB_GUEST_GPA(address) (((address)&0xffff) ^ 0x3000)
#define GDB_GUEST_TWIN	       0x10000
#define GDB_GUEST_NOT_RAM      0x48000 /* is mapped behind the end of RAM */
#define GDB_GUEST_UNMAPPED     0x100000

struct gdb_guest {
	struct guest_memory memory;
	struct vcpu_group group;
	struct vcpu vcpus[GDB_GUEST_VCPUS];
	struct loop *loop;
	unsigned pauses;
	enum machine_request request; /* the last one */
	struct machine_debugger *debugger;
	struct arch_gdb_trap next_trap;
	struct arch_gdb_traps traps[GDB_GUEST_VCPUS];
	unsigned injected[GDB_GUEST_VCPUS][3]; /* how often, by what */
	uint8_t registers[GDB_GUEST_VCPUS][GDB_GUEST_REGISTERS];
};

extern struct gdb_guest gdb_guest;

/* A debugger has connected to an empty guest. Returns its end of the socket. */
int gdb_guest_start(struct gdb *gdb);

/* Bytes from the debugger. */
void gdb_guest_feed(struct gdb *gdb, const char *bytes, size_t size);

/* A vCPU traps, and the main loop looks at it. False: it could not have, it was held already. */
bool gdb_guest_traps(unsigned index, const struct arch_gdb_trap *trap);

/* The debugger goes, if it has not gone: nothing of it may be left. */
void gdb_guest_end(struct gdb *gdb);
