/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of the platform's devices: each takes any state that its table allows and gives the same again; a file that was
 * damaged leaves it as it was; and no interrupt is on its way when the state has been saved.
 */
#include "tests/unit/kvm_guest.h"
#include "tests/unit/runner.h"
#include "tests/unit/state_random.h"
#include "vmm/arch/x86_64/platform.h"
#include "vmm/base/util.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define ROUNDS 300

static uint64_t seed = 88172645463325252;
static struct error err;
static struct guest_memory memory;
static struct arch_platform *platform;
static struct bus ports, mmio;
static struct pci_host pci;

#define DO(call)    ck_assert_msg((call) >= 0, #call ": %s", err.text)
#define IOCTL(call) ck_assert_msg((call) >= 0, #call ": %s", strerror(errno))

/* The console's end of the serial port. */
static unsigned told;

static void note_output(void *owner)
{
	(void)owner;
	told++;
}

static void setup(void)
{
	const struct arch_platform_config config = {.memory = &memory};
	const struct serial_host host = {.output = note_output};

	memory = kvm_guest_memory();
	DO(arch_platform_create(&config, &platform, &err));
	memset(&ports, 0, sizeof(ports));
	memset(&mmio, 0, sizeof(mmio));
	arch_platform_add(platform, &ports, &mmio, &pci);
	serial_connect(&platform->serial, &host);
	DO(arch_platform_place(platform, &err));
	told = 0;
}

static void teardown(void)
{
	arch_platform_destroy(platform);
	guest_memory_destroy(&memory);
}

/* ---- each device ---- */

/* A device with its functions, whatever its types are. */
struct kind {
	const struct state_table *table;
	void *device;
	int (*load)(void *device, const void *state);
	void (*save)(void *device, void *state);
};

#define KIND(name)                                                                                 \
	static int load_##name(void *device, const void *state)                                    \
	{                                                                                          \
		return name##_load(device, state, &err);                                           \
	}                                                                                          \
	static void save_##name(void *device, void *state)                                         \
	{                                                                                          \
		name##_save(device, state);                                                        \
	}
KIND(serial)
KIND(rtc)
KIND(power)
KIND(hotplug_slots)
KIND(pci_hotplug)
KIND(legacy)
KIND(pci_ports)
KIND(vmgenid)

#define USE(name, member)                                                                          \
	(struct kind)                                                                              \
	{                                                                                          \
		&name##_state_table, &platform->member, load_##name, save_##name                   \
	}
#define KINDS 9

static void all_kinds(struct kind kinds[static KINDS])
{
	kinds[0] = USE(serial, serial);
	kinds[1] = USE(rtc, rtc);
	kinds[2] = USE(power, power);
	kinds[3] = USE(hotplug_slots, cpus);
	kinds[4] = USE(hotplug_slots, memory);
	kinds[5] = USE(pci_hotplug, hotplug);
	kinds[6] = USE(legacy, legacy);
	kinds[7] = USE(pci_ports, pci_ports);
	kinds[8] = USE(vmgenid, vmgenid);
}

/* Any state, but for what must be this machine's. */
static void make_up(const struct kind *kind, void *state)
{
	state_random(kind->table, state, &seed);
	if (kind->table == &vmgenid_state_table)
		((struct vmgenid_state *)state)->gpa = platform->vmgenid.gpa;
	if (kind->table == &hotplug_slots_state_table)
		memcpy(((struct hotplug_slots_state *)state)->area,
			((struct hotplug_slots *)kind->device)->area, 3 * sizeof(uint64_t));
}

static struct state_writer file_of(const struct kind *kind)
{
	struct state_writer file;
	void *state = calloc(1, kind->table->size);

	kind->save(kind->device, state);
	file = state_file(kind->table, "x", state);
	free(state);
	return file;
}

/* From the file into the device. */
static int read_file(const struct kind *kind, const struct state_writer *file)
{
	void *state = calloc(1, kind->table->size);
	struct state_reader in;
	int ret = state_open(&in, file->bytes, file->size, &err);

	if (ret == 0) {
		ret = state_load(&in, kind->table, "x", state, &err);
		if (ret == 0)
			ret = kind->load(kind->device, state);
		state_close(&in);
	}
	free(state);
	return ret;
}

static bool same(const struct state_writer *a, const struct state_writer *b)
{
	return a->size == b->size && !memcmp(a->bytes, b->bytes, a->size);
}

