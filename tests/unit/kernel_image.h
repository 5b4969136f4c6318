/* SPDX-License-Identifier: Apache-2.0 */
/* Small kernel files in memory, for the tests of the loaders; and RAM to load them into. */
#pragma once

#include "vmm/boot/kernel.h"

#include <asm/bootparam.h>
#include <elf.h>

#define RAM_SIZE  MIB(32)
#define RAM_START MIB(1)
#define RAM_DIRT  0xa5 /* what RAM is full of before a test */

/* A file without a name, to be opened by its path. */
struct test_file {
	int fd;
	char path[40];
};

void test_file_create(struct test_file *file, const void *data, size_t len);
void test_file_write(
	const struct test_file *file, const void *data, size_t len); /* all of it, anew */
/* Take a range's bytes away: a hole, where there are whole pages. */
void test_file_dig(const struct test_file *file, size_t offset, size_t len);
void test_file_close(struct test_file *file);

/* RAM_SIZE bytes of dirt; the kernel may have what is above RAM_START. */
void test_ram_create(struct guest_memory *memory, struct kernel_ram *ram);
void test_ram_soil(const struct guest_memory *memory);
void test_ram_soil_range(const struct guest_memory *memory, uint64_t gpa, uint64_t len);
/* Whether [gpa, gpa+len) is as test_ram_soil() left it. */
bool test_ram_untouched(const struct guest_memory *memory, uint64_t gpa, uint64_t len);

/* An ELF kernel: code at 2 MiB, data with .bss in its midst and behind it at 4 MiB, Xen notes. */
#define ELF_TEXT_GPA   0x200000
#define ELF_TEXT_SIZE  0x1234
#define ELF_DATA_GPA   0x400000
#define ELF_DATA_SIZE  0x800   /* then .bss, then as much again */
#define ELF_BSS_SIZE   0x20000 /* of that in the segment's midst */
#define ELF_TAIL_SIZE  0x3000  /* of memory behind the segment's bytes */
#define ELF_ENTRY      (ELF_TEXT_GPA + 0x10)
#define ELF_PVH_ENTRY  (ELF_TEXT_GPA + 0x20)
#define ELF_VADDR_BIAS 0xffffffff80000000

struct test_elf {
	Elf64_Ehdr header;
	Elf64_Phdr segments[3]; /* text, data, notes */
	struct {
		Elf64_Nhdr header;
		char name[4];
		char text[8];
	} os; /* what kind of kernel: "linux" */
	struct {
		Elf64_Nhdr header;
		char name[4];
		uint64_t value;
	} pvh;
	uint8_t text[ELF_TEXT_SIZE];
	uint8_t data[2 * ELF_DATA_SIZE + ELF_BSS_SIZE];
	Elf64_Shdr sections[2]; /* none, .bss */
};

void test_elf_build(struct test_elf *elf);

/* A bzImage with one setup sector. */
#define BZIMAGE_SIZE	  0x3000 /* of the protected-mode code */
#define BZIMAGE_INIT_SIZE 0x400000

struct test_bzimage {
	uint8_t setup[2 * 512];
	uint8_t code[BZIMAGE_SIZE];
};

struct setup_header *test_bzimage_header(struct test_bzimage *image);
void test_bzimage_build(struct test_bzimage *image);
