/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MC146818 real-time clock (Motorola MC146818A data sheet, "Address map" and "Registers").
 *
 * There is no clock in here: each read of a time register works the answer out from the host's
 * clock, in BCD and 24-hour form. A missing or silent one costs a Linux guest a second and 40,000
 * exits (mach_get_cmos_time() asks until it gets an answer). What the guest writes to the time
 * registers goes nowhere: the host keeps the time, and a guest that is saved and restored finds it
 * right. Register B says so: SET, the interrupt enables and the other formats read back as zero.
 *
 * The update-in-progress bit is true in the last 244 µs of each second, as the data sheet promises
 * before the registers change. It comes from the clock, so it can neither stick nor never come.
 *
 * gmtime_r() is not used: its first call reads the zone file, on a vCPU thread, under a syscall filter.
 */
#include "devices/rtc.h"

#include "vmm/base/util.h"

#include <string.h>

enum {
	REG_SECONDS = 0x00,
	REG_MINUTES = 0x02,
	REG_HOURS = 0x04,
	REG_WEEKDAY = 0x06, /* 1 is Sunday */
	REG_DAY = 0x07,
	REG_MONTH = 0x08,
	REG_YEAR = 0x09,
	REG_A = 0x0a,
	REG_B = 0x0b,
	REG_C = 0x0c,
	REG_D = 0x0d,
	REG_CENTURY = 0x32, /* where FADT's CENTURY field points */
};

#define A_UIP	   0x80
#define A_DEFAULT  0x26 /* 32.768 kHz time base, 1024 Hz rate: what PC firmware leaves */
#define B_24H	   0x02
#define D_VRT	   0x80 /* valid RAM and time: the battery is good */
#define UIP_NS	   244000
#define NS_PER_SEC 1000000000

struct date {
	unsigned second, minute, hour, weekday, day, month, year;
};

static void host_now(struct timespec *now)
{
	clock_gettime(CLOCK_REALTIME, now);
}

/*
 * Seconds since 1970 to a Gregorian date. Years are counted from March, so that the leap day is the
 * last of its year, and in blocks of 400 years, which all have the same number of days.
 */
static struct date date_from_seconds(int64_t seconds)
{
	int64_t days = seconds / 86400 - (seconds % 86400 < 0);
	unsigned in_day = (unsigned)(seconds - days * 86400);
	int64_t since = days + 719468; /* from 0000-03-01 */
	int64_t block = since / 146097 - (since % 146097 < 0);
	unsigned in_block = (unsigned)(since - block * 146097);
	unsigned leap_days = in_block / 1460 - in_block / 36524 + in_block / 146096;
	unsigned year = (in_block - leap_days) / 365;
	unsigned in_year = in_block - (365 * year + year / 4 - year / 100);
	unsigned march_month = (5 * in_year + 2) / 153;

	return (struct date){
		.second = in_day % 60,
		.minute = in_day / 60 % 60,
		.hour = in_day / 3600,
		.weekday = (unsigned)((days % 7 + 11) % 7), /* 1970-01-01 was a Thursday: 4 */
		.day = in_year - (153 * march_month + 2) / 5 + 1,
		.month = march_month < 10 ? march_month + 3 : march_month - 9,
		.year = (unsigned)(block * 400 + year + (march_month >= 10)),
	};
}

