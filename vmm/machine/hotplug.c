/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's side of slots that come and go (devices/hotplug_slots.h): what is put into them and taken out (a `struct
 * hotplug_kind`), one change at a time, and its end.
 *
 * A change fills its slots, tells the guest, and awaits its answer for each. What was read by the guest cannot be taken
 * back: after a time-out such a slot stays filled, as `coming`, and counts when the answer comes late; the next change
 * awaits it rather than ask again. It is the same with what the guest is to let go of.
 *
 * The guest answers on its vCPUs' threads, which post a job here. A timer ends a change that takes too long; until then it raises
 * the event anew every REMIND_MS as long as the guest has not read it: an edge at a pin that was masked (a guest that
 * boots) is lost.
 */
#include "vmm/base/util.h"
#include "vmm/machine/hotplug_private.h"
#include "vmm/machine/machine_private.h"

#define REMIND_MS 100

static uint64_t lowest(uint64_t bits, unsigned count)
{
	uint64_t found = 0;

	for (; bits && count; count--, bits &= bits - 1)
		found |= bits & -bits;
	return found;
}

static uint64_t highest(uint64_t bits, unsigned count)
{
	uint64_t found = 0, bit;

	for (; bits && count; count--, bits &= ~bit) {
		bit = 1ull << (63 - __builtin_clzll(bits));
		found |= bit;
	}
	return found;
}

uint64_t hotplug_entering(const struct hotplug *h, unsigned count)
{
	uint64_t told = lowest(h->coming, count);

	return told | lowest(h->all & ~(h->here | h->coming),
			      count - (unsigned)__builtin_popcountll(told));
}

uint64_t hotplug_leaving(const struct hotplug *h, unsigned count)
{
	uint64_t told = highest(h->going, count);

	return told | highest(h->here & ~h->going, count - (unsigned)__builtin_popcountll(told));
}

static void clear_slots(struct hotplug *h, uint64_t which)
{
	for (; which; which &= which - 1)
		h->kind->clear(h->machine, (unsigned)__builtin_ctzll(which));
}

/* The change is over: say so. */
static void finish(struct hotplug *h, const struct error *err)
{
	struct machine_resize *resize = h->resize;

	loop_timer_clear(h->machine->loop, &h->timer);
	h->busy = h->refused = false;
	h->awaited = 0;
	h->resize = NULL;
	if (resize)
		resize->done(resize, err);
}

static void fail(struct hotplug *h, enum error_kind kind, const char *why)
{
	struct error err;
	char has[64];

	error_set(&err, kind, "%s; it has %s", why, h->kind->say(h->machine, has, sizeof(has)));
	if (h->coming | h->going)
		error_hint(&err, "it was told, and may still do it");
	finish(h, &err);
}

/* What the guest did since the last time. */
static void look(struct hotplug *h)
{
	struct hotplug_outcome o = hotplug_slots_take(h->slots);
	uint64_t before = h->here;

	h->here = (h->here | o.taken) & ~o.ejected;
	h->coming &= ~(o.taken | o.declined);
	h->going &= ~(o.ejected | o.kept);
	clear_slots(h, o.declined | o.ejected);
	if (h->here != before)
		h->kind->count(h->machine);
	h->refused |= (o.declined | o.kept) & h->awaited;
	h->awaited &= h->coming | h->going;
}

static void settle(struct hotplug *h)
{
	look(h);
	if (!h->busy || h->awaited)
		return;
	if (h->refused)
		fail(h, ERROR_GUEST_REFUSED, "the guest refuses");
	else
		finish(h, NULL);
}

static void posted(struct loop_job *job)
{
	struct hotplug *h = container_of(job, struct hotplug, job);

	atomic_store(&h->posted, false);
	if (machine_state(h->machine) !=
		MACHINE_ENDED) /* the loop turns once more for the devices' end */
		settle(h);
}

void hotplug_post(struct hotplug *h)
{
	if (!atomic_exchange(&h->posted, true))
		loop_post(h->machine->loop, &h->job);
}

/* What the guest has not read of what was asked is as if it had not been asked. */
static void withdraw(struct hotplug *h)
{
	uint64_t unread = hotplug_slots_withdraw(h->slots, h->coming | h->going);

	clear_slots(h, unread & h->coming);
	h->coming &= ~unread;
	h->going &= ~unread;
}

static void set_timer(struct hotplug *h)
{
	loop_timer_set(h->machine->loop, &h->timer,
		min_u64(h->deadline_ns, now_ns() + REMIND_MS * 1000000ull));
}

static void due(struct loop_timer *timer)
{
	struct hotplug *h = container_of(timer, struct hotplug, timer);

	settle(h);
	if (!h->busy)
		return;
	if (now_ns() < h->deadline_ns) {
		hotplug_slots_remind(h->slots);
		set_timer(h);
		return;
	}
	withdraw(h);
	fail(h, ERROR_GUEST_TIMEOUT, "the guest did not do it in time");
}

void hotplug_init(struct hotplug *h, struct machine *m, const struct hotplug_kind *kind,
	struct hotplug_slots *slots, uint64_t all)
{
	h->machine = m;
	h->kind = kind;
	h->slots = slots;
	h->all = all;
	h->timer.fire = due;
	h->job.run = posted;
}

void hotplug_begin(struct hotplug *h, uint64_t here)
{
	if (!h->kind)
		return;
	h->here = here;
	h->coming = h->going = 0;
	hotplug_slots_reset(h->slots, here);
}

void hotplug_end(struct hotplug *h)
{
	uint64_t coming;

	if (!h->kind)
		return;
	look(h);
	coming = h->coming;
	h->coming = h->going = 0;
	clear_slots(h, coming);
	if (h->busy)
		fail(h, ERROR_WRONG_STATE, "the VM was reset or has ended meanwhile");
}

/* What the registers speak of: nothing of it may be beyond what the machine has. */
static uint64_t slots_in(const struct hotplug_slots_state *s)
{
	return s->present | s->wanted | s->unwanted | s->told | s->told_off | s->taken |
	       s->declined | s->ejected | s->kept;
}

int hotplug_load(struct hotplug *h, const struct hotplug_slots *slots, struct error *err)
{
	struct hotplug_slots_state s;

	hotplug_slots_save(slots, &s);
	if (slots_in(&s) & ~(h->kind ? h->all & h->kind->filled(h->machine) : 0))
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest has vCPUs or memory that came while it ran, and this VM has no "
			"place for them");
	if (!h->kind)
		return 0;
	h->here = s.present & ~s.told;
	h->coming = s.wanted | s.told;
	h->going = s.unwanted | s.told_off;
	if ((h->going & ~h->here) || (h == &h->machine->cpus && !h->here))
		return error_set(
			err, ERROR_CORRUPT, "the guest is asked for what it does not have");
	h->kind->count(h->machine);
	hotplug_post(h); /* it may have answered */
	return 0;
}

static int fill_slots(struct hotplug *h, uint64_t which, struct error *err)
{
	for (uint64_t left = which; left; left &= left - 1) {
		unsigned slot = (unsigned)__builtin_ctzll(left);
		int ret = h->kind->fill(h->machine, slot, err);

		if (ret < 0) {
			clear_slots(h, which & ((1ull << slot) - 1));
			return ret;
		}
	}
	return 0;
}

int hotplug_change(struct hotplug *h, uint64_t in, uint64_t out, unsigned timeout_ms,
	struct machine_resize *resize, struct error *err)
{
	uint64_t new_in = in & ~h->coming, new_out = out & ~h->going;
	int ret;

	if (h->busy)
		return error_set(err, ERROR_WRONG_STATE, "another such change is under way");
	if (h->machine->hold)
		return error_set(err, ERROR_WRONG_STATE,
			"the VM stands still for a snapshot: try again in a moment");
	if (machine_state(h->machine) != MACHINE_RUNNING || !h->machine->powered)
		return error_set(err, ERROR_WRONG_STATE, "the VM is %s, and its guest must act",
			machine_state_name(machine_state(h->machine)));
	if (!(in | out))
		return 1;
	ret = fill_slots(h, new_in, err);
	if (ret < 0)
		return ret;
	h->busy = true;
	h->resize = resize;
	h->coming |= new_in;
	h->going |= new_out;
	h->awaited = in | out;
	h->deadline_ns = now_ns() + timeout_ms * 1000000ull;
	if (new_in)
		hotplug_slots_insert(h->slots, new_in);
	if (new_out)
		hotplug_slots_remove(h->slots, new_out);
	set_timer(h);
	return 0;
}

void machine_resize_cancel(struct machine *m, const struct machine_resize *resize)
{
	struct hotplug *h = m->cpus.resize == resize ? &m->cpus : &m->plugged;

	if (h->resize != resize)
		return;
	settle(h); /* it may just have been done */
	if (h->resize != resize)
		return;
	withdraw(h);
	fail(h, ERROR_CANCELLED, "cancelled");
}

void machine_resize_forget(struct machine *m, const struct machine_resize *resize)
{
	if (m->cpus.resize == resize)
		m->cpus.resize = NULL;
	if (m->plugged.resize == resize)
		m->plugged.resize = NULL;
}
