/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary setup headers as bzImages, and then the whole way to the boot structures. The input is
 * what lies from byte 0x1f1 on; the boot sector before it is ours, so that every input gets as far
 * as its header lets it. The last byte chooses the length of the initrd.
 */
#include "vmm/arch/arch.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM_SIZE MIB(32)
#define HEADER	 0x1f1

static struct guest_memory memory;
static int kernel = -1, initrd;
static char kernel_path[40], initrd_path[40];

static void prepare(void)
{
	struct guest_memory_config config = {.pages = MEMORY_PAGES_OFF};
	struct error err;

	BUG_ON(arch_memory_layout(RAM_SIZE, RAM_SIZE, &config, &err) < 0);
	BUG_ON(guest_memory_create(&config, &memory, &err) < 0);
	kernel = memfd_create("kernel", MFD_CLOEXEC);
	initrd = memfd_create("initrd", MFD_CLOEXEC);
	BUG_ON(kernel < 0 || initrd < 0);
	snprintf(kernel_path, sizeof(kernel_path), "/proc/self/fd/%d", kernel);
	snprintf(initrd_path, sizeof(initrd_path), "/proc/self/fd/%d", initrd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arch_boot_config config = {
		.kernel = kernel_path, .cmdline = "quiet", .cpus = 1, .cpus_max = 2};
	struct arch_boot_entry entry;
	struct error err;

	if (kernel < 0) {
		prepare();
		config.kernel = kernel_path;
	}
	if (size < 2)
		return 0;
	if (data[size - 1]) {
		config.initrd = initrd_path;
		BUG_ON(ftruncate(initrd, (off_t)data[size - 1] << 15) < 0);
	}
	BUG_ON(ftruncate(kernel, 0) < 0 ||
		pwrite(kernel, data, size - 1, HEADER) != (ssize_t)(size - 1));
	if (arch_boot_load(&config, &memory, &entry, &err) == 0) {
		BUG_ON(entry.protocol != ARCH_BOOT_LINUX64);
		BUG_ON(entry.entry < MIB(1) || entry.entry >= RAM_SIZE);
		BUG_ON(!guest_memory_view(&memory, entry.info, 4096));
	}
	return 0;
}