START_TEST(each_device_gives_again_what_it_took)
{
	struct kind kinds[KINDS];

	all_kinds(kinds);
	for (unsigned i = 0; i < KINDS; i++) {
		void *state = malloc(kinds[i].table->size);

		for (unsigned round = 0; round < ROUNDS; round++) {
			struct state_writer first, second;

			make_up(&kinds[i], state);
			first = state_file(kinds[i].table, "x", state);
			ck_assert_msg(read_file(&kinds[i], &first) == 0, "%s", err.text);
			second = file_of(&kinds[i]);
			ck_assert_msg(
				same(&first, &second), "%s, round %u", kinds[i].table->name, round);
			state_release(&first);
			state_release(&second);
		}
		free(state);
	}
}
END_TEST

START_TEST(a_damaged_file_changes_nothing_or_is_a_state)
{
	struct kind kinds[KINDS];
	unsigned refused = 0;

	all_kinds(kinds);
	for (unsigned i = 0; i < KINDS; i++) {
		for (unsigned round = 0; round < ROUNDS * 4; round++) {
			struct state_writer before = file_of(&kinds[i]), damaged, after;

			damaged = file_of(&kinds[i]);
			state_damage(&damaged, &seed);
			if (read_file(&kinds[i], &damaged) < 0) {
				after = file_of(&kinds[i]);
				ck_assert_msg(same(&before, &after), "%s: %s", kinds[i].table->name,
					err.text);
				ck_assert_msg(
					err.kind == ERROR_CORRUPT || err.kind == ERROR_INCOMPATIBLE,
					"%s", err.text);
				state_release(&after);
				refused++;
			}
			state_release(&before);
			state_release(&damaged);
		}
	}
	ck_assert_uint_gt(refused, KINDS * ROUNDS);
}
END_TEST

START_TEST(the_platform_as_a_whole_gives_again_what_it_took)
{
	struct state_writer first, second;
	struct state_reader in;
	struct kind kinds[KINDS];

	all_kinds(kinds);
	for (unsigned i = 0; i < KINDS; i++) {
		void *state = malloc(kinds[i].table->size);

		make_up(&kinds[i], state);
		DO(kinds[i].load(kinds[i].device, state));
		free(state);
	}
	state_begin(&first);
	DO(arch_platform_save(platform, &first, &err));
	DO(state_finish(&first, &err));
	teardown();
	setup();
	platform->vmgenid.id[0] ^= 1;
	DO(state_open(&in, first.bytes, first.size, &err));
	DO(arch_platform_load(platform, &in, &err));
	DO(state_all_taken(&in, &err));
	state_close(&in);
	state_begin(&second);
	DO(arch_platform_save(platform, &second, &err));
	DO(state_finish(&second, &err));
	ck_assert(same(&first, &second));
	state_release(&first);
	state_release(&second);
}
END_TEST

/* ---- single promises ---- */

START_TEST(the_console_is_told_of_output_that_waits)
{
	struct serial_state *state = calloc(1, sizeof(*state));
	char text[16];

	state->output_size = 5;
	memcpy(state->output, "login", 5);
	DO(serial_load(&platform->serial, state, &err));
	ck_assert_uint_eq(told, 1);
	ck_assert_uint_eq(serial_take(&platform->serial, text, sizeof(text)), 5);
	ck_assert_mem_eq(text, "login", 5);
	free(state);
}
END_TEST

START_TEST(a_guest_that_waits_for_the_console_goes_on_where_nobody_listens)
{
	struct serial_state *state = calloc(1, sizeof(*state));

	state->output_size = SERIAL_OUTPUT_HIGH;
	state->stalled = true;
	state->regs.thr_pending = true;
	state->regs.ier = 2; /* the transmitter's interrupt is awaited */
	serial_connect(&platform->serial, NULL);
	DO(serial_load(&platform->serial, state, &err));
	ck_assert(!platform->serial.stalled);
	ck_assert_uint_eq(serial_bus_ops.read(&platform->serial, 5, 1) & 0x60, 0x60);
	ck_assert(platform->serial.line && platform->serial.edge_sent);
	free(state);
}
END_TEST

