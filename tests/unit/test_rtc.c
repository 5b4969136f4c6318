/* SPDX-License-Identifier: Apache-2.0 */
/* The clock: it shows the host's time, whatever the guest writes, and its busy bit comes and goes. */
#include "devices/rtc.h"
#include "tests/unit/runner.h"
#include "vmm/base/util.h"

#include <check.h>

static struct rtc rtc;
static struct timespec fake;

static void fake_now(struct timespec *now)
{
	*now = fake;
}

static void setup(void)
{
	rtc_init(&rtc);
	rtc.now = fake_now;
	fake = (struct timespec){0};
}

static void teardown(void)
{
	rtc_destroy(&rtc);
}

static uint8_t get(uint8_t index)
{
	rtc_bus_ops.write(&rtc, 0, 1, index);
	return (uint8_t)rtc_bus_ops.read(&rtc, 1, 1);
}

static void set(uint8_t index, uint8_t value)
{
	rtc_bus_ops.write(&rtc, 0, 1, index);
	rtc_bus_ops.write(&rtc, 1, 1, value);
}

static int from_bcd(uint8_t value)
{
	ck_assert_uint_le(value >> 4, 9);
	ck_assert_uint_le(value & 15, 9);
	return (value >> 4) * 10 + (value & 15);
}

static void expect_time(time_t seconds)
{
	struct tm tm;

	fake.tv_sec = seconds;
	gmtime_r(&seconds, &tm);
	ck_assert_int_eq(from_bcd(get(0x00)), tm.tm_sec);
	ck_assert_int_eq(from_bcd(get(0x02)), tm.tm_min);
	ck_assert_int_eq(from_bcd(get(0x04)), tm.tm_hour);
	ck_assert_int_eq(from_bcd(get(0x06)), tm.tm_wday + 1);
	ck_assert_int_eq(from_bcd(get(0x07)), tm.tm_mday);
	ck_assert_int_eq(from_bcd(get(0x08)), tm.tm_mon + 1);
	ck_assert_int_eq(from_bcd(get(0x09)), tm.tm_year % 100);
	ck_assert_int_eq(from_bcd(get(0x32)), (tm.tm_year + 1900) / 100);
}

START_TEST(every_date_is_the_one_that_libc_gives)
{
	static const time_t turns[] = {0, 951782399, 951782400, 951868800, 4107542399, 4107542400,
		1709164800, 1709251199, 1709251200, 1735689599, 1735689600, 2147483648};

	for (unsigned i = 0; i < ARRAY_SIZE(turns); i++)
		expect_time(turns[i]);
	/* Some 60,000 moments from 1970 to 2370: steps of 2.4 days and a bit hit every hour and day. */
	for (time_t t = 0; t < 12622780800; t += 210337)
		expect_time(t);
}
END_TEST

START_TEST(what_the_guest_writes_does_not_move_the_clock)
{
	expect_time(1700000000);
	set(0x0b, 0x86); /* SET, binary, 24 h, as drivers do before they set the time */
	for (uint8_t i = 0; i < 10; i++)
		set(i, 0x11);
	set(0x32, 0x19);
	ck_assert_uint_eq(get(0x0b), 0x02); /* still BCD, 24 h, running, no interrupt enabled */
	expect_time(1700000000);
}
END_TEST

START_TEST(the_busy_bit_is_set_at_the_end_of_a_second_and_only_there)
{
	fake.tv_nsec = 0;
	ck_assert_uint_eq(get(0x0a), 0x26);
	fake.tv_nsec = 999755999;
	ck_assert_uint_eq(get(0x0a), 0x26);
	fake.tv_nsec = 999756000;
	ck_assert_uint_eq(get(0x0a), 0xa6);
	fake.tv_nsec = 0;
	set(0x0a, 0xff); /* the bit is not the guest's to set */
	ck_assert_uint_eq(get(0x0a), 0x7f);
}
END_TEST

START_TEST(nvram_keeps_the_guests_bytes_also_over_a_reset)
{
	for (unsigned i = 0x0e; i < RTC_BYTES; i++)
		set((uint8_t)i, (uint8_t)(i * 7));
	rtc_reset(&rtc);
	for (unsigned i = 0x0e; i < RTC_BYTES; i++)
		if (i != 0x32)
			ck_assert_uint_eq(get((uint8_t)(i | 0x80)), (uint8_t)(i * 7));
	ck_assert_uint_eq(get(0x0d), 0x80); /* the battery is good, and the low bits are 0 */
	ck_assert_uint_eq(get(0x0c), 0);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("rtc");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, every_date_is_the_one_that_libc_gives);
	tcase_add_test(tc, what_the_guest_writes_does_not_move_the_clock);
	tcase_add_test(tc, the_busy_bit_is_set_at_the_end_of_a_second_and_only_there);
	tcase_add_test(tc, nvram_keeps_the_guests_bytes_also_over_a_reset);
	return run_tests("rtc", tc, NULL);
}
