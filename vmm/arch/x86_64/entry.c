/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry states (Intel SDM vol. 3 §3.4.5 "Segment Descriptors", §4.5 "4-Level Paging").
 *
 *   PVH: 32-bit protected mode, no paging, flat segments, interrupts off, EBX = start info
 *     (Xen docs/misc/pvh.pandoc)
 *   Linux 64-bit: long mode, CS 0x10 and DS 0x18 flat, identity-mapped, interrupts off, RSI = zero
 *     page (Linux Documentation/arch/x86/boot.rst)
 *
 * One GDT serves both: selector 0x08 is 32-bit code for PVH, 0x10 and 0x18 are as Linux wants them.
 */
#include "vmm/arch/x86_64/entry.h"

#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define SELECTOR_CODE32 0x08
#define SELECTOR_CODE64 0x10
#define SELECTOR_DATA	0x18
#define SELECTOR_TASK	0x20

#define CR0_PE	   (1ull << 0)
#define CR0_ET	   (1ull << 4)
#define CR0_PG	   (1ull << 31)
#define CR4_PAE	   (1ull << 5)
#define EFER_LME   (1ull << 8)
#define EFER_LMA   (1ull << 10)
#define RFLAGS_ONE 2 /* the bit that is always set */

#define PTE_PRESENT  (1ull << 0)
#define PTE_WRITABLE (1ull << 1)
#define PTE_LARGE    (1ull << 7)
#define PAGE	     4096
#define ENTRIES	     512
#define DIRECTORIES  4 /* 1 GiB each */

/* In the order of selectors: null, 32-bit code, 64-bit code, data, task (two slots). */
static const uint64_t gdt[] = {
	0,
	0x00cf9b000000ffff,
	0x00af9b000000ffff,
	0x00cf93000000ffff,
	0x00008b0000000067, /* a TSS nobody uses: entering a guest needs one loaded */
	0,
};

static void write_page_tables(const struct guest_memory *memory)
{
	uint8_t *view = guest_memory_view(memory, LAYOUT_PAGE_TABLES, (2 + DIRECTORIES) * PAGE);
	uint64_t *pml4, *pdpt, *directories;

	BUG_ON(!view);
	memset(view, 0, 2 * PAGE);
	pml4 = (uint64_t *)(void *)view;
	pdpt = pml4 + ENTRIES;
	directories = pdpt + ENTRIES;
	pml4[0] = (LAYOUT_PAGE_TABLES + PAGE) | PTE_PRESENT | PTE_WRITABLE;
	for (uint64_t i = 0; i < DIRECTORIES; i++)
		pdpt[i] = (LAYOUT_PAGE_TABLES + (2 + i) * PAGE) | PTE_PRESENT | PTE_WRITABLE;
	for (uint64_t i = 0; i < DIRECTORIES * ENTRIES; i++)
		directories[i] = i << 21 | PTE_PRESENT | PTE_WRITABLE | PTE_LARGE;
}

void entry_write_tables(const struct guest_memory *memory)
{
	BUG_ON(!guest_memory_write(memory, LAYOUT_GDT, gdt, sizeof(gdt)));
	write_page_tables(memory);
}

static struct kvm_segment segment(unsigned selector)
{
	uint64_t d = gdt[selector / 8];

	return (struct kvm_segment){
		.base = 0,
		.limit = d >> 55 & 1 ? 0xffffffff : 0x67, /* granularity */
		.selector = (uint16_t)selector,
		.type = d >> 40 & 0xf,
		.present = 1,
		.db = d >> 54 & 1,
		.s = d >> 44 & 1,
		.l = d >> 53 & 1,
		.g = d >> 55 & 1,
	};
}

static void set_segments(struct kvm_sregs *sregs, unsigned code)
{
	sregs->cs = segment(code);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = segment(SELECTOR_DATA);
	sregs->tr = segment(SELECTOR_TASK);
	sregs->gdt = (struct kvm_dtable){.base = LAYOUT_GDT, .limit = sizeof(gdt) - 1};
	sregs->idt = (struct kvm_dtable){0};
}

static void set_pvh(
	struct kvm_sregs *sregs, struct kvm_regs *regs, const struct arch_boot_entry *entry)
{
	set_segments(sregs, SELECTOR_CODE32);
	sregs->cr0 = CR0_PE | CR0_ET;
	sregs->cr4 = 0;
	sregs->efer = 0;
	regs->rbx = entry->info;
}

static void set_linux64(
	struct kvm_sregs *sregs, struct kvm_regs *regs, const struct arch_boot_entry *entry)
{
	set_segments(sregs, SELECTOR_CODE64);
	sregs->cr0 = CR0_PE | CR0_ET | CR0_PG;
	sregs->cr3 = LAYOUT_PAGE_TABLES;
	sregs->cr4 = CR4_PAE;
	sregs->efer = EFER_LME | EFER_LMA;
	regs->rsi = entry->info;
	regs->rsp = LAYOUT_BOOT_STACK;
}

int arch_vcpu_set_entry(struct vcpu *vcpu, const struct arch_boot_entry *entry, struct error *err)
{
	struct kvm_regs regs = {.rip = entry->entry, .rflags = RFLAGS_ONE};
	struct kvm_sregs sregs;

	/* The local APIC's base and the like stay as KVM made them. */
	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return error_errno(
			err, errno, "KVM cannot tell the registers of vCPU %u", vcpu->index);
	if (entry->protocol == ARCH_BOOT_PVH)
		set_pvh(&sregs, &regs, entry);
	else
		set_linux64(&sregs, &regs, entry);
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return error_errno(
			err, errno, "KVM cannot set the registers of vCPU %u", vcpu->index);
	return 0;
}
