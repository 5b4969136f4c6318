/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables for a hardware-reduced x86_64 platform (ACPI 6.4; section numbers below are its).
 *
 *   RSDP -> XSDT -> FADT -> DSDT (devices/dsdt.asl)
 *                   MADT   processors and the I/O APIC
 *                   SRAT   all processors and all RAM are one node
 *                   MCFG   where configuration space is (PCI Firmware 3.2 §4.1.2)
 *                   SSDT   processors that come and go (devices/cpus.asl), where there can be any; memory likewise
 *
 * What the flags spare a Linux guest: with HW_REDUCED_ACPI it looks for no PIC, PIT or PM timer; with
 * "no 8042" and "no VGA" it does not probe them; with a SRAT it does not search an AMD machine's PCI
 * bus for northbridges. The RTC is there and said to be.
 */
#include "vmm/arch/x86_64/acpi.h"

#include "devices/hotplug_slots.h"
#include "devices/pci_hotplug.h"
#include "devices/power.h"
#include "devices/rtc.h"
#include "devices/serial.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <string.h>

/* iasl's output is a definition without a storage class. */
static const
#include "devices/dsdt.hex"
	static const
#include "devices/cpus.hex"
	static const
#include "devices/memory.hex"

	_Static_assert(LAYOUT_EVENT_MEMORY == POWER_EVENT_MEMORY && HOTPLUG_AREA_PORTS == 40,
		"memory events");
_Static_assert(LAYOUT_PORT_COM1 == SERIAL_BASE, "COM1");
_Static_assert(LAYOUT_PORT_RTC == RTC_BASE, "RTC");
_Static_assert(LAYOUT_PORT_POWER == POWER_BASE && POWER_PORTS == 8, "power registers");
_Static_assert(LAYOUT_PORT_SLEEP_CONTROL == POWER_SLEEP_CONTROL, "sleep control");
_Static_assert(LAYOUT_PORT_SLEEP_STATUS == POWER_SLEEP_STATUS, "sleep status");
_Static_assert(
	LAYOUT_PORT_RESET == POWER_RESET && LAYOUT_RESET_VALUE == POWER_RESET_VALUE, "reset");
_Static_assert(LAYOUT_PORT_EVENTS == POWER_EVENTS && LAYOUT_S5_TYPE == POWER_S5_TYPE, "events, S5");
_Static_assert(LAYOUT_EVENT_BUTTON == POWER_EVENT_BUTTON, "power button event");
_Static_assert(
	LAYOUT_EVENT_CPUS == POWER_EVENT_CPUS && HOTPLUG_SLOTS_PORTS == 16, "processor events");
_Static_assert(LAYOUT_EVENT_VMGENID == POWER_EVENT_VMGENID, "generation id event");
_Static_assert(
	LAYOUT_PCI_CHECK == PCI_HOTPLUG_CHECK && LAYOUT_PCI_EJECT == PCI_HOTPLUG_EJECT, "notices");
_Static_assert(LAYOUT_EVENT_PCI == POWER_EVENT_PCI, "PCI hot-plug event");
_Static_assert(LAYOUT_PORT_PCI_HOTPLUG == PCI_HOTPLUG_BASE && PCI_HOTPLUG_PORTS == 16, "hot-plug");

#define PACKED __attribute__((packed))

#define OEM_ID	     "BLKHD "
#define OEM_TABLE_ID "BULKHEAD"
#define CREATOR_ID   "BLKH"

#define FADT_WBINVD	  (1u << 0)
#define FADT_PROC_C1	  (1u << 2)
#define FADT_PWR_BUTTON	  (1u << 4) /* no fixed button: the DSDT has it */
#define FADT_SLP_BUTTON	  (1u << 5) /* no fixed button */
#define FADT_FIX_RTC	  (1u << 6) /* no fixed wake-up by the RTC */
#define FADT_RESET_REG	  (1u << 10)
#define FADT_HEADLESS	  (1u << 12)
#define FADT_HW_REDUCED	  (1u << 20)
#define BOOT_ARCH_NO_VGA  (1u << 2)
#define BOOT_ARCH_NO_ASPM (1u << 4)

