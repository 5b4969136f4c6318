/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM in the table: what its metrics say, and what its guest says of its memory.
 *
 * Calls of one connection are answered in order, and a guest may take long: so the guest is asked through a connection of
 * its own. Rates are taken over the VM's own uptime between two answers, so that neither a late answer nor a late turn of
 * ours falsifies them.
 */
#include "vmm/base/util.h"
#include "vmm/cli/top.h"

#include <errno.h>
#include <string.h>

#define ABSENT_NS 30000000000ull /* a guest without an agent is asked again after so long */

/* ---- the metrics ---- */

static void copy_label(char *to, size_t size, const char *series, const char *label)
{
	const char *at = strstr(series, label);
	size_t len;

	if (!at)
		return;
	at += strlen(label);
	len = strcspn(at, "\"");
	len = len < size ? len : size - 1;
	memcpy(to, at, len);
	to[len] = '\0';
}

/* Sums begin at -1, which says that there was none. */
static void add(double *sum, double value)
{
	*sum = (*sum < 0 ? 0 : *sum) + value;
}

/* `series` is a name and its labels. */
static void take_series(struct top_figures *f, const char *series, double value)
{
	const struct {
		const char *start, *label;
		double *sum;
	} wanted[] = {
		{"bulkhead_uptime_seconds", "", &f->uptime},
		{"bulkhead_vcpus", "", &f->vcpus},
		{"bulkhead_memory_bytes", "", &f->memory},
		{"bulkhead_resident_bytes", "", &f->resident},
		{"bulkhead_cpu_seconds_total", "", &f->cpu},
		{"bulkhead_vcpu_steal_seconds_total", "", &f->steal},
		{"bulkhead_vcpu_exits_total", "", &f->exits},
		{"bulkhead_disk_bytes_total", "kind=\"read\"", &f->disk_read},
		{"bulkhead_disk_bytes_total", "kind=\"write\"", &f->disk_written},
		{"bulkhead_net_bytes_total", "way=\"in\"", &f->net_in},
		{"bulkhead_net_bytes_total", "way=\"out\"", &f->net_out},
		{"bulkhead_dirty_bytes_total", "", &f->dirty},
	};
	size_t len = strcspn(series, "{");

	for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++)
		if (len == strlen(wanted[i].start) && !memcmp(series, wanted[i].start, len) &&
			strstr(series + len, wanted[i].label))
			add(wanted[i].sum, value);
	if (!strncmp(series, "bulkhead_info{", 14))
		copy_label(f->name, sizeof(f->name), series, "name=\"");
	else if (!strncmp(series, "bulkhead_state{", 15) && value == 1)
		copy_label(f->state, sizeof(f->state), series, "state=\"");
	else if (!strncmp(series, "bulkhead_agent_state{", 21) && value == 1)
		copy_label(f->agent, sizeof(f->agent), series, "state=\"");
}

bool top_figures_read(const char *text, struct top_figures *f)
{
	*f = (struct top_figures){.uptime = -1,
		.vcpus = -1,
		.memory = -1,
		.resident = -1,
		.cpu = -1,
		.steal = -1,
		.exits = -1,
		.disk_read = -1,
		.disk_written = -1,
		.net_in = -1,
		.net_out = -1,
		.dirty = -1};
	for (const char *line = text, *next; *line; line = next) {
		size_t len = strcspn(line, "\n"), name;
		char series[256], *end;
		double value;

		next = line + len + (line[len] == '\n');
		for (name = len; name && line[name - 1] != ' ';)
			name--;
		if (*line == '#' || name < 2 || name > sizeof(series))
			continue;
		memcpy(series, line, name - 1);
		series[name - 1] = '\0';
		value = strtod(line + name, &end);
		if (end == line + len && value >= 0)
			take_series(f, series, value);
	}
	return *f->name && *f->state;
}

/* ---- rates ---- */

static double sum_of(const struct top_figures *f, enum top_rate rate)
{
	switch (rate) {
	case TOP_CPU:
		return f->cpu;
	case TOP_STEAL:
		return f->steal;
	case TOP_EXITS:
		return f->exits;
	case TOP_DISK_READ:
		return f->disk_read;
	case TOP_DISK_WRITTEN:
		return f->disk_written;
	case TOP_NET_IN:
		return f->net_in;
	case TOP_NET_OUT:
		return f->net_out;
	case TOP_DIRTY:
		return f->dirty;
	default:
		return -1;
	}
}

