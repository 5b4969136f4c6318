/* SPDX-License-Identifier: Apache-2.0 */
/* gdb's packets and numbers, whole, torn and hostile; and the registers' table, whose description and places must agree. */
#include "tests/unit/runner.h"
#include "vmm/arch/gdb.h"
#include "vmm/base/util.h"
#include "vmm/gdb/packet.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

static struct gdb_packet packet;

static void setup(void)
{
	packet = (struct gdb_packet){0};
}

/* What the last byte made of it. */
static enum gdb_input feed(const char *bytes, size_t size)
{
	enum gdb_input last = GDB_INPUT_NONE;

	for (size_t i = 0; i < size; i++) {
		ck_assert_int_eq(last, GDB_INPUT_NONE);
		last = gdb_packet_take(&packet, (uint8_t)bytes[i]);
	}
	return last;
}

static enum gdb_input feed_text(const char *text)
{
	return feed(text, strlen(text));
}

START_TEST(a_packet_is_taken_whole)
{
	ck_assert_int_eq(feed_text("+$m10,4#2e"), GDB_INPUT_PACKET);
	ck_assert_uint_eq(packet.size, 5);
	ck_assert_str_eq(packet.data, "m10,4");
	ck_assert_int_eq(feed_text("$#00"), GDB_INPUT_PACKET);
	ck_assert_uint_eq(packet.size, 0);
	ck_assert_str_eq(packet.data, "");
}
END_TEST

START_TEST(a_wrong_sum_or_none_is_said)
{
	ck_assert_int_eq(feed_text("$g#68"), GDB_INPUT_BAD_SUM);
	ck_assert_int_eq(feed_text("$g#6x"), GDB_INPUT_BAD_SUM);
	ck_assert_int_eq(feed_text("$g##7"), GDB_INPUT_BAD_SUM);
	ck_assert_int_eq(feed_text("$g#67"), GDB_INPUT_PACKET);
}
END_TEST

START_TEST(a_packet_that_begins_within_another_counts)
{
	ck_assert_int_eq(feed_text("$m1234$g#67"), GDB_INPUT_PACKET);
	ck_assert_str_eq(packet.data, "g");
}
END_TEST

START_TEST(every_byte_survives_escaping)
{
	char data[512], made[GDB_PACKET_MADE(sizeof(data))];
	size_t size;

	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (char)i;
	size = gdb_packet_make(data, sizeof(data), made);
	ck_assert_uint_le(size, sizeof(made));
	ck_assert_int_eq(feed(made, size), GDB_INPUT_PACKET);
	ck_assert_uint_eq(packet.size, sizeof(data));
	ck_assert_mem_eq(packet.data, data, sizeof(data));
	memset(data, '#', sizeof(data));
	ck_assert_uint_eq(gdb_packet_make(data, sizeof(data), made), sizeof(made));
}
END_TEST

START_TEST(what_comes_between_packets_is_told_apart)
{
	ck_assert_int_eq(feed_text("+++ junk #00 \x03"), GDB_INPUT_INTERRUPT);
	ck_assert_int_eq(feed_text("-"), GDB_INPUT_RESEND);
	/* within a packet they are data */
	ck_assert_int_eq(feed_text("$X-\x03#b8"), GDB_INPUT_BAD_SUM);
	ck_assert_int_eq(feed_text("$X-\x03#88"), GDB_INPUT_PACKET);
}
END_TEST

START_TEST(a_packet_is_as_long_as_we_said_and_no_longer)
{
	gdb_packet_take(&packet, '$');
	for (unsigned i = 0; i < GDB_PACKET_MAX; i++)
		ck_assert_int_eq(gdb_packet_take(&packet, i & 1 ? 'a' : 0), GDB_INPUT_NONE);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(gdb_packet_take(&packet, 'b'), GDB_INPUT_TOO_LONG);
	ck_assert_int_eq(gdb_packet_take(&packet, '}'), GDB_INPUT_NONE);
	ck_assert_int_eq(gdb_packet_take(&packet, 'b'), GDB_INPUT_TOO_LONG);
	ck_assert_uint_eq(packet.size, GDB_PACKET_MAX);
}
END_TEST

