/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processor: two rings, exceptions, interrupts, ports and MSRs.
 *
 * A payload sets itself up in kernel mode (CPL 0) and does its work in user mode (CPL 3): on a
 * software KVM that emulates kernel mode and runs user mode natively, only that is fast. All memory is
 * one identity mapping that both may access, so the way from one to the other is a plain function call
 * through a gate: kernel_call().
 *
 * An exception ends the payload with a FAIL line. Interrupt handlers run in kernel mode; user mode
 * always runs with interrupts on, the rest with interrupts off.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPUS_MAX 64

enum selector {
	SELECTOR_CODE = 0x08,
	SELECTOR_DATA = 0x10,
	SELECTOR_USER_DATA = 0x18,
	SELECTOR_USER_CODE = 0x20,
	SELECTOR_TSS = 0x28,
};

/* Give this processor a GDT, a TSS and the IDT. `stack_end` is where gates put their frames. */
void cpu_init(unsigned index, void *stack_end);

/* Map the GiB that starts at `base` (below 512 GiB). Kernel mode. */
void cpu_map_gib(uint64_t base);

/* Go on in user mode, for ever. */
_Noreturn void enter_user(void (*fn)(void), void *stack_end);

/* fn(arg) in kernel mode with interrupts off, from any mode. */
uint64_t kernel_call(uint64_t (*fn)(void *arg), void *arg);

/* Each interrupt `vector` (32 to 254) calls handler(arg); the end of interrupt is signalled after it. */
void interrupt_set(unsigned vector, void (*handler)(void *arg), void *arg);

/* Sleep (HLT) until *counter is no longer `seen`; an interrupt must make it so. */
void interrupt_wait(const volatile uint64_t *counter, uint64_t seen);

uint32_t port_in(uint16_t port, unsigned size);
void port_out(uint16_t port, unsigned size, uint32_t value);
uint64_t msr_read(uint32_t msr);
void msr_write(uint32_t msr, uint64_t value);

/* End in a triple fault. */
_Noreturn void cpu_triple_fault(void);

struct cpuid {
	uint32_t a, b, c, d;
};

struct cpuid cpuid(uint32_t leaf, uint32_t subleaf);

static inline uint64_t tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
	return (uint64_t)high << 32 | low;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" ::: "memory");
}

/* A full barrier. */
static inline void cpu_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* MMIO accesses are single moves of the given width. */
static inline uint8_t mmio_read8(uint64_t gpa)
{
	return *(volatile uint8_t *)gpa;
}

static inline uint16_t mmio_read16(uint64_t gpa)
{
	return *(volatile uint16_t *)gpa;
}

static inline uint32_t mmio_read32(uint64_t gpa)
{
	return *(volatile uint32_t *)gpa;
}

static inline void mmio_write8(uint64_t gpa, uint8_t value)
{
	*(volatile uint8_t *)gpa = value;
}

static inline void mmio_write16(uint64_t gpa, uint16_t value)
{
	*(volatile uint16_t *)gpa = value;
}

static inline void mmio_write32(uint64_t gpa, uint32_t value)
{
	*(volatile uint32_t *)gpa = value;
}

uint64_t mmio_read(uint64_t gpa, unsigned size);
void mmio_write(uint64_t gpa, unsigned size, uint64_t value);
