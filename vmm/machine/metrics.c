/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine does, for a monitoring system: counters that only grow and gauges, in Prometheus' text exposition
 * format 0.0.4. Made when it is asked for, of counters that are there anyway: nothing on a data path is counted twice.
 * A VM with three disks and a network has some sixty series; vCPUs are summed, so that their number adds none.
 */
#include "vmm/machine/metrics.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/kvm/stats.h"
#include "vmm/machine/machine_private.h"

#include "virtio/blk.h"
#include "virtio/net.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FILE_EVERY_NS 10000000000ull

static void family(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP bulkhead_%s %s\n# TYPE bulkhead_%s %s\n", name, help, name, type);
}

static void single(FILE *to, const char *name, const char *type, const char *help, double value)
{
	family(to, name, type, help);
	fprintf(to, "bulkhead_%s %.15g\n", name, value);
}

/* ---- the machine ---- */

static uint64_t resident_bytes(void)
{
	_cleanup_close_ int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	unsigned long total, resident;
	char text[128];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return sscanf(text, "%lu %lu", &total, &resident) == 2
		       ? resident * (uint64_t)sysconf(_SC_PAGESIZE)
		       : 0;
}

static void print_machine(FILE *to, struct machine *m)
{
	struct timespec cpu = {0};

	family(to, "info", "gauge", "What runs: always 1.");
	fprintf(to, "bulkhead_info{name=\"%s\",version=\"%s\"} 1\n", m->config->name,
		BULKHEAD_VERSION);
	family(to, "state", "gauge", "The VM's state: 1 for the one that it is in.");
	for (unsigned i = MACHINE_CREATED; i <= MACHINE_ENDED; i++)
		fprintf(to, "bulkhead_state{state=\"%s\"} %d\n", machine_state_name(i),
			machine_state(m) == i);
	single(to, "uptime_seconds", "gauge", "Seconds since the VM was started.",
		m->started_ns ? (double)(now_ns() - m->started_ns) / 1e9 : 0);
	single(to, "memory_bytes", "gauge", "The guest's RAM.", (double)m->config->memory);
	single(to, "resident_bytes", "gauge",
		"Memory of the process, the guest's touched RAM included.",
		(double)resident_bytes());
	single(to, "vcpus", "gauge", "The guest's CPUs.", m->config->cpus);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	single(to, "cpu_seconds_total", "counter", "CPU time of the process, the guest's included.",
		(double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
}

/* ---- vCPUs ---- */

struct vcpu_sums {
	uint64_t exits, port, mmio, halt, interrupt, injected, page, hypercall;
	uint64_t halt_wait_ns, halt_polled;
	uint64_t to_us;
};

static void take_stat(void *owner, const char *name, uint64_t value)
{
	struct vcpu_sums *sums = owner;
	const struct {
		const char *name;
		uint64_t *sum;
	} wanted[] = {
		{"exits", &sums->exits},
		{"io_exits", &sums->port},
		{"mmio_exits", &sums->mmio},
		{"halt_exits", &sums->halt},
		{"irq_exits", &sums->interrupt},
		{"irq_injections", &sums->injected},
		{"pf_taken", &sums->page},
		{"hypercalls", &sums->hypercall},
		{"halt_wait_ns", &sums->halt_wait_ns},
		{"halt_successful_poll", &sums->halt_polled},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++)
		if (!strcmp(name, wanted[i].name))
			*wanted[i].sum += value;
}

static void print_vcpus(FILE *to, struct machine *m)
{
	struct vcpu_sums sums = {0};

	for (unsigned i = 0; i < m->vcpus.count; i++) {
		const struct vcpu *vcpu = m->vcpus.vcpus[i];

		kvm_stats_read(vcpu->stats_fd, take_stat, &sums);
		sums.to_us += atomic_load_explicit(&vcpu->counters.exits, memory_order_relaxed);
	}
	single(to, "vcpu_exits_total", "counter",
		"Exits of all vCPUs from guest mode, since the last reset.", (double)sums.exits);
	single(to, "vcpu_user_exits_total", "counter",
		"Those that the monitor had to answer, since the last reset.", (double)sums.to_us);
	family(to, "vcpu_exits_by_reason_total", "counter",
		"Exits by reason, as far as KVM tells them apart, since the last reset.");
	fprintf(to,
		"bulkhead_vcpu_exits_by_reason_total{reason=\"port\"} %" PRIu64 "\n"
		"bulkhead_vcpu_exits_by_reason_total{reason=\"mmio\"} %" PRIu64 "\n"
		"bulkhead_vcpu_exits_by_reason_total{reason=\"halt\"} %" PRIu64 "\n"
		"bulkhead_vcpu_exits_by_reason_total{reason=\"interrupt\"} %" PRIu64 "\n"
		"bulkhead_vcpu_exits_by_reason_total{reason=\"page\"} %" PRIu64 "\n"
		"bulkhead_vcpu_exits_by_reason_total{reason=\"hypercall\"} %" PRIu64 "\n",
		sums.port, sums.mmio, sums.halt, sums.interrupt, sums.page, sums.hypercall);
	single(to, "vcpu_interrupts_total", "counter",
		"Interrupts given to the guest, since the last reset.", (double)sums.injected);
	single(to, "vcpu_idle_seconds_total", "counter",
		"Time of all vCPUs in HLT, since the last reset.", (double)sums.halt_wait_ns / 1e9);
	single(to, "vcpu_halts_polled_total", "counter",
		"Halts that ended while KVM still looked, since the last reset.",
		(double)sums.halt_polled);
}

/* ---- devices ---- */

#define FIGURES_MAX 12

/* One figure of a device. Those of one family stand together; the first has the family's name, type and help. */
struct figure {
	const char *family, *type, *help;
	const char *label; /* beside the device's id, such as ,kind="read" */
};

static void print_devices(FILE *to, struct machine *m, uint16_t type, const char *what,
	const struct figure *figures, unsigned count,
	void (*gather)(struct virtio_device *dev, uint64_t *values))
{
	uint64_t values[MACHINE_DEVICES_MAX][FIGURES_MAX];
	const char *ids[MACHINE_DEVICES_MAX];
	unsigned devices = 0;

	for (unsigned i = 0; i < m->devices.count; i++) {
		struct virtio_device *dev = virtio_pci_device(m->devices.virtio[i]);

		if (dev->ops->id != type)
			continue;
		ids[devices] = dev->id;
		gather(dev, values[devices++]);
	}
	for (unsigned first = 0, end; first < count; first = end) {
		const struct figure *f = &figures[first];

		for (end = first + 1; end < count && !figures[end].family; end++)
			;
		family(to, f->family, f->type, f->help);
		for (unsigned d = 0; d < devices; d++)
			for (unsigned i = first; i < end; i++)
				fprintf(to, "bulkhead_%s{%s=\"%s\"%s} %" PRIu64 "\n", f->family,
					what, ids[d], figures[i].label, values[d][i]);
	}
}

static void gather_disk(struct virtio_device *dev, uint64_t *values)
{
	static const enum blk_counter order[] = {BLK_READS, BLK_WRITES, BLK_FLUSHES, BLK_DISCARDS,
		BLK_ZEROES, BLK_READ_BYTES, BLK_WRITTEN_BYTES, BLK_ERRORS, BLK_PARKED};
	uint64_t counters[BLK_COUNTERS];

	blk_get_counters(dev, counters);
	for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
		values[i] = counters[order[i]];
	values[ARRAY_SIZE(order)] = blk_size(dev);
}

static void print_disks(FILE *to, struct machine *m)
{
	static const struct figure figures[] = {
		{"disk_requests_total", "counter", "Requests that were begun, by kind.",
			",kind=\"read\""},
		{.label = ",kind=\"write\""},
		{.label = ",kind=\"flush\""},
		{.label = ",kind=\"discard\""},
		{.label = ",kind=\"zero\""},
		{"disk_bytes_total", "counter", "Bytes read and written.", ",kind=\"read\""},
		{.label = ",kind=\"write\""},
		{"disk_errors_total", "counter", "Requests that the guest saw fail.", ""},
		{"disk_limited_total", "counter", "Requests that the limits held back.", ""},
		{"disk_size_bytes", "gauge", "The disk's size.", ""},
	};

	print_devices(to, m, VIRTIO_ID_BLOCK, "disk", figures, ARRAY_SIZE(figures), gather_disk);
}

static void gather_net(struct virtio_device *dev, uint64_t *values)
{
	struct net_counters n;

	net_get_counters(dev, &n);
	memcpy(values,
		(uint64_t[]){n.rx_packets, n.tx_packets, n.rx_bytes, n.tx_bytes, n.rx_dropped,
			n.tx_dropped},
		6 * sizeof(*values));
}

static void print_nets(FILE *to, struct machine *m)
{
	static const struct figure figures[] = {
		{"net_packets_total", "counter",
			"Packets towards the guest (in) and from it (out); none with vhost.",
			",way=\"in\""},
		{.label = ",way=\"out\""},
		{"net_bytes_total", "counter", "Bytes of these packets.", ",way=\"in\""},
		{.label = ",way=\"out\""},
		{"net_dropped_total", "counter", "Packets that were dropped.", ",way=\"in\""},
		{.label = ",way=\"out\""},
	};

	print_devices(to, m, VIRTIO_ID_NET, "net", figures, ARRAY_SIZE(figures), gather_net);
}

char *metrics_text(struct machine *machine)
{
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);

	if (!to)
		return NULL;
	print_machine(to, machine);
	print_vcpus(to, machine);
	print_disks(to, machine);
	print_nets(to, machine);
	if (fclose(to) == 0)
		return text;
	free(text);
	return NULL;
}

/* ---- the file ---- */

static int write_file(const struct metrics_file *file, struct error *err)
{
	_cleanup_free_ char *text = metrics_text(file->machine), *path = NULL;
	_cleanup_close_ int fd = -1;
	size_t size;

	if (!text || asprintf(&path, "%s.new", file->path) < 0)
		return error_errno(err, ENOMEM, "cannot write the metrics file");
	size = strlen(text);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, size) != (ssize_t)size || rename(path, file->path) < 0) {
		error_errno(err, errno, "cannot write the metrics file '%s'", file->path);
		unlink(path);
		return -err->code;
	}
	return 0;
}

static void file_due(struct loop_timer *timer)
{
	struct metrics_file *file = container_of(timer, struct metrics_file, timer);
	struct error err;

	if (write_file(file, &err))
		log_warn("%s; trying again later", err.text);
	loop_timer_set(machine_loop(file->machine), timer, now_ns() + FILE_EVERY_NS);
}

int metrics_file_start(
	struct metrics_file *file, struct machine *machine, const char *path, struct error *err)
{
	*file = (struct metrics_file){.machine = machine, .path = path, .timer.fire = file_due};
	loop_timer_set(machine_loop(machine), &file->timer, now_ns() + FILE_EVERY_NS);
	return write_file(file, err);
}

void metrics_file_finish(struct metrics_file *file)
{
	struct error err;

	if (!file->machine)
		return;
	loop_timer_clear(machine_loop(file->machine), &file->timer);
	if (write_file(file, &err))
		log_warn("%s", err.text);
}