#define MADT_LAPIC_ENABLED	  1u
#define MADT_LAPIC_ONLINE_CAPABLE 2u

#define SRAT_ENABLED 1u

#define AML_EXTENDED 0x5b
#define AML_DEVICE   0x82

#define ADDRESS_SYSTEM_IO 1
#define ACCESS_BYTE	  1

struct header { /* §5.2.6 */
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} PACKED;

struct rsdp { /* §5.2.5.3 */
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} PACKED;

struct address { /* §5.2.3.2 */
	uint8_t space, bit_width, bit_offset, access_size;
	uint64_t address;
} PACKED;

struct fadt { /* §5.2.9 */
	struct header header;
	uint32_t facs, dsdt;
	uint8_t reserved0, profile;
	uint16_t sci;
	uint32_t smi;
	uint8_t acpi_on, acpi_off, s4bios, pstate;
	uint32_t pm_blocks[8]; /* none: hardware-reduced */
	uint8_t block_sizes[6];
	uint8_t gpe1_base, cst;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct address reset;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_facs, x_dsdt;
	struct address x_blocks[8];
	struct address sleep_control, sleep_status;
	uint64_t hypervisor;
} PACKED;
_Static_assert(sizeof(struct fadt) == 276, "FADT of revision 6");

struct madt { /* §5.2.12 */
	struct header header;
	uint32_t lapic;
	uint32_t flags;
} PACKED;

struct madt_lapic {
	uint8_t type, length;
	uint8_t uid, apic_id;
	uint32_t flags;
} PACKED;

struct madt_ioapic {
	uint8_t type, length;
	uint8_t id, reserved;
	uint32_t address, gsi_base;
} PACKED;

struct srat { /* §5.2.16 */
	struct header header;
	uint32_t one;
	uint64_t reserved;
} PACKED;

struct srat_lapic {
	uint8_t type, length;
	uint8_t node_low, apic_id;
	uint32_t flags;
	uint8_t sapic_eid, node_high[3];
	uint32_t clock_domain;
} PACKED;
_Static_assert(sizeof(struct srat_lapic) == 16, "processor affinity");

struct srat_memory {
	uint8_t type, length;
	uint32_t node;
	uint16_t reserved0;
	uint64_t base, size;
	uint32_t reserved1;
	uint32_t flags;
	uint64_t reserved2;
} PACKED;
_Static_assert(sizeof(struct srat_memory) == 40, "memory affinity");

struct mcfg {
	struct header header;
	uint64_t reserved0;
	uint64_t base;
	uint16_t segment;
	uint8_t bus_first, bus_last;
	uint32_t reserved1;
} PACKED;

/* The area, filled from the start. */
struct writer {
	uint8_t *area;
	uint64_t gpa;
	size_t used;
};

static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

static void *reserve(struct writer *w, size_t len)
{
	void *at = w->area + w->used;

	BUG_ON(len > ACPI_SIZE_MAX - w->used);
	w->used += len;
	return memset(at, 0, len);
}

/* The next table, on a 16-byte boundary. */
static uint64_t begin(struct writer *w)
{
	w->used = align_up(w->used, 16);
	return w->gpa + w->used;
}

static void fill_header(struct header *h, const char *signature, uint8_t revision, size_t len)
{
	memcpy(h->signature, signature, sizeof(h->signature));
	h->length = (uint32_t)len;
	h->revision = revision;
	memcpy(h->oem_id, OEM_ID, sizeof(h->oem_id));
	memcpy(h->oem_table_id, OEM_TABLE_ID, sizeof(h->oem_table_id));
	h->oem_revision = 1;
	memcpy(h->creator_id, CREATOR_ID, sizeof(h->creator_id));
	h->creator_revision = 1;
	h->checksum = 0;
	h->checksum = checksum(h, len);
}

