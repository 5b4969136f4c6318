/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What KVM itself provides of the platform: interrupt controllers. The clock of the guest is kvmclock
 * or the TSC, its timer the local APIC's: there is no PIT, no HPET, no PM timer.
 */
#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define LAPIC_SPURIOUS 0xf0 /* the spurious-interrupt vector register */
#define LAPIC_ENABLED  (1u << 8)

/*
 * Intel CPUs without unrestricted guests run real mode with the help of a few pages of the guest's
 * address space; where they are not needed KVM takes note and does nothing (KVM API §4.34, §4.41).
 * A KVM that lacks the calls does not need the pages.
 */
static void place_kvm_pages(struct vm *vm)
{
	uint64_t identity_map = LAYOUT_KVM_IDENTITY_MAP;

	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0)
		log_debug("KVM takes no identity map address (errno %d)", errno);
	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, (unsigned long)LAYOUT_KVM_TSS) < 0)
		log_debug("KVM takes no TSS address (errno %d)", errno);
}

const char arch_name[] = "x86_64";

int arch_vm_init(struct vm *vm, struct error *err)
{
	place_kvm_pages(vm);
	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return error_errno(err, errno, "KVM cannot create the interrupt controllers");
	return 0;
}

/* All pins masked by a guest that has programmed the chip: its register selector was 0 at power-on. */
static bool ioapic_was_shut_down(const struct vm *vm)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};

	if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip) < 0 || !chip.chip.ioapic.ioregsel)
		return false;
	for (unsigned i = 0; i < VM_IOAPIC_PINS; i++)
		if (!chip.chip.ioapic.redirtbl[i].fields.mask)
			return false;
	return true;
}

static bool lapic_is_off(const struct vcpu *vcpu)
{
	struct kvm_lapic_state lapic;
	uint32_t spurious;

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic) < 0)
		return false;
	memcpy(&spurious, lapic.regs + LAPIC_SPURIOUS, sizeof(spurious));
	return !(spurious & LAPIC_ENABLED);
}

/*
 * Linux's native_machine_shutdown() masks every pin of the I/O APIC and switches the local APIC of the
 * processor it is on off, before `reboot=t` faults on purpose. A panic that reboots at once (panic=-1)
 * switches the local APIC off too, but leaves the event device's pin open.
 *
 * That pin is opened late in the boot, though before any driver of a PCI device starts: until then the
 * caller must know better. No other state of the processor says more: on AMD KVM puts it through
 * INIT before we hear of the fault (shutdown_interception()), local APIC and paravirtual MSRs included.
 */
bool arch_shutdown_was_orderly(const struct vcpu *vcpu)
{
	return ioapic_was_shut_down(vcpu->vm) && lapic_is_off(vcpu);
}
