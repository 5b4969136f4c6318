/* SPDX-License-Identifier: Apache-2.0 */
/* The start info of a PVH boot (Xen's public/arch-x86/hvm/start_info.h, version 1). See boot.h. */
#include "guest/payloads/lib/boot.h"

#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"

#define MAGIC 0x336ec578

struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, cmdline, rsdp;
	uint64_t memory_map; /* from version 1 on */
	uint32_t memory_map_entries, reserved;
};

struct boot boot;

void boot_read(const void *start_info)
{
	const struct start_info *info = start_info;
	const struct boot_region *map = (const void *)info->memory_map;

	if (info->magic != MAGIC || info->version < 1)
		fail("no start info with a memory map: magic %x, version %u", info->magic,
			info->version);
	check(info->memory_map_entries <= BOOT_REGIONS_MAX, "a memory map of %u entries",
		info->memory_map_entries);
	boot.region_count = info->memory_map_entries;
	memcpy(boot.regions, map, boot.region_count * sizeof(*map));
	if (info->cmdline)
		format(boot.cmdline, sizeof(boot.cmdline), "%s", (const char *)info->cmdline);
}

/* The next word, or NULL; *len is its length, *at goes on behind it. */
static const char *next_word(const char **at, size_t *len)
{
	const char *word;

	while (**at == ' ')
		(*at)++;
	word = *at;
	while (**at && **at != ' ')
		(*at)++;
	*len = (size_t)(*at - word);
	return *len ? word : NULL;
}

bool boot_test_is(const char *name)
{
	const char *at = boot.cmdline, *word;
	size_t len;

	word = next_word(&at, &len);
	return word && len == strlen(name) && !strncmp(word, name, len);
}

static const char *option(const char *name, size_t *value_len)
{
	const char *at = boot.cmdline, *word;
	size_t n = strlen(name), len;

	while ((word = next_word(&at, &len))) {
		if (len <= n || strncmp(word, name, n) || word[n] != '=')
			continue;
		*value_len = len - n - 1;
		return word + n + 1;
	}
	return NULL;
}

uint64_t boot_number(const char *name, uint64_t otherwise)
{
	size_t len;
	const char *value = option(name, &len);

	return value ? parse_number(value) : otherwise;
}

bool boot_option_is(const char *name, const char *value)
{
	size_t len;
	const char *given = option(name, &len);

	return given && len == strlen(value) && !strncmp(given, value, len);
}

uint64_t boot_ram_end(void)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < boot.region_count; i++)
		if (boot.regions[i].type == BOOT_RAM &&
			boot.regions[i].base + boot.regions[i].size > end)
			end = boot.regions[i].base + boot.regions[i].size;
	return end;
}

bool boot_is_ram(uint64_t base, uint64_t size)
{
	for (unsigned i = 0; i < boot.region_count; i++) {
		const struct boot_region *r = &boot.regions[i];

		if (r->type == BOOT_RAM && base >= r->base && size <= r->size &&
			base - r->base <= r->size - size)
			return true;
	}
	return false;
}
