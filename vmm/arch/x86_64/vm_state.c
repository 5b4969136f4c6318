/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a VM as such: KVM's interrupt controllers (KVM API §4.26 KVM_GET_IRQCHIP), and the clock (clock_state.c).
 *
 * An edge that waits at a masked pin is in `irr` and goes on waiting.
 */
#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/arch/x86_64/vcpu_state.h"

#include <errno.h>
#include <sys/ioctl.h>

struct irqchips_state {
	struct kvm_ioapic_state ioapic;
	struct kvm_pic_state pics[2]; /* nobody uses them, but a guest has masked them */
};

static int check(const void *thing, struct error *err)
{
	const struct irqchips_state *s = thing;

	if (s->ioapic.base_address != LAYOUT_IOAPIC)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest's I/O APIC is at 0x%llx, this version's at 0x%llx",
			(unsigned long long)s->ioapic.base_address,
			(unsigned long long)LAYOUT_IOAPIC);
	return 0;
}

#define PIC(member, ...) STATE_UINT(struct kvm_pic_state, member, __VA_ARGS__)
static const struct state_field pic_fields[] = {
	PIC(last_irr),
	PIC(irr),
	PIC(imr),
	PIC(isr),
	PIC(priority_add, .max = 7),
	PIC(irq_base),
	PIC(read_reg_select, .max = 1),
	PIC(poll, .max = 1),
	PIC(special_mask, .max = 1),
	PIC(init_state, .max = 3),
	PIC(auto_eoi, .max = 1),
	PIC(rotate_on_auto_eoi, .max = 1),
	PIC(special_fully_nested_mode, .max = 1),
	PIC(init4, .max = 1),
	PIC(elcr),
	PIC(elcr_mask),
};
static const struct state_table pic_table = STATE_TABLE("pic", 1, struct kvm_pic_state, pic_fields);

static const struct state_field fields[] = {
	STATE_UINT(struct irqchips_state, ioapic.base_address),
	STATE_UINT(struct irqchips_state, ioapic.ioregsel),
	STATE_UINT(struct irqchips_state, ioapic.id),
	STATE_UINT(struct irqchips_state, ioapic.irr),
	STATE_UINTS(struct irqchips_state, ioapic.redirtbl),
	STATE_ARRAY(struct irqchips_state, pics, &pic_table),
};

const struct state_table irqchips_state_table =
	STATE_TABLE("irqchips", 1, struct irqchips_state, fields, .check = check);

static int get_chip(const struct vm *vm, uint32_t id, struct kvm_irqchip *chip, struct error *err)
{
	*chip = (struct kvm_irqchip){.chip_id = id};
	if (ioctl(vm->fd, KVM_GET_IRQCHIP, chip) < 0)
		return error_errno(err, errno, "KVM cannot tell the interrupt controllers");
	return 0;
}

static int set_chip(const struct vm *vm, const struct kvm_irqchip *chip, struct error *err)
{
	if (ioctl(vm->fd, KVM_SET_IRQCHIP, chip) < 0)
		return error_errno(err, errno, "KVM cannot set the interrupt controllers");
	return 0;
}

/* KVM_IRQCHIP_PIC_MASTER and _SLAVE are 0 and 1. */
static int get_chips(const struct vm *vm, struct irqchips_state *state, struct error *err)
{
	struct kvm_irqchip chip;
	int ret = get_chip(vm, KVM_IRQCHIP_IOAPIC, &chip, err);

	state->ioapic = chip.chip.ioapic;
	for (uint32_t i = 0; i < 2 && ret == 0; i++) {
		ret = get_chip(vm, i, &chip, err);
		state->pics[i] = chip.chip.pic;
	}
	return ret;
}

static int set_chips(const struct vm *vm, const struct irqchips_state *state, struct error *err)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC, .chip.ioapic = state->ioapic};
	int ret = set_chip(vm, &chip, err);

	for (uint32_t i = 0; i < 2 && ret == 0; i++) {
		chip = (struct kvm_irqchip){.chip_id = i, .chip.pic = state->pics[i]};
		ret = set_chip(vm, &chip, err);
	}
	return ret;
}

int arch_vm_save(struct vcpu_group *vcpus, struct state_writer *out, struct error *err)
{
	struct irqchips_state state = {0};
	int ret = get_chips(vcpus->vm, &state, err);

	if (ret < 0)
		return ret;
	state_save(out, &irqchips_state_table, "", &state);
	return clock_save(vcpus, out, err);
}

int arch_vm_load(struct vcpu_group *vcpus, struct state_reader *in, struct error *err)
{
	struct irqchips_state state = {0};
	int ret = state_load(in, &irqchips_state_table, "", &state, err);

	if (ret == 0)
		ret = clock_load(vcpus, in, err);
	return ret == 0 ? set_chips(vcpus->vm, &state, err) : ret;
}
