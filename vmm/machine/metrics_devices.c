/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metrics of disks and networks.
 *
 * A VM has at most SERIES_MAX series, whatever it has. vCPUs are summed anyway; a disk and a network have series of their own
 * while all fit. Of many, first the latencies, then the disks, then the networks are summed, under the name "all". (The
 * counters of each are in disk.list and net.list, whatever their number.)
 */
#include "vmm/machine/metrics_private.h"

#include "vmm/base/util.h"
#include "vmm/machine/machine_private.h"

#include "virtio/blk.h"
#include "virtio/net.h"

#include <inttypes.h>
#include <linux/virtio_ids.h>
#include <string.h>

/* What a VM may cost a monitoring system, and what its parts cost. tests/control/run counts. */
#define SERIES_MAX     150
#define DISK_SERIES    11
#define NET_SERIES     6
#define LATENCY_SERIES (BLK_LATENCIES * (HISTOGRAM_BUCKETS + 2))

#define FIGURES_MAX 12

/* One figure of a device. Those of one family stand together; the first has the family's name, type and help. */
struct figure {
	const char *family, *type, *help;
	const char *label; /* beside the device's id, such as ,kind="read" */
};

/* The devices of one type. */
struct devices {
	const char *what; /* the label */
	bool one;	  /* too many for series of their own */
	unsigned count;
	struct virtio_device *list[MACHINE_DEVICES_MAX];
};

static void find_devices(
	struct devices *devices, const struct machine *m, uint16_t type, const char *what)
{
	devices->what = what;
	devices->one = false;
	devices->count = 0;
	for (unsigned i = 0; i < m->devices.count; i++) {
		struct virtio_device *dev = virtio_pci_device(m->devices.virtio[i]);

		if (dev->ops->id == type)
			devices->list[devices->count++] = dev;
	}
}

static void print_devices(FILE *to, const struct devices *devices, const struct figure *figures,
	unsigned count, void (*gather)(struct virtio_device *dev, uint64_t *values))
{
	uint64_t values[MACHINE_DEVICES_MAX][FIGURES_MAX], sums[FIGURES_MAX] = {0};

	for (unsigned d = 0; d < devices->count; d++) {
		gather(devices->list[d], values[d]);
		for (unsigned i = 0; i < count; i++)
			sums[i] += values[d][i];
	}
	for (unsigned first = 0, end; first < count; first = end) {
		const struct figure *f = &figures[first];

		for (end = first + 1; end < count && !figures[end].family; end++)
			;
		metrics_family(to, f->family, f->type, f->help);
		for (unsigned d = 0; d < (devices->one ? 1 : devices->count); d++)
			for (unsigned i = first; i < end; i++)
				fprintf(to, "bulkhead_%s{%s=\"%s\"%s} %" PRIu64 "\n", f->family,
					devices->what, devices->one ? "all" : devices->list[d]->id,
					figures[i].label, devices->one ? sums[i] : values[d][i]);
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
	values[ARRAY_SIZE(order)] = blk_in_flight(dev);
	values[ARRAY_SIZE(order) + 1] = blk_size(dev);
}

static void print_disks(FILE *to, const struct devices *disks)
{
	static const struct figure figures[DISK_SERIES] = {
		{"disk_requests_total", "counter", "Requests that succeeded, by kind.",
			",kind=\"read\""},
		{.label = ",kind=\"write\""},
		{.label = ",kind=\"flush\""},
		{.label = ",kind=\"discard\""},
		{.label = ",kind=\"zero\""},
		{"disk_bytes_total", "counter", "Bytes read and written.", ",kind=\"read\""},
		{.label = ",kind=\"write\""},
		{"disk_errors_total", "counter", "Requests that the guest saw fail.", ""},
		{"disk_limited_total", "counter", "Requests that the limits held back.", ""},
		{"disk_requests_in_flight", "gauge",
			"Depth of the disk's queues: requests taken and not answered yet.", ""},
		{"disk_size_bytes", "gauge", "The disk's size.", ""},
	};

	print_devices(to, disks, figures, ARRAY_SIZE(figures), gather_disk);
}

static void print_histogram(FILE *to, const char *id, const char *kind, struct histogram_sums *sums)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
		count += sums->counts[i];
		fprintf(to,
			"bulkhead_disk_latency_seconds_bucket{disk=\"%s\",kind=\"%s\",le=\"%.15g\"} %" PRIu64
			"\n",
			id, kind, (double)histogram_end_ns(i) / 1e9, count);
	}
	count += sums->counts[HISTOGRAM_BUCKETS - 1];
	fprintf(to,
		"bulkhead_disk_latency_seconds_bucket{disk=\"%s\",kind=\"%s\",le=\"+Inf\"} %" PRIu64
		"\n"
		"bulkhead_disk_latency_seconds_sum{disk=\"%s\",kind=\"%s\"} %.9f\n"
		"bulkhead_disk_latency_seconds_count{disk=\"%s\",kind=\"%s\"} %" PRIu64 "\n",
		id, kind, count, id, kind, (double)sums->sum_ns / 1e9, id, kind, count);
}

