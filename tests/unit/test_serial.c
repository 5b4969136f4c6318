/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UART: Linux's probing finds a sound 16550A, no byte is lost or out of order in either
 * direction, no interrupt is lost on an edge-triggered pin, and every buffer has its bound.
 */
#include "devices/serial.h"
#include "tests/unit/runner.h"
#include "vmm/base/util.h"

#include <check.h>
#include <string.h>
#include <sys/eventfd.h>

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

static struct serial serial;
static unsigned output_calls, room_calls;

static void count_output(void *owner)
{
	(void)owner;
	output_calls++;
}

static void count_room(void *owner)
{
	(void)owner;
	room_calls++;
}

static void setup(void)
{
	const struct serial_host host = {.output = count_output, .room = count_room};
	struct irq_line irq = {.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
	struct error err;

	ck_assert_int_eq(serial_init(&serial, irq, &err), 0);
	serial_connect(&serial, &host);
	output_calls = room_calls = 0;
}

static void teardown(void)
{
	close(serial.irq.fd);
	serial_destroy(&serial);
}

static uint8_t in(unsigned reg)
{
	return (uint8_t)serial_bus_ops.read(&serial, reg, 1);
}

static void out(unsigned reg, uint8_t value)
{
	serial_bus_ops.write(&serial, reg, 1, value);
}

static bool edge(void)
{
	uint64_t count;

	return read(serial.irq.fd, &count, sizeof(count)) == sizeof(count);
}

/* The guest opens the port: FIFO on with trigger level 8, RTS and DTR up. */
static void open_port(uint8_t ier)
{
	out(FCR, 0x81);
	out(MCR, 0x0b);
	out(IER, ier);
}

/* The order and the conditions of Linux 6.1's autoconfig(), drivers/tty/serial/8250/8250_port.c. */
START_TEST(linux_probing_finds_a_16550a_without_bugs)
{
	out(IER, 0x00);
	ck_assert_uint_eq(in(IER), 0x00);
	out(IER, 0x0f);
	ck_assert_uint_eq(in(IER), 0x0f);
	out(IER, 0x00);
	out(MCR, 0x1a); /* loop-back, OUT2, RTS: read back as DCD and CTS */
	ck_assert_uint_eq(in(MSR)&0xf0, 0x90);
	out(MCR, 0x00);
	out(FCR, 0x01);
	ck_assert_uint_eq(in(IIR) >> 6, 3);
	out(LCR, 0x80); /* no 16C950, 16650 or 16654: the EFR's place does not read 0 */
	ck_assert_uint_ne(in(IIR), 0);
	out(LCR, 0xbf);
	ck_assert_uint_ne(in(IIR), 0);
	out(LCR, 0x00);
	out(FCR, 0x21); /* no 16750 */
	ck_assert_uint_eq(in(IIR) >> 5, 6);
	out(IER, 0x40); /* no XScale */
	ck_assert_uint_eq(in(IER), 0x00);
	/* serial8250_THRE_test(): the interrupt comes again when enabled again. */
	out(IER, 0x02);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x02);
	out(IER, 0x00);
	out(IER, 0x02);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x02);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x01);
	out(IER, 0x00);
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(in(MSR)&0xb0, 0xb0);
}
END_TEST

START_TEST(registers_keep_what_drivers_read_back)
{
	out(SCR, 0x5a);
	out(LCR, 0x83);
	out(DATA, 0x34);
	out(IER, 0x12);
	ck_assert_uint_eq(in(DATA), 0x34);
	ck_assert_uint_eq(in(IER), 0x12);
	out(LCR, 0x03);
	ck_assert_uint_eq(in(IER), 0x00);
	ck_assert_uint_eq(in(SCR), 0x5a);
	ck_assert_uint_eq(in(LCR), 0x03);
	serial_reset(&serial);
	ck_assert_uint_eq(in(SCR), 0);
	ck_assert_uint_eq(in(IIR), 0x01);
}
END_TEST

START_TEST(loop_back_holds_a_fifo_and_then_overruns)
{
	uint8_t byte = 1;

	out(FCR, 0x01);
	out(MCR, 0x12);
	ck_assert_uint_eq(serial_offer(&serial, "x", 1), 0); /* the wires are cut */
	for (unsigned i = 0; i < SERIAL_FIFO; i++)
		out(DATA, (uint8_t)(i + 100));
	ck_assert_uint_eq(in(LSR), 0x61);
	out(DATA, 99);
	out(IER, 0x04);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x06);
	ck_assert_uint_eq(in(LSR), 0x63);
	ck_assert_uint_eq(in(LSR), 0x61);
	for (unsigned i = 0; i < SERIAL_FIFO; i++)
		ck_assert_uint_eq(in(DATA), i + 100);
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(serial_take(&serial, &byte, 1), 0);
	out(MCR, 0x10); /* RTS falls: clear-to-send changes */
	out(IER, 0x08);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x00);
	ck_assert_uint_eq(in(MSR)&0x01, 0x01);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x01);
}
END_TEST

