/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF kernels (System V gABI ch. 4 and 5; PVH entry: Xen docs/misc/pvh.pandoc and
 * xen/include/public/elfnote.h, notes 6 and 18).
 *
 * The program headers say it all: PT_LOAD segments go to their physical addresses, what is beyond
 * the file's bytes is zero; PT_NOTE may hold the PVH entry point. A Linux with that entry is started
 * at its own all the same: through PVH it looks for Xen first, with 256 CPUID instructions. Section headers are only looked at
 * for one thing: since Linux 6.1 .bss lies in the middle of a segment, so that the file holds it as
 * 17 MiB of zeros. What a section header calls NOBITS is cleared, not read.
 *
 * Nothing in the file is trusted: every offset is checked against the file's size, every address
 * against the part of RAM that a kernel may use, and all headers before the first byte of RAM changes.
 */
#include "vmm/boot/elf.h"

#include "vmm/base/util.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define SEGMENTS_MAX   32
#define SECTIONS_MAX   512     /* of more, none is looked at */
#define NOTES_SIZE_MAX 0x10000 /* Linux has 500 bytes */
#define HOLES_MAX      8

#define XEN_NOTE_NAME	      "Xen"
#define XEN_NOTE_GUEST_OS     6
#define XEN_NOTE_PHYS32_ENTRY 18

#ifndef EM_LOONGARCH
#define EM_LOONGARCH 258
#endif

struct hole {
	uint64_t vaddr, size;
};

struct elf {
	const struct boot_file *file;
	Elf64_Ehdr header;
	unsigned phdr_count, hole_count;
	Elf64_Phdr phdrs[SEGMENTS_MAX];
	struct hole holes[HOLES_MAX]; /* ascending, not overlapping */
};

const char *elf_machine_name(uint16_t machine)
{
	switch (machine) {
	case EM_X86_64:
		return "x86_64";
	case EM_386:
		return "32-bit x86";
	case EM_AARCH64:
		return "arm64";
	case EM_ARM:
		return "32-bit arm";
	case EM_RISCV:
		return "riscv";
	case EM_PPC64:
		return "powerpc64";
	case EM_PPC:
		return "powerpc";
	case EM_S390:
		return "s390x";
	case EM_MIPS:
		return "mips";
	case EM_LOONGARCH:
		return "loongarch";
	case EM_SPARCV9:
		return "sparc64";
	default:
		return NULL;
	}
}

static int check_machine(struct elf *elf, uint16_t wanted, struct error *err)
{
	const unsigned char *ident = elf->header.e_ident;
	uint16_t machine = elf->header.e_machine;
	const char *name;

	/* Both classes have e_machine at the same place; a big-endian file has its bytes swapped. */
	if (ident[EI_DATA] == ELFDATA2MSB)
		machine = __builtin_bswap16(machine);
	if (machine == wanted && ident[EI_CLASS] == ELFCLASS64 && ident[EI_DATA] == ELFDATA2LSB)
		return 0;
	name = elf_machine_name(machine);
	if (machine == wanted)
		return boot_file_error(elf->file, err, "is not a 64-bit little-endian ELF file");
	if (!name)
		return boot_file_error(elf->file, err, "is for ELF machine %u; this host runs %s",
			machine, elf_machine_name(wanted));
	return boot_file_error(
		elf->file, err, "is for %s; this host runs %s", name, elf_machine_name(wanted));
}

static int read_header(struct elf *elf, uint16_t machine, struct error *err)
{
	const Elf64_Ehdr *h = &elf->header;
	int ret = boot_file_read(elf->file, 0, &elf->header, sizeof(elf->header), err);

	if (ret == 0)
		ret = check_machine(elf, machine, err);
	if (ret < 0)
		return ret;
	if (h->e_ident[EI_VERSION] != EV_CURRENT || (h->e_type != ET_EXEC && h->e_type != ET_DYN))
		return boot_file_error(elf->file, err, "is an ELF file, but not an executable one");
	if (h->e_phnum == 0 || h->e_phnum > SEGMENTS_MAX || h->e_phentsize != sizeof(Elf64_Phdr))
		return boot_file_error(elf->file, err,
			"has no usable program headers (%u of %u bytes)", h->e_phnum,
			h->e_phentsize);
	if (h->e_shnum &&
		!boot_file_holds(elf->file, h->e_shoff, (uint64_t)h->e_shnum * h->e_shentsize))
		return boot_file_error(
			elf->file, err, "is truncated: its section headers are missing");
	elf->phdr_count = h->e_phnum;
	return boot_file_read(
		elf->file, h->e_phoff, elf->phdrs, h->e_phnum * sizeof(elf->phdrs[0]), err);
}

