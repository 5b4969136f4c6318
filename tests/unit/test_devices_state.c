/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's PCI side: its devices go into the slots that a state has, and only the same devices take it. */
#include "tests/unit/runner.h"

#include "vmm/base/util.h"
#include "vmm/machine/machine_devices.h"

#include <check.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static struct guest_memory memory;
static struct loop *loop;
static struct arch_address_map map;
static struct machine_devices devices;
static struct machine_config config;
static char paths[4][32];
static int files[4];

static void set_up(void)
{
	const struct guest_memory_config ram = {
		.region_count = 1, .regions[0] = {.size = MIB(2)}, .pages = MEMORY_PAGES_OFF};
	struct error err;

	ck_assert_int_eq(guest_memory_create(&ram, &memory, &err), 0);
	ck_assert_int_eq(loop_create(&loop, 64, &err), 0);
	arch_address_map(&map);
	for (unsigned i = 0; i < 4; i++) {
		files[i] = memfd_create("disk", MFD_CLOEXEC);
		ck_assert_int_eq(ftruncate(files[i], MIB(1)), 0);
		snprintf(paths[i], sizeof(paths[i]), "/proc/self/fd/%d", files[i]);
	}
}

static void tear_down(void)
{
	loop_destroy(loop);
	guest_memory_destroy(&memory);
	for (unsigned i = 0; i < 4; i++)
		close(files[i]);
}

/* Disks of these ids, in this order. */
static void configure(const char *const *ids)
{
	memset(&config, 0, sizeof(config));
	config.cpus = 1;
	for (unsigned i = 0; ids[i]; i++) {
		struct disk_options *disk = &config.disks[config.disk_count++];

		snprintf(disk->id, sizeof(disk->id), "%s", ids[i]);
		disk->path = paths[i];
		disk->queues = 1;
	}
}

static void create(void)
{
	struct error err;

	ck_assert_msg(machine_devices_create(&devices, &config, &map, &memory, loop, &err) == 0,
		"%s", err.text);
}

static void quiet(void *owner)
{
	*(bool *)owner = true;
}

static void save(struct state_writer *out)
{
	struct error err;
	bool done = false;

	machine_devices_quiesce(&devices, quiet, &done);
	ck_assert(done); /* nobody drives them */
	state_begin(out);
	machine_devices_save(&devices, out);
	ck_assert_int_eq(state_finish(out, &err), 0);
	machine_devices_unquiesce(&devices);
}

static int place(const struct state_writer *saved, struct error *err)
{
	struct machine_devices_state list;
	struct state_reader in;
	int ret;

	ck_assert_int_eq(state_open(&in, saved->bytes, saved->size, err), 0);
	ret = machine_devices_read(&in, &list, err);
	if (ret == 0)
		ret = machine_devices_place(&config, &list, err);
	state_close(&in);
	return ret;
}

static int load(const struct state_writer *saved, struct error *err)
{
	struct state_reader in;
	int ret;

	ck_assert_int_eq(state_open(&in, saved->bytes, saved->size, err), 0);
	ret = machine_devices_load(&devices, &in, err);
	if (ret == 0)
		ret = state_all_taken(&in, err);
	state_close(&in);
	return ret;
}

static unsigned slot_of(const char *id)
{
	struct virtio_pci *vp = machine_devices_find(&devices, VIRTIO_ID_BLOCK, id);

	ck_assert_ptr_nonnull(vp);
	return virtio_pci_function(vp)->slot;
}

/* As after years of plugging: in any slot, in another order than the configuration's. */
static void save_scattered(struct state_writer *out)
{
	configure((const char *[]){"a", "b", "c", NULL});
	config.disks[0].slot = 9;
	config.disks[1].slot = 2;
	create();
	ck_assert_uint_eq(slot_of("c"), 1);
	save(out);
	machine_devices_destroy(&devices);
}

START_TEST(devices_go_where_the_guest_knows_them)
{
	struct state_writer saved, again;
	struct error err;

	save_scattered(&saved);
	configure((const char *[]){"c", "a", "b", NULL});
	ck_assert_int_eq(place(&saved, &err), 0);
	create();
	ck_assert_uint_eq(slot_of("a"), 9);
	ck_assert_uint_eq(slot_of("b"), 2);
	ck_assert_uint_eq(slot_of("c"), 1);
	ck_assert_msg(load(&saved, &err) == 0, "%s", err.text);
	machine_devices_unquiesce(&devices);
	save(&again);
	ck_assert_uint_eq(saved.size, again.size);
	machine_devices_destroy(&devices);
	state_release(&saved);
	state_release(&again);
}
END_TEST

