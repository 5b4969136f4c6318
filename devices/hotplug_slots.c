/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots that come and go. See hotplug_slots.h.
 *
 * Each step of a slot is one atomic change of one bit, and whoever makes it (the guest by a register, or a withdrawal) wins: so
 * no lock is taken on an exit. The guest may name any slot with any event; what it was not told of, it cannot answer.
 */
#include "devices/hotplug_slots.h"

#include "vmm/base/log.h"

#include <string.h>

enum {
	OFFSET_PRESENT = 0,
	OFFSET_NEXT = 8,
	OFFSET_EJECT = 12,
	OFFSET_AREA = HOTPLUG_SLOTS_PORTS,
};

enum { NOTIFY_BUS_CHECK = 0, NOTIFY_DEVICE_CHECK = 1, NOTIFY_EJECT = 3 }; /* §5.6.6 */

/* §6.3.5.2, §6.3.5.3; 0x84 is Linux's "ejection in progress", where the specification has 0x83. */
enum {
	STATUS_OK = 0,
	STATUS_INSERTING = 0x80,
	STATUS_EJECTING = 0x83,
	STATUS_EJECTING_LINUX = 0x84
};

#define NO_EVENT UINT32_MAX

/* The lowest bit that is set, cleared by us and nobody else; 0: none is. */
static uint64_t take_lowest(_Atomic uint64_t *bits)
{
	uint64_t old = atomic_load(bits);

	while (old && !atomic_compare_exchange_weak(bits, &old, old & (old - 1)))
		;
	return old & -old;
}

/* Whether the bit was set; it is not any more. */
static bool take(_Atomic uint64_t *bits, uint64_t bit)
{
	return atomic_fetch_and(bits, ~bit) & bit;
}

static uint32_t next_event(struct hotplug_slots *slots)
{
	uint64_t bit = take_lowest(&slots->wanted);

	if (bit) {
		atomic_fetch_or(&slots->told, bit);
		atomic_fetch_or(&slots->present, bit);
		return (uint32_t)__builtin_ctzll(bit) | NOTIFY_DEVICE_CHECK << 8;
	}
	bit = take_lowest(&slots->unwanted);
	if (!bit)
		return NO_EVENT;
	atomic_fetch_or(&slots->told_off, bit);
	return (uint32_t)__builtin_ctzll(bit) | NOTIFY_EJECT << 8;
}

static void outcome(struct hotplug_slots *slots, uint64_t bit, unsigned event, unsigned status)
{
	bool ok = status == STATUS_OK;

	if (event == NOTIFY_BUS_CHECK || event == NOTIFY_DEVICE_CHECK) {
		if (status == STATUS_INSERTING || !take(&slots->told, bit))
			return;
		if (!ok)
			atomic_fetch_and(&slots->present, ~bit);
		atomic_fetch_or(ok ? &slots->taken : &slots->declined, bit);
		slots->ops->changed(slots->owner);
	} else if (event == NOTIFY_EJECT) {
		/* That it went well, _EJ0 has said before. */
		if (ok || status == STATUS_EJECTING || status == STATUS_EJECTING_LINUX ||
			!take(&slots->told_off, bit))
			return;
		atomic_fetch_or(&slots->kept, bit);
		slots->ops->changed(slots->owner);
	}
}

static void eject(struct hotplug_slots *slots, uint64_t bit)
{
	if (!take(&slots->told_off, bit)) {
		log_guest(
			"the guest ejects a processor or memory that it was not asked for: ignored");
		return;
	}
	atomic_fetch_and(&slots->present, ~bit);
	atomic_fetch_or(&slots->ejected, bit);
	slots->ops->changed(slots->owner);
}

static uint64_t slots_read(void *device, uint64_t offset, unsigned size)
{
	struct hotplug_slots *slots = device;
	uint64_t present = atomic_load(&slots->present);

	if (offset < OFFSET_NEXT && offset + size <= OFFSET_NEXT)
		return present >> offset * 8;
	if (offset >= OFFSET_AREA && offset % 4 == 0 && size == 4)
		return slots->area[(offset - OFFSET_AREA) / 8] >> offset % 8 * 8;
	return offset == OFFSET_NEXT && size == 4 ? next_event(slots) : NO_EVENT;
}

static void slots_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct hotplug_slots *slots = device;
	unsigned slot = offset == OFFSET_EJECT ? (uint32_t)value : value & 0xff;

	if (size != 4 || slot >= HOTPLUG_SLOTS_MAX)
		return;
	if (offset == OFFSET_NEXT)
		outcome(slots, 1ull << slot, value >> 8 & 0xff, value >> 16 & 0xff);
	else if (offset == OFFSET_EJECT)
		eject(slots, 1ull << slot);
}

