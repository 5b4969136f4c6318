/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest kernel there is: its first instructions send one byte to COM1, then it halts. The time to that byte
 * is the time to the first guest instruction, for every monitor that loads an ELF file by its PVH note
 * (Xen docs/misc/pvh.pandoc; note 18 of xen/include/public/elfnote.h).
 */
	.code32
	.text
	.globl first
first:
	mov	$0x3f8, %dx
	mov	$'!', %al
	out	%al, (%dx)
halt:
	hlt
	jmp	halt

	.section .note.first, "a", @note
	.long	4, 4, 18
	.asciz	"Xen"
	.long	first

	.section .note.GNU-stack, "", @progbits
