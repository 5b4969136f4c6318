/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine does, for a monitoring system: counters that only grow and gauges, in Prometheus' text exposition
 * format 0.0.4. Made when it is asked for, of counters that are there anyway: it takes no lock, stops no vCPU and asks nobody
 * in the guest. It costs two system calls for each vCPU and a handful more.
 * The devices are in metrics_devices.c, with the bound on the number of series.
 */
#include "vmm/machine/metrics_private.h"

#include "vmm/base/util.h"
#include "vmm/kvm/stats.h"
#include "vmm/machine/machine_private.h"
#include "vmm/memory/pages.h"

#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

void metrics_family(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP bulkhead_%s %s\n# TYPE bulkhead_%s %s\n", name, help, name, type);
}

static void single(FILE *to, const char *name, const char *type, const char *help, double value)
{
	metrics_family(to, name, type, help);
	fprintf(to, "bulkhead_%s %.15g\n", name, value);
}

/* ---- the machine ---- */

static uint64_t resident_bytes(const struct machine *m)
{
	unsigned long total, resident;
	char text[128];
	ssize_t n = m->statm_fd < 0 ? -1 : pread(m->statm_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return sscanf(text, "%lu %lu", &total, &resident) == 2
		       ? resident * (uint64_t)sysconf(_SC_PAGESIZE)
		       : 0;
}

static void print_process(FILE *to, const struct machine *m)
{
	struct timespec cpu = {0};
	struct rusage usage = {0};

	single(to, "resident_bytes", "gauge",
		"Memory of the process, the guest's touched RAM included.",
		(double)resident_bytes(m));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	single(to, "cpu_seconds_total", "counter", "CPU time of the process, the guest's included.",
		(double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
	getrusage(RUSAGE_SELF, &usage);
	metrics_family(to, "page_faults_total", "counter",
		"Page faults of the process, the guest's first touches of RAM included; major ones waited for a disk.");
	fprintf(to,
		"bulkhead_page_faults_total{kind=\"minor\"} %ld\n"
		"bulkhead_page_faults_total{kind=\"major\"} %ld\n",
		usage.ru_minflt, usage.ru_majflt);
}

static void print_pauses(FILE *to, const struct machine *m)
{
	static const char *const by[] = {[PAUSER_USER] = "user", [PAUSER_MONITOR] = "monitor"};

	metrics_family(to, "pauses_total", "counter",
		"Times that all vCPUs stood still and went on, by the user's wish or the monitor's need.");
	for (unsigned i = 0; i < PAUSERS; i++)
		fprintf(to, "bulkhead_pauses_total{by=\"%s\"} %" PRIu64 "\n", by[i],
			m->pause_times[i].count);
	metrics_family(to, "pause_seconds_total", "counter", "How long, in all.");
	for (unsigned i = 0; i < PAUSERS; i++)
		fprintf(to, "bulkhead_pause_seconds_total{by=\"%s\"} %.9f\n", by[i],
			(double)m->pause_times[i].total_ns / 1e9);
	metrics_family(to, "pause_longest_seconds", "gauge", "How long the longest one took.");
	for (unsigned i = 0; i < PAUSERS; i++)
		fprintf(to, "bulkhead_pause_longest_seconds{by=\"%s\"} %.9f\n", by[i],
			(double)m->pause_times[i].longest_ns / 1e9);
}

static void print_machine(FILE *to, struct machine *m)
{
	metrics_family(to, "info", "gauge", "What runs: always 1.");
	fprintf(to, "bulkhead_info{name=\"%s\",version=\"%s\"} 1\n", m->config->name,
		BULKHEAD_VERSION);
	metrics_family(to, "state", "gauge", "The VM's state: 1 for the one that it is in.");
	for (unsigned i = MACHINE_CREATED; i <= MACHINE_ENDED; i++)
		fprintf(to, "bulkhead_state{state=\"%s\"} %d\n", machine_state_name(i),
			machine_state(m) == i);
	single(to, "uptime_seconds", "gauge", "Seconds since the VM was started.",
		m->started_ns ? (double)(now_ns() - m->started_ns) / 1e9 : 0);
	single(to, "memory_bytes", "gauge", "The guest's RAM.", (double)m->config->memory);
	single(to, "vcpus", "gauge", "The guest's CPUs.", m->config->cpus);
	print_process(to, m);
	print_pauses(to, m);
	if (dirty_engine_active(&m->dirty))
		single(to, "dirty_bytes_total", "counter",
			"Memory that became dirty, by whoever wrote it, while it was tracked: each page once between two times that it was taken.",
			(double)(dirty_engine_dirtied(&m->dirty) * GUEST_PAGE_SIZE));
}

/* ---- the guest, as far as somebody asked its agent ---- */

static void print_guest(FILE *to, const struct machine_guest *guest)
{
	metrics_family(to, "agent_state", "gauge",
		"What the guest's agent was when a guest.* call last asked it: 1 for that.");
	for (unsigned i = MACHINE_AGENT_UNKNOWN; i <= MACHINE_AGENT_ANSWERS; i++)
		fprintf(to, "bulkhead_agent_state{state=\"%s\"} %d\n", machine_agent_name(i),
			guest->agent == i);
	if (guest->agent_ns)
		single(to, "agent_state_age_seconds", "gauge", "How long ago that was.",
			(double)(now_ns() - guest->agent_ns) / 1e9);
	if (!guest->memory_ns)
		return;
	single(to, "guest_info_age_seconds", "gauge",
		"How long ago guest.info was last asked for, from which the other guest_ figures are.",
		(double)(now_ns() - guest->memory_ns) / 1e9);
	single(to, "guest_memory_available_bytes", "gauge",
		"What the guest says it could still give to programs.",
		(double)guest->memory_available);
	metrics_family(to, "guest_memory_waiting_seconds_total", "counter",
		"Time that some of the guest's tasks, or all of them (full), waited for memory (PSI), as the guest says.");
	fprintf(to,
		"bulkhead_guest_memory_waiting_seconds_total{kind=\"some\"} %.6f\n"
		"bulkhead_guest_memory_waiting_seconds_total{kind=\"full\"} %.6f\n",
		(double)guest->some_us / 1e6, (double)guest->full_us / 1e6);
}

/* ---- vCPUs ---- */

enum vcpu_sum {
	VCPU_EXITS,
	VCPU_PORT,
	VCPU_MMIO,
	VCPU_HALT,
	VCPU_INTERRUPT,
	VCPU_INJECTED,
	VCPU_PAGE,
	VCPU_HYPERCALL,
	VCPU_HALT_WAIT_NS,
	VCPU_HALT_POLLED,
	VCPU_SUMS,
};

static void sum_stats(const struct vcpu_group *vcpus, uint64_t sums[VCPU_SUMS])
{
	static const char *const names[VCPU_SUMS] = {
		[VCPU_EXITS] = "exits",
		[VCPU_PORT] = "io_exits",
		[VCPU_MMIO] = "mmio_exits",
		[VCPU_HALT] = "halt_exits",
		[VCPU_INTERRUPT] = "irq_exits",
		[VCPU_INJECTED] = "irq_injections",
		[VCPU_PAGE] = "pf_taken",
		[VCPU_HYPERCALL] = "hypercalls",
		[VCPU_HALT_WAIT_NS] = "halt_wait_ns",
		[VCPU_HALT_POLLED] = "halt_successful_poll",
	};
	struct kvm_stats_map map;

	memset(sums, 0, VCPU_SUMS * sizeof(*sums));
	if (!vcpus->count || kvm_stats_find(vcpus->vcpus[0]->stats_fd, names, VCPU_SUMS, &map) < 0)
		return;
	for (unsigned i = 0; i < vcpus->count; i++)
		kvm_stats_add(vcpus->vcpus[i]->stats_fd, &map, VCPU_SUMS, sums);
}

static void print_exits(FILE *to, const struct vcpu_group *vcpus)
{
	uint64_t sums[VCPU_SUMS], to_us = 0;

	sum_stats(vcpus, sums);
	for (unsigned i = 0; i < vcpus->count; i++)
		to_us += atomic_load_explicit(
			&vcpus->vcpus[i]->counters.exits, memory_order_relaxed);
	single(to, "vcpu_exits_total", "counter",
		"Exits of all vCPUs from guest mode, since the last reset.",
		(double)sums[VCPU_EXITS]);
	single(to, "vcpu_user_exits_total", "counter",
		"Those that the monitor had to answer, since the last reset.", (double)to_us);
	metrics_family(to, "vcpu_exits_by_reason_total", "counter",
		"Exits by reason, as far as KVM tells them apart, since the last reset.");
	fprintf(to,
		"bulkhead_vcpu_exits_by_reason_total{reason=\"port\"} %" PRIu64 "\n"
		"bulkhead_vcpu_exits_by_reason_total{reason=\"mmio\"} %" PRIu64 "\n"
		"bulkhead_vcpu_exits_by_reason_total{reason=\"halt\"} %" PRIu64 "\n"
		"bulkhead_vcpu_exits_by_reason_total{reason=\"interrupt\"} %" PRIu64 "\n"
		"bulkhead_vcpu_exits_by_reason_total{reason=\"page\"} %" PRIu64 "\n"
		"bulkhead_vcpu_exits_by_reason_total{reason=\"hypercall\"} %" PRIu64 "\n",
		sums[VCPU_PORT], sums[VCPU_MMIO], sums[VCPU_HALT], sums[VCPU_INTERRUPT],
		sums[VCPU_PAGE], sums[VCPU_HYPERCALL]);
	single(to, "vcpu_interrupts_total", "counter",
		"Interrupts given to the guest, since the last reset.",
		(double)sums[VCPU_INJECTED]);
	single(to, "vcpu_idle_seconds_total", "counter",
		"Time of all vCPUs in HLT, since the last reset.",
		(double)sums[VCPU_HALT_WAIT_NS] / 1e9);
	single(to, "vcpu_halts_polled_total", "counter",
		"Halts that ended while KVM still looked, since the last reset.",
		(double)sums[VCPU_HALT_POLLED]);
}

/* Where the host does not tell, there is no such series: 0 would be a claim. */
static void print_times(FILE *to, const struct vcpu_group *vcpus)
{
	struct vcpu_times times = {0};
	bool told = vcpus->count;

	for (unsigned i = 0; i < vcpus->count; i++)
		told &= vcpu_add_times(vcpus->vcpus[i], &times);
	if (!told)
		return;
	single(to, "vcpu_cpu_seconds_total", "counter",
		"CPU time of all vCPUs' threads, since the last reset.",
		(double)times.ran_ns / 1e9);
	single(to, "vcpu_steal_seconds_total", "counter",
		"Time that vCPUs were ready to run and the host's CPUs did something else, since the last reset.",
		(double)times.waited_ns / 1e9);
}

/* ---- all of it ---- */

char *metrics_text(struct machine *machine)
{
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);

	if (!to)
		return NULL;
	print_machine(to, machine);
	print_guest(to, &machine->guest);
	print_exits(to, &machine->vcpus);
	print_times(to, &machine->vcpus);
	metrics_print_devices(to, machine);
	if (fclose(to) == 0)
		return text;
	free(text);
	return NULL;
}
