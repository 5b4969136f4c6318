/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads an uncompressed Linux kernel (vmlinux), or any ELF file whose segments have physical
 * addresses, into guest RAM.
 */
#pragma once

#include "vmm/boot/kernel.h"

/*
 * `machine` is the ELF machine this host's guests have (EM_X86_64, ...). The image starts at
 * e_entry, but where a Xen note gives a PVH entry and does not call the file a Linux, by PVH.
 */
int elf_load(const struct boot_file *file, uint16_t machine, const struct kernel_ram *ram,
	struct kernel_image *image, struct error *err);

/* "arm64", "riscv", ...; NULL when the number is not one that has Linux kernels. */
const char *elf_machine_name(uint16_t machine);
