/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty engine against an oracle that keeps, for each user and page, whether it must be told dirty, and whether it may be: users
 * come and go, look, take windows, fail; devices write; memory comes and goes; the VM is made anew. Without a VM, and with one of
 * /dev/kvm where there is one. (What vCPUs write is in tests/payload/dirty.c.)
 */
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/kvm/dirty_engine.h"
#include "vmm/memory/pages.h"

#include <check.h>
#include <string.h>

#define HIGH  GIB(4)
#define AREA  GIB(8)
#define UNIT  MIB(2)
#define SLOTS 3
#define PAGES (1024 + 1024 + SLOTS * 512)
#define USERS 3

static struct guest_memory memory;
static struct dirty_engine engine;
static struct vm vm;
static int kvm_fd;
static bool with_vm;
static struct error err;
static unsigned seed;

static struct oracle {
	bool joined;
	struct dirty_user user;
	bool must[PAGES], may[PAGES], pending[PAGES];
	struct page_set looked; /* what the last look gave */
} users[USERS];

static uint64_t up_to(uint64_t n)
{
	return (((uint64_t)rand_r(&seed) << 31) ^ (uint64_t)rand_r(&seed)) % (n + 1);
}

static void ok(int ret)
{
	ck_assert_msg(ret == 0, "%s", ret < 0 ? err.text : "");
}

/* ---- the oracle ---- */

static bool is_present(uint64_t page)
{
	for (unsigned i = 0; i < guest_memory_piece_count(&memory); i++) {
		struct page_range piece = guest_memory_piece(&memory, i);

		if (page - piece.first < piece.count)
			return guest_memory_piece_present(&memory, i);
	}
	return false;
}

static void set_all(bool *flags, bool value)
{
	memset(flags, value, PAGES);
}

static void written(uint64_t first, uint64_t count)
{
	for (unsigned i = 0; i < USERS; i++) {
		memset(users[i].must + first, true, count);
		memset(users[i].may + first, true, count);
	}
}

/* ---- what happens ---- */

static void power_on(void)
{
	if (!with_vm)
		return;
	ok(vm_create(&vm, kvm_fd, &err));
	ok(vm_map_memory(&vm, &memory, &err));
	dirty_engine_attach(&engine, &vm);
}

static void power_off(void)
{
	if (!with_vm)
		return;
	dirty_engine_detach(&engine);
	vm_destroy(&vm);
}

static void reset(void)
{
	power_off();
	power_on();
	if (with_vm)
		written(0, PAGES);
}

static void join(struct oracle *o)
{
	ok(dirty_engine_join(&engine, &o->user, &err));
	ok(page_set_create(&o->looked, guest_memory_pages(&memory), &err));
	o->joined = true;
	set_all(o->must, true);
	set_all(o->may, true);
	set_all(o->pending, false);
}

static void leave(struct oracle *o)
{
	dirty_engine_leave(&engine, &o->user);
	page_set_destroy(&o->looked);
	o->joined = false;
}

static void write_some(void)
{
	unsigned piece = (unsigned)up_to(guest_memory_piece_count(&memory) - 1);
	struct page_range r = guest_memory_piece(&memory, piece);
	uint64_t first = up_to(r.count - 1), count = 1 + up_to(min_u64(r.count - first, 70) - 1);

	if (!guest_memory_piece_present(&memory, piece))
		return;
	ck_assert(guest_memory_zero(&memory, r.gpa + first * KIB(4) + up_to(4095), 1));
	ck_assert(guest_memory_zero(&memory, r.gpa + first * KIB(4), count * KIB(4)));
	written(r.first + first, count);
}

static void plug_or_unplug(void)
{
	unsigned slot = (unsigned)up_to(SLOTS - 1), piece = memory.region_count + slot;
	struct page_range r = guest_memory_piece(&memory, piece);

	if (guest_memory_piece_present(&memory, piece)) {
		if (with_vm)
			vm_unmap_slot(&vm, &memory, slot);
		guest_memory_unplug(&memory, slot);
		return;
	}
	ok(guest_memory_plug(&memory, slot, &err));
	if (with_vm)
		ok(vm_map_slot(&vm, &memory, slot, &err));
	written(r.first, r.count);
}

static void look(struct oracle *o)
{
	ok(dirty_engine_look(&engine, &o->user, &o->looked, &err));
	for (uint64_t page = 0; page < o->looked.count; page++) {
		bool told = page_set_has(&o->looked, page), here = is_present(page);

		if ((o->must[page] && here && !told) || (told && (!o->may[page] || !here)))
			ck_abort_msg("page %llu: told %d, must %d, may %d, present %d",
				(unsigned long long)page, told, o->must[page], o->may[page], here);
	}
}

/* What was written since the look may be told again. */
static void take_window(struct oracle *o, bool at_once)
{
	uint64_t count = o->looked.count, first = up_to(count - 1) & ~63ull;

	count = min_u64((1 + up_to(20)) * 64, count - first);
	ok(dirty_engine_rearm(&engine, &o->user, &o->looked, first, count, &err));
	for (uint64_t page = first; page < first + count; page++) {
		if (!page_set_has(&o->looked, page))
			continue;
		o->pending[page] = true;
		o->must[page] = false;
		if (at_once)
			o->may[page] = false;
	}
}

