/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X (PCI Local Bus 3.0 §6.8.2): a table of messages in guest-visible memory, one eventfd a vector.
 *
 * A vector gets its GSI, its route and its irqfd when the guest first unmasks it, so a device that is
 * never driven costs nothing. Raising a live vector is one eventfd write with no lock; raising a
 * masked one sets its pending bit, and unmasking delivers it.
 *
 * Threads: msix_raise() from any thread; the table is written by vCPUs and guarded by `lock`.
 */
#pragma once

#include "vmm/kvm/kvm.h"
#include "vmm/state/state.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MSIX_VECTORS_MAX 130
#define MSIX_NO_VECTOR	 0xffff

struct msix_vector {
	uint32_t entry[4]; /* address low, high, data, control: as the guest reads them */
	int gsi;	   /* -1: none yet */
	int fd;		   /* eventfd, -1: none yet */
	bool connected;	   /* irqfd registered */
	_Atomic bool live; /* unmasked and connected: raise by a bare write */
	_Atomic bool pending;
};

struct msix {
	struct vm *vm; /* NULL: vectors only set pending bits (unit tests, fuzzers) */
	pthread_mutex_t lock;
	unsigned count;
	bool enabled, function_masked;
	struct msix_vector *vectors;
};

int msix_init(struct msix *msix, unsigned count, struct error *err);
void msix_destroy(struct msix *msix);

/* Attach to a VM (or detach with NULL, after a reset). */
void msix_set_vm(struct msix *msix, struct vm *vm);

/* Message control as written by the guest: bit 15 enable, bit 14 function mask. */
void msix_control(struct msix *msix, uint16_t control);

uint64_t msix_table_read(struct msix *msix, uint64_t offset, unsigned size);
void msix_table_write(struct msix *msix, uint64_t offset, unsigned size, uint64_t value);
uint64_t msix_pba_read(struct msix *msix, uint64_t offset, unsigned size);

/* Deliver a vector; out of range or MSIX_NO_VECTOR does nothing. Any thread, no lock when live. */
void msix_raise(struct msix *msix, unsigned vector);

/* The eventfd of a vector, created when needed, for a kernel back end (vhost) to signal; -1 on failure. */
int msix_vector_fd(struct msix *msix, unsigned vector);

/* All vectors masked, routes and irqfds given back. */
void msix_reset(struct msix *msix);

/* A vector as it is saved. Whether all are enabled or masked is in the function's configuration space. */
struct msix_vector_state {
	uint32_t entry[4];
	uint8_t pending;
};

extern const struct state_table msix_vector_table;

/* msix->count of them. Nobody may raise one meanwhile. */
void msix_save(struct msix *msix, struct msix_vector_state *vectors);

/*
 * The vectors of one that was reset, and its message control: those that are live get routes and irqfds. What is pending and may be
 * delivered waits for msix_deliver(): loading the vCPUs' state would lose it.
 */
void msix_load(struct msix *msix, const struct msix_vector_state *vectors, uint16_t control);
void msix_deliver(struct msix *msix);
