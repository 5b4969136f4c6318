/* SPDX-License-Identifier: Apache-2.0 */
/* Loads an x86 bzImage (a kernel that unpacks itself) into guest RAM, for the 64-bit boot protocol. */
#pragma once

#include "vmm/boot/kernel.h"

#include <asm/bootparam.h>

/* `header` is the file's setup header, checked, to be handed on in the zero page. */
int bzimage_load(const struct boot_file *file, const struct kernel_ram *ram,
	struct kernel_image *image, struct setup_header *header, struct error *err);