static bool overlap(const Elf64_Phdr *a, const Elf64_Phdr *b)
{
	return a->p_paddr < b->p_paddr + b->p_memsz && b->p_paddr < a->p_paddr + a->p_memsz;
}

static bool is_loaded(const Elf64_Phdr *ph)
{
	return ph->p_type == PT_LOAD && ph->p_memsz;
}

static int check_segment(
	const struct elf *elf, unsigned i, const struct kernel_ram *ram, struct error *err)
{
	const Elf64_Phdr *ph = &elf->phdrs[i];
	int ret;

	if (ph->p_filesz > ph->p_memsz)
		return boot_file_error(elf->file, err, "has a segment with more bytes than memory");
	if (!boot_file_holds(elf->file, ph->p_offset, ph->p_filesz))
		return boot_file_error(elf->file, err,
			"is truncated: a segment ends at byte %" PRIu64 " of %" PRIu64,
			ph->p_offset + ph->p_filesz, elf->file->size);
	ret = kernel_ram_check(ram, elf->file, ph->p_paddr, ph->p_memsz, err);
	if (ret < 0)
		return ret;
	for (unsigned j = 0; j < i; j++)
		if (is_loaded(&elf->phdrs[j]) && overlap(ph, &elf->phdrs[j]))
			return boot_file_error(elf->file, err,
				"has segments that overlap at 0x%" PRIx64,
				max_u64(ph->p_paddr, elf->phdrs[j].p_paddr));
	return 0;
}

static int check_segments(const struct elf *elf, const struct kernel_ram *ram,
	struct kernel_image *image, struct error *err)
{
	image->start = UINT64_MAX;
	image->end = 0;
	for (unsigned i = 0; i < elf->phdr_count; i++) {
		const Elf64_Phdr *ph = &elf->phdrs[i];
		int ret;

		if (ph->p_type == PT_INTERP)
			return boot_file_error(elf->file, err, "is a program, not a kernel");
		if (!is_loaded(ph))
			continue;
		ret = check_segment(elf, i, ram, err);
		if (ret < 0)
			return ret;
		image->start = min_u64(image->start, ph->p_paddr);
		image->end = max_u64(image->end, ph->p_paddr + ph->p_memsz);
	}
	if (!image->end)
		return boot_file_error(elf->file, err, "has nothing to load");
	return 0;
}

/* What the notes say, as far as it matters. */
struct notes {
	uint64_t pvh_entry; /* 0: none */
	bool linux_os;
};

static void take_xen_note(struct notes *found, uint32_t type, const uint8_t *desc, uint32_t len)
{
	if (type == XEN_NOTE_GUEST_OS)
		found->linux_os = len >= 5 && !memcmp(desc, "linux", 5);
	if (type == XEN_NOTE_PHYS32_ENTRY && (len == 4 || len == 8)) {
		found->pvh_entry = 0;
		memcpy(&found->pvh_entry, desc, len);
	}
}

/* Notes: three words, then name and descriptor, each padded to four bytes. */
static void scan_notes(struct notes *found, const uint8_t *notes, uint64_t size)
{
	uint64_t at = 0;

	while (size - at >= sizeof(Elf64_Nhdr)) {
		uint64_t name_at = at + sizeof(Elf64_Nhdr), desc_at;
		Elf64_Nhdr note;

		memcpy(&note, notes + at, sizeof(note));
		desc_at = name_at + align_up(note.n_namesz, 4);
		if (desc_at + note.n_descsz > size)
			return;
		if (note.n_namesz == sizeof(XEN_NOTE_NAME) &&
			!memcmp(notes + name_at, XEN_NOTE_NAME, sizeof(XEN_NOTE_NAME)))
			take_xen_note(found, note.n_type, notes + desc_at, note.n_descsz);
		at = min_u64(desc_at + align_up(note.n_descsz, 4), size);
	}
}

static int read_notes(const struct elf *elf, struct notes *found, struct error *err)
{
	for (unsigned i = 0; i < elf->phdr_count; i++) {
		const Elf64_Phdr *ph = &elf->phdrs[i];
		_cleanup_free_ uint8_t *notes = NULL;
		int ret;

		if (ph->p_type != PT_NOTE || !ph->p_filesz || ph->p_filesz > NOTES_SIZE_MAX)
			continue;
		notes = malloc(ph->p_filesz);
		if (!notes)
			return error_errno(err, ENOMEM, "cannot read the kernel's notes");
		ret = boot_file_read(elf->file, ph->p_offset, notes, ph->p_filesz, err);
		if (ret < 0)
			return ret;
		scan_notes(found, notes, ph->p_filesz);
	}
	return 0;
}

