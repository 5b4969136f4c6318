/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary files as ELF kernels. The first byte chooses what RAM is like; the rest is the file. RAM
 * around the part that a kernel may use holds a pattern, which must survive whatever the file says.
 */
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/boot/elf.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM_SIZE MIB(8)
#define START	 MIB(1)
#define END	 MIB(6)
#define GUARD	 KIB(64)

static struct guest_memory memory;
static int fd = -1;
static char path[40];

static void prepare(void)
{
	const struct guest_memory_config config = {
		.region_count = 1,
		.regions = {{.gpa = 0, .size = RAM_SIZE}},
		.pages = MEMORY_PAGES_OFF,
	};
	struct error err;

	BUG_ON(guest_memory_create(&config, &memory, &err) < 0);
	fd = memfd_create("kernel", MFD_CLOEXEC);
	BUG_ON(fd < 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	memset(guest_memory_view(&memory, START - GUARD, GUARD), 0x5a, GUARD);
	memset(guest_memory_view(&memory, END, GUARD), 0x5a, GUARD);
}

static void check_guard(uint64_t gpa)
{
	const uint8_t *view = guest_memory_view(&memory, gpa, GUARD);

	BUG_ON(view[0] != 0x5a || memcmp(view, view + 1, GUARD - 1) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kernel_ram ram = {.memory = &memory, .start = START, .end = END, .limit = GIB(3)};
	struct kernel_image image;
	struct boot_file file;
	enum kernel_kind kind;
	struct error err;

	if (fd < 0)
		prepare();
	if (size < 2)
		return 0;
	ram.fresh = data[0] & 1;
	BUG_ON(ftruncate(fd, 0) < 0 || pwrite(fd, data + 1, size - 1, 0) != (ssize_t)(size - 1));
	BUG_ON(boot_file_open(&file, "kernel", path, &err) < 0);
	if (kernel_detect(&file, &kind, &err) == 0 &&
		elf_load(&file, EM_X86_64, &ram, &image, &err) == 0) {
		BUG_ON(image.start < START || image.end > END || image.start >= image.end);
		BUG_ON(image.entry < image.start || image.entry >= image.end);
	}
	boot_file_close(&file);
	check_guard(START - GUARD);
	check_guard(END);
	return 0;
}
