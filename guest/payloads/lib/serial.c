/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial port (PC16550D data sheet). See serial.h.
 *
 * A whole FIFO goes out with one string instruction for each look at the line status: each is one
 * exit, and on a software KVM one emulated instruction.
 */
#include "guest/payloads/lib/serial.h"

#include "guest/payloads/lib/cpu.h"

struct transfer {
	uint8_t *data;
	size_t size;
};

void serial_init(void)
{
	port_out(SERIAL_IER, 1, 0);
	port_out(SERIAL_LCR, 1, 0x03); /* 8 bits, no parity */
	port_out(SERIAL_FCR, 1, 0x07); /* FIFOs on and empty */
	port_out(SERIAL_MCR, 1, 0x03); /* DTR and RTS */
}

static uint64_t write_kernel(void *arg)
{
	struct transfer *t = arg;
	const uint8_t *at = t->data;

	while (t->size) {
		size_t n = t->size < SERIAL_FIFO ? t->size : SERIAL_FIFO;

		while (!(port_in(SERIAL_LSR, 1) & SERIAL_LSR_EMPTY))
			cpu_relax();
		t->size -= n;
		__asm__ volatile("rep outsb" : "+S"(at), "+c"(n) : "d"(SERIAL_DATA) : "memory");
	}
	return 0;
}

void serial_write(const void *data, size_t size)
{
	struct transfer t = {.data = (uint8_t *)(uint64_t)data, .size = size};

	kernel_call(write_kernel, &t);
}

static uint64_t read_kernel(void *arg)
{
	struct transfer *t = arg;
	size_t n = 0;

	do {
		while (n < t->size && port_in(SERIAL_LSR, 1) & SERIAL_LSR_DATA)
			t->data[n++] = (uint8_t)port_in(SERIAL_DATA, 1);
	} while (!n);
	return n;
}

size_t serial_read(void *data, size_t size)
{
	struct transfer t = {.data = data, .size = size};

	return kernel_call(read_kernel, &t);
}
