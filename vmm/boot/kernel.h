/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every kind of kernel file has in common: telling the kinds apart, where an image may be put in
 * guest RAM, and what is known of it once it is there. The loaders are elf.h and bzimage.h.
 */
#pragma once

#include "vmm/boot/file.h"
#include "vmm/memory/guest_memory.h"

enum kernel_kind {
	KERNEL_ELF,
	KERNEL_BZIMAGE,	    /* x86 */
	KERNEL_ARM64_IMAGE, /* arm64, uncompressed */
};

/* Tell the kind by its magic. Refuses, in words, what is none of them (compressed files, other kernels). */
int kernel_detect(const struct boot_file *file, enum kernel_kind *kind, struct error *err);

/* The part of RAM that kernel and initrd may use: all of it inside one memory region. */
struct kernel_ram {
	const struct guest_memory *memory;
	uint64_t start, end;
	uint64_t limit; /* `end` of the largest machine: beyond it more RAM would not help */
	bool fresh;	/* never written: all zero bytes, nothing needs clearing */
};

/* A kernel in RAM. */
struct kernel_image {
	uint64_t start,
		end; /* everything it claims before it knows the memory map: bss, working space */
	uint64_t entry;
	bool pvh; /* `entry` is the one of the PVH boot protocol, not the kernel's own */
};

/* Whether [gpa, gpa+len) is inside; if not, *err says what the kernel would need. */
int kernel_ram_check(const struct kernel_ram *ram, const struct boot_file *file, uint64_t gpa,
	uint64_t len, struct error *err);

/* Make a checked range zero. */
void kernel_ram_clear(const struct kernel_ram *ram, uint64_t gpa, uint64_t len);

/* Put bytes of the file into a checked range. What the file has no bytes for is cleared, not read. */
int kernel_ram_load(const struct kernel_ram *ram, const struct boot_file *file, uint64_t offset,
	uint64_t gpa, uint64_t len, struct error *err);

/*
 * Load an initial ramdisk as high as it goes: below `limit` (exclusive) and above `image`, page-aligned,
 * as far as possible from what the kernel uses first.
 */
int initrd_load(const struct boot_file *file, const struct kernel_ram *ram,
	const struct kernel_image *image, uint64_t limit, uint64_t *gpa, struct error *err);
