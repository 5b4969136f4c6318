/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A UART (National Semiconductor PC16550D data sheet, section 8 "Registers").
 *
 * What it is not: a line with a speed. A byte written to THR is sent at once, a byte that arrives
 * below the trigger level raises the "character time-out" at once. Divisor and line control are
 * kept for the driver to read back. OUT2 does not gate the interrupt. MSR says that the far end is
 * always there (carrier, data set ready, clear to send).
 *
 * Output. THR appends to a ring. At SERIAL_OUTPUT_HIGH the transmitter stalls: LSR says "not empty"
 * and its interrupt waits until the far end has taken the ring down to SERIAL_OUTPUT_LOW. Drivers
 * that send a whole FIFO's worth at once, or (Linux's printk) stop waiting after 10 ms, still find
 * room above HIGH. The ring starts again at its first byte whenever it is empty, so that a console
 * that keeps up touches one page of it. The far end is told once, when the ring stops being empty:
 * a byte costs a lock and a store.
 *
 * Input. The far end is asked to hold its bytes back, as by the RTS wire, while the guest has
 * neither raised RTS nor enabled the receive interrupt: else the first bytes of a pipe would be eaten
 * by the driver's probing, which clears the FIFO. In loop-back mode the wires are cut.
 *
 * Interrupts. The pin is edge-triggered, the UART's output is a level (any enabled cause). An edge
 * is sent when the level rises, and again when something changes while a cause is left and no edge
 * has gone out since IIR was last read: so a handler that reads IIR once and serves one cause is
 * called again for the next. Reading IIR, of itself, sends nothing new for the cause it reports.
 *
 * Threads: one lock. Edges and the far end's callbacks happen after it is released.
 */
#include "devices/serial.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RX	     0x01 /* data, or character time-out */
#define IER_THR	     0x02
#define IER_LINE     0x04
#define IER_MODEM    0x08
#define IER_MASK     0x0f
#define IIR_MODEM    0x00
#define IIR_NONE     0x01
#define IIR_THR	     0x02
#define IIR_RX	     0x04
#define IIR_LINE     0x06
#define IIR_TIMEOUT  0x0c
#define IIR_FIFO     0xc0
#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define FCR_KEPT     0xc9 /* enable, DMA mode, trigger level */
#define LCR_DLAB     0x80
#define MCR_RTS	     0x02
#define MCR_LOOP     0x10
#define MCR_MASK     0x1f
#define LSR_DATA     0x01
#define LSR_OVERRUN  0x02
#define LSR_EMPTY    0x60 /* THR and transmitter */
#define MSR_CTS	     0x10
#define MSR_DSR	     0x20
#define MSR_RI	     0x40
#define MSR_DCD	     0x80

/* What is to be done once the lock is released. */
struct notice {
	bool edge, output, room;
};

static uint32_t ring_used(const struct serial *serial)
{
	return serial->ring_tail - serial->ring_head;
}

static bool fifo_on(const struct serial_registers *regs)
{
	return regs->fcr & FCR_ENABLE;
}

/* The highest-priority enabled cause, as IIR's low four bits. */
static uint8_t cause(const struct serial *serial)
{
	static const uint8_t triggers[] = {1, 4, 8, 14};
	const struct serial_registers *regs = &serial->regs;

	if ((regs->ier & IER_LINE) && regs->lsr_errors)
		return IIR_LINE;
	if ((regs->ier & IER_RX) && regs->rx_count)
		return fifo_on(regs) && regs->rx_count < triggers[regs->fcr >> 6] ? IIR_TIMEOUT
										  : IIR_RX;
	if ((regs->ier & IER_THR) && regs->thr_pending && !serial->stalled)
		return IIR_THR;
	if ((regs->ier & IER_MODEM) && regs->msr_delta)
		return IIR_MODEM;
	return IIR_NONE;
}

/* Recompute the interrupt output after a change (not after a read that changed nothing). */
static void update(struct serial *serial, struct notice *notice)
{
	bool line = cause(serial) != IIR_NONE;

	if (line && (!serial->line || !serial->edge_sent)) {
		serial->edge_sent = true;
		notice->edge = true;
	}
	serial->line = line;
}

/* Whether the far end may send. */
static bool listening(const struct serial_registers *regs)
{
	return !(regs->mcr & MCR_LOOP) && ((regs->mcr & MCR_RTS) || (regs->ier & IER_RX));
}

static void check_room(struct serial *serial, struct notice *notice)
{
	if (serial->starved && !serial->regs.rx_count && listening(&serial->regs)) {
		serial->starved = false;
		notice->room = true;
	}
}

