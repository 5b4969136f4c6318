/* SPDX-License-Identifier: Apache-2.0 */
/* See memory.h. */
#include "guest/payloads/lib/memory.h"

#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"

extern uint8_t image_end[];

static uint64_t next, end;

void memory_init(void)
{
	next = (uint64_t)image_end;
	for (unsigned i = 0; i < boot.region_count; i++) {
		const struct boot_region *r = &boot.regions[i];

		if (r->type == BOOT_RAM && next >= r->base && next < r->base + r->size)
			end = r->base + r->size;
	}
	check(end, "the image does not lie in RAM");
}

void *memory_alloc(size_t size, size_t align)
{
	uint64_t at = (next + align - 1) & ~(align - 1);

	check(at <= end && size <= end - at, "no memory left for %lu bytes", size);
	next = at + size;
	return memset((void *)at, 0, size);
}