START_TEST(another_place_for_memory_or_the_generation_id_is_refused_in_words)
{
	struct hotplug_slots_state slots;
	struct vmgenid_state id;

	hotplug_slots_save(&platform->memory, &slots);
	slots.area[1] = MIB(128);
	ck_assert_int_lt(hotplug_slots_load(&platform->memory, &slots, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	ck_assert_ptr_nonnull(strstr(err.text, "memory can grow"));
	vmgenid_save(&platform->vmgenid, &id);
	id.gpa += 4096;
	ck_assert_int_lt(vmgenid_load(&platform->vmgenid, &id, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	ck_assert_ptr_nonnull(strstr(err.text, "generation id"));
}
END_TEST

/* ---- with interrupt controllers ---- */

static struct kvm_guest guest;
static int kvm_fd = -1;

#define VECTOR 0x39

/* The event device's pin leads to VECTOR of vCPU 0. */
static void open_pin(void)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct kvm_lapic_state lapic;
	uint32_t on = 0x1ff;

	IOCTL(ioctl(guest.vcpus.vcpus[0]->fd, KVM_GET_LAPIC, &lapic));
	memcpy(lapic.regs + 0xf0, &on, 4);
	memset(lapic.regs + 0x200, 0, 0x80);
	IOCTL(ioctl(guest.vcpus.vcpus[0]->fd, KVM_SET_LAPIC, &lapic));
	IOCTL(ioctl(guest.vm.fd, KVM_GET_IRQCHIP, &chip));
	chip.chip.ioapic.redirtbl[platform->map.event_gsi].bits = VECTOR;
	IOCTL(ioctl(guest.vm.fd, KVM_SET_IRQCHIP, &chip));
}

static bool arrived(void)
{
	struct kvm_lapic_state lapic;
	uint32_t irr;

	IOCTL(ioctl(guest.vcpus.vcpus[0]->fd, KVM_GET_LAPIC, &lapic));
	memcpy(&irr, lapic.regs + 0x200 + VECTOR / 32 * 16, 4);
	return irr >> VECTOR % 32 & 1;
}

static void make_vm(void)
{
	setup();
	kvm_guest_make(&guest, kvm_fd, &memory, 1, NULL, NULL);
	DO(arch_platform_connect(platform, &guest.vm, &err));
	DO(arch_platform_place(platform, &err));
}

static void end_vm(void)
{
	arch_platform_disconnect(platform, &guest.vm);
	kvm_guest_end(&guest);
	teardown();
}

START_TEST(an_edge_that_was_raised_has_arrived_when_the_state_is_saved)
{
	for (unsigned i = 0; i < 200; i++) {
		struct state_writer out;

		open_pin();
		ck_assert(!arrived());
		arch_platform_press_power_button(platform);
		state_begin(&out);
		DO(arch_platform_save(platform, &out, &err));
		ck_assert(arrived());
		state_release(&out);
	}
}
END_TEST

START_TEST(a_clone_has_another_generation_id_and_is_told_before_it_runs)
{
	uint8_t before[16], after[16];

	open_pin();
	ck_assert(guest_memory_read(&memory, platform->map.vmgenid_gpa, before, 16));
	DO(arch_platform_new_generation(platform, &err));
	ck_assert(guest_memory_read(&memory, platform->map.vmgenid_gpa, after, 16));
	ck_assert_mem_ne(before, after, 16);
	ck_assert_uint_eq(atomic_load(&platform->power.pending), POWER_EVENT_VMGENID);
	ck_assert(arrived());
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("platform_state"), *kvm = tcase_create("with KVM");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 50);
	tcase_add_test(tc, each_device_gives_again_what_it_took);
	tcase_add_test(tc, a_damaged_file_changes_nothing_or_is_a_state);
	tcase_add_test(tc, the_platform_as_a_whole_gives_again_what_it_took);
	tcase_add_test(tc, the_console_is_told_of_output_that_waits);
	tcase_add_test(tc, a_guest_that_waits_for_the_console_goes_on_where_nobody_listens);
	tcase_add_test(tc, another_place_for_memory_or_the_generation_id_is_refused_in_words);
	kvm_fd = kvm_guest_open();
	tcase_add_checked_fixture(kvm, make_vm, end_vm);
	if (kvm_fd >= 0) {
		tcase_add_test(kvm, an_edge_that_was_raised_has_arrived_when_the_state_is_saved);
		tcase_add_test(kvm, a_clone_has_another_generation_id_and_is_told_before_it_runs);
	}
	return run_tests("platform_state", tc, kvm, NULL);
}
