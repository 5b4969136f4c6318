/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table: a line a VM, as many columns as the terminal is wide. Figures that are not known are "-". What a socket said
 * reaches the terminal only as far as it is a name's letters.
 */
#include "vmm/base/util.h"
#include "vmm/cli/top.h"

#include <ctype.h>
#include <string.h>

#define CELL	   32
#define NAME_WIDTH 20

struct column {
	const char *title;
	int width; /* negative: to the left */
	void (*cell)(const struct top_vm *vm, char *text);
};

static void put_word(char *text, const char *word)
{
	const char *end = text + CELL - 1;

	for (; text < end && *word; text++, word++)
		*text = isalnum((unsigned char)*word) || strchr("._-/", *word) ? *word : '?';
	*text = '\0';
}

static void put_none(char *text)
{
	put_word(text, "-");
}

/* Four digits at most, with a suffix for powers of 1024 or of 1000. */
static void put_scaled(char *text, double value, double step, const char *suffixes)
{
	unsigned power = 0;

	if (value < 0) {
		put_none(text);
		return;
	}
	while (value >= 999.5 && power < strlen(suffixes)) {
		value /= step;
		power++;
	}
	if (!power)
		snprintf(text, CELL, "%.0f", value);
	else
		snprintf(text, CELL, value < 9.995 ? "%.1f%c" : "%.0f%c", value,
			suffixes[power - 1]);
}

static void put_bytes(char *text, double value)
{
	put_scaled(text, value, 1024, "KMGTPE");
}

static void put_percent(char *text, double value)
{
	if (value < 0)
		put_none(text);
	else
		snprintf(text, CELL, value < 99.95 ? "%.1f" : "%.0f", value);
}

static double live_rate(const struct top_vm *vm, enum top_rate rate)
{
	return vm->state == TOP_LIVE ? top_rate(vm, rate) : -1;
}

/* ---- columns ---- */

/* A VM that has never answered has no name: the end of its path tells it from others. */
static void name_cell(const struct top_vm *vm, char *text)
{
	size_t len = strlen(vm->path);

	if (*vm->now.name)
		put_word(text, vm->now.name);
	else
		put_word(text, vm->path + (len > NAME_WIDTH ? len - NAME_WIDTH : 0));
}

static void state_cell(const struct top_vm *vm, char *text)
{
	static const char *const words[] = {[TOP_NEW] = "-",
		[TOP_SILENT] = "silent",
		[TOP_ENDED] = "ended",
		[TOP_ABSENT] = "absent"};

	put_word(text, vm->state == TOP_LIVE ? vm->now.state : words[vm->state]);
}

static void cpu_cell(const struct top_vm *vm, char *text)
{
	put_percent(text, live_rate(vm, TOP_CPU));
}

static void steal_cell(const struct top_vm *vm, char *text)
{
	put_percent(text, live_rate(vm, TOP_STEAL));
}

static void memory_cell(const struct top_vm *vm, char *text)
{
	put_bytes(text, vm->state == TOP_LIVE ? vm->now.memory : -1);
}

static void resident_cell(const struct top_vm *vm, char *text)
{
	put_bytes(text, vm->state == TOP_LIVE ? vm->now.resident : -1);
}

static void pressure_cell(const struct top_vm *vm, char *text)
{
	put_percent(text, vm->state == TOP_LIVE ? vm->pressure : -1);
}

static void exits_cell(const struct top_vm *vm, char *text)
{
	put_scaled(text, live_rate(vm, TOP_EXITS), 1000, "kMG");
}

static void read_cell(const struct top_vm *vm, char *text)
{
	put_bytes(text, live_rate(vm, TOP_DISK_READ));
}

static void written_cell(const struct top_vm *vm, char *text)
{
	put_bytes(text, live_rate(vm, TOP_DISK_WRITTEN));
}

static void in_cell(const struct top_vm *vm, char *text)
{
	put_bytes(text, live_rate(vm, TOP_NET_IN));
}

static void out_cell(const struct top_vm *vm, char *text)
{
	put_bytes(text, live_rate(vm, TOP_NET_OUT));
}

static void dirty_cell(const struct top_vm *vm, char *text)
{
	put_bytes(text, live_rate(vm, TOP_DIRTY));
}

static void agent_cell(const struct top_vm *vm, char *text)
{
	put_word(text, vm->state == TOP_LIVE && *vm->now.agent ? vm->now.agent : "-");
}

static const struct column columns[] = {
	{"NAME", -NAME_WIDTH, name_cell},
	{"STATE", -9, state_cell},
	{"CPU%", 6, cpu_cell},
	{"MEM", 6, memory_cell},
	{"RSS", 6, resident_cell},
	{"READ/s", 7, read_cell},
	{"WRITE/s", 7, written_cell},
	{"NET-IN/s", 8, in_cell},
	{"NET-OUT/s", 9, out_cell},
	{"DIRTY/s", 7, dirty_cell},
	{"EXITS/s", 7, exits_cell},
	{"STEAL%", 6, steal_cell},
	{"PRESS%", 6, pressure_cell},
	{"AGENT", -7, agent_cell},
};

/* How many columns fit: whole ones only, and always the first. */
static unsigned fitting(unsigned width)
{
	unsigned used = 0, n = 0;

	for (; n < ARRAY_SIZE(columns); n++) {
		used += (unsigned)abs(columns[n].width) + (n > 0);
		if (width && n && used > width)
			break;
	}
	return n;
}

static void print_cell(FILE *to, unsigned n, const char *text, bool last)
{
	const struct column *column = &columns[n];
	int most = abs(column->width);

	if (n)
		fputc(' ', to);
	if (last && column->width < 0)
		fprintf(to, "%.*s\n", most, text);
	else
		fprintf(to, "%*.*s%s", column->width, most, text, last ? "\n" : "");
}

void top_table_print(FILE *to, struct top_vm *const *vms, unsigned count, unsigned width)
{
	unsigned n = fitting(width);

	for (unsigned i = 0; i < n; i++)
		print_cell(to, i, columns[i].title, i + 1 == n);
	for (unsigned v = 0; v < count; v++) {
		for (unsigned i = 0; i < n; i++) {
			char text[CELL];

			columns[i].cell(vms[v], text);
			print_cell(to, i, text, i + 1 == n);
		}
	}
}
