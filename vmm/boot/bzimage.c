/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzImage (Linux Documentation/arch/x86/boot.rst, protocol 2.12 and later).
 *
 *   file:   boot sector and setup code ((setup_sects + 1) * 512) | protected-mode code (syssize * 16)
 *   header: from byte 0x1f1 to 0x202 + the byte at 0x201 (the jump over it)
 *
 * The real-mode part is not used: the protected-mode code goes to pref_address, and its 64-bit entry
 * is 0x200 into it. Until the kernel knows the memory map it may use init_size bytes from there.
 */
#include "vmm/boot/bzimage.h"

#include "vmm/base/util.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#define HEADER_START  0x1f1
#define HEADER_JUMP   0x201 /* its length counts from the next byte */
#define HEADER_MAGIC  0x53726448
#define BOOT_FLAG     0xaa55
#define PROTOCOL_MIN  0x020c /* 2.12: xloadflags */
#define SECTOR	      512
#define SETUP_DEFAULT 4 /* sectors, when the header says 0 */
#define ENTRY_64      0x200
#define INIT_SIZE_MAX GIB(1)

static int read_header(const struct boot_file *file, struct setup_header *header, struct error *err)
{
	uint8_t jump;
	size_t len;
	int ret = boot_file_read(file, HEADER_JUMP, &jump, 1, err);

	if (ret < 0)
		return ret;
	len = min_u64(HEADER_JUMP + 1u + jump - HEADER_START, sizeof(*header));
	memset(header, 0, sizeof(*header));
	ret = boot_file_read(file, HEADER_START, header, len, err);
	if (ret < 0)
		return ret;
	/* Up to here: what protocol 2.12 needs. */
	if (len < offsetof(struct setup_header, kernel_info_offset) ||
		header->header != HEADER_MAGIC || header->boot_flag != BOOT_FLAG)
		return boot_file_error(file, err, "has a damaged setup header");
	return 0;
}

static int check_header(
	const struct boot_file *file, const struct setup_header *h, struct error *err)
{
	if (h->version < PROTOCOL_MIN)
		return boot_file_error(file, err,
			"speaks boot protocol %u.%02u; at least 2.12 (Linux 3.8) is needed",
			h->version >> 8, h->version & 0xff);
	if (!(h->loadflags & LOADED_HIGH))
		return boot_file_error(file, err, "is a zImage, not a bzImage");
	if (!(h->xloadflags & XLF_KERNEL_64))
		return boot_file_error(file, err, "is a 32-bit x86 kernel; this host runs x86_64");
	if (!h->kernel_alignment || (h->kernel_alignment & (h->kernel_alignment - 1)) ||
		h->pref_address % h->kernel_alignment || !h->init_size ||
		h->init_size > INIT_SIZE_MAX)
		return boot_file_error(file, err, "has a damaged setup header");
	return 0;
}

int bzimage_load(const struct boot_file *file, const struct kernel_ram *ram,
	struct kernel_image *image, struct setup_header *header, struct error *err)
{
	uint64_t offset, size;
	int ret = read_header(file, header, err);

	if (ret == 0)
		ret = check_header(file, header, err);
	if (ret < 0)
		return ret;
	offset = ((header->setup_sects ? header->setup_sects : SETUP_DEFAULT) + 1u) * SECTOR;
	size = (uint64_t)header->syssize * 16;
	if (size <= ENTRY_64 || size > header->init_size)
		return boot_file_error(file, err, "has a damaged setup header");
	if (!boot_file_holds(file, offset, size))
		return boot_file_error(file, err,
			"is truncated: it has %" PRIu64 " bytes of %" PRIu64, file->size,
			offset + size);
	ret = kernel_ram_check(ram, file, header->pref_address, header->init_size, err);
	if (ret < 0)
		return ret;
	*image = (struct kernel_image){
		.start = header->pref_address,
		.end = header->pref_address + header->init_size,
		.entry = header->pref_address + ENTRY_64,
	};
	return kernel_ram_load(ram, file, offset, image->start, size, err);
}