static uint64_t write_dsdt(struct writer *w)
{
	uint64_t at = begin(w);

	memcpy(reserve(w, sizeof(dsdt_aml_code)), dsdt_aml_code, sizeof(dsdt_aml_code));
	return at;
}

/* A package's length (§20.2.4) at `at`, its own bytes included; 0: what is there is none. */
static size_t package_length(const uint8_t *at, const uint8_t *end)
{
	size_t more = at < end ? *at >> 6 : 0, length = more ? *at & 0xf : *at & 0x3f;

	if ((size_t)(end - at) <= more)
		return 0;
	for (size_t i = 1; i <= more; i++)
		length |= (size_t)at[i] << (8 * i - 4);
	return length <= (size_t)(end - at) ? length : 0;
}

/* Where in a table of hotplug.asl's the device of the slot `slots` begins: behind the container, and those before it. */
static size_t cut_slots(const uint8_t *aml, size_t size, unsigned slots)
{
	const uint8_t *at = aml + sizeof(struct header), *end = aml + size;

	for (unsigned devices = 0; devices <= slots; devices++) {
		size_t length;

		BUG_ON(end - at < 2 || at[0] != AML_EXTENDED || at[1] != AML_DEVICE);
		length = package_length(at + 2, end);
		BUG_ON(!length);
		at += 2 + length;
	}
	return (size_t)(at - aml);
}

static uint64_t write_slots(struct writer *w, const uint8_t *aml, size_t size, unsigned slots)
{
	uint64_t at = begin(w);
	size_t len = cut_slots(aml, size, slots);
	struct header *ssdt = reserve(w, len);

	memcpy(ssdt, aml, len);
	ssdt->length = (uint32_t)len;
	ssdt->checksum = 0;
	ssdt->checksum = checksum(ssdt, len);
	return at;
}

static struct address io_register(uint64_t port)
{
	return (struct address){.space = ADDRESS_SYSTEM_IO,
		.bit_width = 8,
		.access_size = ACCESS_BYTE,
		.address = port};
}

static uint64_t write_fadt(struct writer *w, uint64_t dsdt)
{
	uint64_t at = begin(w);
	struct fadt *fadt = reserve(w, sizeof(*fadt));

	fadt->dsdt = (uint32_t)dsdt;
	fadt->x_dsdt = dsdt;
	fadt->century = LAYOUT_RTC_CENTURY;
	fadt->boot_arch =
		BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_ASPM; /* and no 8042, by its bit's absence */
	fadt->flags = FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON |
		      FADT_FIX_RTC | FADT_RESET_REG | FADT_HEADLESS | FADT_HW_REDUCED;
	fadt->reset = io_register(LAYOUT_PORT_RESET);
	fadt->reset_value = LAYOUT_RESET_VALUE;
	fadt->sleep_control = io_register(LAYOUT_PORT_SLEEP_CONTROL);
	fadt->sleep_status = io_register(LAYOUT_PORT_SLEEP_STATUS);
	fadt->minor_version = 4;
	memcpy(&fadt->hypervisor, "Bulkhead", sizeof(fadt->hypervisor));
	fill_header(&fadt->header, "FACP", 6, sizeof(*fadt));
	return at;
}

/* No 8259 (PCAT_COMPAT clear), and pins are GSIs one to one: no overrides. */
static uint64_t write_madt(struct writer *w, const struct acpi_config *config)
{
	uint64_t at = begin(w);
	size_t start = w->used;
	struct madt *madt = reserve(w, sizeof(*madt));
	struct madt_ioapic *ioapic;

	madt->lapic = LAYOUT_LAPIC;
	for (unsigned i = 0; i < config->cpus_max; i++) {
		struct madt_lapic *lapic = reserve(w, sizeof(*lapic));

		lapic->type = 0;
		lapic->length = sizeof(*lapic);
		lapic->uid = (uint8_t)i;
		lapic->apic_id = (uint8_t)i;
		lapic->flags = i < config->cpus ? MADT_LAPIC_ENABLED : MADT_LAPIC_ONLINE_CAPABLE;
	}
	ioapic = reserve(w, sizeof(*ioapic));
	ioapic->type = 1;
	ioapic->length = sizeof(*ioapic);
	ioapic->address = LAYOUT_IOAPIC;
	fill_header(&madt->header, "APIC", 5, w->used - start);
	return at;
}