static uint8_t bcd(unsigned value)
{
	return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

static uint8_t read_time(const struct rtc *rtc, unsigned index)
{
	struct timespec now;
	struct date date;

	rtc->now(&now);
	date = date_from_seconds(now.tv_sec);
	switch (index) {
	case REG_SECONDS:
		return bcd(date.second);
	case REG_MINUTES:
		return bcd(date.minute);
	case REG_HOURS:
		return bcd(date.hour);
	case REG_WEEKDAY:
		return bcd(date.weekday + 1);
	case REG_DAY:
		return bcd(date.day);
	case REG_MONTH:
		return bcd(date.month);
	case REG_YEAR:
		return bcd(date.year % 100);
	default:
		return bcd(date.year / 100);
	}
}

static uint8_t read_register(const struct rtc *rtc, unsigned index)
{
	struct timespec now;

	switch (index) {
	case REG_SECONDS:
	case REG_MINUTES:
	case REG_HOURS:
	case REG_WEEKDAY:
	case REG_DAY:
	case REG_MONTH:
	case REG_YEAR:
	case REG_CENTURY:
		return read_time(rtc, index);
	case REG_A:
		rtc->now(&now);
		return rtc->nvram[REG_A] | (now.tv_nsec >= NS_PER_SEC - UIP_NS ? A_UIP : 0);
	case REG_B:
		return B_24H;
	case REG_C:
		return 0; /* no interrupt has happened */
	case REG_D:
		return D_VRT;
	default:
		return rtc->nvram[index];
	}
}

static uint64_t rtc_read(void *device, uint64_t offset, unsigned size)
{
	struct rtc *rtc = device;
	uint8_t value = 0xff; /* the index cannot be read back */

	(void)size;
	if (offset == 1) {
		pthread_mutex_lock(&rtc->lock);
		value = read_register(rtc, rtc->index);
		pthread_mutex_unlock(&rtc->lock);
	}
	return value;
}

static void rtc_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct rtc *rtc = device;

	pthread_mutex_lock(&rtc->lock);
	if (offset == 0) {
		rtc->index = value & 0x7f; /* bit 7 masks NMIs, of which there are none */
		if (size == 2)		   /* outw: the data follows the index */
			rtc->nvram[rtc->index] = (uint8_t)(value >> 8);
	} else {
		rtc->nvram[rtc->index] = (uint8_t)value;
	}
	rtc->nvram[REG_A] &= (uint8_t)~A_UIP;
	pthread_mutex_unlock(&rtc->lock);
}

const struct bus_ops rtc_bus_ops = {.read = rtc_read, .write = rtc_write};

void rtc_init(struct rtc *rtc)
{
	memset(rtc, 0, sizeof(*rtc));
	pthread_mutex_init(&rtc->lock, NULL);
	rtc->now = host_now;
	rtc_reset(rtc);
}

void rtc_reset(struct rtc *rtc)
{
	pthread_mutex_lock(&rtc->lock);
	rtc->index = 0;
	rtc->nvram[REG_A] = A_DEFAULT;
	pthread_mutex_unlock(&rtc->lock);
}

void rtc_destroy(struct rtc *rtc)
{
	pthread_mutex_destroy(&rtc->lock);
}

static int check(const void *thing, struct error *err)
{
	const struct rtc_state *state = thing;

	if (state->nvram[REG_A] & A_UIP)
		return error_set(err, ERROR_CORRUPT, "the clock's register A cannot be 0x%x",
			state->nvram[REG_A]);
	return 0;
}

static const struct state_field fields[] = {
	STATE_UINT(struct rtc_state, index, .max = RTC_BYTES - 1),
	STATE_BYTES(struct rtc_state, nvram),
};

const struct state_table rtc_state_table =
	STATE_TABLE("rtc", 1, struct rtc_state, fields, .check = check);

void rtc_save(struct rtc *rtc, struct rtc_state *state)
{
	pthread_mutex_lock(&rtc->lock);
	state->index = rtc->index;
	memcpy(state->nvram, rtc->nvram, sizeof(state->nvram));
	pthread_mutex_unlock(&rtc->lock);
}

int rtc_load(struct rtc *rtc, const struct rtc_state *state, struct error *err)
{
	(void)err;
	pthread_mutex_lock(&rtc->lock);
	rtc->index = state->index;
	memcpy(rtc->nvram, state->nvram, sizeof(rtc->nvram));
	pthread_mutex_unlock(&rtc->lock);
	return 0;
}