START_TEST(received_data_below_the_trigger_level_is_a_time_out)
{
	open_port(0x01);
	ck_assert_uint_eq(serial_offer(&serial, "1234567", 7), 7);
	ck_assert(edge());
	ck_assert_uint_eq(in(IIR), 0xcc);
	ck_assert_uint_eq(serial_offer(&serial, "8", 1), 1);
	ck_assert_uint_eq(in(IIR), 0xc4);
	for (unsigned i = 0; i < 8; i++)
		ck_assert_uint_eq(in(DATA), '1' + i);
	ck_assert_uint_eq(in(IIR), 0xc1);
}
END_TEST

START_TEST(input_waits_for_room_and_for_a_guest_that_listens)
{
	uint8_t bytes[40];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	ck_assert_uint_eq(serial_offer(&serial, bytes, 40), 0);
	out(FCR, 0x07); /* what Linux's start-up does; it must not eat input */
	ck_assert_uint_eq(room_calls, 0);
	open_port(0x01);
	ck_assert_uint_eq(room_calls, 1);
	ck_assert_uint_eq(serial_offer(&serial, bytes, 40), SERIAL_FIFO);
	ck_assert_uint_eq(serial_offer(&serial, bytes + SERIAL_FIFO, 24), 0);
	for (unsigned i = 0; i < SERIAL_FIFO; i++) {
		ck_assert_uint_eq(room_calls, 1);
		ck_assert_uint_eq(in(DATA), i);
	}
	ck_assert_uint_eq(room_calls, 2);
	ck_assert_uint_eq(serial_offer(&serial, bytes + SERIAL_FIFO, 5), 5);
	out(DATA, 0);
	for (unsigned i = 0; i < 5; i++)
		ck_assert_uint_eq(in(DATA), SERIAL_FIFO + i);
	ck_assert_uint_eq(room_calls, 2); /* nothing was refused: nothing to tell */
}
END_TEST

START_TEST(a_slow_reader_stalls_the_transmitter_and_loses_nothing)
{
	static uint8_t taken[SERIAL_OUTPUT_SIZE];
	uint32_t written = 0;

	open_port(0x00);
	while (in(LSR)&0x20)
		out(DATA, (uint8_t)(written++ * 31));
	ck_assert_uint_eq(written, SERIAL_OUTPUT_HIGH);
	out(IER, 0x02);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x01); /* the interrupt waits too */
	while (written < SERIAL_OUTPUT_SIZE)   /* a driver that does not wait */
		out(DATA, (uint8_t)(written++ * 31));
	ck_assert_uint_eq(serial.dropped, 0);
	out(DATA, 0);
	ck_assert_uint_eq(serial.dropped, 1);
	ck_assert_uint_eq(output_calls, 1);
	ck_assert(!edge());
	ck_assert_uint_eq(serial_take(&serial, taken, SERIAL_OUTPUT_SIZE - SERIAL_OUTPUT_LOW - 1),
		SERIAL_OUTPUT_SIZE - SERIAL_OUTPUT_LOW - 1);
	ck_assert_uint_eq(in(LSR)&0x60, 0x00);
	ck_assert_uint_eq(
		serial_take(&serial, taken + SERIAL_OUTPUT_SIZE - SERIAL_OUTPUT_LOW - 1, 1), 1);
	ck_assert(edge());
	ck_assert_uint_eq(in(LSR)&0x60, 0x60);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x02);
	serial_take(&serial, taken + SERIAL_OUTPUT_SIZE - SERIAL_OUTPUT_LOW, SERIAL_OUTPUT_LOW);
	for (uint32_t i = 0; i < SERIAL_OUTPUT_SIZE; i++)
		if (taken[i] != (uint8_t)(i * 31))
			ck_abort_msg("byte %u is wrong", i);
	out(DATA, 1);
	ck_assert_uint_eq(output_calls, 2); /* told again, now that it had been empty */
}
END_TEST

START_TEST(without_a_reader_output_never_stalls)
{
	open_port(0x00);
	while (in(LSR)&0x20)
		out(DATA, 'x');
	serial_set_discard(&serial, true);
	for (unsigned i = 0; i < 3 * SERIAL_OUTPUT_SIZE; i++) {
		ck_assert_uint_eq(in(LSR)&0x60, 0x60);
		out(DATA, 'x');
	}
	serial_set_discard(&serial, false);
	out(DATA, 'y');
	ck_assert_uint_eq(serial_take(&serial, &(uint8_t){0}, 2), 1);
}
END_TEST

