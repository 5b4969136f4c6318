/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An edge-triggered interrupt pin of a legacy device: a pin of KVM's interrupt controller (IOAPIC, or GIC SPI), or an eventfd (unit
 * tests, fuzzers), or nothing (fd -1: raising it does nothing).
 *
 * The pin is raised by an ioctl (KVM API §4.25), not by an eventfd that KVM listens to: that one may leave the work to a thread of the
 * kernel's, so that an edge is under way while no device and no vCPU does anything. Here it has arrived when the call returns,
 * and whoever stops all threads finds it in the controller.
 *
 * Threads: raised from any; connected while nobody raises it.
 */
#pragma once

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct irq_line {
	int fd; /* an eventfd; or that of a VM, to whose pin it leads: */
	bool to_pin;
	unsigned pin;
	pthread_mutex_t lock; /* an edge goes up and down again before the next one goes up */
};

static inline void irq_line_pulse(struct irq_line *line)
{
	/* Fails only without an interrupt controller, which no VM of ours is. */
	for (uint32_t level = 2; level-- > 0;) {
		struct kvm_irq_level to = {.irq = line->pin, .level = level};
		int ignored = ioctl(line->fd, KVM_IRQ_LINE, &to);
		(void)ignored;
	}
}

static inline void irq_line_raise(struct irq_line *line)
{
	uint64_t one = 1;

	if (line->fd < 0)
		return;
	if (line->to_pin) {
		pthread_mutex_lock(&line->lock);
		irq_line_pulse(line);
		pthread_mutex_unlock(&line->lock);
	} else {
		/* Fails only with EAGAIN when 2^64-2 edges are pending: they are one edge to the guest. */
		ssize_t ignored = write(line->fd, &one, sizeof(one));
		(void)ignored;
	}
}

/* To a pin of the VM; -1: to nothing. */
static inline void irq_line_connect(struct irq_line *line, int vm_fd, unsigned pin)
{
	line->fd = vm_fd;
	line->to_pin = true;
	line->pin = pin;
}
