/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a test says on the serial port, and its end:
 *   PASS name
 *   FAIL name: why
 *   FAIL: exception N at RIP ...
 * Each is followed by power-off. Other lines are notes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

extern const char *report_name; /* of the test that runs */

void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void pass(void);
_Noreturn void power_off(void);
_Noreturn void report_exception(unsigned vector, uint64_t rip, uint64_t error, uint64_t cr2);

#define check(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail(__VA_ARGS__);                                                         \
	} while (0)