static int find_entry(const struct elf *elf, struct kernel_image *image, struct error *err)
{
	struct notes notes = {0};
	int ret = read_notes(elf, &notes, err);

	if (ret < 0)
		return ret;
	image->pvh = notes.pvh_entry && !notes.linux_os;
	image->entry = image->pvh ? notes.pvh_entry : elf->header.e_entry;
	for (unsigned i = 0; i < elf->phdr_count; i++)
		if (is_loaded(&elf->phdrs[i]) && image->entry >= elf->phdrs[i].p_paddr &&
			image->entry - elf->phdrs[i].p_paddr < elf->phdrs[i].p_memsz)
			return 0;
	return boot_file_error(
		elf->file, err, "starts at 0x%" PRIx64 ", where it has no code", image->entry);
}

static void add_hole(struct elf *elf, uint64_t vaddr, uint64_t size)
{
	const struct hole *last = elf->hole_count ? &elf->holes[elf->hole_count - 1] : NULL;

	if (size < BOOT_FILE_HOLE_MIN || vaddr + size < vaddr || elf->hole_count == HOLES_MAX)
		return;
	/* Linkers sort sections by address; what is not sorted is not worth the trouble. */
	if (last && vaddr < last->vaddr + last->size)
		return;
	elf->holes[elf->hole_count++] = (struct hole){vaddr, size};
}

static int find_holes(struct elf *elf, struct error *err)
{
	const Elf64_Ehdr *h = &elf->header;
	_cleanup_free_ Elf64_Shdr *sections = NULL;
	int ret;

	if (!h->e_shnum || h->e_shnum > SECTIONS_MAX || h->e_shentsize != sizeof(*sections))
		return 0;
	sections = calloc(h->e_shnum, sizeof(*sections));
	if (!sections)
		return error_errno(err, ENOMEM, "cannot read the kernel's section headers");
	ret = boot_file_read(elf->file, h->e_shoff, sections, h->e_shnum * sizeof(*sections), err);
	for (unsigned i = 0; i < h->e_shnum && ret == 0; i++)
		if (sections[i].sh_type == SHT_NOBITS && (sections[i].sh_flags & SHF_ALLOC) &&
			!(sections[i].sh_flags & SHF_TLS))
			add_hole(elf, sections[i].sh_addr, sections[i].sh_size);
	return ret;
}

static int load_segment(const struct elf *elf, const Elf64_Phdr *ph, const struct kernel_ram *ram,
	struct error *err)
{
	uint64_t at = 0; /* within the segment */
	int ret;

	for (unsigned i = 0; i < elf->hole_count; i++) {
		uint64_t start = elf->holes[i].vaddr - ph->p_vaddr;

		if (elf->holes[i].vaddr < ph->p_vaddr || start < at || start > ph->p_filesz ||
			elf->holes[i].size > ph->p_filesz - start)
			continue;
		ret = kernel_ram_load(
			ram, elf->file, ph->p_offset + at, ph->p_paddr + at, start - at, err);
		if (ret < 0)
			return ret;
		kernel_ram_clear(ram, ph->p_paddr + start, elf->holes[i].size);
		at = start + elf->holes[i].size;
	}
	ret = kernel_ram_load(
		ram, elf->file, ph->p_offset + at, ph->p_paddr + at, ph->p_filesz - at, err);
	if (ret == 0)
		kernel_ram_clear(ram, ph->p_paddr + ph->p_filesz, ph->p_memsz - ph->p_filesz);
	return ret;
}

int elf_load(const struct boot_file *file, uint16_t machine, const struct kernel_ram *ram,
	struct kernel_image *image, struct error *err)
{
	struct elf elf = {.file = file};
	int ret = read_header(&elf, machine, err);

	if (ret == 0)
		ret = check_segments(&elf, ram, image, err);
	if (ret == 0)
		ret = find_entry(&elf, image, err);
	if (ret == 0)
		ret = find_holes(&elf, err);
	for (unsigned i = 0; i < elf.phdr_count && ret == 0; i++)
		if (is_loaded(&elf.phdrs[i]))
			ret = load_segment(&elf, &elf.phdrs[i], ram, err);
	return ret;
}
