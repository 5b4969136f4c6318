/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metrics' text: well-formed by Prometheus' exposition format 0.0.4, and bounded whatever a VM has. The machine is a
 * hollow one: real disks and networks that nobody drives, and vCPUs without KVM.
 */
#include "tests/unit/runner.h"
#include "vmm/machine/dirty.h"
#include "vmm/machine/machine_private.h"
#include "vmm/machine/metrics.h"
#include "vmm/memory/pages.h"

#include "virtio/blk.h"
#include "virtio/net_private.h"
#include "virtio/pci_private.h"

#include <check.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SERIES_MAX 150
#define LINES_MAX  1024

static struct machine machine;
static struct machine_config config;
static struct guest_memory memory;
static struct virtio_pci functions[MACHINE_DEVICES_MAX];
static struct vcpu vcpus[VCPUS_MAX];
static char folder[] = "metrics-XXXXXX";
static struct error err;

static void make_machine(void)
{
	static char name[] = "orders";
	const struct guest_memory_config layout = {
		.region_count = 1, .regions = {{.gpa = 0, .size = MIB(2)}}};

	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(guest_memory_create(&layout, &memory, &err), 0);
	dirty_engine_init(&machine.dirty, &memory);
	ck_assert_int_eq(loop_create(&machine.loop, 64, &err), 0);
	snprintf(config.name, sizeof(config.name), "%s", name);
	config.cpus = VCPUS_MAX;
	machine.config = &config;
	machine.statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	for (unsigned i = 0; i < VCPUS_MAX; i++) {
		vcpus[i].stats_fd = -1;
		vcpus[i].sched_fd = -1;
		vcpus[i].tid = gettid();
		machine.vcpus.vcpus[machine.vcpus.count++] = &vcpus[i];
	}
	/* All that a guest can add. */
	machine_note_agent(&machine, MACHINE_AGENT_ANSWERS);
	machine.guest.memory_ns = 1;
}

static void plug(struct virtio_device *dev)
{
	struct virtio_pci *function = &functions[machine.devices.count];

	function->device = dev;
	machine.devices.virtio[machine.devices.count++] = function;
}

static void add_disk(unsigned number)
{
	char id[32], path[128];
	struct blk_config disk = {.id = id, .path = path, .queues = 1};
	struct virtio_device *dev;
	int fd;

	snprintf(id, sizeof(id), "disk%u", number);
	snprintf(path, sizeof(path), "%s/%s", folder, id);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	ck_assert(fd >= 0 && ftruncate(fd, MIB(1)) == 0);
	close(fd);
	ck_assert_int_eq(blk_create(&disk, &memory, machine.loop, &dev, &err), 0);
	unlink(path);
	plug(dev);
}

static void add_net(unsigned number)
{
	char id[32];
	struct net_config net = {.id = id, .fd = -1, .queues = 1};
	struct virtio_device *dev;
	int pair[2];

	snprintf(id, sizeof(id), "net%u", number);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	close(pair[1]);
	ck_assert_int_eq(net_create_on(&net, pair, false, &memory, machine.loop, &dev, &err), 0);
	plug(dev);
}

static void unplug_all(void)
{
	for (unsigned i = 0; i < machine.devices.count; i++)
		virtio_device_destroy(functions[i].device);
	machine.devices.count = 0;
}

static void end_machine(void)
{
	unplug_all();
	machine_dirty_stop(&machine);
	dirty_engine_destroy(&machine.dirty);
	loop_destroy(machine.loop);
	guest_memory_destroy(&memory);
	close(machine.statm_fd);
	for (unsigned i = 0; i < VCPUS_MAX; i++)
		if (vcpus[i].sched_fd >= 0)
			close(vcpus[i].sched_fd);
	rmdir(folder);
}

/* ---- a reader of the format ---- */

