/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port (PC16550D data sheet): what a driver's probe looks at, and that each byte arrives. */
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/serial.h"
#include "guest/payloads/lib/string.h"
#include "guest/payloads/tests.h"

#define MCR_LOOP   0x10
#define MCR_NORMAL 0x03
#define DLAB	   0x80
#define CHUNK	   4096

static uint8_t get(enum serial_register r)
{
	return (uint8_t)port_in((uint16_t)r, 1);
}

static void put(enum serial_register r, uint8_t value)
{
	port_out((uint16_t)r, 1, value);
}

static uint8_t transmit_error(uint8_t sent, uint8_t got, unsigned at)
{
	put(SERIAL_MCR, MCR_NORMAL);
	fail("in loopback, byte %u: %x came back for %x", at, got, sent);
}

/* Runs in kernel mode: what fails must leave loopback first, or nobody would read of it. */
static uint64_t loop_back(void *arg)
{
	(void)arg;
	put(SERIAL_MCR, MCR_LOOP);
	put(SERIAL_FCR, 0x07);
	for (unsigned i = 0; i < 512; i++) {
		uint8_t sent = (uint8_t)(i * 7), got;

		put(SERIAL_DATA, sent);
		got = get(SERIAL_LSR) & SERIAL_LSR_DATA ? get(SERIAL_DATA) : (uint8_t)~sent;
		if (got != sent)
			transmit_error(sent, got, i);
	}
	put(SERIAL_MCR, MCR_NORMAL);
	return 0;
}

/* A full FIFO comes back in order; one byte more is lost and said to be. */
static uint64_t fill_fifo(void *arg)
{
	uint8_t *got = arg;

	put(SERIAL_MCR, MCR_LOOP);
	put(SERIAL_FCR, 0x07);
	for (unsigned i = 0; i < SERIAL_FIFO + 1; i++)
		put(SERIAL_DATA, (uint8_t)(0x40 + i));
	got[SERIAL_FIFO] = get(SERIAL_LSR);
	for (unsigned i = 0; i < SERIAL_FIFO; i++)
		got[i] = get(SERIAL_DATA);
	got[SERIAL_FIFO + 1] = get(SERIAL_LSR);
	put(SERIAL_MCR, MCR_NORMAL);
	put(SERIAL_FCR, 0x07);
	return 0;
}

/* In loopback DTR, RTS, OUT1 and OUT2 are read back as DSR, CTS, RI and DCD. */
static void check_modem_lines(void)
{
	static const struct {
		uint8_t mcr, msr;
	} lines[] = {
		{0x01, 0x20}, {0x02, 0x10}, {0x04, 0x40}, {0x08, 0x80}, {0x0f, 0xf0}, {0x00, 0x00}};

	for (unsigned i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		uint8_t msr;

		put(SERIAL_MCR, MCR_LOOP | lines[i].mcr);
		msr = get(SERIAL_MSR) & 0xf0;
		put(SERIAL_MCR, MCR_NORMAL);
		check(msr == lines[i].msr, "modem control %x reads back as %x", lines[i].mcr, msr);
	}
}

void test_serial_registers(void)
{
	uint8_t got[SERIAL_FIFO + 2];

	for (unsigned i = 0; i < 256; i += 5) {
		put(SERIAL_SCR, (uint8_t)i);
		check(get(SERIAL_SCR) == i, "the scratch register does not keep %x", i);
	}
	put(SERIAL_LCR, DLAB | 3);
	put(SERIAL_DATA, 0x0c);
	put(SERIAL_IER, 0x00);
	check(get(SERIAL_DATA) == 0x0c && get(SERIAL_IER) == 0x00,
		"the divisor does not read back");
	put(SERIAL_LCR, 3);
	check(get(SERIAL_IER) == 0, "the interrupt enable register does not read back");
	put(SERIAL_FCR, 0x01);
	check((get(SERIAL_IIR) & 0xc0) == 0xc0, "not a 16550A: %x", get(SERIAL_IIR));
	kernel_call(loop_back, NULL);
	check_modem_lines();
	kernel_call(fill_fifo, got);
	for (unsigned i = 0; i < SERIAL_FIFO; i++)
		check(got[i] == 0x40 + i, "FIFO byte %u is %x", i, got[i]);
	check(got[SERIAL_FIFO] & SERIAL_LSR_OVERRUN, "no overrun after 17 bytes: %x",
		got[SERIAL_FIFO]);
	check(!(got[SERIAL_FIFO + 1] & (SERIAL_LSR_OVERRUN | SERIAL_LSR_DATA)),
		"still data after 16: %x", got[SERIAL_FIFO + 1]);
}

/* size= bytes, all values, between two lines; the host compares each. */
void test_serial_output(void)
{
	uint64_t size = boot_number("size", 1 << 20);
	uint8_t *chunk = memory_alloc(CHUNK, 16);

	print("BEGIN %lu", size);
	for (uint64_t at = 0; at < size; at += CHUNK) {
		uint64_t n = size - at < CHUNK ? size - at : CHUNK;

		for (uint64_t i = 0; i < n; i++)
			chunk[i] = (uint8_t)((at + i) * 31 + ((at + i) >> 8));
		serial_write(chunk, n);
	}
	print("\nEND");
}

/* size= bytes of input come back as they are; a host that writes all at once must lose none. */
void test_serial_echo(void)
{
	uint64_t size = boot_number("size", 1 << 16);
	uint8_t *chunk = memory_alloc(CHUNK, 16);

	print("READY %lu", size);
	while (size) {
		size_t n = serial_read(chunk, size < CHUNK ? size : CHUNK);

		serial_write(chunk, n);
		size -= n;
	}
	print("\nEND");
}