static void unlock(struct serial *serial, struct notice notice)
{
	struct serial_host host = serial->host;

	pthread_mutex_unlock(&serial->lock);
	if (notice.edge)
		irq_line_raise(&serial->irq);
	if (notice.output && host.output)
		host.output(host.owner);
	if (notice.room && host.room)
		host.room(host.owner);
}

static unsigned rx_room(const struct serial_registers *regs)
{
	unsigned size = fifo_on(regs) ? SERIAL_FIFO : 1;

	return regs->rx_count < size ? size - regs->rx_count : 0;
}

static void rx_push(struct serial_registers *regs, uint8_t byte)
{
	regs->rx[(regs->rx_head + regs->rx_count) % SERIAL_FIFO] = byte;
	regs->rx_count++;
}

static void rx_clear(struct serial_registers *regs)
{
	regs->rx_head = 0;
	regs->rx_count = 0;
}

static uint8_t read_data(struct serial *serial, struct notice *notice)
{
	struct serial_registers *regs = &serial->regs;
	uint8_t byte;

	if (!regs->rx_count)
		return 0;
	byte = regs->rx[regs->rx_head];
	regs->rx_head = (regs->rx_head + 1) % SERIAL_FIFO;
	regs->rx_count--;
	update(serial, notice);
	check_room(serial, notice);
	return byte;
}

