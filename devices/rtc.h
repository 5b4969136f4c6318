/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real-time clock: an MC146818 on ports 0x70 (index) and 0x71 (data), read-only in effect: it
 * shows the host's clock in UTC, and what the guest sets does not change it. No interrupts.
 *
 * Wiring: rtc_init(), bus_add(ports, RTC_BASE, RTC_PORTS, &rtc_bus_ops, rtc).
 */
#pragma once

#include "devices/bus.h"
#include "vmm/state/state.h"

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#define RTC_BASE  0x70
#define RTC_PORTS 2
#define RTC_BYTES 128

struct rtc {
	pthread_mutex_t lock;
	uint8_t index;
	uint8_t nvram
		[RTC_BYTES]; /* from 0x0e on: the guest's own bytes; below: registers A and B */
	void (*now)(struct timespec *now); /* the host's clock; tests put their own here */
};

extern const struct bus_ops rtc_bus_ops;

void rtc_init(struct rtc *rtc);
void rtc_reset(
	struct rtc *rtc); /* index and registers; NVRAM keeps its bytes, as a battery would */
void rtc_destroy(struct rtc *rtc);

/* The time is not in it: it is the host's. */
struct rtc_state {
	uint8_t index;
	uint8_t nvram[RTC_BYTES];
};

extern const struct state_table rtc_state_table;

void rtc_save(struct rtc *rtc, struct rtc_state *state);
int rtc_load(struct rtc *rtc, const struct rtc_state *state, struct error *err);