START_TEST(numbers_have_an_end)
{
	static const struct {
		const char *text;
		bool good;
		uint64_t value;
		char next;
	} cases[] = {
		{"0,", true, 0, ','},
		{"1aF:", true, 0x1af, ':'},
		{"ffffffffffffffff", true, UINT64_MAX, 0},
		{"00000000000000001", false, 0, 0},
		{"", false, 0, 0},
		{"-1", false, 0, 0},
		{"g", false, 0, 0},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *at = cases[i].text;
		uint64_t value;

		ck_assert_int_eq(gdb_take_number(&at, &value), cases[i].good);
		if (!cases[i].good)
			continue;
		ck_assert_uint_eq(value, cases[i].value);
		ck_assert_int_eq(*at, cases[i].next);
	}
}
END_TEST

START_TEST(threads_are_numbers_or_all)
{
	const char *at = "-1";
	uint64_t thread;

	ck_assert(gdb_take_thread(&at, &thread) && thread == 0 && !*at);
	at = "0";
	ck_assert(gdb_take_thread(&at, &thread) && thread == 0);
	at = "1f";
	ck_assert(gdb_take_thread(&at, &thread) && thread == 0x1f);
	at = "-2";
	ck_assert(!gdb_take_thread(&at, &thread));
	at = "p1.1";
	ck_assert(!gdb_take_thread(&at, &thread));
}
END_TEST

START_TEST(hexadecimal_goes_there_and_back)
{
	uint8_t bytes[256], back[256];
	char text[512];

	for (unsigned i = 0; i < 256; i++)
		bytes[i] = (uint8_t)i;
	ck_assert_uint_eq(gdb_to_hex(bytes, sizeof(bytes), text), sizeof(text));
	ck_assert(gdb_from_hex(text, back, sizeof(back)));
	ck_assert_mem_eq(bytes, back, sizeof(back));
	ck_assert(!gdb_from_hex("0g", back, 1));
	ck_assert(!gdb_from_hex("0", back, 1)); /* its NUL is no digit */
	ck_assert(gdb_from_hex("", back, 0));
}
END_TEST

/* gdb numbers registers in the order in which the description has them. */
START_TEST(every_register_described_has_its_place)
{
	char *text = arch_gdb_describe();
	size_t offset, size, end = 0;
	unsigned number = 0;

	ck_assert_ptr_nonnull(text);
	for (const char *at = text; (at = strstr(at, "<reg ")); at++, number++) {
		char name[16];
		unsigned bits;

		ck_assert_int_eq(
			sscanf(at, "<reg name=\"%15[a-z0-9_]\" bitsize=\"%u\"", name, &bits), 2);
		ck_assert(arch_gdb_register(number, &offset, &size));
		ck_assert_uint_eq(offset, end);
		ck_assert_uint_eq(size, bits / 8);
		end = offset + size;
		if (!strcmp(name, "rip"))
			ck_assert_uint_eq(number, 16); /* where gdb's own table of x86_64 has it */
	}
	ck_assert_uint_eq(end, arch_gdb_registers_size());
	ck_assert_uint_le(end, ARCH_GDB_REGISTERS_MAX);
	ck_assert(!arch_gdb_register(number, &offset, &size));
	free(text);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("gdb");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, a_packet_is_taken_whole);
	tcase_add_test(tc, a_wrong_sum_or_none_is_said);
	tcase_add_test(tc, a_packet_that_begins_within_another_counts);
	tcase_add_test(tc, every_byte_survives_escaping);
	tcase_add_test(tc, what_comes_between_packets_is_told_apart);
	tcase_add_test(tc, a_packet_is_as_long_as_we_said_and_no_longer);
	tcase_add_test(tc, numbers_have_an_end);
	tcase_add_test(tc, threads_are_numbers_or_all);
	tcase_add_test(tc, hexadecimal_goes_there_and_back);
	tcase_add_test(tc, every_register_described_has_its_place);
	return run_tests("gdb", tc, NULL);
}
