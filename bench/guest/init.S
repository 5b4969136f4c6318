/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first process of the guests that are only timed: says that it is there and waits for ever. It is the only program
 * of its ramdisk and has no C library, so that what is counted up to its line is the kernel's doing: a library asks the
 * CPU 36 times what it can do, which is an exit each, in every process.
 */
	.globl _start
_start:
	mov $1, %eax /* write */
	mov $1, %edi
	lea text(%rip), %rsi
	mov $end - text, %edx
	syscall
1:	mov $34, %eax /* pause */
	syscall
	jmp 1b

	.section .rodata
text:	.ascii "BENCH init\n"
end:
