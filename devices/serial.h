/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first serial port: a 16550A UART on 8 ports, whose far end is the console.
 *
 * The guest's side is `serial_bus_ops` (vCPU threads). The far end (the host: devices/console.h, a
 * test, a fuzzer) takes what the guest sent with serial_take() and offers input with serial_offer();
 * both may be called from any thread. Output waits in a bounded ring: when it is nearly full the
 * transmitter says "not empty" until the far end has taken some, so that a slow reader slows the
 * guest and nothing is lost. Input is accepted only while the receive FIFO has room and the guest
 * listens; the far end keeps the rest and is told when there is room again.
 *
 * Wiring: serial_init(), bus_add(ports, 0x3f8, SERIAL_PORTS, &serial_bus_ops, serial), then a
 * console (which calls serial_connect()).
 */
#pragma once

#include "devices/bus.h"
#include "devices/irq_line.h"
#include "vmm/state/state.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERIAL_BASE  0x3f8 /* COM1, ttyS0 */
#define SERIAL_PORTS 8

#define SERIAL_FIFO	   16 /* of the 16550A: one byte while the guest has not switched it on */
#define SERIAL_OUTPUT_SIZE 65536 /* the ring, a power of two */
#define SERIAL_OUTPUT_HIGH 49152 /* here the transmitter stops being empty ... */
#define SERIAL_OUTPUT_LOW                                                                          \
	32768 /* ... and here it is again; what is above HIGH is for drivers that do not wait */

/* What the far end is told. Called on the thread that made it so, with no lock held: must not block. */
struct serial_host {
	/* Output waits where none did (or the ring is getting full): serial_take() it soon. */
	void (*output)(void *owner);
	/* An earlier serial_offer() took less than it was given; there is room now. */
	void (*room)(void *owner);
	void *owner;
};

/* What the guest can see, and a migration must carry. */
struct serial_registers {
	uint8_t ier, lcr, mcr, scr, fcr;
	uint8_t lsr_errors; /* overrun and break, until LSR is read */
	uint8_t msr_delta;  /* low half of MSR, until it is read */
	uint16_t divisor;
	bool thr_pending; /* "transmitter empty" is an unread interrupt cause (masked while stalled) */
	uint8_t rx[SERIAL_FIFO];
	uint8_t rx_head, rx_count;
};

struct serial {
	pthread_mutex_t lock; /* guards all below but `irq` */
	struct irq_line irq;
	struct serial_registers regs;
	bool line;	/* the interrupt output, as last computed */
	bool edge_sent; /* an edge went out since IIR was last read */
	bool stalled;	/* the ring passed HIGH and has not fallen to LOW */
	bool starved;	/* serial_offer() had to refuse: tell the host of room */
	bool discard;	/* nobody listens: output is thrown away */
	struct serial_host host;
	uint8_t *ring;
	uint32_t ring_head, ring_tail; /* tail - head bytes wait */
	uint64_t dropped;	       /* bytes written into a full ring */
};

extern const struct bus_ops serial_bus_ops;

/* `irq` is the edge-triggered pin (fd -1: none). Discards output until a host is connected. */
int serial_init(struct serial *serial, struct irq_line irq, struct error *err);
void serial_destroy(struct serial *serial);

/* The guest's reset: registers as after power-on. Output not yet taken stays. */
void serial_reset(struct serial *serial);

/* Connect the far end (copied), or disconnect it with NULL: output is discarded from then on. */
void serial_connect(struct serial *serial, const struct serial_host *host);

/* The far end has no reader at present (a socket without a client): throw output away, or keep it again. */
void serial_set_discard(struct serial *serial, bool discard);

/* Take up to `size` bytes of output. Returns how many. */
size_t serial_take(struct serial *serial, void *data, size_t size);

/* Offer input: as many bytes as there is room for are taken. Returns how many; host->room follows if it was fewer. */
size_t serial_offer(struct serial *serial, const void *data, size_t size);

/* With the output that nobody has taken yet. */
struct serial_state {
	struct serial_registers regs;
	bool line, edge_sent, stalled;
	uint32_t output_size;
	uint8_t output[SERIAL_OUTPUT_SIZE];
};

extern const struct state_table serial_state_table;

void serial_save(struct serial *serial, struct serial_state *state);
/* The far end is told of what waits for it. Where nobody listens here, the output is thrown away. */
int serial_load(struct serial *serial, const struct serial_state *state, struct error *err);
