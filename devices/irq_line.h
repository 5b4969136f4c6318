/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An edge-triggered interrupt pin of a legacy device: an eventfd that KVM turns into an IOAPIC (or
 * GIC SPI) interrupt. Raising it is one write and may be done from any thread. A line with fd -1
 * is not connected: raising it does nothing (unit tests, fuzzers).
 */
#pragma once

#include <stdint.h>
#include <unistd.h>

struct irq_line {
	int fd;
};

static inline void irq_line_raise(const struct irq_line *line)
{
	uint64_t one = 1;

	if (line->fd >= 0) {
		/* Fails only with EAGAIN when 2^64-2 edges are pending: they are one edge to the guest. */
		ssize_t ignored = write(line->fd, &one, sizeof(one));
		(void)ignored;
	}
}
