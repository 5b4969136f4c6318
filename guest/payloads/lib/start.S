/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the loader to C: the PVH entry (32-bit, flat, no paging, ebx = start info), the same for
 * application processors (16-bit, from a start-up IPI), and the gates of the IDT.
 *
 * Paging is the identity, with 2 MiB pages that user mode may access; four page directories are
 * assembled in, cpu.c adds what lies above 4 GiB. Selectors are those of enum selector in cpu.h; a
 * processor changes to a GDT of its own, with a TSS, in cpu_init().
 */
#define TRAMPOLINE 0x8000 /* see smp.c */
#define CODE64	   0x08
#define DATA	   0x10
#define CODE32	   0x18

	.section .note.Xen, "a", @note
	.balign 4
	.long	4, 8, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.quad	pvh_start

	.section .text.start, "ax"
	.code32
	.globl	pvh_start
pvh_start:
	cli
	movl	%ebx, %edi
	movl	$start64, %esi
enter_long_mode: /* goes on at esi, and leaves edi alone */
	cld
	lgdt	boot_gdt_pointer
	movl	%cr4, %eax
	orl	$0x20, %eax /* PAE */
	movl	%eax, %cr4
	movl	$page_map, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx /* EFER.LME */
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	%cr0, %eax
	andl	$0x9fffffff, %eax /* caches on, as INIT leaves them off */
	orl	$0x80000001, %eax
	movl	%eax, %cr0
	ljmp	$CODE64, $1f

	.code64
1:	movl	$DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%esi, %esi
	jmp	*%rsi

start64:
	leaq	boot_stack_end(%rip), %rsp
	xorl	%ebp, %ebp
	movl	%edi, %edi
	call	payload_start
	ud2

ap_start64:
	movq	ap_stack(%rip), %rsp
	xorl	%ebp, %ebp
	call	ap_start
	ud2

	/* Copied to TRAMPOLINE; cs = TRAMPOLINE >> 4, ip = 0. */
	.code16
	.globl	ap_trampoline, ap_trampoline_end
ap_trampoline:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	lgdtl	TRAMPOLINE + (ap_gdt_pointer - ap_trampoline)
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	$CODE32, $ap_start32
	.balign 4
ap_gdt_pointer:
	.word	boot_gdt_end - boot_gdt - 1
	.long	boot_gdt
ap_trampoline_end:

	.code32
ap_start32:
	movl	$DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	$ap_start64, %esi
	jmp	enter_long_mode

	.code64
	/* void enter_user(void (*fn)(void), void *stack_end): never returns. */
	.globl	enter_user
enter_user:
	movl	$0x1b, %eax
	movl	%eax, %ds
	movl	%eax, %es
	pushq	%rax
	leaq	-8(%rsi), %rsi /* as after a call */
	pushq	%rsi
	pushq	$0x202
	pushq	$0x23
	pushq	%rdi
	xorl	%ebp, %ebp
	iretq

	/* A breakpoint in user mode: calls rdi(rsi) in kernel mode. See kernel_call(). */
	.globl	call_gate
call_gate:
	cld
	subq	$8, %rsp
	movq	%rdi, %rax
	movq	%rsi, %rdi
	call	*%rax
	addq	$8, %rsp
	iretq

	/* One 16-byte stub a vector: an error code where the processor gives none, the vector, and on. */
	.macro	gate vector
	.balign 16
	.if	!(\vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17 || \vector == 21)
	pushq	$0
	.endif
	pushq	$\vector
	jmp	interrupt_gate
	.endm

	.balign 16
	.globl	gates
gates:
	.altmacro
	.set	i, 0
	.rept	256
	gate	%i
	.set	i, i + 1
	.endr
	.noaltmacro

interrupt_gate:
	cld
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	movq	%rsp, %rdi /* struct frame */
	pushq	%rbp
	movq	%rsp, %rbp
	andq	$-16, %rsp
	call	interrupt
	movq	%rbp, %rsp
	popq	%rbp
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$16, %rsp
	iretq

	.section .data, "aw"
	.balign 8
boot_gdt:
	.quad	0
	.quad	0x00af9b000000ffff /* CODE64 */
	.quad	0x00cf93000000ffff /* DATA */
	.quad	0x00cf9b000000ffff /* CODE32 */
boot_gdt_end:
boot_gdt_pointer:
	.word	boot_gdt_end - boot_gdt - 1
	.long	boot_gdt

	/* Present, writable, user, accessed, dirty. */
	.balign 4096
	.globl	page_map, page_pointers
page_map:
	.quad	page_pointers + 0x67
	.fill	511, 8, 0
page_pointers:
	.quad	page_directories + 0x67
	.quad	page_directories + 0x1067
	.quad	page_directories + 0x2067
	.quad	page_directories + 0x3067
	.fill	508, 8, 0
page_directories:
	.set	i, 0
	.rept	2048
	.quad	(i << 21) + 0xe7 /* and 2 MiB */
	.set	i, i + 1
	.endr

	.section .bss, "aw", @nobits
	.balign 16
	.skip	16384
boot_stack_end:

	.section .note.GNU-stack, "", @progbits
