/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI host: one bus (segment 0, bus 0) of 32 slots with one function each, reached through ECAM
 * (PCI Express Base 4.0 §7.2.2; each function's 256 bytes of conventional configuration space), with
 * 32-bit memory BARs in one window and MSI-X.
 *
 * A function embeds `struct pci_function`, describes itself once (ids, capabilities, BAR sizes) and
 * then lives in a slot. The host owns configuration space: bits the guest may write are in a mask
 * beside it, everything else is read-only. A BAR answers only while the command register's memory
 * bit is set; when the guest moves or disables it, `bar_moved` tells the function (it re-registers
 * its ioeventfds).
 *
 * Threads: configuration accesses come from any vCPU and are serialised by the host's lock. BAR
 * accesses take no lock: a slot's function and its BAR addresses are atomics.
 */
#pragma once

#include "devices/bus.h"
#include "devices/msix.h"
#include "vmm/state/state.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define PCI_SLOTS    32
#define PCI_BARS     6
#define PCI_CONFIG   256
#define PCI_BAR_NONE UINT64_MAX

struct pci_function;
struct pci_host;

struct pci_function_ops {
	uint64_t (*bar_read)(struct pci_function *fn, unsigned bar, uint64_t offset, unsigned size);
	void (*bar_write)(struct pci_function *fn, unsigned bar, uint64_t offset, unsigned size,
		uint64_t value);
	/* The BAR now starts at `gpa`, or is off: PCI_BAR_NONE. Under the host's lock. May be NULL. */
	void (*bar_moved)(struct pci_function *fn, unsigned bar, uint64_t gpa);
	/* Hooks for a device's own capabilities, after the host's handling. Under the host's lock. May be NULL. */
	uint32_t (*config_read)(
		struct pci_function *fn, unsigned offset, unsigned size, uint32_t value);
	void (*config_written)(struct pci_function *fn, unsigned offset, unsigned size);
};

struct pci_function {
	const struct pci_function_ops *ops;
	struct pci_host *host; /* NULL while in no slot */
	unsigned slot;
	uint8_t config[PCI_CONFIG];   /* little-endian, as the guest reads it */
	uint8_t writable[PCI_CONFIG]; /* bits the guest may change */
	uint32_t bar_size[PCI_BARS];  /* 0: none; a power of two of at least 16 */
	_Atomic uint64_t bar_gpa[PCI_BARS];
	uint8_t next_cap;  /* where the next capability goes */
	uint8_t last_cap;  /* the `next` byte to patch */
	struct msix *msix; /* NULL: none */
	uint8_t msix_cap;  /* its offset */
};

struct pci_host {
	pthread_mutex_t lock;
	_Atomic(struct pci_function *) slots[PCI_SLOTS];
	uint64_t window_base, window_size; /* 32-bit memory BARs */
};

/* The header of a type 0 function (PCI Local Bus 3.0 §6.1). class_code is 24 bits. */
struct pci_ids {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code;
	uint8_t revision;
};

void pci_host_init(struct pci_host *host, uint64_t window_base, uint64_t window_size);
void pci_host_destroy(struct pci_host *host);

/* bus_ops over a struct pci_host: for the ECAM range (1 MiB) and for the BAR window. */
extern const struct bus_ops pci_ecam_ops;
extern const struct bus_ops pci_window_ops;

void pci_function_init(
	struct pci_function *fn, const struct pci_function_ops *ops, const struct pci_ids *ids);

/* Append a capability of `len` bytes whose first two (id, next) are set here. Returns its offset. */
unsigned pci_add_capability(struct pci_function *fn, uint8_t id, const void *body, unsigned len);

/* A 32-bit non-prefetchable memory BAR. */
void pci_add_bar(struct pci_function *fn, unsigned bar, uint32_t size);

/* The MSI-X capability over `msix`, table and pending bits in `bar` at the two offsets. */
void pci_add_msix(struct pci_function *fn, struct msix *msix, unsigned bar, uint32_t table_offset,
	uint32_t pba_offset);

/* Put a function in a slot (-1: the first free one); gives its BARs addresses in the window. */
int pci_host_plug(struct pci_host *host, struct pci_function *fn, int slot, struct error *err);

/* Take it out. Only while no vCPU runs. */
void pci_host_unplug(struct pci_host *host, struct pci_function *fn);

/* Back to the state after power-on: command register, BAR addresses as assigned at plug, MSI-X off. */
void pci_function_reset(struct pci_function *fn);

/* ---- state (pci_state.c) ---- */

/* A function as it is saved: what the guest has written to it, and all that it has read of it. */
struct pci_function_state {
	uint8_t config[PCI_CONFIG];
	uint32_t vector_count;
	struct msix_vector_state vectors[MSIX_VECTORS_MAX];
};

extern const struct state_table pci_function_table;

void pci_function_save(struct pci_function *fn, struct pci_function_state *s);

/* Whether this function, in its slot, may stand in for the one that was saved: a guest remembers what it has read once. */
int pci_function_check(
	const struct pci_function *fn, const struct pci_function_state *s, struct error *err);

/* Take over what was checked: BARs are where they were, live vectors have routes. The function was reset. */
void pci_function_load(struct pci_function *fn, const struct pci_function_state *s);

/* The host itself has nothing that changes; whether its window is where the guest believes it. */
void pci_host_save(const struct pci_host *host, struct state_writer *out);
int pci_host_load(const struct pci_host *host, struct state_reader *in, struct error *err);