/*
 * A guest that does nothing but answer edges, in one of three ways, against a host that sends and
 * takes random amounts at random times. If one edge were lost, it would stand still.
 */
enum style { DRAINS_ALL_CAUSES, ONE_CAUSE_AN_EDGE, ONE_BYTE_AN_EDGE };

struct exchange {
	enum style style;
	unsigned seed;
	uint32_t to_send, sent, received; /* the guest's */
	uint32_t offered, taken;	  /* the host's */
};

#define EXCHANGE 60000

static unsigned dice(struct exchange *x, unsigned below)
{
	x->seed = x->seed * 1103515245u + 12345u;
	return (x->seed >> 16) % below;
}

static uint8_t stream(uint32_t i, uint32_t salt)
{
	return (uint8_t)((i * 2654435761u + salt) >> 13);
}

static void guest_receive(struct exchange *x)
{
	unsigned most = x->style == ONE_BYTE_AN_EDGE ? 1 : 256;

	while (most-- && (in(LSR)&0x01))
		if (in(DATA) != stream(x->received++, 1))
			ck_abort_msg("the guest's byte %u is wrong", x->received - 1);
}

static void guest_send(struct exchange *x)
{
	for (unsigned i = 0; i < SERIAL_FIFO && x->sent < x->to_send; i++)
		out(DATA, stream(x->sent++, 2));
}

static void guest_interrupt(struct exchange *x)
{
	for (;;) {
		uint8_t iir = in(IIR)&0x0f;

		if (iir == 0x01)
			return;
		if (iir == 0x04 || iir == 0x0c)
			guest_receive(x);
		else if (iir == 0x02)
			guest_send(x);
		else
			ck_abort_msg("cause %x was never enabled", iir);
		if (x->style != DRAINS_ALL_CAUSES)
			return;
	}
}

static void host_send(struct exchange *x)
{
	uint8_t bytes[64];
	uint32_t count = (uint32_t)min_u64(1 + dice(x, sizeof(bytes)), EXCHANGE - x->offered);

	for (uint32_t i = 0; i < count; i++)
		bytes[i] = stream(x->offered + i, 1);
	x->offered += (uint32_t)serial_offer(&serial, bytes, count);
}

static void host_take(struct exchange *x)
{
	static uint8_t bytes[40000];
	size_t count = serial_take(&serial, bytes, 1 + dice(x, sizeof(bytes)));

	for (size_t i = 0; i < count; i++)
		if (bytes[i] != stream(x->taken++, 2))
			ck_abort_msg("the host's byte %u is wrong", x->taken - 1);
}

static void run_exchange(enum style style, unsigned seed)
{
	struct exchange x = {.style = style, .seed = seed, .to_send = EXCHANGE};
	unsigned idle = 0;

	open_port(0x03);
	while (x.received < EXCHANGE || x.taken < EXCHANGE) {
		uint32_t before = x.received + x.taken + x.sent;

		switch (dice(&x, 8)) {
		case 0:
			host_send(&x);
			break;
		case 1:
			if (dice(&x, 200) == 0)
				host_take(&x);
			break;
		case 2: /* more to send comes up: drivers switch the interrupt off and on */
			if (dice(&x, 50) == 0) {
				out(IER, 0x01);
				out(IER, 0x03);
			}
			break;
		default:
			if (edge())
				guest_interrupt(&x);
		}
		idle = x.received + x.taken + x.sent == before ? idle + 1 : 0;
		ck_assert_msg(idle < 100000,
			"nothing moves: sent %u taken %u offered %u received %u", x.sent, x.taken,
			x.offered, x.received);
	}
	ck_assert_uint_eq(serial.dropped, 0);
}

START_TEST(a_guest_driven_by_edges_alone_loses_no_byte_and_no_interrupt)
{
	run_exchange((enum style)(_i % 3), 17u + (unsigned)_i);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("serial");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, linux_probing_finds_a_16550a_without_bugs);
	tcase_add_test(tc, registers_keep_what_drivers_read_back);
	tcase_add_test(tc, loop_back_holds_a_fifo_and_then_overruns);
	tcase_add_test(tc, received_data_below_the_trigger_level_is_a_time_out);
	tcase_add_test(tc, input_waits_for_room_and_for_a_guest_that_listens);
	tcase_add_test(tc, a_slow_reader_stalls_the_transmitter_and_loses_nothing);
	tcase_add_test(tc, without_a_reader_output_never_stalls);
	tcase_add_loop_test(tc, a_guest_driven_by_edges_alone_loses_no_byte_and_no_interrupt, 0, 6);
	return run_tests("serial", tc, NULL);
}
