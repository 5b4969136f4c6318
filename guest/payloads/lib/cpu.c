/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GDT, TSS, IDT and what goes through them (Intel SDM volume 3, chapters 3, 6 and 7). See cpu.h.
 *
 * The stack in the TSS is used by every gate taken in user mode. Kernel code runs with interrupts
 * off but in interrupt_wait(), where a frame lands on the stack in use; so one stack is enough.
 */
#include "guest/payloads/lib/cpu.h"

#include "guest/payloads/lib/lapic.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"

#define VECTORS		256
#define FIRST_INTERRUPT 32
#define CALL_GATE	3 /* of all software interrupts, a breakpoint works in every KVM's user mode */
#define GATE_KERNEL	0x8e00
#define GATE_USER	0xee00

struct frame {
	uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

struct tss {
	uint32_t reserved0;
	uint32_t rsp0_low, rsp0_high;
	uint32_t others[22];
	uint16_t reserved1, io_map;
};

struct gate {
	uint16_t offset_low, selector, type, offset_middle;
	uint32_t offset_high, reserved;
};

struct __attribute__((packed)) table_pointer {
	uint16_t limit;
	uint64_t base;
};

struct handler {
	void (*fn)(void *arg);
	void *arg;
};

extern const uint8_t gates[VECTORS][16];
extern uint64_t page_pointers[512];
void call_gate(void);
void interrupt(struct frame *frame);

static uint64_t gdts[CPUS_MAX][7];
static struct tss tsses[CPUS_MAX];
static struct gate idt[VECTORS];
static struct handler handlers[VECTORS];

static void set_gate(unsigned vector, uint64_t target, uint16_t type)
{
	idt[vector] = (struct gate){
		.offset_low = (uint16_t)target,
		.selector = SELECTOR_CODE,
		.type = type,
		.offset_middle = (uint16_t)(target >> 16),
		.offset_high = (uint32_t)(target >> 32),
	};
}

static void make_idt(void)
{
	for (unsigned i = 0; i < VECTORS; i++)
		set_gate(i, (uint64_t)gates[i], GATE_KERNEL);
	set_gate(CALL_GATE, (uint64_t)call_gate, GATE_USER);
}

static void make_gdt(uint64_t *gdt, struct tss *tss)
{
	uint64_t base = (uint64_t)tss;

	gdt[SELECTOR_CODE / 8] = 0x00af9b000000ffff;
	gdt[SELECTOR_DATA / 8] = 0x00cf93000000ffff;
	gdt[SELECTOR_USER_DATA / 8] = 0x00cff3000000ffff;
	gdt[SELECTOR_USER_CODE / 8] = 0x00affb000000ffff;
	gdt[SELECTOR_TSS / 8] = 0x0000890000000000 | (sizeof(*tss) - 1) | (base & 0xffffff) << 16 |
				(base >> 24 & 0xff) << 56;
	gdt[SELECTOR_TSS / 8 + 1] = base >> 32;
}

void cpu_init(unsigned index, void *stack_end)
{
	struct table_pointer gdt = {sizeof(gdts[0]) - 1, (uint64_t)gdts[index]};
	struct table_pointer idtr = {sizeof(idt) - 1, (uint64_t)idt};
	struct tss *tss = &tsses[index];

	tss->rsp0_low = (uint32_t)(uint64_t)stack_end;
	tss->rsp0_high = (uint32_t)((uint64_t)stack_end >> 32);
	tss->io_map = sizeof(*tss);
	make_gdt(gdts[index], tss);
	if (index == 0)
		make_idt();
	__asm__ volatile("lgdt %0" ::"m"(gdt));
	__asm__ volatile("lidt %0" ::"m"(idtr));
	__asm__ volatile("ltr %w0" ::"r"(SELECTOR_TSS));
}

void cpu_map_gib(uint64_t base)
{
	uint64_t *directory, *entry = &page_pointers[base >> 30];

	if (*entry)
		return;
	directory = memory_alloc(4096, 4096);
	for (unsigned i = 0; i < 512; i++)
		directory[i] = base + ((uint64_t)i << 21) + 0xe7;
	*entry = (uint64_t)directory + 0x67;
}

void interrupt(struct frame *frame)
{
	uint64_t cr2;

	if (frame->vector < FIRST_INTERRUPT) {
		__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
		report_exception((unsigned)frame->vector, frame->rip, frame->error, cr2);
	}
	if (frame->vector == LAPIC_SPURIOUS)
		return;
	if (handlers[frame->vector].fn)
		handlers[frame->vector].fn(handlers[frame->vector].arg);
	lapic_end_of_interrupt();
}

void interrupt_set(unsigned vector, void (*handler)(void *arg), void *arg)
{
	handlers[vector] = (struct handler){.fn = handler, .arg = arg};
}

static bool in_kernel(void)
{
	uint16_t cs;

	__asm__("mov %%cs, %0" : "=r"(cs));
	return !(cs & 3);
}

uint64_t kernel_call(uint64_t (*fn)(void *arg), void *arg)
{
	uint64_t result;

	if (in_kernel())
		return fn(arg);
	__asm__ volatile("int3"
			 : "=a"(result), "+D"(fn), "+S"(arg)
			 :
			 : "rcx", "rdx", "r8", "r9", "r10", "r11", "cc", "memory");
	return result;
}

struct wait {
	const volatile uint64_t *counter;
	uint64_t seen;
};

/* STI takes effect after the next instruction: no interrupt slips in between the look and the HLT. */
static uint64_t wait_in_kernel(void *arg)
{
	struct wait *wait = arg;

	while (*wait->counter == wait->seen)
		__asm__ volatile("sti\n\thlt\n\tcli" ::: "memory");
	return 0;
}

void interrupt_wait(const volatile uint64_t *counter, uint64_t seen)
{
	struct wait wait = {.counter = counter, .seen = seen};

	kernel_call(wait_in_kernel, &wait);
}

struct access {
	uint32_t where;
	unsigned size;
	uint64_t value;
};

static uint64_t port_in_kernel(void *arg)
{
	struct access *a = arg;
	uint32_t value = 0;

	if (a->size == 1)
		__asm__ volatile("inb %w1, %b0" : "+a"(value) : "d"(a->where));
	else if (a->size == 2)
		__asm__ volatile("inw %w1, %w0" : "+a"(value) : "d"(a->where));
	else
		__asm__ volatile("inl %w1, %0" : "+a"(value) : "d"(a->where));
	return value;
}

static uint64_t port_out_kernel(void *arg)
{
	struct access *a = arg;
	uint32_t value = (uint32_t)a->value;

	if (a->size == 1)
		__asm__ volatile("outb %b0, %w1" ::"a"(value), "d"(a->where));
	else if (a->size == 2)
		__asm__ volatile("outw %w0, %w1" ::"a"(value), "d"(a->where));
	else
		__asm__ volatile("outl %0, %w1" ::"a"(value), "d"(a->where));
	return 0;
}

uint32_t port_in(uint16_t port, unsigned size)
{
	struct access a = {.where = port, .size = size};

	return (uint32_t)kernel_call(port_in_kernel, &a);
}

void port_out(uint16_t port, unsigned size, uint32_t value)
{
	struct access a = {.where = port, .size = size, .value = value};

	kernel_call(port_out_kernel, &a);
}

static uint64_t msr_read_kernel(void *arg)
{
	struct access *a = arg;
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(a->where));
	return (uint64_t)high << 32 | low;
}

