/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of the platform's devices. An edge that a device raised has arrived in KVM's interrupt controller (devices/irq_line.h), whose
 * state says what became of it: so a load raises none.
 */
#include "vmm/arch/x86_64/platform.h"

#include "vmm/base/util.h"

#include <errno.h>

struct platform_state {
	struct serial_state serial;
	struct rtc_state rtc;
	struct power_state power;
	struct hotplug_slots_state cpus, memory;
	struct pci_hotplug_state hotplug;
	struct legacy_state legacy;
	struct pci_ports_state pci_ports;
	struct vmgenid_state vmgenid;
};

#define SECTION(table, name, member)                                                               \
	{                                                                                          \
		&(table), name, offsetof(struct platform_state, member)                            \
	}
static const struct {
	const struct state_table *table;
	const char *instance;
	size_t offset;
} sections[] = {
	SECTION(serial_state_table, "0", serial),
	SECTION(rtc_state_table, "", rtc),
	SECTION(power_state_table, "", power),
	SECTION(hotplug_slots_state_table, "cpus", cpus),
	SECTION(hotplug_slots_state_table, "memory", memory),
	SECTION(pci_hotplug_state_table, "", hotplug),
	SECTION(legacy_state_table, "", legacy),
	SECTION(pci_ports_state_table, "", pci_ports),
	SECTION(vmgenid_state_table, "", vmgenid),
};

int arch_platform_save(struct arch_platform *p, struct state_writer *out, struct error *err)
{
	_cleanup_free_ struct platform_state *s = calloc(1, sizeof(*s));

	if (!s)
		return error_errno(err, ENOMEM, "cannot save the platform devices");
	serial_save(&p->serial, &s->serial);
	rtc_save(&p->rtc, &s->rtc);
	power_save(&p->power, &s->power);
	hotplug_slots_save(&p->cpus, &s->cpus);
	hotplug_slots_save(&p->memory, &s->memory);
	pci_hotplug_save(&p->hotplug, &s->hotplug);
	legacy_save(&p->legacy, &s->legacy);
	pci_ports_save(&p->pci_ports, &s->pci_ports);
	vmgenid_save(&p->vmgenid, &s->vmgenid);
	for (unsigned i = 0; i < ARRAY_SIZE(sections); i++)
		state_save(out, sections[i].table, sections[i].instance,
			(const char *)s + sections[i].offset);
	return 0;
}

/* Those that this machine may refuse come first. */
static int load_all(struct arch_platform *p, const struct platform_state *s, struct error *err)
{
	int ret = vmgenid_load(&p->vmgenid, &s->vmgenid, err);

	if (ret == 0)
		ret = hotplug_slots_load(&p->memory, &s->memory, err);
	if (ret == 0)
		ret = hotplug_slots_load(&p->cpus, &s->cpus, err);
	if (ret == 0)
		ret = serial_load(&p->serial, &s->serial, err);
	if (ret == 0)
		ret = rtc_load(&p->rtc, &s->rtc, err);
	if (ret == 0)
		ret = power_load(&p->power, &s->power, err);
	if (ret == 0)
		ret = pci_hotplug_load(&p->hotplug, &s->hotplug, err);
	if (ret == 0)
		ret = legacy_load(&p->legacy, &s->legacy, err);
	return ret == 0 ? pci_ports_load(&p->pci_ports, &s->pci_ports, err) : ret;
}

int arch_platform_load(struct arch_platform *p, struct state_reader *in, struct error *err)
{
	_cleanup_free_ struct platform_state *s = calloc(1, sizeof(*s));
	int ret = 0;

	if (!s)
		return error_errno(err, ENOMEM, "cannot restore the platform devices");
	for (unsigned i = 0; i < ARRAY_SIZE(sections) && ret == 0; i++)
		ret = state_load(in, sections[i].table, sections[i].instance,
			(char *)s + sections[i].offset, err);
	return ret == 0 ? load_all(p, s, err) : ret;
}

int arch_platform_new_generation(struct arch_platform *p, struct error *err)
{
	return vmgenid_change(&p->vmgenid, err);
}