static uint8_t read_iir(struct serial *serial, struct notice *notice)
{
	struct serial_registers *regs = &serial->regs;
	uint8_t now = cause(serial);

	if (now != IIR_NONE)
		serial->edge_sent = false;
	if (now == IIR_THR) {
		regs->thr_pending = false;
		update(serial, notice);
	}
	return now | (fifo_on(regs) ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct serial *serial, struct notice *notice)
{
	struct serial_registers *regs = &serial->regs;
	uint8_t value = regs->lsr_errors;

	if (regs->rx_count)
		value |= LSR_DATA;
	if (!serial->stalled)
		value |= LSR_EMPTY;
	if (regs->lsr_errors) {
		regs->lsr_errors = 0;
		update(serial, notice);
	}
	return value;
}

/* The modem lines: in loop-back mode MCR's outputs are wired to them (RTS-CTS, DTR-DSR, OUT1-RI, OUT2-DCD). */
static uint8_t modem_lines(const struct serial_registers *regs)
{
	uint8_t mcr = regs->mcr;

	if (!(mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (uint8_t)((mcr & 0x02) << 3 | (mcr & 0x01) << 5 | (mcr & 0x0c) << 4);
}

static uint8_t read_msr(struct serial *serial, struct notice *notice)
{
	struct serial_registers *regs = &serial->regs;
	uint8_t value = modem_lines(regs) | regs->msr_delta;

	if (regs->msr_delta) {
		regs->msr_delta = 0;
		update(serial, notice);
	}
	return value;
}

static uint64_t serial_read(void *device, uint64_t offset, unsigned size)
{
	struct serial *serial = device;
	struct serial_registers *regs = &serial->regs;
	struct notice notice = {0};
	bool dlab;
	uint8_t value = 0;

	(void)size; /* an 8-bit device: a wider access reaches the first register only */
	pthread_mutex_lock(&serial->lock);
	dlab = regs->lcr & LCR_DLAB;
	switch (offset) {
	case REG_DATA:
		value = dlab ? (uint8_t)regs->divisor : read_data(serial, &notice);
		break;
	case REG_IER:
		value = dlab ? (uint8_t)(regs->divisor >> 8) : regs->ier;
		break;
	case REG_IIR_FCR:
		value = read_iir(serial, &notice);
		break;
	case REG_LCR:
		value = regs->lcr;
		break;
	case REG_MCR:
		value = regs->mcr;
		break;
	case REG_LSR:
		value = read_lsr(serial, &notice);
		break;
	case REG_MSR:
		value = read_msr(serial, &notice);
		break;
	default:
		value = regs->scr;
		break;
	}
	unlock(serial, notice);
	return value;
}

static void transmit(struct serial *serial, uint8_t byte, struct notice *notice)
{
	uint32_t used = ring_used(serial);

	if (serial->discard)
		return;
	if (used == SERIAL_OUTPUT_SIZE) {
		serial->dropped++;
		return;
	}
	serial->ring[serial->ring_tail++ % SERIAL_OUTPUT_SIZE] = byte;
	if (!used)
		notice->output = true;
	else if (used + 1 >= SERIAL_OUTPUT_HIGH)
		serial->stalled = true;
}

static void write_data(struct serial *serial, uint8_t byte, struct notice *notice)
{
	struct serial_registers *regs = &serial->regs;

	if (!(regs->mcr & MCR_LOOP))
		transmit(serial, byte, notice);
	else if (rx_room(regs))
		rx_push(regs, byte);
	else
		regs->lsr_errors |= LSR_OVERRUN;
	regs->thr_pending = true;
	update(serial, notice);
}

static void write_ier(struct serial *serial, uint8_t value, struct notice *notice)
{
	struct serial_registers *regs = &serial->regs;

	/* Enabling the transmitter's interrupt while it is empty is a cause (Linux's THRE test relies on it). */
	if (value & ~regs->ier & IER_THR)
		regs->thr_pending = true;
	regs->ier = value & IER_MASK;
	update(serial, notice);
	check_room(serial, notice);
}

static void write_fcr(struct serial *serial, uint8_t value, struct notice *notice)
{
	struct serial_registers *regs = &serial->regs;

	/* Switching the FIFOs on or off clears them. What was transmitted is on the wire already. */
	if ((value ^ regs->fcr) & FCR_ENABLE || (value & FCR_CLEAR_RX))
		rx_clear(regs);
	regs->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
	update(serial, notice);
	check_room(serial, notice);
}

static void write_mcr(struct serial *serial, uint8_t value, struct notice *notice)
{
	struct serial_registers *regs = &serial->regs;
	uint8_t before = modem_lines(regs), after;

	regs->mcr = value & MCR_MASK;
	after = modem_lines(regs);
	/* The ring indicator counts on its trailing edge only. */
	regs->msr_delta |= (uint8_t)(((before ^ after) & (before | (uint8_t)~MSR_RI)) >> 4);
	update(serial, notice);
	check_room(serial, notice);
}

static void serial_write(void *device, uint64_t offset, unsigned size, uint64_t wide)
{
	struct serial *serial = device;
	struct serial_registers *regs = &serial->regs;
	struct notice notice = {0};
	uint8_t value = (uint8_t)wide;
	bool dlab;

	(void)size;
	pthread_mutex_lock(&serial->lock);
	dlab = regs->lcr & LCR_DLAB;
	switch (offset) {
	case REG_DATA:
		if (dlab)
			regs->divisor = (uint16_t)((regs->divisor & 0xff00) | value);
		else
			write_data(serial, value, &notice);
		break;
	case REG_IER:
		if (dlab)
			regs->divisor = (uint16_t)((regs->divisor & 0x00ff) | value << 8);
		else
			write_ier(serial, value, &notice);
		break;
	case REG_IIR_FCR:
		write_fcr(serial, value, &notice);
		break;
	case REG_LCR:
		regs->lcr = value;
		break;
	case REG_MCR:
		write_mcr(serial, value, &notice);
		break;
	case REG_SCR:
		regs->scr = value;
		break;
	default: /* LSR and MSR: factory tests only */
		break;
	}
	unlock(serial, notice);
}

const struct bus_ops serial_bus_ops = {.read = serial_read, .write = serial_write};

static void reset_registers(struct serial *serial)
{
	serial->regs =
		(struct serial_registers){.divisor = 12, .thr_pending = true}; /* 9600 baud */
	serial->line = false;
	serial->edge_sent = false;
}

int serial_init(struct serial *serial, struct irq_line irq, struct error *err)
{
	memset(serial, 0, sizeof(*serial));
	serial->ring = malloc(SERIAL_OUTPUT_SIZE);
	if (!serial->ring)
		return error_errno(err, ENOMEM, "cannot create the serial port");
	pthread_mutex_init(&serial->lock, NULL);
	serial->irq = irq;
	serial->discard = true;
	reset_registers(serial);
	return 0;
}

void serial_destroy(struct serial *serial)
{
	if (!serial->ring)
		return;
	pthread_mutex_destroy(&serial->lock);
	free(steal_ptr(&serial->ring));
}

void serial_reset(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	reset_registers(serial);
	pthread_mutex_unlock(&serial->lock);
}

/* The ring has been emptied or lowered: a stalled transmitter goes on. */
static void ring_taken(struct serial *serial, struct notice *notice)
{
	if (!ring_used(serial))
		serial->ring_head = serial->ring_tail = 0;
	if (serial->stalled && ring_used(serial) <= SERIAL_OUTPUT_LOW) {
		serial->stalled = false;
		update(serial, notice);
	}
}

static void discard_output(struct serial *serial, bool discard, struct notice *notice)
{
	serial->discard = discard;
	if (discard) {
		serial->ring_head = serial->ring_tail;
		ring_taken(serial, notice);
	}
}

void serial_connect(struct serial *serial, const struct serial_host *host)
{
	static const struct serial_host nobody;
	struct notice notice = {0};

	pthread_mutex_lock(&serial->lock);
	serial->host = host ? *host : nobody;
	serial->starved = false;
	discard_output(serial, !host, &notice);
	unlock(serial, notice);
}

void serial_set_discard(struct serial *serial, bool discard)
{
	struct notice notice = {0};

	pthread_mutex_lock(&serial->lock);
	discard_output(serial, discard, &notice);
	unlock(serial, notice);
}

/* Up to `size` bytes of output, which stay where they are. */
static uint32_t ring_peek(const struct serial *serial, void *data, size_t size)
{
	uint32_t count = (uint32_t)min_u64(ring_used(serial), size);
	uint32_t at = serial->ring_head % SERIAL_OUTPUT_SIZE;
	uint32_t first = (uint32_t)min_u64(count, SERIAL_OUTPUT_SIZE - at);

	memcpy(data, serial->ring + at, first);
	memcpy((uint8_t *)data + first, serial->ring, count - first);
	return count;
}

size_t serial_take(struct serial *serial, void *data, size_t size)
{
	struct notice notice = {0};
	uint32_t count;

	pthread_mutex_lock(&serial->lock);
	count = ring_peek(serial, data, size);
	serial->ring_head += count;
	ring_taken(serial, &notice);
	unlock(serial, notice);
	return count;
}

size_t serial_offer(struct serial *serial, const void *data, size_t size)
{
	struct serial_registers *regs = &serial->regs;
	const uint8_t *bytes = data;
	struct notice notice = {0};
	size_t count;

	pthread_mutex_lock(&serial->lock);
	count = listening(regs) ? min_u64(rx_room(regs), size) : 0;
	for (size_t i = 0; i < count; i++)
		rx_push(regs, bytes[i]);
	serial->starved = count < size;
	if (count)
		update(serial, &notice);
	unlock(serial, notice);
	return count;
}

static int check(const void *thing, struct error *err)
{
	const struct serial_state *s = thing;

	if (s->regs.fcr & ~FCR_KEPT ||
		(!fifo_on(&s->regs) && (s->regs.fcr || s->regs.rx_count > 1)))
		return error_set(err, ERROR_CORRUPT, "its FIFO is not one of a 16550A");
	if (s->stalled ? s->output_size <= SERIAL_OUTPUT_LOW : s->output_size >= SERIAL_OUTPUT_HIGH)
		return error_set(
			err, ERROR_CORRUPT, "its transmitter waits for nothing, or does not wait");
	return 0;
}

static const struct state_field fields[] = {
	STATE_UINT(struct serial_state, regs.ier, .max = IER_MASK),
	STATE_UINT(struct serial_state, regs.lcr),
	STATE_UINT(struct serial_state, regs.mcr, .max = MCR_MASK),
	STATE_UINT(struct serial_state, regs.scr),
	STATE_UINT(struct serial_state, regs.fcr),
	STATE_UINT(struct serial_state, regs.lsr_errors, .max = LSR_OVERRUN),
	STATE_UINT(struct serial_state, regs.msr_delta, .max = 15),
	STATE_UINT(struct serial_state, regs.divisor),
	STATE_BOOL(struct serial_state, regs.thr_pending),
	STATE_BYTES(struct serial_state, regs.rx),
	STATE_UINT(struct serial_state, regs.rx_head, .max = SERIAL_FIFO - 1),
	STATE_UINT(struct serial_state, regs.rx_count, .max = SERIAL_FIFO),
	STATE_BOOL(struct serial_state, line),
	STATE_BOOL(struct serial_state, edge_sent),
	STATE_BOOL(struct serial_state, stalled),
	STATE_BLOB(struct serial_state, output, output_size),
};

const struct state_table serial_state_table =
	STATE_TABLE("serial", 1, struct serial_state, fields, .check = check);

void serial_save(struct serial *serial, struct serial_state *state)
{
	pthread_mutex_lock(&serial->lock);
	state->regs = serial->regs;
	state->line = serial->line;
	state->edge_sent = serial->edge_sent;
	state->stalled = serial->stalled;
	state->output_size = ring_peek(serial, state->output, sizeof(state->output));
	pthread_mutex_unlock(&serial->lock);
}

int serial_load(struct serial *serial, const struct serial_state *state, struct error *err)
{
	struct notice notice = {.output = state->output_size};

	(void)err;
	pthread_mutex_lock(&serial->lock);
	serial->regs = state->regs;
	serial->line = state->line;
	serial->edge_sent = state->edge_sent;
	serial->stalled = state->stalled;
	memcpy(serial->ring, state->output, state->output_size);
	serial->ring_head = 0;
	serial->ring_tail = state->output_size;
	if (serial->discard)
		discard_output(serial, true, &notice);
	check_room(serial, &notice);
	unlock(serial, notice);
	return 0;
}