static uint64_t msr_write_kernel(void *arg)
{
	struct access *a = arg;

	__asm__ volatile(
		"wrmsr" ::"c"(a->where), "a"((uint32_t)a->value), "d"((uint32_t)(a->value >> 32))
		: "memory");
	return 0;
}

uint64_t msr_read(uint32_t msr)
{
	struct access a = {.where = msr};

	return kernel_call(msr_read_kernel, &a);
}

void msr_write(uint32_t msr, uint64_t value)
{
	struct access a = {.where = msr, .value = value};

	kernel_call(msr_write_kernel, &a);
}

static uint64_t empty_idt(void *arg)
{
	struct table_pointer none = {0};

	(void)arg;
	__asm__ volatile("lidt %0" ::"m"(none));
	return 0;
}

/* Without an IDT a fault faults, and so does the double fault. In user mode: some KVMs only emulate the other. */
void cpu_triple_fault(void)
{
	kernel_call(empty_idt, NULL);
	for (;;)
		__asm__ volatile("ud2");
}

struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid r;

	__asm__ volatile("cpuid"
			 : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
			 : "a"(leaf), "c"(subleaf));
	return r;
}

uint64_t mmio_read(uint64_t gpa, unsigned size)
{
	switch (size) {
	case 1:
		return mmio_read8(gpa);
	case 2:
		return mmio_read16(gpa);
	case 4:
		return mmio_read32(gpa);
	default:
		return *(volatile uint64_t *)gpa;
	}
}

void mmio_write(uint64_t gpa, unsigned size, uint64_t value)
{
	switch (size) {
	case 1:
		mmio_write8(gpa, (uint8_t)value);
		break;
	case 2:
		mmio_write16(gpa, (uint16_t)value);
		break;
	case 4:
		mmio_write32(gpa, (uint32_t)value);
		break;
	default:
		*(volatile uint64_t *)gpa = value;
	}
}