static void add_affinity(void *owner, uint64_t gpa, uint64_t size)
{
	struct srat_memory *memory = reserve(owner, sizeof(*memory));

	memory->type = 1;
	memory->length = sizeof(*memory);
	memory->base = gpa;
	memory->size = size;
	memory->flags = SRAT_ENABLED;
}

/*
 * Of the area where memory comes there is only what is plugged: Linux takes a part that may come as a reason to set 64 MiB
 * aside for devices that reach 4 GiB only (swiotlb), and this machine has none.
 */
static uint64_t write_srat(struct writer *w, const struct acpi_config *config)
{
	uint64_t at = begin(w);
	size_t start = w->used;
	struct srat *srat = reserve(w, sizeof(*srat));

	srat->one = 1;
	for (unsigned i = 0; i < config->cpus_max; i++) {
		struct srat_lapic *lapic = reserve(w, sizeof(*lapic));

		lapic->type = 0;
		lapic->length = sizeof(*lapic);
		lapic->apic_id = (uint8_t)i;
		lapic->flags = SRAT_ENABLED;
	}
	for (unsigned i = 0; i < config->memory->region_count; i++)
		add_affinity(w, config->memory->regions[i].gpa, config->memory->regions[i].size);
	guest_memory_each_plugged(config->memory, add_affinity, w);
	fill_header(&srat->header, "SRAT", 3, w->used - start);
	return at;
}

static uint64_t write_mcfg(struct writer *w)
{
	uint64_t at = begin(w);
	struct mcfg *mcfg = reserve(w, sizeof(*mcfg));

	mcfg->base = LAYOUT_ECAM;
	fill_header(&mcfg->header, "MCFG", 1, sizeof(*mcfg));
	return at;
}

static uint64_t write_xsdt(struct writer *w, const uint64_t *tables, unsigned count)
{
	uint64_t at = begin(w);
	size_t len = sizeof(struct header) + count * sizeof(*tables);
	struct header *xsdt = reserve(w, len);

	memcpy(xsdt + 1, tables, count * sizeof(*tables));
	fill_header(xsdt, "XSDT", 1, len);
	return at;
}

static void fill_rsdp(struct rsdp *rsdp, uint64_t xsdt)
{
	memcpy(rsdp->signature, "RSD PTR ", sizeof(rsdp->signature));
	memcpy(rsdp->oem_id, OEM_ID, sizeof(rsdp->oem_id));
	rsdp->revision = 2;
	rsdp->length = sizeof(*rsdp);
	rsdp->xsdt = xsdt;
	rsdp->checksum = checksum(rsdp, offsetof(struct rsdp, length));
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
}

size_t acpi_write(
	const struct acpi_config *config, uint8_t area[static ACPI_SIZE_MAX], uint64_t gpa)
{
	struct writer w = {.area = area, .gpa = gpa};
	struct rsdp *rsdp = reserve(&w, sizeof(*rsdp));
	uint64_t tables[6];
	unsigned count = 4;

	tables[0] = write_fadt(&w, write_dsdt(&w));
	tables[1] = write_madt(&w, config);
	tables[2] = write_srat(&w, config);
	tables[3] = write_mcfg(&w);
	if (config->plugs_cpus)
		tables[count++] =
			write_slots(&w, cpus_aml_code, sizeof(cpus_aml_code), config->cpus_max);
	if (config->memory->area.size)
		tables[count++] = write_slots(&w, memory_aml_code, sizeof(memory_aml_code),
			guest_memory_slot_count(config->memory));
	fill_rsdp(rsdp, write_xsdt(&w, tables, count));
	return w.used;
}
