/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead top`: a live table of VMs. The parts are a connection that never blocks (top_link.c), a VM and its figures
 * (top_vm.c), the search for VMs (top_find.c), the table (top_table.c), and the loop around them (top.c).
 *
 * What a socket answers is not believed: a program that is no VM may sit behind it. One thread.
 */
#pragma once

#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

int top_main(int argc, char *const *argv);

/* ---- a connection (top_link.c) ---- */

/* Zeroed but for fd -1: closed. */
struct top_link {
	int fd;
	char *in; /* `used` bytes of an answer that has not come to its end */
	size_t used, room;
	char out[128]; /* what of the request is still to be sent */
	size_t out_used;
	bool waits; /* for an answer */
};

/* 0, or a negative errno. */
int top_link_open(struct top_link *link, const char *path);
void top_link_close(struct top_link *link);
/* Ask. Not while it waits. */
void top_link_ask(struct top_link *link, const char *method);
/* What the descriptor is to be polled for. */
short top_link_events(const struct top_link *link);
/*
 * It is ready: send and receive what can be. True with a new reference in *answer, the response object, when one has come.
 * A connection that ended, or brought what no VM says, is closed.
 */
bool top_link_ready(struct top_link *link, json_t **answer);

/* ---- a VM (top_vm.c) ---- */

/* What one reading of the metrics says. Sums are negative where they are not told. */
struct top_figures {
	char name[64], state[16], agent[16];
	double uptime, vcpus, memory, resident;
	double cpu, steal, exits, disk_read, disk_written, net_in, net_out, dirty;
};

enum top_state {
	TOP_NEW,    /* nothing was heard yet */
	TOP_LIVE,   /* it answered last time */
	TOP_SILENT, /* it has not answered in time */
	TOP_ENDED,  /* it was there, and the connection ended */
	TOP_ABSENT, /* nobody listens, or is allowed to us */
};

struct top_vm {
	char *path;
	bool given; /* by the user: it stays, and is tried again */
	enum top_state state;
	struct top_link link, guest;
	uint64_t guest_due_ns;
	unsigned shown;	  /* how often its end was */
	unsigned samples; /* 0 to 2: in `now`, and in `before` too */
	struct top_figures now, before;
	double pressure; /* percent; negative: not known */
};

/* Reads Prometheus text. False when it is no VM's. */
bool top_figures_read(const char *text, struct top_figures *figures);

/* Rates between the two samples, in units a second; negative: not known. */
enum top_rate {
	TOP_CPU,   /* percent of a CPU */
	TOP_STEAL, /* percent of the vCPUs' time */
	TOP_EXITS,
	TOP_DISK_READ,
	TOP_DISK_WRITTEN,
	TOP_NET_IN,
	TOP_NET_OUT,
	TOP_DIRTY,
	TOP_RATES,
};
double top_rate(const struct top_vm *vm, enum top_rate rate);

/* `path` is copied. NULL: memory is short. */
struct top_vm *top_vm_new(const char *path, bool given);
void top_vm_free(struct top_vm *vm);
/* A new interval begins: connect where it is not, ask for the metrics. */
void top_vm_ask(struct top_vm *vm);
/* Ask for the guest's own figures, where that is due. */
void top_vm_ask_guest(struct top_vm *vm, unsigned every_ms, uint64_t now);
/* One of its descriptors, *link, is ready. */
void top_vm_ready(struct top_vm *vm, struct top_link *link);
/* The table is about to be shown: who has not answered is silent. */
void top_vm_settle(struct top_vm *vm);

/* ---- the search (top_find.c) ---- */

/* Calls `found` with the path of each control socket on this host that we can name, one after another. */
void top_find(void (*found)(void *owner, const char *path), void *owner);

/* ---- the table (top_table.c) ---- */

/* `width` 0: as wide as it needs. */
void top_table_print(FILE *to, struct top_vm *const *vms, unsigned count, unsigned width);
