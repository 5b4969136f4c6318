/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses of a clone's guest: what is an address, and what its agent is told. */
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/machine/clone_address.h"
#include "vmm/machine/config.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

static struct machine_config config = {.net_count = 2, .nets = {{.id = "net0"}, {.id = "back"}}};
static struct error err;

/* The texts are only read. */
static struct clone_address make(const char *net, const char *address, const char *gateway)
{
	struct clone_address one = {
		.address = (char *)(uintptr_t)address, .gateway = (char *)(uintptr_t)gateway};

	snprintf(one.net, sizeof(one.net), "%s", net);
	return one;
}

static int check_one(const char *net, const char *address, const char *gateway)
{
	struct clone_address one = make(net, address, gateway);

	return clone_addresses_check(&one, 1, &config, &err);
}

START_TEST(addresses_of_both_families_with_a_prefix_are_taken)
{
	ck_assert_int_eq(check_one("net0", "10.0.0.7/24", NULL), 0);
	ck_assert_int_eq(check_one("back", "0.0.0.0/0", "255.255.255.255"), 0);
	ck_assert_int_eq(check_one("net0", "fd00::7/128", "fe80::1"), 0);
	ck_assert_int_eq(check_one("net0", "0:0:0:0:0:ffff:255.255.255.255/96", NULL), 0);
}
END_TEST

START_TEST(what_is_no_address_or_of_no_network_is_refused)
{
	static const char *const wrong[] = {"", "/", "/24", "10.0.0.7", "10.0.0.7/", "10.0.0.7/33",
		"10.0.0.7/-1", "10.0.0.7/ 4", "10.0.0.7/24x", "10.0.0.7/0024", "fd00::7/129",
		"fd00::7/18446744073709551620", "10.0.0/24", " 10.0.0.7/24", "host/24",
		"1111:1111:1111:1111:1111:1111:1111:1111:1111:1111/64"};

	const struct clone_address two[] = {
		make("net0", "10.0.0.7/24", "10.0.0.1"), make("net0", "fd00::7/64", "fd00::1")};

	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
		ck_assert_msg(check_one("net0", wrong[i], NULL) < 0, "'%s' was taken", wrong[i]);
	ck_assert_int_lt(check_one("net0", "10.0.0.7/24", "10.0.0.1/24"), 0);
	ck_assert_int_lt(check_one("net0", "10.0.0.7/24", ""), 0);
	ck_assert_int_lt(clone_addresses_check(two, 2, &config, &err), 0);
	ck_assert(strstr(err.text, "has one already"));
	ck_assert_int_lt(check_one("net1", "10.0.0.7/24", NULL), 0);
	ck_assert(strstr(err.text, "no network 'net1'"));
}
END_TEST

START_TEST(an_interface_is_told_all_of_its_addresses_and_no_others)
{
	struct clone_address all[] = {make("net0", "10.0.0.7/24", "10.0.0.1"),
		make("back", "10.1.0.7/24", NULL), make("net0", "fd00::7/64", NULL)};
	json_t *told = json_object();
	char *text;

	ck_assert(clone_addresses_describe(all, 3, "net0", told));
	text = json_dumps(told, JSON_COMPACT | JSON_SORT_KEYS);
	ck_assert_str_eq(
		text, "{\"addresses\":[\"10.0.0.7/24\",\"fd00::7/64\"],\"gateway\":\"10.0.0.1\"}");
	free(text);
	json_object_clear(told);
	ck_assert(!clone_addresses_describe(all, 3, "net2", told));
	ck_assert_uint_eq(json_object_size(told), 0);
	json_decref(told);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("clone address");

	tcase_add_test(tc, addresses_of_both_families_with_a_prefix_are_taken);
	tcase_add_test(tc, what_is_no_address_or_of_no_network_is_refused);
	tcase_add_test(tc, an_interface_is_told_all_of_its_addresses_and_no_others);
	return run_tests("clone_address", tc, NULL);
}
