/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The generation id (Microsoft, "Virtual Machine Generation ID", 2012; Linux drivers/virt/vmgenid.c).
 * The ACPI device's ADDR method tells the guest where the 16 bytes are, a Notify 0x80 by way of the
 * Generic Event Device that they have changed. The bytes are written before the event is raised.
 */
#include "devices/vmgenid.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static int draw(uint8_t id[16], struct error *err)
{
	/* Up to 256 bytes are never cut short by a signal once the pool is ready (getrandom(2)). */
	ssize_t n;

	do
		n = getrandom(id, 16, 0);
	while (n < 0 && errno == EINTR);
	if (n != 16)
		return error_errno(err, n < 0 ? errno : EIO, "cannot draw a VM generation id");
	return 0;
}

int vmgenid_init(struct vmgenid *vmgenid, const struct guest_memory *memory, uint64_t gpa,
	struct power *power, struct error *err)
{
	vmgenid->memory = memory;
	vmgenid->gpa = gpa;
	vmgenid->power = power;
	return draw(vmgenid->id, err);
}

int vmgenid_place(struct vmgenid *vmgenid, struct error *err)
{
	if (!guest_memory_write(vmgenid->memory, vmgenid->gpa, vmgenid->id, sizeof(vmgenid->id)))
		return error_set(err, ERROR_INTERNAL,
			"cannot place the VM generation id: no RAM at 0x%llx",
			(unsigned long long)vmgenid->gpa);
	return 0;
}

int vmgenid_change(struct vmgenid *vmgenid, struct error *err)
{
	uint8_t next[16];
	int ret = draw(next, err);

	if (ret < 0)
		return ret;
	memcpy(vmgenid->id, next, sizeof(next));
	ret = vmgenid_place(vmgenid, err);
	if (ret < 0)
		return ret;
	power_raise(vmgenid->power, POWER_EVENT_VMGENID);
	return 0;
}

static const struct state_field fields[] = {
	STATE_BYTES(struct vmgenid_state, id),
	STATE_UINT(struct vmgenid_state, gpa),
};

const struct state_table vmgenid_state_table =
	STATE_TABLE("vmgenid", 1, struct vmgenid_state, fields);

void vmgenid_save(const struct vmgenid *vmgenid, struct vmgenid_state *state)
{
	memcpy(state->id, vmgenid->id, sizeof(state->id));
	state->gpa = vmgenid->gpa;
}

int vmgenid_load(struct vmgenid *vmgenid, const struct vmgenid_state *state, struct error *err)
{
	if (state->gpa != vmgenid->gpa)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest looks for its VM generation id at 0x%llx, and this version has it at 0x%llx",
			(unsigned long long)state->gpa, (unsigned long long)vmgenid->gpa);
	memcpy(vmgenid->id, state->id, sizeof(vmgenid->id));
	return 0;
}
