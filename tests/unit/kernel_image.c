/* SPDX-License-Identifier: Apache-2.0 */
/* Small kernel files: see kernel_image.h. */
#include "tests/unit/kernel_image.h"

#include "vmm/base/util.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void test_file_create(struct test_file *file, const void *data, size_t len)
{
	file->fd = memfd_create("kernel", MFD_CLOEXEC);
	ck_assert_int_ge(file->fd, 0);
	snprintf(file->path, sizeof(file->path), "/proc/self/fd/%d", file->fd);
	test_file_write(file, data, len);
}

void test_file_write(const struct test_file *file, const void *data, size_t len)
{
	ck_assert_int_eq(ftruncate(file->fd, 0), 0);
	ck_assert_int_eq(pwrite(file->fd, data, len, 0), (ssize_t)len);
}

void test_file_dig(const struct test_file *file, size_t offset, size_t len)
{
	ck_assert_int_eq(fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)offset, (off_t)len),
		0);
}

void test_file_close(struct test_file *file)
{
	close(file->fd);
}

void test_ram_create(struct guest_memory *memory, struct kernel_ram *ram)
{
	const struct guest_memory_config config = {
		.region_count = 1,
		.regions = {{.gpa = 0, .size = RAM_SIZE}},
	};
	struct error err;

	ck_assert_int_eq(guest_memory_create(&config, memory, &err), 0);
	*ram = (struct kernel_ram){
		.memory = memory, .start = RAM_START, .end = RAM_SIZE, .limit = GIB(3)};
	test_ram_soil(memory);
}

void test_ram_soil(const struct guest_memory *memory)
{
	test_ram_soil_range(memory, 0, RAM_SIZE);
}

void test_ram_soil_range(const struct guest_memory *memory, uint64_t gpa, uint64_t len)
{
	memset(guest_memory_view(memory, gpa, len), RAM_DIRT, len);
}

bool test_ram_untouched(const struct guest_memory *memory, uint64_t gpa, uint64_t len)
{
	const uint8_t *view = guest_memory_view(memory, gpa, len);

	return view[0] == RAM_DIRT && !memcmp(view, view + 1, len - 1);
}

static void fill(uint8_t *data, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + seed + (i >> 8));
}

static void build_notes(struct test_elf *elf)
{
	elf->os.header = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 6, .n_type = 6};
	memcpy(elf->os.name, "Xen", 4);
	memcpy(elf->os.text, "linux", 6);
	elf->pvh.header = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 8, .n_type = 18};
	memcpy(elf->pvh.name, "Xen", 4);
	elf->pvh.value = ELF_PVH_ENTRY;
}

static Elf64_Phdr load(uint64_t gpa, size_t offset, uint64_t size, uint64_t memory)
{
	return (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_flags = PF_R | PF_X,
		.p_offset = offset,
		.p_vaddr = gpa + ELF_VADDR_BIAS,
		.p_paddr = gpa,
		.p_filesz = size,
		.p_memsz = memory,
	};
}

void test_elf_build(struct test_elf *elf)
{
	memset(elf, 0, sizeof(*elf));
	memcpy(elf->header.e_ident, ELFMAG, SELFMAG);
	elf->header.e_ident[EI_CLASS] = ELFCLASS64;
	elf->header.e_ident[EI_DATA] = ELFDATA2LSB;
	elf->header.e_ident[EI_VERSION] = EV_CURRENT;
	elf->header.e_type = ET_EXEC;
	elf->header.e_machine = EM_X86_64;
	elf->header.e_version = EV_CURRENT;
	elf->header.e_entry = ELF_ENTRY;
	elf->header.e_phoff = offsetof(struct test_elf, segments);
	elf->header.e_shoff = offsetof(struct test_elf, sections);
	elf->header.e_ehsize = sizeof(elf->header);
	elf->header.e_phentsize = sizeof(elf->segments[0]);
	elf->header.e_phnum = ARRAY_SIZE(elf->segments);
	elf->header.e_shentsize = sizeof(elf->sections[0]);
	elf->header.e_shnum = ARRAY_SIZE(elf->sections);
	elf->segments[0] =
		load(ELF_TEXT_GPA, offsetof(struct test_elf, text), ELF_TEXT_SIZE, ELF_TEXT_SIZE);
	elf->segments[1] = load(ELF_DATA_GPA, offsetof(struct test_elf, data), sizeof(elf->data),
		sizeof(elf->data) + ELF_TAIL_SIZE);
	elf->segments[2] = (Elf64_Phdr){
		.p_type = PT_NOTE,
		.p_offset = offsetof(struct test_elf, os),
		.p_filesz = sizeof(elf->os) + sizeof(elf->pvh),
	};
	elf->sections[1] = (Elf64_Shdr){
		.sh_type = SHT_NOBITS,
		.sh_flags = SHF_ALLOC | SHF_WRITE,
		.sh_addr = ELF_DATA_GPA + ELF_DATA_SIZE + ELF_VADDR_BIAS,
		.sh_size = ELF_BSS_SIZE,
	};
	build_notes(elf);
	fill(elf->text, sizeof(elf->text), 1);
	fill(elf->data, sizeof(elf->data), 2);
}

struct setup_header *test_bzimage_header(struct test_bzimage *image)
{
	return (struct setup_header *)(void *)(image->setup + 0x1f1);
}

void test_bzimage_build(struct test_bzimage *image)
{
	struct setup_header *h = test_bzimage_header(image);

	memset(image->setup, 0x90, sizeof(image->setup));
	*h = (struct setup_header){
		.setup_sects = 1,
		.syssize = BZIMAGE_SIZE / 16,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb, /* over the header: it ends at 0x202 + 0x6a */
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = 0x1000000,
		.init_size = BZIMAGE_INIT_SIZE,
	};
	fill(image->code, sizeof(image->code), 3);
}
