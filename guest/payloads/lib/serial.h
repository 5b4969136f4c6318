/* SPDX-License-Identifier: Apache-2.0 */
/* The first serial port, polled. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COM1 0x3f8

enum serial_register {
	SERIAL_DATA = COM1,
	SERIAL_IER = COM1 + 1,
	SERIAL_IIR = COM1 + 2, /* read; FCR when written */
	SERIAL_FCR = COM1 + 2,
	SERIAL_LCR = COM1 + 3,
	SERIAL_MCR = COM1 + 4,
	SERIAL_LSR = COM1 + 5,
	SERIAL_MSR = COM1 + 6,
	SERIAL_SCR = COM1 + 7,
};

#define SERIAL_LSR_DATA	   0x01
#define SERIAL_LSR_OVERRUN 0x02
#define SERIAL_LSR_EMPTY   0x20
#define SERIAL_FIFO	   16

void serial_init(void);

/* Waits as long as the port takes no more. */
void serial_write(const void *data, size_t size);

/* Waits for at least one byte; returns up to `size`. */
size_t serial_read(void *data, size_t size);