const struct bus_ops hotplug_slots_bus_ops = {.read = slots_read, .write = slots_write};

void hotplug_slots_init(struct hotplug_slots *slots, struct power *power, uint32_t event,
	const struct hotplug_slots_ops *ops, void *owner)
{
	slots->power = power;
	slots->event = event;
	slots->ops = ops;
	slots->owner = owner;
	hotplug_slots_reset(slots, 0);
}

void hotplug_slots_reset(struct hotplug_slots *slots, uint64_t present)
{
	_Atomic uint64_t *const all[] = {&slots->wanted, &slots->unwanted, &slots->told,
		&slots->told_off, &slots->taken, &slots->declined, &slots->ejected, &slots->kept};

	atomic_store(&slots->present, present);
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		atomic_store(all[i], 0);
}

void hotplug_slots_insert(struct hotplug_slots *slots, uint64_t which)
{
	atomic_fetch_or(&slots->wanted, which);
	power_raise(slots->power, slots->event);
}

void hotplug_slots_remove(struct hotplug_slots *slots, uint64_t which)
{
	atomic_fetch_or(&slots->unwanted, which);
	power_raise(slots->power, slots->event);
}

bool hotplug_slots_remind(struct hotplug_slots *slots)
{
	if (!(atomic_load(&slots->wanted) | atomic_load(&slots->unwanted)))
		return false;
	power_raise(slots->power, slots->event);
	return true;
}

uint64_t hotplug_slots_withdraw(struct hotplug_slots *slots, uint64_t which)
{
	return (atomic_fetch_and(&slots->wanted, ~which) |
		       atomic_fetch_and(&slots->unwanted, ~which)) &
	       which;
}

struct hotplug_outcome hotplug_slots_take(struct hotplug_slots *slots)
{
	return (struct hotplug_outcome){
		.taken = atomic_exchange(&slots->taken, 0),
		.declined = atomic_exchange(&slots->declined, 0),
		.ejected = atomic_exchange(&slots->ejected, 0),
		.kept = atomic_exchange(&slots->kept, 0),
	};
}

/* Each slot is in one place of the drawing in hotplug_slots.h; what was answered may be asked again before it is looked at. */
static int check(const void *thing, struct error *err)
{
	const struct hotplug_slots_state *s = thing;

	if ((s->wanted & (s->present | s->told)) || (s->told & ~s->present) ||
		(s->told_off & ~s->present) || (s->told & s->told_off))
		return error_set(err, ERROR_CORRUPT, "a slot is present and absent at once");
	return 0;
}

static const struct state_field fields[] = {
	STATE_UINTS(struct hotplug_slots_state, area),
	STATE_UINT(struct hotplug_slots_state, present),
	STATE_UINT(struct hotplug_slots_state, wanted),
	STATE_UINT(struct hotplug_slots_state, unwanted),
	STATE_UINT(struct hotplug_slots_state, told),
	STATE_UINT(struct hotplug_slots_state, told_off),
	STATE_UINT(struct hotplug_slots_state, taken),
	STATE_UINT(struct hotplug_slots_state, declined),
	STATE_UINT(struct hotplug_slots_state, ejected),
	STATE_UINT(struct hotplug_slots_state, kept),
};

const struct state_table hotplug_slots_state_table =
	STATE_TABLE("hotplug_slots", 1, struct hotplug_slots_state, fields, .check = check);

void hotplug_slots_save(const struct hotplug_slots *slots, struct hotplug_slots_state *state)
{
	*state = (struct hotplug_slots_state){
		.present = atomic_load(&slots->present),
		.wanted = atomic_load(&slots->wanted),
		.unwanted = atomic_load(&slots->unwanted),
		.told = atomic_load(&slots->told),
		.told_off = atomic_load(&slots->told_off),
		.taken = atomic_load(&slots->taken),
		.declined = atomic_load(&slots->declined),
		.ejected = atomic_load(&slots->ejected),
		.kept = atomic_load(&slots->kept),
	};
	memcpy(state->area, slots->area, sizeof(state->area));
}

int hotplug_slots_load(
	struct hotplug_slots *slots, const struct hotplug_slots_state *state, struct error *err)
{
	if (memcmp(state->area, slots->area, sizeof(state->area)) != 0)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest's memory can grow in another place than this VM's");
	atomic_store(&slots->present, state->present);
	atomic_store(&slots->wanted, state->wanted);
	atomic_store(&slots->unwanted, state->unwanted);
	atomic_store(&slots->told, state->told);
	atomic_store(&slots->told_off, state->told_off);
	atomic_store(&slots->taken, state->taken);
	atomic_store(&slots->declined, state->declined);
	atomic_store(&slots->ejected, state->ejected);
	atomic_store(&slots->kept, state->kept);
	return 0;
}