/* `one`: all disks together. */
static void print_latencies(FILE *to, const struct devices *disks, bool one)
{
	static const char *const kinds[] = {[BLK_LATENCY_READ] = "read",
		[BLK_LATENCY_WRITE] = "write",
		[BLK_LATENCY_FLUSH] = "flush"};
	struct histogram_sums sums[BLK_LATENCIES] = {0};

	metrics_family(to, "disk_latency_seconds", "histogram",
		"How long requests that succeeded took in the monitor and its host, waits for limits included.");
	for (unsigned d = 0; d < disks->count; d++) {
		for (unsigned kind = 0; kind < BLK_LATENCIES; kind++)
			blk_add_latency(disks->list[d], kind, &sums[kind]);
		if (one && d + 1 < disks->count)
			continue;
		for (unsigned kind = 0; kind < BLK_LATENCIES; kind++)
			print_histogram(
				to, one ? "all" : disks->list[d]->id, kinds[kind], &sums[kind]);
		memset(sums, 0, sizeof(sums));
	}
}

static void gather_net(struct virtio_device *dev, uint64_t *values)
{
	struct net_counters n;

	net_get_counters(dev, &n);
	memcpy(values,
		(uint64_t[]){n.rx_packets, n.tx_packets, n.rx_bytes, n.tx_bytes, n.rx_dropped,
			n.tx_dropped},
		NET_SERIES * sizeof(*values));
}

static void print_nets(FILE *to, const struct devices *nets)
{
	static const struct figure figures[NET_SERIES] = {
		{"net_packets_total", "counter",
			"Packets towards the guest (in) and from it (out); none with vhost.",
			",way=\"in\""},
		{.label = ",way=\"out\""},
		{"net_bytes_total", "counter", "Bytes of these packets.", ",way=\"in\""},
		{.label = ",way=\"out\""},
		{"net_dropped_total", "counter", "Packets that were dropped.", ",way=\"in\""},
		{.label = ",way=\"out\""},
	};

	print_devices(to, nets, figures, ARRAY_SIZE(figures), gather_net);
}

/* ---- all of them ---- */

static bool fits(unsigned disks, unsigned nets, unsigned latencies)
{
	return METRICS_MACHINE_SERIES + DISK_SERIES * disks + NET_SERIES * nets +
		       LATENCY_SERIES * latencies <=
	       SERIES_MAX;
}

void metrics_print_devices(FILE *to, const struct machine *m)
{
	struct devices disks, nets;
	bool latencies_one;

	find_devices(&disks, m, VIRTIO_ID_BLOCK, "disk");
	find_devices(&nets, m, VIRTIO_ID_NET, "net");
	latencies_one = !fits(disks.count, nets.count, disks.count);
	disks.one = !fits(disks.count, nets.count, 1);
	nets.one = disks.one && !fits(1, nets.count, 1);
	print_disks(to, &disks);
	print_latencies(to, &disks, latencies_one);
	print_nets(to, &nets);
}