static bool is_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* Of a histogram, the family is the name less its last part. */
static bool in_family(const char *series, const char *family, const char *type)
{
	size_t len = strlen(family), name = 0;
	const char *parts[] = {"_bucket", "_sum", "_count"};

	while (is_name(series[name]))
		name++;
	if (strncmp(series, family, len) != 0)
		return false;
	if (strcmp(type, "histogram") != 0)
		return name == len;
	for (unsigned i = 0; i < 3; i++)
		if (name == len + strlen(parts[i]) && !strncmp(series + len, parts[i], name - len))
			return true;
	return false;
}

/* Fails on whatever a strict reader would refuse; returns the number of series. */
static unsigned count_series(char *text)
{
	char family[128] = "", type[32] = "", described[128] = "", families[4096] = " ";
	char *lines[LINES_MAX], *line, *rest = text;
	unsigned count = 0;

	ck_assert_int_eq(text[strlen(text) - 1], '\n');
	while ((line = strsep(&rest, "\n")) && *line) {
		char *value, *end;

		if (sscanf(line, "# HELP %127s", described) == 1)
			continue;
		if (sscanf(line, "# TYPE %127s %31s", family, type) == 2) {
			char entry[132];

			snprintf(entry, sizeof(entry), " %s ", family);
			ck_assert_msg(!strstr(families, entry), "twice: %s", line);
			strcat(families, entry + 1);
			ck_assert_str_eq(described, family);
			ck_assert_msg(!strncmp(family, "bulkhead_", 9), "%s", line);
			/* Only a counter is a total, and every one is. */
			end = strstr(family, "_total");
			ck_assert_int_eq(!strcmp(type, "counter"), end && !end[6]);
			continue;
		}
		value = strrchr(line, ' ');
		ck_assert_msg(value != NULL, "no value: %s", line);
		*value++ = '\0';
		ck_assert_msg(strtod(value, &end) >= 0 && !*end, "%s: '%s'", line, value);
		ck_assert_msg(in_family(line, family, type), "%s is not of %s", line, family);
		for (unsigned i = 0; i < count; i++)
			ck_assert_msg(strcmp(lines[i], line) != 0, "twice: %s", line);
		ck_assert_uint_lt(count, LINES_MAX);
		lines[count++] = line;
	}
	return count;
}

static unsigned text_series(void)
{
	char *text = metrics_text(&machine);
	unsigned count;

	ck_assert_ptr_nonnull(text);
	count = count_series(text);
	free(text);
	return count;
}

static bool text_has(const char *words)
{
	char *text = metrics_text(&machine);
	bool has = strstr(text, words) != NULL;

	free(text);
	return has;
}

/* ---- tests ---- */

START_TEST(a_vm_has_at_most_150_series_whatever_it_has)
{
	static const unsigned nets[] = {0, 1, 2, 3, 8, 28};

	make_machine();
	ck_assert_int_eq(machine_dirty_start(&machine, &err), 0);
	for (unsigned n = 0; n < ARRAY_SIZE(nets); n++) {
		for (unsigned disks = 0;
			disks <= MACHINE_DISKS_MAX && disks + nets[n] <= MACHINE_DEVICES_MAX;
			disks++) {
			unsigned series;

			for (unsigned i = 0; i < disks; i++)
				add_disk(i);
			for (unsigned i = 0; i < nets[n]; i++)
				add_net(i);
			series = text_series();
			ck_assert_msg(series <= SERIES_MAX, "%u disks, %u networks: %u series",
				disks, nets[n], series);
			unplug_all();
		}
	}
	end_machine();
}
END_TEST

START_TEST(of_many_devices_first_the_latencies_then_the_disks_then_the_networks_are_summed)
{
	make_machine();
	add_disk(0);
	add_disk(1);
	add_net(0);
	ck_assert(text_has("latency_seconds_count{disk=\"disk1\",kind=\"flush\"} 0\n"));
	ck_assert(!text_has("\"all\""));
	add_disk(2);
	ck_assert(text_has("latency_seconds_count{disk=\"all\",kind=\"flush\"} 0\n"));
	ck_assert(text_has("disk_size_bytes{disk=\"disk2\"} 1048576\n"));
	add_disk(3);
	add_disk(4);
	add_disk(5);
	ck_assert(text_has("disk_size_bytes{disk=\"all\"} 6291456\n"));
	ck_assert(text_has("net_bytes_total{net=\"net0\",way=\"in\"} 0\n"));
	for (unsigned i = 1; i < 15; i++)
		add_net(i);
	ck_assert(text_has("net_bytes_total{net=\"all\",way=\"in\"} 0\n"));
	end_machine();
}
END_TEST

