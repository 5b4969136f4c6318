/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kinds of kernel files by their magic, and the checks that all loaders share. See kernel.h.
 *
 * Magics: ELF gABI "e_ident"; Linux Documentation/arch/x86/boot.rst (HdrS at 0x202),
 * arch/arm64/booting.rst and arch/riscv/boot-image-header.rst (byte 0x38), drivers/firmware/efi/libstub
 * ("zimg" at byte 4 of a self-unpacking EFI kernel); the compressors' own file formats.
 */
#include "vmm/boot/kernel.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <inttypes.h>
#include <string.h>

#define PROBE_SIZE 0x210
#define PAGE	   KIB(4)

static const struct {
	unsigned offset, len;
	const char *magic;
	enum kernel_kind kind;
} kinds[] = {
	{0x000, 4,
		"\x7f"
		"ELF",
		KERNEL_ELF},
	{0x202, 4, "HdrS", KERNEL_BZIMAGE},
	{0x038, 4, "ARM\x64", KERNEL_ARM64_IMAGE},
};

static const struct {
	unsigned offset, len;
	const char *magic;
	const char *what;
} refused[] = {
	{0x000, 2, "\x1f\x8b", "is compressed with gzip: unpack it first"},
	{0x000, 6,
		"\xfd"
		"7zXZ",
		"is compressed with xz: unpack it first"},
	{0x000, 4, "\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it first"},
	{0x000, 4, "\x02\x21\x4c\x18", "is compressed with lz4: unpack it first"},
	{0x000, 4, "\x04\x22\x4d\x18", "is compressed with lz4: unpack it first"},
	{0x000, 3, "BZh", "is compressed with bzip2: unpack it first"},
	{0x004, 4, "zimg", "is a self-unpacking EFI image: take the kernel out of it first"},
	{0x038, 4, "RSC\x05", "is a riscv kernel"},
	{0x000, 2, "MZ", "is an EFI program, not a Linux kernel"},
};

static bool has_magic(const uint8_t *probe, unsigned offset, unsigned len, const char *magic)
{
	return memcmp(probe + offset, magic, len) == 0;
}

int kernel_detect(const struct boot_file *file, enum kernel_kind *kind, struct error *err)
{
	uint8_t probe[PROBE_SIZE] = {0};
	int ret = boot_file_read(file, 0, probe, min_u64(sizeof(probe), file->size), err);

	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (has_magic(probe, kinds[i].offset, kinds[i].len, kinds[i].magic)) {
			*kind = kinds[i].kind;
			return 0;
		}
	}
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
		if (has_magic(probe, refused[i].offset, refused[i].len, refused[i].magic))
			return boot_file_error(file, err, "%s", refused[i].what);
	return boot_file_error(file, err, "is not a kernel: neither an ELF vmlinux nor a bzImage");
}

int kernel_ram_check(const struct kernel_ram *ram, const struct boot_file *file, uint64_t gpa,
	uint64_t len, struct error *err)
{
	if (gpa >= ram->start && gpa <= ram->end && len <= ram->end - gpa)
		return 0;
	if (gpa < ram->start || gpa + len < gpa || gpa + len > ram->limit)
		return boot_file_error(file, err,
			"wants to be at 0x%" PRIx64 " (%" PRIu64 " bytes), where no kernel can be",
			gpa, len);
	boot_file_error(file, err,
		"needs RAM up to %" PRIu64 " MiB, but the machine has %" PRIu64 " MiB there",
		(gpa + len + MIB(1) - 1) >> 20, ram->end >> 20);
	return error_hint(err, "use a larger --memory");
}

void kernel_ram_clear(const struct kernel_ram *ram, uint64_t gpa, uint64_t len)
{
	if (!len || ram->fresh)
		return;
	BUG_ON(!guest_memory_zero(ram->memory, gpa, len));
}

int kernel_ram_load(const struct kernel_ram *ram, const struct boot_file *file, uint64_t offset,
	uint64_t gpa, uint64_t len, struct error *err)
{
	uint8_t *view;

	if (!len)
		return 0;
	view = guest_memory_view(ram->memory, gpa, len);
	BUG_ON(!view);
	if (!boot_file_holds(file, offset, len))
		return boot_file_error(file, err, "is truncated");
	for (uint64_t at = 0; at < len;) {
		struct boot_file_hole hole = boot_file_find_hole(file, offset + at, len - at);
		uint64_t hole_at = hole.offset - offset;
		int ret = boot_file_read(file, offset + at, view + at, hole_at - at, err);

		if (ret < 0)
			return ret;
		kernel_ram_clear(ram, gpa + hole_at, hole.size);
		at = hole_at + hole.size;
	}
	return 0;
}

int initrd_load(const struct boot_file *file, const struct kernel_ram *ram,
	const struct kernel_image *image, uint64_t limit, uint64_t *gpa, struct error *err)
{
	uint64_t end = align_down(min_u64(limit, ram->end), PAGE);
	uint64_t start = align_up(image->end, PAGE);
	uint64_t room = end > start ? end - start : 0;

	if (align_up(file->size, PAGE) < file->size || align_up(file->size, PAGE) > room) {
		boot_file_error(file, err,
			"does not fit: it has %" PRIu64 " KiB, and there are %" PRIu64
			" KiB between the kernel's end and %" PRIu64 " MiB",
			(file->size + 1023) >> 10, room >> 10, end >> 20);
		return error_hint(err, "use a larger --memory or a smaller initrd");
	}
	*gpa = end - align_up(file->size, PAGE);
	return kernel_ram_load(ram, file, 0, *gpa, file->size, err);
}
