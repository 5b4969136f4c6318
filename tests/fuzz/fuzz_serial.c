/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial port under arbitrary register accesses, interleaved with the far end's input, taking,
 * comings and goings. The input is a little program. Beside it runs a model of what must be true:
 * every buffer within its bound, output in the order of writing and none lost before the ring was full,
 * input in order where the guest never cleared its FIFO, and an edge whenever a cause appears.
 */
#include "devices/serial.h"
#include "tests/fuzz/input.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <string.h>
#include <sys/eventfd.h>

/* What was written and not taken yet; and which input byte the guest must see next. */
static struct {
	uint8_t sent[SERIAL_OUTPUT_SIZE];
	uint32_t head, tail;
	uint8_t offered, expected;
	bool input_in_order; /* nothing but the far end has filled the FIFO, nobody cleared it */
	bool told;	     /* the far end knows of waiting output */
	unsigned rooms;
} model;

static struct serial serial;

static void on_output(void *owner)
{
	(void)owner;
	model.told = true;
}

static void on_room(void *owner)
{
	(void)owner;
	model.rooms++;
}

static const struct serial_host host = {.output = on_output, .room = on_room};

static void write_register(uint8_t reg, uint8_t value)
{
	bool dlab = serial.regs.lcr & 0x80, loop = serial.regs.mcr & 0x10;
	uint64_t dropped = serial.dropped;

	serial_bus_ops.write(&serial, reg, 1, value);
	if (reg == 0 && !dlab && loop)
		model.input_in_order = false;
	if (reg == 2)
		model.input_in_order =
			model.input_in_order && (serial.regs.rx_count || !(value & 2));
	if (reg != 0 || dlab || loop || serial.discard)
		return;
	if (serial.dropped == dropped)
		model.sent[model.tail++ % SERIAL_OUTPUT_SIZE] = value;
	else
		BUG_ON(model.tail - model.head != SERIAL_OUTPUT_SIZE);
}

static void read_register(uint8_t reg)
{
	bool data = reg == 0 && !(serial.regs.lcr & 0x80) && serial.regs.rx_count;
	uint64_t value = serial_bus_ops.read(&serial, reg, 1);

	BUG_ON(value > 0xff);
	if (data && model.input_in_order)
		BUG_ON(value != model.expected++);
	if (reg == 2)
		BUG_ON((value & 0x0f) != 0x01 && !serial.regs.ier);
	if (reg == 5)
		BUG_ON(!(value & 0x20) != serial.stalled);
}

static void host_take(uint32_t size)
{
	static uint8_t bytes[SERIAL_OUTPUT_SIZE];
	size_t count = serial_take(&serial, bytes, size);

	BUG_ON(count > size);
	for (size_t i = 0; i < count; i++)
		BUG_ON(bytes[i] != model.sent[model.head++ % SERIAL_OUTPUT_SIZE]);
	if (model.head == model.tail)
		model.told = false;
}

static void host_offer(uint8_t size)
{
	uint8_t bytes[256];
	unsigned before = serial.regs.rx_count;
	size_t count;

	if (!before) { /* an empty FIFO: whatever happened before, order can be watched again */
		model.input_in_order = true;
		model.expected = model.offered;
	}
	for (unsigned i = 0; i < size; i++)
		bytes[i] = (uint8_t)(model.offered + i);
	count = serial_offer(&serial, bytes, size);
	BUG_ON(count > size || count > SERIAL_FIFO - before);
	model.offered = (uint8_t)(model.offered + count);
	BUG_ON(serial.starved != (count < size));
}

static void forget_output(void)
{
	model.head = model.tail;
	model.told = false;
}

static void far_end(struct input *in, uint8_t op)
{
	uint8_t arg = (uint8_t)take(in, 1);

	switch (op % 6) {
	case 0:
	case 1:
		host_offer(arg);
		break;
	case 2:
		host_take(arg);
		break;
	case 3:
		host_take((uint32_t)arg << 8);
		break;
	case 4:
		serial_set_discard(&serial, arg & 1);
		if (arg & 1)
			forget_output();
		break;
	default:
		serial_reset(&serial);
		model.input_in_order = false;
		break;
	}
}

/* Many writes at once: the only way to fill the ring with an input of reasonable length. */
static void burst(struct input *in)
{
	uint32_t count = (uint32_t)take(in, 1) * 64;

	for (uint32_t i = 0; i < count; i++)
		write_register(0, (uint8_t)i);
}

static void check(bool line_before)
{
	uint64_t edges = 0;
	bool edge = read(serial.irq.fd, &edges, sizeof(edges)) == sizeof(edges);
	uint32_t used = serial.ring_tail - serial.ring_head;

	BUG_ON(serial.regs.rx_count > SERIAL_FIFO || serial.regs.rx_head >= SERIAL_FIFO);
	BUG_ON(used > SERIAL_OUTPUT_SIZE || used != model.tail - model.head);
	BUG_ON(used && !model.told);
	BUG_ON(serial.stalled && used <= SERIAL_OUTPUT_LOW);
	BUG_ON(!serial.stalled && used >= SERIAL_OUTPUT_HIGH);
	BUG_ON(serial.line && !line_before && !edge);
	BUG_ON((serial.regs.mcr & ~0x1f) || (serial.regs.ier & ~0x0f));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct irq_line irq = {.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
	struct error err;

	memset(&model, 0, sizeof(model));
	BUG_ON(irq.fd < 0 || serial_init(&serial, irq, &err) < 0);
	serial_connect(&serial, &host);
	while (in.left) {
		uint8_t op = (uint8_t)take(&in, 1);
		bool line = serial.line;

		if (op < 0x60)
			write_register(op % SERIAL_PORTS, (uint8_t)take(&in, 1));
		else if (op < 0xc0)
			read_register(op % SERIAL_PORTS);
		else if (op < 0xd0)
			burst(&in);
		else
			far_end(&in, op);
		check(line);
	}
	serial_destroy(&serial);
	close(irq.fd);
	return 0;
}
