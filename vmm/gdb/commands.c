/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a debugger may ask (GDB manual §E.2 "Packets", §E.4 "General Query Packets"): one table. What is not in it is answered by
 * an empty packet, which says so; what is not well formed or cannot be done by E and a number.
 */
#include "vmm/gdb/gdb_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void ok(struct gdb *gdb)
{
	gdb_send(gdb, "OK", 2);
}

static void fail(struct gdb *gdb, int errnum)
{
	gdb_sendf(gdb, "E%02x", errnum & 0xff);
}

/* The end of a request that did what was asked, or could not. */
static void answer(struct gdb *gdb, int ret)
{
	if (ret == -ENOTSUP)
		gdb_send(gdb, "", 0);
	else if (ret < 0)
		fail(gdb, -ret);
	else
		ok(gdb);
}

/* ---- what we are ---- */

static void serve_supported(struct gdb *gdb, const char *args)
{
	gdb->names_reasons = strstr(args, "swbreak+") && strstr(args, "hwbreak+");
	gdb_sendf(gdb,
		"PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+;hwbreak+",
		GDB_PACKET_MAX);
}

static void serve_no_acks(struct gdb *gdb, const char *args)
{
	(void)args;
	ok(gdb);
	gdb->acks = false;
}

/* annex:offset,length; the description is ours, so only the numbers need care. */
static void serve_features(struct gdb *gdb, const char *args)
{
	_cleanup_free_ char *text = NULL;
	uint64_t offset, length;
	size_t size;

	if (strncmp(args, "target.xml:", 11) != 0) {
		fail(gdb, 0);
		return;
	}
	args += 11;
	if (!gdb_take_number(&args, &offset) || !gdb_take_byte(&args, ',') ||
		!gdb_take_number(&args, &length) || *args) {
		fail(gdb, EINVAL);
		return;
	}
	text = arch_gdb_describe();
	if (!text) {
		fail(gdb, ENOMEM);
		return;
	}
	size = strlen(text);
	offset = min_u64(offset, size);
	length = min_u64(
		min_u64(length, size - offset), sizeof(gdb->reply) / 2); /* escaped it still fits */
	gdb->reply[0] = offset + length < size ? 'm' : 'l';
	memcpy(gdb->reply + 1, text + offset, length);
	gdb_send(gdb, gdb->reply, 1 + length);
}

static void serve_attached(struct gdb *gdb, const char *args)
{
	(void)args;
	gdb_send(gdb, "1", 1); /* it was there before: leaving it does not end it */
}

/* ---- threads ---- */

