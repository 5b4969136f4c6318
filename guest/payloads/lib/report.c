/* SPDX-License-Identifier: Apache-2.0 */
/* See report.h. */
#include "guest/payloads/lib/report.h"

#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/serial.h"
#include "guest/payloads/lib/string.h"

#define SLEEP_CONTROL 0x600 /* ACPI 6.4 §4.8.3.7 */
#define SLEEP_OFF     (5 << 2 | 0x20)

const char *report_name = "boot";

void power_off(void)
{
	for (;;)
		port_out(SLEEP_CONTROL, 1, SLEEP_OFF);
}

static void print_args(const char *before, const char *fmt, va_list args)
{
	char line[320];
	size_t n = format(line, sizeof(line) - 1, "%s", before);

	n += format_args(line + n, sizeof(line) - 1 - n, fmt, args);
	line[n++] = '\n';
	serial_write(line, n);
}

void print(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	print_args("", fmt, args);
	va_end(args);
}

void fail(const char *fmt, ...)
{
	char before[80];
	va_list args;

	format(before, sizeof(before), "FAIL %s: ", report_name);
	va_start(args, fmt);
	print_args(before, fmt, args);
	va_end(args);
	power_off();
}

void pass(void)
{
	print("PASS %s", report_name);
	power_off();
}

void report_exception(unsigned vector, uint64_t rip, uint64_t error, uint64_t cr2)
{
	print("FAIL: exception %u at %lx (error %lx, cr2 %lx) in %s", vector, rip, error, cr2,
		report_name);
	power_off();
}