static void collect(struct oracle *o)
{
	look(o);
	ok(dirty_engine_collect(&engine, &o->user, &o->looked, &err));
	for (uint64_t page = 0; page < o->looked.count; page++)
		if (page_set_has(&o->looked, page)) {
			o->pending[page] = true;
			o->must[page] = o->may[page] = false;
		}
}

static void finish(struct oracle *o, bool failed)
{
	if (failed)
		dirty_engine_rollback(&engine, &o->user);
	else
		dirty_engine_commit(&engine, &o->user);
	for (uint64_t page = 0; page < PAGES && failed; page++) {
		o->must[page] |= o->pending[page];
		o->may[page] |= o->pending[page];
	}
	set_all(o->pending, false);
}

static void step(void)
{
	struct oracle *o = &users[up_to(USERS - 1)];

	switch (up_to(20)) {
	case 0:
		plug_or_unplug();
		return;
	case 1:
		if (up_to(3) == 0)
			reset();
		return;
	case 2:
		if (!o->joined)
			join(o);
		else if (up_to(2) == 0)
			leave(o);
		return;
	case 3:
		if (dirty_engine_active(&engine))
			ok(dirty_engine_arm(&engine, &err));
		return;
	case 4:
		dirty_engine_dirtied(&engine);
		return;
	default:
		break;
	}
	if (!o->joined || up_to(2) == 0) {
		write_some();
		return;
	}
	switch (up_to(4)) {
	case 0:
		look(o);
		take_window(o, true);
		take_window(o, true);
		break;
	case 1:
		look(o);
		write_some();
		take_window(o, false);
		break;
	case 2:
		collect(o);
		break;
	default:
		finish(o, up_to(1));
		break;
	}
}

static bool begin(bool vm_wanted)
{
	const struct guest_memory_config config = {
		.region_count = 2,
		.regions = {{.gpa = 0, .size = MIB(3) + KIB(20)},
			{.gpa = HIGH, .size = MIB(2) + KIB(4)}},
		.area_gpa = AREA,
		.area_size = UNIT * SLOTS,
		.area_unit = UNIT,
		.pages = MEMORY_PAGES_OFF,
	};

	with_vm = vm_wanted;
	if (with_vm && kvm_open(&kvm_fd, &err) < 0)
		return false;
	ok(guest_memory_create(&config, &memory, &err));
	ck_assert_uint_eq(guest_memory_pages(&memory), PAGES);
	dirty_engine_init(&engine, &memory);
	power_on();
	return true;
}

static void end(void)
{
	for (unsigned i = 0; i < USERS; i++)
		if (users[i].joined)
			leave(&users[i]);
	power_off();
	if (with_vm)
		close(kvm_fd);
	dirty_engine_destroy(&engine);
	guest_memory_destroy(&memory);
}

START_TEST(each_user_is_told_what_changed_since_its_sink_had_it_whatever_the_others_do)
{
	seed = 17;
	if (!begin(_i))
		return; /* no KVM here */
	for (unsigned n = 0; n < 6000; n++)
		step();
	for (unsigned i = 0; i < USERS; i++)
		if (users[i].joined)
			look(&users[i]);
	end();
}
END_TEST

START_TEST(what_is_armed_beforehand_is_dirty_to_the_first_collect_and_not_to_the_second)
{
	struct page_set all;

	if (!begin(_i))
		return;
	join(&users[0]);
	ok(dirty_engine_arm(&engine, &err));
	ok(page_set_create(&all, PAGES, &err));
	guest_memory_add_present(&memory, &all);
	collect(&users[0]);
	ck_assert_uint_eq(page_set_size(&users[0].looked), page_set_size(&all));
	finish(&users[0], false);
	collect(&users[0]);
	ck_assert(page_set_is_empty(&users[0].looked));
	page_set_destroy(&all);
	end();
}
END_TEST

START_TEST(what_became_dirty_is_counted_once_between_two_takings)
{
	if (!begin(_i))
		return;
	join(&users[0]);
	collect(&users[0]);
	ck_assert_uint_eq(dirty_engine_dirtied(&engine), 0);
	for (unsigned i = 0; i < 3; i++)
		ck_assert(guest_memory_zero(&memory, HIGH, KIB(8)));
	written(1024, 2);
	ck_assert_uint_eq(dirty_engine_dirtied(&engine), 2);
	collect(&users[0]);
	ck_assert(guest_memory_zero(&memory, HIGH, 1));
	written(1024, 1);
	finish(&users[0], true);
	ck_assert_uint_eq(dirty_engine_dirtied(&engine), 3);
	/* That a new guest finds all memory changed is no writing. */
	reset();
	ck_assert_uint_eq(dirty_engine_dirtied(&engine), 3);
	end();
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("users");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc,
		each_user_is_told_what_changed_since_its_sink_had_it_whatever_the_others_do, 0, 2);
	tcase_add_loop_test(tc,
		what_is_armed_beforehand_is_dirty_to_the_first_collect_and_not_to_the_second, 0, 2);
	tcase_add_loop_test(tc, what_became_dirty_is_counted_once_between_two_takings, 0, 2);
	return run_tests("dirty_engine", tc, NULL);
}