static void serve_first_threads(struct gdb *gdb, const char *args)
{
	char text[512];
	int n = 0;

	(void)args;
	for (unsigned i = 0; gdb_vcpu(gdb, i) && n >= 0 && n < (int)sizeof(text) - 8; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%c%x", i ? ',' : 'm', i + 1);
	gdb_send(gdb, n ? text : "l", n ? (size_t)n : 1);
}

static void serve_more_threads(struct gdb *gdb, const char *args)
{
	(void)args;
	gdb_send(gdb, "l", 1);
}

/* The vCPU of a thread id that names one. */
static struct vcpu *take_vcpu(struct gdb *gdb, const char *args, unsigned *index)
{
	uint64_t thread;

	if (!gdb_take_thread(&args, &thread) || *args || !thread || thread > VCPUS_MAX)
		return NULL;
	*index = (unsigned)thread - 1;
	return gdb_vcpu(gdb, *index);
}

static void serve_thread_info(struct gdb *gdb, const char *args)
{
	unsigned index;
	struct vcpu *vcpu = take_vcpu(gdb, args, &index);
	char text[64];

	if (!vcpu) {
		fail(gdb, EINVAL);
		return;
	}
	snprintf(text, sizeof(text), "vCPU %u, %s", index, arch_gdb_vcpu_state(vcpu));
	gdb_send(gdb, gdb->reply, gdb_to_hex(text, strlen(text), gdb->reply));
}

static void serve_current_thread(struct gdb *gdb, const char *args)
{
	(void)args;
	gdb_sendf(gdb, "QC%x", gdb->vcpu + 1);
}

static void serve_thread_alive(struct gdb *gdb, const char *args)
{
	unsigned index;

	answer(gdb, take_vcpu(gdb, args, &index) ? 0 : -ESRCH);
}

/* g: registers and memory are meant of this one; c: so is 's'. */
static void serve_choose(struct gdb *gdb, const char *args)
{
	unsigned *chosen = *args == 'g' ? &gdb->vcpu : *args == 'c' ? &gdb->vcpu_to_run : NULL;
	uint64_t thread;

	if (!chosen || (args++, !gdb_take_thread(&args, &thread)) || *args || thread > VCPUS_MAX ||
		(thread && !gdb_vcpu(gdb, (unsigned)thread - 1))) {
		fail(gdb, EINVAL);
		return;
	}
	if (thread)
		*chosen = (unsigned)thread - 1;
	ok(gdb);
}

/* ---- registers ---- */

static void serve_read_registers(struct gdb *gdb, const char *args)
{
	struct vcpu *vcpu = gdb_vcpu(gdb, gdb->vcpu);
	uint8_t bytes[ARCH_GDB_REGISTERS_MAX];
	int ret = vcpu && !*args ? arch_gdb_get_registers(vcpu, bytes) : -EINVAL;

	if (ret < 0)
		fail(gdb, -ret);
	else
		gdb_send(gdb, gdb->reply, gdb_to_hex(bytes, arch_gdb_registers_size(), gdb->reply));
}

static void serve_write_registers(struct gdb *gdb, const char *args)
{
	struct vcpu *vcpu = gdb_vcpu(gdb, gdb->vcpu);
	uint8_t bytes[ARCH_GDB_REGISTERS_MAX];
	size_t size = arch_gdb_registers_size();

	if (!vcpu || strlen(args) != 2 * size || !gdb_from_hex(args, bytes, size))
		fail(gdb, EINVAL);
	else
		answer(gdb, arch_gdb_set_registers(vcpu, bytes));
}

static bool take_register(const char **args, size_t *offset, size_t *size)
{
	uint64_t number;

	return gdb_take_number(args, &number) && number <= ARCH_GDB_REGISTERS_MAX &&
	       arch_gdb_register((unsigned)number, offset, size);
}

static void serve_read_register(struct gdb *gdb, const char *args)
{
	struct vcpu *vcpu = gdb_vcpu(gdb, gdb->vcpu);
	uint8_t bytes[ARCH_GDB_REGISTERS_MAX];
	size_t offset, size;
	int ret = -EINVAL;

	if (vcpu && take_register(&args, &offset, &size) && !*args)
		ret = arch_gdb_get_registers(vcpu, bytes);
	if (ret < 0)
		fail(gdb, -ret);
	else
		gdb_send(gdb, gdb->reply, gdb_to_hex(bytes + offset, size, gdb->reply));
}

static void serve_write_register(struct gdb *gdb, const char *args)
{
	struct vcpu *vcpu = gdb_vcpu(gdb, gdb->vcpu);
	uint8_t bytes[ARCH_GDB_REGISTERS_MAX];
	size_t offset, size;
	int ret = -EINVAL;

	if (vcpu && take_register(&args, &offset, &size) && gdb_take_byte(&args, '=') &&
		strlen(args) == 2 * size)
		ret = arch_gdb_get_registers(vcpu, bytes);
	if (ret == 0)
		ret = gdb_from_hex(args, bytes + offset, size) ? arch_gdb_set_registers(vcpu, bytes)
							       : -EINVAL;
	answer(gdb, ret);
}

/* ---- memory ---- */

static bool take_range(const char **args, uint64_t *address, uint64_t *length)
{
	return gdb_take_number(args, address) && gdb_take_byte(args, ',') &&
	       gdb_take_number(args, length);
}

static void serve_read_memory(struct gdb *gdb, const char *args)
{
	uint8_t bytes[GDB_PACKET_MAX / 2];
	uint64_t address, length;
	size_t n;

	if (!take_range(&args, &address, &length) || *args) {
		fail(gdb, EINVAL);
		return;
	}
	length = min_u64(length, sizeof(bytes)); /* fewer than asked for are an answer too */
	n = gdb_read_memory(gdb, address, bytes, length);
	if (n < length && !n)
		fail(gdb, EFAULT);
	else
		gdb_send(gdb, gdb->reply, gdb_to_hex(bytes, n, gdb->reply));
}

static void write_memory(struct gdb *gdb, uint64_t address, const uint8_t *bytes, size_t size)
{
	answer(gdb, gdb_write_memory(gdb, address, bytes, size) == size ? 0 : -EFAULT);
}

static void serve_write_memory(struct gdb *gdb, const char *args)
{
	uint8_t bytes[GDB_PACKET_MAX / 2];
	uint64_t address, length;

	if (!take_range(&args, &address, &length) || !gdb_take_byte(&args, ':') ||
		length > sizeof(bytes) || strlen(args) != 2 * length ||
		!gdb_from_hex(args, bytes, length))
		fail(gdb, EINVAL);
	else
		write_memory(gdb, address, bytes, length);
}

static void serve_write_binary(struct gdb *gdb, const char *args)
{
	uint64_t address, length;

	if (!take_range(&args, &address, &length) || !gdb_take_byte(&args, ':') ||
		length != gdb->in.size - (size_t)(args - gdb->in.data))
		fail(gdb, EINVAL);
	else
		write_memory(gdb, address, (const uint8_t *)args, length);
}

/* ---- breakpoints ---- */

static int change_trap(struct gdb *gdb, const char *args, bool insert)
{
	static const enum arch_gdb_kind kinds[] = {
		ARCH_GDB_UNUSED, ARCH_GDB_EXECUTE, ARCH_GDB_WRITE, ARCH_GDB_READ, ARCH_GDB_ACCESS};
	struct arch_gdb_slot slot;
	uint64_t type;

	if (!gdb_take_number(&args, &type) || !gdb_take_byte(&args, ',') ||
		!take_range(&args, &slot.address, &slot.length) || *args)
		return -EINVAL;
	if (type >= ARRAY_SIZE(kinds))
		return -ENOTSUP;
	slot.kind = kinds[type];
	if (slot.kind == ARCH_GDB_UNUSED)
		return insert ? gdb_insert_breakpoint(gdb, slot.address)
			      : gdb_remove_breakpoint(gdb, slot.address);
	return insert ? gdb_insert_slot(gdb, &slot) : gdb_remove_slot(gdb, &slot);
}

static void serve_insert(struct gdb *gdb, const char *args)
{
	answer(gdb, change_trap(gdb, args, true));
}

static void serve_remove(struct gdb *gdb, const char *args)
{
	answer(gdb, change_trap(gdb, args, false));
}

/* ---- running ---- */

static void serve_why_stopped(struct gdb *gdb, const char *args)
{
	(void)args;
	gdb_sendf(gdb, "T05thread:%x;", gdb->vcpu + 1);
}

static void serve_actions(struct gdb *gdb, const char *args)
{
	(void)args;
	gdb_sendf(gdb, "vCont;c;C;s;S");
}

/* c, s, and with a signal, for which a processor has no use: C09, S09. */
static bool take_action(const char **args, enum gdb_action *action)
{
	char what = **args;
	uint64_t signal;

	if (what != 'c' && what != 's' && what != 'C' && what != 'S')
		return false;
	++*args;
	*action = what == 's' || what == 'S' ? GDB_STEP : GDB_GO;
	return what == 'c' || what == 's' || gdb_take_number(args, &signal);
}

/* ";action[:thread]" over and over: a thread does the first that is for it, and stays where none is. */
static bool take_actions(const char *args, enum gdb_action *actions)
{
	bool given[VCPUS_MAX] = {false};

	while (gdb_take_byte(&args, ';')) {
		enum gdb_action action;
		uint64_t thread = 0;

		if (!take_action(&args, &action) ||
			(gdb_take_byte(&args, ':') &&
				(!gdb_take_thread(&args, &thread) || thread > VCPUS_MAX)))
			return false;
		for (unsigned i = 0; i < VCPUS_MAX; i++) {
			if (given[i] || (thread && thread != i + 1))
				continue;
			given[i] = true;
			actions[i] = action;
		}
	}
	return !*args;
}

static void serve_run_some(struct gdb *gdb, const char *args)
{
	enum gdb_action actions[VCPUS_MAX] = {GDB_STAY};

	if (*args != ';' || !take_actions(args, actions))
		fail(gdb, EINVAL);
	else
		gdb_run(gdb, actions);
}

static void run_all(struct gdb *gdb, const char *args, bool step)
{
	enum gdb_action actions[VCPUS_MAX];

	if (*args) { /* from another address: gdb writes the register instead */
		fail(gdb, EINVAL);
		return;
	}
	for (unsigned i = 0; i < VCPUS_MAX; i++)
		actions[i] = step && i == gdb->vcpu_to_run ? GDB_STEP : GDB_GO;
	gdb_run(gdb, actions);
}

static void serve_continue(struct gdb *gdb, const char *args)
{
	run_all(gdb, args, false);
}

static void serve_step(struct gdb *gdb, const char *args)
{
	run_all(gdb, args, true);
}

static void serve_detach(struct gdb *gdb, const char *args)
{
	(void)args;
	ok(gdb);
	gdb_let_client_go(gdb);
}

static void serve_kill(struct gdb *gdb, const char *args)
{
	(void)args;
	machine_request(gdb->machine, MACHINE_REQUEST_STOP);
	gdb_let_client_go(gdb);
}

/* ---- the table ---- */

static const struct command {
	const char *name;
	bool whole; /* the name ends there, or at a colon, comma or semicolon */
	void (*serve)(struct gdb *gdb, const char *args);
} commands[] = {
	{"qSupported", true, serve_supported},
	{"QStartNoAckMode", true, serve_no_acks},
	{"qXfer:features:read:", false, serve_features},
	{"qAttached", true, serve_attached},
	{"qfThreadInfo", true, serve_first_threads},
	{"qsThreadInfo", true, serve_more_threads},
	{"qThreadExtraInfo,", false, serve_thread_info},
	{"qC", true, serve_current_thread},
	{"vCont?", true, serve_actions},
	{"vCont", true, serve_run_some},
	{"T", false, serve_thread_alive},
	{"H", false, serve_choose},
	{"?", true, serve_why_stopped},
	{"g", false, serve_read_registers},
	{"G", false, serve_write_registers},
	{"p", false, serve_read_register},
	{"P", false, serve_write_register},
	{"m", false, serve_read_memory},
	{"M", false, serve_write_memory},
	{"X", false, serve_write_binary},
	{"Z", false, serve_insert},
	{"z", false, serve_remove},
	{"c", false, serve_continue},
	{"s", false, serve_step},
	{"D", false, serve_detach},
	{"k", false, serve_kill},
};

static bool is_command(const struct command *command, const char *packet)
{
	size_t length = strlen(command->name);

	return !strncmp(packet, command->name, length) &&
	       (!command->whole || !packet[length] || strchr(":,;", packet[length]));
}

void gdb_serve(struct gdb *gdb)
{
	const char *packet = gdb->in.data;

	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!is_command(&commands[i], packet))
			continue;
		/* vCPUs that run have no state to speak of; a client that keeps the rules waits. */
		if (gdb->running)
			fail(gdb, EBUSY);
		else
			commands[i].serve(gdb, packet + strlen(commands[i].name));
		return;
	}
	gdb_send(gdb, "", 0);
}