START_TEST(what_is_not_known_has_no_series)
{
	make_machine();
	ck_assert(text_has("bulkhead_vcpu_steal_seconds_total "));
	ck_assert(text_has("bulkhead_agent_state{state=\"answers\"} 1\n"));
	ck_assert(text_has("bulkhead_guest_memory_available_bytes "));
	/* One vCPU of which nobody knows leaves the sum unknown. */
	close(vcpus[5].sched_fd);
	vcpus[5].sched_fd = -1;
	vcpus[5].tid = INT_MAX; /* above what a kernel gives out */
	machine.guest = (struct machine_guest){0};
	ck_assert(!text_has("bulkhead_vcpu_steal_seconds_total"));
	ck_assert(text_has("bulkhead_agent_state{state=\"unknown\"} 1\n"));
	ck_assert(!text_has("bulkhead_agent_state_age_seconds"));
	ck_assert(!text_has("bulkhead_guest_"));
	end_machine();
}
END_TEST

/* A VM that is asked right at its start, on a busy host. */
START_TEST(a_vcpu_whose_thread_has_not_begun_has_run_nothing_and_hides_no_other)
{
	make_machine();
	vcpus[5].tid = 0;
	ck_assert(text_has("bulkhead_vcpu_cpu_seconds_total "));
	ck_assert(text_has("bulkhead_vcpu_steal_seconds_total "));
	end_machine();
}
END_TEST

START_TEST(the_dirty_rate_is_told_while_pages_are_tracked_and_takes_nobodys_bits)
{
	struct page_set dirty;

	make_machine();
	ck_assert_int_eq(page_set_create(&dirty, guest_memory_pages(&memory), &err), 0);
	ck_assert(!text_has("dirty_bytes_total"));
	ck_assert_int_eq(machine_dirty_start(&machine, &err), 0);
	ck_assert_int_eq(machine_dirty_collect(&machine, &dirty, &err), 0);
	machine_dirty_commit(&machine);
	ck_assert(text_has("bulkhead_dirty_bytes_total 0\n"));
	ck_assert(guest_memory_write(&memory, 4095, "xy", 2));
	ck_assert(text_has("bulkhead_dirty_bytes_total 8192\n"));
	ck_assert(guest_memory_write(&memory, 4096, "xy", 2));
	ck_assert(text_has("bulkhead_dirty_bytes_total 8192\n"));
	ck_assert_int_eq(machine_dirty_collect(&machine, &dirty, &err), 0);
	ck_assert_uint_eq(page_set_size(&dirty), 2);
	ck_assert(guest_memory_write(&memory, 4096, "xy", 2));
	ck_assert(text_has("bulkhead_dirty_bytes_total 12288\n"));
	machine_dirty_rollback(&machine);
	ck_assert(text_has("bulkhead_dirty_bytes_total 12288\n"));
	machine_dirty_stop(&machine);
	ck_assert(!text_has("dirty_bytes_total"));
	page_set_destroy(&dirty);
	end_machine();
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("metrics");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_vm_has_at_most_150_series_whatever_it_has);
	tcase_add_test(tc,
		of_many_devices_first_the_latencies_then_the_disks_then_the_networks_are_summed);
	tcase_add_test(tc, what_is_not_known_has_no_series);
	tcase_add_test(tc, the_dirty_rate_is_told_while_pages_are_tracked_and_takes_nobodys_bits);
	tcase_add_test(tc, a_vcpu_whose_thread_has_not_begun_has_run_nothing_and_hides_no_other);
	return run_tests("metrics", tc, NULL);
}