static double min_double(double a, double b)
{
	return a < b ? a : b;
}

double top_rate(const struct top_vm *vm, enum top_rate rate)
{
	double now = sum_of(&vm->now, rate), before = sum_of(&vm->before, rate);
	double time = vm->now.uptime - vm->before.uptime, a_second;

	/* Less than before: the guest was reset meanwhile, or a device has gone. */
	if (vm->samples < 2 || before < 0 || now < before || !(time > 0))
		return -1;
	a_second = (now - before) / time;
	if (rate == TOP_CPU)
		return 100 * a_second;
	/* The figures of one answer are not quite of one moment: on a host where we wait long, a share may come out above all. */
	if (rate == TOP_STEAL)
		return vm->now.vcpus < 1 ? -1 : min_double(100, 100 * a_second / vm->now.vcpus);
	return a_second;
}

/* ---- a VM ---- */

struct top_vm *top_vm_new(const char *path, bool given)
{
	struct top_vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	vm->path = strdup(path);
	if (!vm->path) {
		free(vm);
		return NULL;
	}
	vm->given = given;
	vm->link.fd = vm->guest.fd = -1;
	vm->pressure = -1;
	return vm;
}

void top_vm_free(struct top_vm *vm)
{
	top_link_close(&vm->link);
	top_link_close(&vm->guest);
	free(vm->path);
	free(vm);
}

/* It was there, or never. */
static void lose(struct top_vm *vm)
{
	top_link_close(&vm->link);
	top_link_close(&vm->guest);
	if (vm->state != TOP_ENDED)
		vm->shown = 0;
	vm->state = vm->samples || vm->state == TOP_ENDED ? TOP_ENDED : TOP_ABSENT;
	vm->samples = 0;
	vm->pressure = -1;
	vm->guest_due_ns = 0;
}

void top_vm_ask(struct top_vm *vm)
{
	int ret;

	if (vm->link.waits)
		return; /* it is silent: asking again would only pile up */
	if (vm->link.fd < 0) {
		ret = top_link_open(&vm->link, vm->path);
		if (ret == -EAGAIN) {
			vm->state = TOP_SILENT; /* nobody takes what waits to be accepted */
			return;
		}
		if (ret < 0) {
			lose(vm);
			return;
		}
	}
	top_link_ask(&vm->link, "metrics.get");
}

void top_vm_ask_guest(struct top_vm *vm, unsigned every_ms, uint64_t now)
{
	if (!every_ms || vm->state != TOP_LIVE || vm->guest.waits || now < vm->guest_due_ns)
		return;
	if (vm->guest.fd < 0 && top_link_open(&vm->guest, vm->path) < 0)
		return;
	vm->guest_due_ns = now + every_ms * 1000000ull;
	top_link_ask(&vm->guest, "guest.info");
}

static void take_metrics(struct top_vm *vm, const json_t *answer)
{
	const char *text = json_string_value(json_object_get(answer, "result"));
	struct top_figures figures;

	if (!text || !top_figures_read(text, &figures)) {
		lose(vm); /* no VM, or one of another version */
		return;
	}
	vm->before = vm->now;
	vm->now = figures;
	vm->samples += vm->samples < 2;
	vm->state = TOP_LIVE;
}

static void take_guest(struct top_vm *vm, const json_t *answer)
{
	const json_t *memory = json_object_get(
		json_object_get(json_object_get(answer, "result"), "pressure"), "memory");
	const json_t *value = json_object_get(json_object_get(memory, "some"), "avg10");
	double percent = json_is_number(value) ? json_number_value(value) : -1;

	vm->pressure = percent >= 0 && percent <= 100 ? percent : -1;
	if (!json_object_get(answer, "result"))
		vm->guest_due_ns = max_u64(vm->guest_due_ns, now_ns() + ABSENT_NS);
}

void top_vm_ready(struct top_vm *vm, struct top_link *link)
{
	json_t *answer;
	bool got = top_link_ready(link, &answer);

	if (got && link == &vm->link)
		take_metrics(vm, answer);
	else if (got)
		take_guest(vm, answer);
	json_decref(answer);
	if (vm->link.fd < 0)
		lose(vm);
}

void top_vm_settle(struct top_vm *vm)
{
	if (vm->link.waits)
		vm->state = TOP_SILENT;
	vm->shown++;
}