static void expect_place_refused(
	const struct state_writer *saved, const char *const *ids, const char *words)
{
	struct error err;

	configure(ids);
	ck_assert_int_lt(place(saved, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	ck_assert_msg(strstr(err.text, words), "%s", err.text);
}

START_TEST(a_machine_with_other_devices_is_refused_by_their_names)
{
	struct state_writer saved;

	save_scattered(&saved);
	expect_place_refused(&saved, (const char *[]){"a", "b", NULL}, "state has the disk 'c'");
	expect_place_refused(
		&saved, (const char *[]){"a", "b", "x", NULL}, "state has the disk 'c'");
	expect_place_refused(
		&saved, (const char *[]){"a", "b", "c", "d", NULL}, "to have the disk 'd'");
	state_release(&saved);
}
END_TEST

static void expect_load_refused(const struct state_writer *saved, const char *words)
{
	struct error err;

	create();
	ck_assert_int_lt(load(saved, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	ck_assert_msg(strstr(err.text, words), "%s", err.text);
	for (unsigned i = 0; i < devices.count; i++)
		ck_assert(!virtio_pci_device(devices.virtio[i])->quiet);
	machine_devices_destroy(&devices);
}

/* The last of them does not fit: the others have not changed. */
START_TEST(all_devices_take_a_state_or_none)
{
	struct state_writer saved;
	struct error err;

	save_scattered(&saved);
	configure((const char *[]){"a", "b", NULL});
	config.disks[0].slot = 9;
	config.disks[1].slot = 2;
	expect_load_refused(&saved, "state has the disk 'c', which the VM does not have");
	configure((const char *[]){"a", "b", "c", "d", NULL});
	config.disks[0].slot = 9;
	config.disks[1].slot = 2;
	expect_load_refused(&saved, "VM has the disk 'd', which the state does not have");
	configure((const char *[]){"a", "b", "c", NULL});
	expect_load_refused(&saved, "disk 'a' in slot 9, and it is in slot 1");
	configure((const char *[]){"a", "b", "c", NULL});
	ck_assert_int_eq(place(&saved, &err), 0);
	ck_assert_int_eq(ftruncate(files[2], KIB(512)), 0);
	expect_load_refused(&saved, "virtio-blk 'c': the guest's disk has 1048576 bytes");
	state_release(&saved);
}
END_TEST

START_TEST(a_list_that_puts_two_devices_in_one_slot_is_no_list)
{
	struct machine_devices_state list = {
		.count = 2, .devices = {{VIRTIO_ID_BLOCK, 3, "a"}, {VIRTIO_ID_BLOCK, 3, "b"}}};
	struct error err;

	ck_assert_int_lt(machine_devices_list_table.check(&list, &err), 0);
	list.devices[1].slot = 0; /* the bridge's */
	ck_assert_int_lt(machine_devices_list_table.check(&list, &err), 0);
	list.devices[1].slot = 4;
	ck_assert_int_eq(machine_devices_list_table.check(&list, &err), 0);
}
END_TEST

static struct error failure;
static unsigned told;

static void flushed(void *owner, const struct error *err)
{
	(void)owner;
	told++;
	if (err)
		failure = *err;
	loop_stop(loop);
}

START_TEST(all_disks_are_flushed_at_once)
{
	struct error err;

	configure((const char *[]){"a", "b", "c", NULL});
	create();
	machine_devices_flush(&devices, flushed, NULL);
	ck_assert_uint_eq(told, 0);
	ck_assert_int_eq(loop_run(loop, &err), 0);
	ck_assert_uint_eq(told, 1);
	ck_assert_str_eq(failure.text, "");
	machine_devices_destroy(&devices);
	configure((const char *[]){NULL});
	create();
	machine_devices_flush(&devices, flushed, NULL);
	ck_assert_uint_eq(told, 2);
	machine_devices_destroy(&devices);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("devices_state");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, devices_go_where_the_guest_knows_them);
	tcase_add_test(tc, a_machine_with_other_devices_is_refused_by_their_names);
	tcase_add_test(tc, all_devices_take_a_state_or_none);
	tcase_add_test(tc, a_list_that_puts_two_devices_in_one_slot_is_no_list);
	tcase_add_test(tc, all_disks_are_flushed_at_once);
	return run_tests("devices_state", tc, NULL);
}
