/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State files of which nothing is right but, mostly, the checksum: the reader, the printer, each table, and each device of the platform,
 * which the guest touches afterwards. The input is either the file's sections, or a number from which a valid section
 * is made and a list of changes to it.
 *
 * What must be true: a thing that is not loaded is as it was; one that is, is written and read again as the same.
 */
#include "devices/bus.h"
#include "tests/fuzz/input.h"
#include "tests/unit/state_random.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/arch/x86_64/platform.h"
#include "vmm/arch/x86_64/vcpu_state.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <string.h>
#include <xxhash.h>

#define HEADER 16 /* of the file */

static const struct state_table *const tables[] = {
	&serial_state_table,
	&rtc_state_table,
	&power_state_table,
	&hotplug_slots_state_table,
	&pci_hotplug_state_table,
	&legacy_state_table,
	&pci_ports_state_table,
	&vmgenid_state_table,
	&clock_state_table,
	&vcpu_state_table,
	/* Of these none is made up: nearly all that their fields allow is refused. */
	&irqchips_state_table,
	&cpu_model_state_table,
};

#define MADE_UP (ARRAY_SIZE(tables) - 2)

static struct arch_platform *platform;
static struct guest_memory memory;
static struct bus ports, mmio;
static struct pci_host pci;

static void nothing(void *owner)
{
	(void)owner;
}

static void no_slots(void *owner, uint32_t slots)
{
	(void)owner, (void)slots;
}

static void no_outcome(void *owner, unsigned slot, bool up, bool ok)
{
	(void)owner, (void)slot, (void)up, (void)ok;
}

static void make_platform(void)
{
	const struct guest_memory_config layout = {
		.region_count = 1, .regions[0] = {.size = MIB(2)}, .pages = MEMORY_PAGES_OFF};
	const struct arch_platform_config config = {.memory = &memory,
		.power_off = nothing,
		.reset = nothing,
		.cpus_changed = nothing,
		.memory_changed = nothing,
		.slots_ejected = no_slots,
		.slot_outcome = no_outcome};
	struct error err;

	BUG_ON(guest_memory_create(&layout, &memory, &err) < 0);
	BUG_ON(arch_platform_create(&config, &platform, &err) < 0);
	arch_platform_add(platform, &ports, &mmio, &pci);
}

static void touch(unsigned first, unsigned last)
{
	uint8_t data[4] = {0};

	for (unsigned port = first; port <= last; port++) {
		bus_read(&ports, port, data, 1);
		bus_write(&ports, port, data, 1);
		bus_read(&ports, port, data, 4);
		bus_write(&ports, port, data, 4);
	}
}

/* The device takes it, and the guest reads and writes all of it. */
static void use(const struct state_table *table, const void *thing)
{
	struct arch_platform *p = platform;
	struct error err;

	if (table == &serial_state_table)
		serial_load(&p->serial, thing, &err);
	else if (table == &rtc_state_table)
		rtc_load(&p->rtc, thing, &err);
	else if (table == &power_state_table)
		power_load(&p->power, thing, &err);
	else if (table == &hotplug_slots_state_table)
		hotplug_slots_load(&p->cpus, thing, &err);
	else if (table == &pci_hotplug_state_table)
		pci_hotplug_load(&p->hotplug, thing, &err);
	else if (table == &legacy_state_table)
		legacy_load(&p->legacy, thing, &err);
	else if (table == &vmgenid_state_table)
		vmgenid_load(&p->vmgenid, thing, &err);
	else
		return;
	touch(0x60, 0x92);
	touch(SERIAL_BASE, SERIAL_BASE + SERIAL_PORTS - 1);
	touch(POWER_BASE, LAYOUT_PORT_MEMORY + HOTPLUG_AREA_PORTS - 1);
}

static void check_again(const struct state_table *table, const void *thing)
{
	struct state_writer first = state_file(table, "x", thing), second;
	void *other = calloc(1, table->size);
	struct state_reader in;
	struct error err;

	BUG_ON(state_open(&in, first.bytes, first.size, &err) < 0);
	BUG_ON(state_load(&in, table, "x", other, &err) < 0);
	second = state_file(table, "x", other);
	BUG_ON(first.size != second.size || memcmp(first.bytes, second.bytes, first.size) != 0);
	state_close(&in);
	state_release(&first);
	state_release(&second);
	free(other);
}

static void load(struct state_reader *in, const struct state_section *section)
{
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		uint8_t *thing, *before;
		struct error err;

		if (strcmp(tables[i]->name, section->name) != 0)
			continue;
		thing = malloc(tables[i]->size);
		before = malloc(tables[i]->size);
		BUG_ON(!thing || !before);
		memset(thing, 0x5a, tables[i]->size);
		memcpy(before, thing, tables[i]->size);
		if (state_load(in, tables[i], section->instance, thing, &err) == 0) {
			check_again(tables[i], thing);
			use(tables[i], thing);
		} else {
			BUG_ON(memcmp(thing, before, tables[i]->size) != 0 || !err.text[0]);
		}
		free(thing);
		free(before);
	}
}

static void try_file(const uint8_t *bytes, size_t size)
{
	struct state_reader in;
	struct error err;
	json_t *described;

	if (state_open(&in, bytes, size, &err) < 0)
		return;
	described = state_describe(&in, &err);
	json_decref(described);
	for (unsigned i = 0; i < in.count; i++)
		load(&in, &in.sections[i]);
	state_close(&in);
}

static void seal(struct state_writer *file)
{
	const size_t body = file->size - sizeof(uint64_t);
	uint64_t sum = htole64(XXH3_64bits(file->bytes, body));

	memcpy(file->bytes + body, &sum, sizeof(sum));
}

/* The input behind a header, with the checksum behind it. */
static void try_sections(const uint8_t *data, size_t size)
{
	struct state_writer file;

	state_begin(&file);
	BUG_ON(file.size != HEADER);
	file.size += size + sizeof(uint64_t);
	file.bytes = realloc(file.bytes, file.size);
	BUG_ON(!file.bytes);
	memcpy(file.bytes + HEADER, data, size);
	seal(&file);
	try_file(file.bytes, file.size);
	state_release(&file);
}

/* A valid file, changed at some places. */
static void try_changed(struct input *in)
{
	const struct state_table *table = tables[take(in, 1) % MADE_UP];
	uint64_t seed = take(in, 4) | 1;
	void *thing = malloc(table->size);
	struct state_writer file;

	state_random(table, thing, &seed);
	file = state_file(table, "x", thing);
	while (in->left >= 3) {
		uint64_t at = take(in, 2);

		file.bytes[HEADER + at % (file.size - HEADER - sizeof(uint64_t))] ^=
			(uint8_t)take(in, 1);
	}
	seal(&file);
	try_file(file.bytes, file.size);
	state_release(&file);
	free(thing);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	if (!platform)
		make_platform();
	try_file(data, size);
	if (take(&in, 1) & 1)
		try_sections(in.data, in.left);
	else
		try_changed(&in);
	return 0;
}
