/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of the x86_64 platform that are neither PCI nor virtio, and where they sit: COM1, the
 * RTC, the hardware-reduced ACPI registers with the event device and PCI hot-plug, the generation id, and the legacy
 * ports. Interrupt controllers and clocks are KVM's (see vm.c in this folder).
 */
#include "vmm/arch/x86_64/platform.h"

#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdlib.h>

static void power_off(void *owner)
{
	struct arch_platform *p = owner;

	p->config.power_off(p->config.owner);
}

static void reset(void *owner)
{
	struct arch_platform *p = owner;

	p->config.reset(p->config.owner);
}

static void cpus_changed(void *owner)
{
	struct arch_platform *p = owner;

	p->config.cpus_changed(p->config.owner);
}

static void memory_changed(void *owner)
{
	struct arch_platform *p = owner;

	p->config.memory_changed(p->config.owner);
}

static const struct hotplug_slots_ops memory_ops = {.changed = memory_changed};
static const struct hotplug_slots_ops cpus_ops = {.changed = cpus_changed};
static void slots_ejected(void *owner, uint32_t slots)
{
	struct arch_platform *p = owner;

	p->config.slots_ejected(p->config.owner, slots);
}

static void slot_outcome(void *owner, unsigned slot, unsigned event, unsigned status)
{
	struct arch_platform *p = owner;

	/* Interim reports ("in progress") have outcomes of their own behind them (ACPI 6.4 §6.3.5.1 to .3). */
	if (event == PCI_HOTPLUG_CHECK ? status == 0x80 : status == 0x84)
		return;
	if (event == PCI_HOTPLUG_CHECK || event == PCI_HOTPLUG_EJECT)
		p->config.slot_outcome(p->config.owner, slot, event == PCI_HOTPLUG_CHECK,
			status == PCI_HOTPLUG_STATUS_OK);
}

static const struct pci_hotplug_ops hotplug_ops = {
	.ejected = slots_ejected, .outcome = slot_outcome};

static const struct power_ops power_ops = {.off = power_off, .reset = reset};

static int make_devices(struct arch_platform *p, struct error *err)
{
	const struct irq_line none = {.fd = -1};
	int ret;

	power_init(&p->power, none, &power_ops, p);
	hotplug_slots_init(&p->cpus, &p->power, POWER_EVENT_CPUS, &cpus_ops, p);
	hotplug_slots_init(&p->memory, &p->power, POWER_EVENT_MEMORY, &memory_ops, p);
	p->memory.area[0] = p->config.memory->area.gpa;
	p->memory.area[1] = p->config.memory->area.unit;
	p->memory.area[2] = p->config.memory->area.size;
	pci_hotplug_init(&p->hotplug, &p->power, &hotplug_ops, p);
	ret = vmgenid_init(&p->vmgenid, p->config.memory, p->map.vmgenid_gpa, &p->power, err);
	if (ret < 0)
		return ret;
	ret = serial_init(&p->serial, none, err);
	if (ret < 0)
		return ret;
	rtc_init(&p->rtc);
	legacy_init(&p->legacy, reset, p);
	return 0;
}

int arch_platform_create(
	const struct arch_platform_config *config, struct arch_platform **out, struct error *err)
{
	struct arch_platform *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return error_errno(err, ENOMEM, "cannot create the platform devices");
	p->config = *config;
	arch_address_map(&p->map);
	ret = make_devices(p, err);
	if (ret < 0) {
		free(p);
		return ret;
	}
	*out = p;
	return 0;
}

void arch_platform_destroy(struct arch_platform *p)
{
	if (!p)
		return;
	serial_destroy(&p->serial);
	rtc_destroy(&p->rtc);
	free(p);
}

void arch_platform_add(
	struct arch_platform *p, struct bus *ports, struct bus *mmio, struct pci_host *pci)
{
	p->pci_ports.host = pci;
	p->pci_ports.reset_ops = &legacy_cf9_ops;
	p->pci_ports.reset_device = &p->legacy;
	bus_add(ports, SERIAL_BASE, SERIAL_PORTS, &serial_bus_ops, &p->serial);
	bus_add(ports, RTC_BASE, RTC_PORTS, &rtc_bus_ops, &p->rtc);
	bus_add(ports, POWER_BASE, POWER_PORTS, &power_bus_ops, &p->power);
	bus_add(ports, LAYOUT_PORT_CPUS, HOTPLUG_SLOTS_PORTS, &hotplug_slots_bus_ops, &p->cpus);
	bus_add(ports, LAYOUT_PORT_MEMORY, HOTPLUG_AREA_PORTS, &hotplug_slots_bus_ops, &p->memory);
	bus_add(ports, PCI_HOTPLUG_BASE, PCI_HOTPLUG_PORTS, &pci_hotplug_bus_ops, &p->hotplug);
	bus_add(ports, PCI_PORTS_BASE, PCI_PORTS, &pci_ports_ops, &p->pci_ports);
	legacy_add(&p->legacy, ports);
	bus_add(mmio, p->map.ecam_base, MIB(1), &pci_ecam_ops, pci);
	bus_add(mmio, p->map.pci_window_base, p->map.pci_window_size, &pci_window_ops, pci);
}

int arch_platform_connect(struct arch_platform *p, struct vm *vm, struct error *err)
{
	(void)err;
	serial_reset(&p->serial);
	rtc_reset(&p->rtc);
	power_reset(&p->power);
	hotplug_slots_reset(&p->cpus, 0);
	hotplug_slots_reset(&p->memory, 0);
	pci_hotplug_reset(&p->hotplug);
	legacy_reset(&p->legacy);
	atomic_store(&p->pci_ports.address, 0);
	irq_line_connect(&p->serial.irq, vm->fd, p->map.serial_gsi);
	irq_line_connect(&p->power.irq, vm->fd, p->map.event_gsi);
	return 0;
}

void arch_platform_disconnect(struct arch_platform *p, struct vm *vm)
{
	(void)vm;
	irq_line_connect(&p->serial.irq, -1, 0);
	irq_line_connect(&p->power.irq, -1, 0);
}

int arch_platform_place(struct arch_platform *p, struct error *err)
{
	return vmgenid_place(&p->vmgenid, err);
}

struct serial *arch_platform_serial(struct arch_platform *p)
{
	return &p->serial;
}

struct hotplug_slots *arch_platform_cpus(struct arch_platform *p)
{
	return &p->cpus;
}

struct hotplug_slots *arch_platform_memory(struct arch_platform *p)
{
	return &p->memory;
}

void arch_platform_press_power_button(struct arch_platform *p)
{
	power_press_button(&p->power);
}

void arch_platform_ask_slot(struct arch_platform *p, unsigned slot, bool up)
{
	pci_hotplug_ask(&p->hotplug, slot, up);
}

bool arch_platform_remind_slot(struct arch_platform *p, unsigned slot)
{
	return pci_hotplug_remind(&p->hotplug, slot);
}

bool arch_platform_withdraw_slot(struct arch_platform *p, unsigned slot)
{
	return pci_hotplug_withdraw(&p->hotplug, slot);
}
