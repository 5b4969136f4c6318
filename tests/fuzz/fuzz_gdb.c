/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile debugger: any bytes on its socket, with vCPUs that trap in between. The input is a little program of packets, raw
 * bytes, traps, crashes and resets on the guest of tests/unit/gdb_guest.h. What must hold: what is sent is packets; pauses pair; the
 * guest stands exactly while the debugger does not wait; and when the debugger has gone the guest runs, nothing traps any
 * more, and memory that it did not write is as it was.
 */
#include "tests/fuzz/input.h"
#include "tests/unit/gdb_guest.h"
#include "vmm/base/log.h"

#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A vCPU that runs traps; one that another stop overtook may do so while the guest stands. */
static void trap(struct input *in)
{
	unsigned index = (unsigned)take(in, 1) % GDB_GUEST_VCPUS;
	struct arch_gdb_trap trap = {.why = (int)(take(in, 1) % 4),
		.pc = take(in, 3),
		.slot = (unsigned)take(in, 1) % 3};

	gdb_guest_traps(index, &trap);
}

static void reset(struct gdb *gdb)
{
	if (!gdb->attached)
		return;
	gdb_state_changed(&gdb->observer, MACHINE_RESETTING, MACHINE_EXIT_FAILED);
	BUG_ON(!gdb_guest.pauses || gdb->breakpoint_count);
	for (unsigned i = 0; i < GDB_GUEST_VCPUS; i++)
		gdb_guest.vcpus[i].held = gdb_guest.vcpus[i].trapped = false;
	gdb_state_changed(&gdb->observer, MACHINE_RUNNING, MACHINE_EXIT_FAILED);
}

static void feed_packet(struct gdb *gdb, struct input *in)
{
	static const char *const heads[] = {"", "m", "M", "X", "g", "G", "p", "P", "Z0,", "z0,",
		"Z1,", "Z2,", "z2,", "vCont;c", "vCont;s:", "vCont",
		"qXfer:features:read:target.xml:", "H", "T", "s", "c", "qThreadExtraInfo,",
		"qfThreadInfo", "qSupported:"};
	const char *head = heads[take(in, 1) % ARRAY_SIZE(heads)];
	char data[300], made[GDB_PACKET_MADE(sizeof(data))];
	size_t size = strlen(head), more = take(in, 1);

	memcpy(data, head, size);
	for (; more && in->left; more--)
		data[size++] = (char)take(in, 1);
	size = gdb_packet_make(data, size, made);
	gdb_guest_feed(gdb, made, size);
}

static void check_sent(int fd)
{
	static struct gdb_packet packet;
	uint8_t bytes[4096];
	ssize_t n;

	while ((n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		for (ssize_t i = 0; i < n; i++) {
			enum gdb_input got = gdb_packet_take(&packet, bytes[i]);

			BUG_ON(got != GDB_INPUT_NONE && got != GDB_INPUT_PACKET);
			BUG_ON(got == GDB_INPUT_NONE && packet.state == GDB_BETWEEN);
		}
	BUG_ON(packet.state != GDB_BETWEEN);
}

static void step(struct gdb *gdb, struct input *in)
{
	char byte;

	switch (take(in, 1) % 4) {
	case 0:
		trap(in);
		break;
	case 1:
		byte = (char)take(in, 1);
		gdb_guest_feed(gdb, &byte, 1);
		break;
	case 2:
		feed_packet(gdb, in);
		break;
	default:
		byte = (char)take(in, 1);
		if (byte == 0)
			reset(gdb);
		else if (byte == 1)
			gdb_guest.debugger->crashed(gdb_guest.debugger);
		else
			gdb_interrupt(gdb);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t zeros[GDB_GUEST_RAM];
	static struct gdb gdb;
	struct input in = {data, size};
	bool wrote = false;
	int fd = gdb_guest_start(&gdb);

	while (in.left && gdb.attached) {
		step(&gdb, &in);
		wrote |= gdb.in.data[0] == 'M' || gdb.in.data[0] == 'X';
		BUG_ON(gdb.attached && gdb.guest == GDB_ALIVE &&
			gdb.running == (gdb_guest.pauses > 0));
		check_sent(fd);
	}
	gdb_guest_end(&gdb);
	BUG_ON(!wrote && memcmp(gdb_guest.memory.regions[0].host, zeros, GDB_GUEST_RAM));
	close(fd);
	return 0;
}
