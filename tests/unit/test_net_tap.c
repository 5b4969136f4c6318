/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net on real taps, in a network namespace of the test's own: opening and its errors, what the
 * host's kernel is told, packets both ways, queue pairs; and all of it again with vhost-net where the
 * kernel has it. Without the right to make a namespace or a tap, nothing is tested, which is said.
 */
#include "tests/unit/driver.h"
#include "tests/unit/runner.h"
#include "virtio/net_private.h"
#include "virtio/tap.h"
#include "vmm/memory/dirty.h"
#include "vmm/memory/pages.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define BIT(f)	(1ull << (f))
#define WAIT_MS 40000
#define BUFFER	2048u
#define FRAME	200u
#define NO_OFFLOAD                                                                                 \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_CTRL_VQ) |       \
		BIT(VIRTIO_NET_F_MQ))

static struct driver d;
static int wire = -1; /* a packet socket on the tap: the host's end */

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};

/* ---- the host ---- */

static struct ifreq named(const char *name)
{
	struct ifreq ifr;

	memset(&ifr, 0, sizeof(ifr));
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return ifr;
}

static struct ifreq interface(unsigned long request, struct ifreq ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	ck_assert_int_eq(ioctl(fd, request, &ifr), 0);
	close(fd);
	return ifr;
}

static int open_tun(const char *name, int flags)
{
	struct ifreq ifr = named(name);
	int fd = open("/dev/net/tun", O_RDWR);

	ifr.ifr_flags = (short)flags;
	ck_assert_int_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
	return fd;
}

/* An interface that stays when nobody has it open, as `ip tuntap add` makes. */
static void make_tap(const char *name, int flags)
{
	int fd = open_tun(name, IFF_TAP | IFF_NO_PI | flags);

	ck_assert_int_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
}

static bool has_tso(const char *name)
{
	struct ethtool_value value = {.cmd = ETHTOOL_GTSO};
	struct ifreq ifr = named(name);

	ifr.ifr_data = (void *)&value;
	interface(SIOCETHTOOL, ifr);
	return value.data;
}

static void open_wire(const char *name)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP)};

	address.sll_ifindex = interface(SIOCGIFINDEX, named(name)).ifr_ifindex;
	wire = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_IP));
	ck_assert_int_eq(bind(wire, (struct sockaddr *)&address, sizeof(address)), 0);
}

/* A UDP frame, whose source port makes the flow and whose body says `seed`. */
static void make_frame(uint8_t frame[FRAME], unsigned port, uint8_t seed)
{
	memset(frame, seed, FRAME);
	memcpy(frame, mac, 6);
	memcpy(frame + 6, (uint8_t[]){2, 0, 0, 0, 0, 2, 8, 0}, 8);
	memcpy(frame + 14,
		(uint8_t[]){
			0x45, 0, 0, FRAME - 14, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2},
		20);
	memcpy(frame + 34,
		(uint8_t[]){(uint8_t)(port >> 8), (uint8_t)port, 0, 9, 0, FRAME - 34, 0, 0}, 8);
}

static void host_send(unsigned port, uint8_t seed)
{
	uint8_t frame[FRAME];

	make_frame(frame, port, seed);
	ck_assert_int_eq(send(wire, frame, FRAME, 0), FRAME);
}

/* Wait for the frame that guest_send() sends; others (there is IPv4 only) do not come. */
static bool host_receives(unsigned port, uint8_t seed, int ms)
{
	struct pollfd readable = {.fd = wire, .events = POLLIN};
	uint8_t expected[FRAME], got[2048];

	make_frame(expected, port, seed);
	while (poll(&readable, 1, ms) == 1)
		if (recv(wire, got, sizeof(got), 0) == FRAME && !memcmp(got, expected, FRAME))
			return true;
	return false;
}

/* ---- the guest ---- */

static uint64_t chain_gpa[DRIVER_QUEUES_MAX][NET_QUEUE_SIZE];

static void create(struct net_config config)
{
	struct error err;

	driver_create(&d, MIB(16));
	config.id = "net0";
	config.fd = config.tap ? -1 : config.fd;
	config.queues = config.queues ? config.queues : 1;
	memcpy(config.mac, mac, sizeof(mac));
	if (net_create(&config, &d.memory, d.main_loop, &d.device, &err) < 0)
		ck_abort_msg("%s (%s)", err.text, err.hint);
	if (config.tap)
		open_wire(config.tap);
}

static void post_rx(unsigned queue, unsigned count)
{
	struct driver_queue *q = driver_queue(&d, queue);

	for (unsigned i = 0; i < count; i++) {
		struct driver_segment segment = {
			.gpa = driver_alloc(&d, BUFFER, 64), .len = BUFFER, .writable = true};

		chain_gpa[queue][driver_add(q, &segment, 1)] = segment.gpa;
	}
	driver_kick(q);
}

/* The seed of the next frame of FRAME bytes on this queue, -1 when none comes. */
static int guest_receives(unsigned queue, unsigned ms)
{
	struct driver_queue *q = driver_queue(&d, queue);
	uint16_t head;
	uint32_t len;

	while (driver_wait_used(q, &head, &len, ms)) {
		const uint8_t *packet = driver_host(&d, chain_gpa[queue][head], BUFFER);

		if (len == NET_HEADER + FRAME && packet[NET_HEADER + 12] == 8)
			return packet[NET_HEADER + FRAME - 1];
	}
	return -1;
}

static void guest_send(unsigned queue, unsigned port, uint8_t seed)
{
	struct driver_queue *q = driver_queue(&d, queue);
	struct driver_segment segment = {
		.gpa = driver_alloc(&d, NET_HEADER + FRAME, 2), .len = NET_HEADER + FRAME};

	make_frame((uint8_t *)driver_host(&d, segment.gpa, segment.len) + NET_HEADER, port, seed);
	driver_add(q, &segment, 1);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
}

static uint8_t set_pairs(uint16_t pairs)
{
	struct driver_queue *q = driver_queue(&d, d.device->queue_count - 1);
	uint64_t gpa = driver_alloc(&d, 8, 8);
	uint8_t *at = driver_host(&d, gpa, 8);

	at[0] = VIRTIO_NET_CTRL_MQ;
	at[1] = VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
	memcpy(at + 2, &pairs, 2);
	driver_add(q,
		(struct driver_segment[]){
			{.gpa = gpa, .len = 4}, {.gpa = gpa + 4, .len = 1, .writable = true}},
		2);
	driver_kick(q);
	ck_assert(driver_wait_used(q, NULL, NULL, WAIT_MS));
	return at[4];
}

static void restart(uint64_t features)
{
	d.heap_next = 4096;
	memset(driver_host(&d, 4096, MIB(16) - 4096), 0, MIB(16) - 4096);
	ck_assert(driver_start(&d, features, 64));
}

static void end(void)
{
	driver_destroy(&d);
	close(wire);
}

/* ---- opening ---- */

static int try_open(const char *name, unsigned queues, struct error *err)
{
	int fds[NET_QUEUE_PAIRS_MAX];
	int ret = tap_open(name, queues, fds, err);

	for (unsigned i = 0; ret == 0 && i < queues; i++)
		close(fds[i]);
	return ret;
}

START_TEST(a_tap_that_does_not_exist_is_created_up)
{
	struct error err;
	int fd;

	ck_assert_int_eq(tap_open("new0", 1, &fd, &err), 0);
	ck_assert(interface(SIOCGIFFLAGS, named("new0")).ifr_flags & IFF_UP);
	close(fd);
	/* ... and is gone with its descriptor. */
	ck_assert_int_eq(tap_open("new0", 2, (int[2]){0}, &err), 0);
}
END_TEST

START_TEST(a_tap_that_exists_is_left_down_if_it_is)
{
	struct error err;

	make_tap("tap0", 0);
	ck_assert_int_eq(try_open("tap0", 1, &err), 0);
	ck_assert(!(interface(SIOCGIFFLAGS, named("tap0")).ifr_flags & IFF_UP));
}
END_TEST

START_TEST(a_tap_in_use_is_refused)
{
	struct ifreq up = named("many0");
	struct error err;
	int fd, fds[2];

	make_tap("one0", 0);
	ck_assert_int_eq(tap_open("one0", 1, &fd, &err), 0);
	ck_assert_int_lt(try_open("one0", 1, &err), 0);
	ck_assert_msg(strstr(err.text, "tap 'one0' is in use"), "%s", err.text);
	ck_assert_int_lt(try_open("one0", 2, &err), 0);
	ck_assert_msg(strstr(err.text, "tap 'one0' is in use"), "%s", err.text);
	/* The kernel itself would let us join a multi-queue tap. */
	make_tap("many0", IFF_MULTI_QUEUE);
	up.ifr_flags = IFF_UP;
	interface(SIOCSIFFLAGS, up);
	ck_assert_int_eq(tap_open("many0", 2, fds, &err), 0);
	ck_assert_int_lt(try_open("many0", 2, &err), 0);
	ck_assert_msg(strstr(err.text, "tap 'many0' is in use"), "%s", err.text);
	ck_assert_int_lt(try_open("many0", 1, &err), 0);
	ck_assert_msg(strstr(err.text, "tap 'many0' is in use"), "%s", err.text);
	close(fds[0]);
	close(fds[1]);
	ck_assert_int_eq(try_open("many0", 2, &err), 0);
	ck_assert_int_eq(try_open("many0", 1, &err), 0);
	close(fd);
}
END_TEST

START_TEST(what_is_no_tap_or_has_too_few_queues_is_told_apart)
{
	struct error err;

	make_tap("one0", 0);
	ck_assert_int_lt(try_open("lo", 1, &err), 0);
	ck_assert_msg(strstr(err.text, "the interface 'lo' is not a tap"), "%s", err.text);
	ck_assert_int_lt(try_open("lo", 2, &err), 0);
	ck_assert_msg(strstr(err.text, "the interface 'lo' is not a tap"), "%s", err.text);
	ck_assert_int_lt(try_open("one0", 2, &err), 0);
	ck_assert_msg(strstr(err.text, "tap 'one0' has one queue, but queues=2"), "%s", err.text);
	ck_assert_msg(strstr(err.hint, "multi_queue"), "%s", err.hint);
}
END_TEST

START_TEST(a_descriptor_must_be_a_tap_with_headers)
{
	int tun = open_tun("tun0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR);
	int bare = open_tun("bare0", IFF_TAP | IFF_NO_PI);
	int good = open_tun("good0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	struct error err;

	ck_assert_int_lt(tap_adopt(0, &err), 0);
	ck_assert_msg(strstr(err.text, "descriptor 0 is not an open tap"), "%s", err.text);
	ck_assert_int_lt(tap_adopt(tun, &err), 0);
	ck_assert_msg(strstr(err.text, "('tun0') is attached in the wrong mode"), "%s", err.text);
	ck_assert_int_lt(tap_adopt(bare, &err), 0);
	ck_assert_msg(strstr(err.hint, "IFF_VNET_HDR"), "%s", err.hint);
	ck_assert_int_eq(tap_adopt(good, &err), 0);
	ck_assert(fcntl(good, F_GETFL) & O_NONBLOCK);
	ck_assert(fcntl(good, F_GETFD) & FD_CLOEXEC);
}
END_TEST

START_TEST(the_taps_mtu_is_the_guests_where_it_is_not_the_usual_one)
{
	struct ifreq mtu = named("tap0");
	uint16_t got;

	make_tap("tap0", 0);
	create((struct net_config){.tap = "tap0"});
	ck_assert(!(d.device->features & BIT(VIRTIO_NET_F_MTU)));
	end();
	mtu.ifr_mtu = 9000;
	interface(SIOCSIFMTU, mtu);
	create((struct net_config){.tap = "tap0"});
	ck_assert(d.device->features & BIT(VIRTIO_NET_F_MTU));
	driver_config_read(&d, offsetof(struct virtio_net_config, mtu), &got, sizeof(got));
	ck_assert_uint_eq(got, 9000);
	end();
}
END_TEST

/* ---- packets; run with vhost off and, where there is one, on ---- */

static const bool vhost_modes[] = {false, true};

START_TEST(packets_pass_both_ways)
{
	create((struct net_config){.tap = "tap0", .vhost = vhost_modes[_i]});
	ck_assert(driver_start(&d, DRIVER_ALL_FEATURES, 64));
	post_rx(0, 64);
	for (unsigned i = 0; i < 60; i++) {
		guest_send(1, i, (uint8_t)i);
		ck_assert(host_receives(i, (uint8_t)i, WAIT_MS));
		host_send(1000 + i, (uint8_t)i);
		ck_assert_int_eq(guest_receives(0, WAIT_MS), (int)i);
	}
	end();
}
END_TEST

/* ---- what is written to guest memory, by us or by the kernel ---- */

static struct page_set marked;
static uint64_t *before;

static void watch(void)
{
	page_set_clear(&marked);
	guest_memory_marked(&d.memory, &marked);
	guest_memory_unmark(&d.memory, &marked, 0, marked.count);
	free(before);
	before = driver_copy_ram(&d);
}

/* Of the first queue's buffers and both used rings; the rest the driver writes itself. */
static bool is_devices(uint64_t page)
{
	const struct virtqueue_registers *rx = &d.queues[0].registers, *tx = &d.queues[1].registers;

	return page == rx->device / KIB(4) || page == tx->device / KIB(4) ||
	       page >= (d.queues[d.queue_count - 1].registers.device / KIB(4)) + 1;
}

/* The kernel logs behind what it does: it may still be at it when the guest has its packet. */
static bool all_marked(void)
{
	uint64_t limit = now_ns() + WAIT_MS * 1000000ull, changed = 0, missing;

	do {
		missing = changed = 0;
		guest_memory_marked(&d.memory, &marked);
		for (uint64_t page = 0; page < marked.count; page++) {
			if (!is_devices(page) || !driver_page_differs(&d, before, page))
				continue;
			changed++;
			missing += !page_set_has(&marked, page);
		}
	} while (missing && now_ns() < limit);
	return changed >= 2 && !missing;
}

static void receive_ten(unsigned seed)
{
	for (unsigned i = seed; i < seed + 10; i++) {
		host_send(1000 + i, (uint8_t)i);
		ck_assert_int_eq(guest_receives(0, WAIT_MS), (int)i);
	}
}

START_TEST(what_comes_and_goes_is_marked_as_written_while_somebody_follows)
{
	struct error err;

	create((struct net_config){.tap = "tap0", .vhost = vhost_modes[_i]});
	ck_assert_int_eq(page_set_create(&marked, guest_memory_pages(&d.memory), &err), 0);
	ck_assert(driver_start(&d, DRIVER_ALL_FEATURES, 64));
	post_rx(0, 60);
	receive_ten(0);
	ck_assert_int_eq(guest_memory_follow(&d.memory, &err), 0);
	watch();
	receive_ten(10);
	ck_assert(all_marked());
	watch();
	guest_send(1, 1, 1);
	ck_assert(host_receives(1, 1, WAIT_MS));
	for (unsigned i = 0;
		i < WAIT_MS && !page_set_has(&marked, d.queues[1].registers.device / KIB(4)); i++) {
		usleep(1000);
		guest_memory_marked(&d.memory, &marked);
	}
	ck_assert(page_set_has(&marked, d.queues[1].registers.device / KIB(4)));
	/* Off and on again; and a device that starts meanwhile. */
	guest_memory_unfollow(&d.memory);
	receive_ten(20);
	ck_assert_int_eq(guest_memory_follow(&d.memory, &err), 0);
	watch();
	receive_ten(30);
	ck_assert(all_marked());
	driver_reset(&d);
	restart(DRIVER_ALL_FEATURES);
	post_rx(0, 60);
	watch();
	receive_ten(40);
	ck_assert(all_marked());
	guest_memory_unfollow(&d.memory);
	free(before);
	page_set_destroy(&marked);
	end();
}
END_TEST

START_TEST(the_host_is_told_what_the_driver_can_take)
{
	create((struct net_config){.tap = "tap0", .vhost = vhost_modes[_i]});
	ck_assert(driver_start(&d, DRIVER_ALL_FEATURES, 64));
	post_rx(0, 60);
	host_send(1, 1);
	ck_assert_int_eq(guest_receives(0, WAIT_MS), 1);
	ck_assert(has_tso("tap0"));
	driver_reset(&d);
	restart(NO_OFFLOAD);
	post_rx(0, 60);
	host_send(1, 2);
	ck_assert_int_eq(guest_receives(0, WAIT_MS), 2);
	ck_assert(!has_tso("tap0"));
	end();
}
END_TEST

/* Send 80 flows, and count what each pair gets; fewer when none has come for a second. */
static void spread(unsigned got[2], uint8_t seed)
{
	uint64_t last;

	post_rx(0, driver_queue(&d, 0)->free_count);
	post_rx(2, driver_queue(&d, 2)->free_count);
	for (unsigned i = 0; i < 80; i++)
		host_send(i, seed);
	got[0] = got[1] = 0;
	last = now_ns();
	while (got[0] + got[1] < 80 && now_ns() - last < 1000000000) {
		for (unsigned pair = 0; pair < 2; pair++) {
			if (guest_receives(2 * pair, 1) < 0)
				continue;
			got[pair]++;
			last = now_ns();
		}
	}
}

START_TEST(flows_go_to_the_active_pairs_only)
{
	unsigned got[2], tries = 0;

	create((struct net_config){.tap = "tap0", .queues = 2, .vhost = vhost_modes[_i]});
	ck_assert(driver_start(&d, DRIVER_ALL_FEATURES, 256));
	spread(got, 1);
	ck_assert_uint_eq(got[0], 80);
	ck_assert_uint_eq(got[1], 0);
	/* The command is answered before the host's kernel has been told. */
	ck_assert_uint_eq(set_pairs(2), VIRTIO_NET_OK);
	do
		spread(got, 2);
	while (!got[1] && ++tries < 20);
	ck_assert_uint_gt(got[0], 0);
	ck_assert_uint_gt(got[1], 0);
	spread(got, 3);
	ck_assert_uint_eq(got[0] + got[1], 80);
	for (unsigned i = 0; i < 40; i++) {
		guest_send(1 + 2 * (i & 1), i, (uint8_t)i);
		ck_assert(host_receives(i, (uint8_t)i, WAIT_MS));
	}
	ck_assert_uint_eq(set_pairs(1), VIRTIO_NET_OK);
	for (tries = 0, got[0] = 0; got[0] < 80 && tries < 20; tries++)
		spread(got, 4);
	ck_assert_uint_eq(got[0], 80);
	ck_assert_uint_eq(got[1], 0);
	end();
}
END_TEST

START_TEST(a_reset_gives_back_a_working_device)
{
	create((struct net_config){.tap = "tap0", .queues = 2, .vhost = vhost_modes[_i]});
	for (unsigned round = 0; round < 10; round++) {
		restart(DRIVER_ALL_FEATURES);
		post_rx(0, 60);
		post_rx(2, 60);
		ck_assert_uint_eq(set_pairs(round % 2 + 1), VIRTIO_NET_OK);
		for (unsigned i = 0; i < 20; i++)
			host_send(i, (uint8_t)i);
		guest_send(1, round, (uint8_t)round);
		ck_assert(host_receives(round, (uint8_t)round, WAIT_MS));
		driver_reset(&d);
	}
	end();
}
END_TEST

static bool breaks(unsigned ms)
{
	uint64_t end = now_ns() + ms * 1000000ull;

	while (!(atomic_load(&d.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET) && now_ns() < end)
		usleep(1000);
	return atomic_load(&d.device->status) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

START_TEST(a_broken_ring_stops_the_device_until_it_is_reset)
{
	create((struct net_config){.tap = "tap0", .queues = 2, .vhost = vhost_modes[_i]});
	for (unsigned round = 0; round < 8; round++) {
		unsigned queue = round & 1;

		restart(DRIVER_ALL_FEATURES);
		if (!queue)
			post_rx(0, 60);
		/* more than it has entries */
		__atomic_fetch_add(&driver_queue(&d, queue)->avail->idx, 300, __ATOMIC_RELEASE);
		virtio_device_kick(d.device, queue);
		host_send(1,
			1); /* the kernel looks at a receive ring when there is something to put in */
		ck_assert(breaks(WAIT_MS));
		/* A reset comes while the kernel's side is being stopped, and when it long has been. */
		if (round & 2)
			usleep(20000);
		driver_reset(&d);
		restart(DRIVER_ALL_FEATURES);
		post_rx(0, 60);
		guest_send(1, round, (uint8_t)round);
		ck_assert(host_receives(round, (uint8_t)round, WAIT_MS));
		host_send(1, (uint8_t)(100 + round));
		while (guest_receives(0, WAIT_MS) != (int)(100 + round))
			ck_assert(!breaks(0));
		driver_reset(&d);
	}
	end();
}
END_TEST

START_TEST(an_interface_that_goes_away_hurts_nobody_else)
{
	create((struct net_config){.tap = "tap0", .vhost = vhost_modes[_i]});
	ck_assert(driver_start(&d, DRIVER_ALL_FEATURES, 64));
	post_rx(0, 60);
	guest_send(1, 1, 1);
	ck_assert_int_eq(system("ip link del tap0"), 0);
	if (vhost_modes[_i]) /* which forgets the chains that it fails to send */
		virtio_device_kick(d.device, 1);
	else
		guest_send(1, 2, 2);
	driver_reset(&d);
	restart(DRIVER_ALL_FEATURES);
	end();
}
END_TEST

/* ---- the namespace ---- */

static const char *why_not(void)
{
	int fd;

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return "no right to make a network namespace";
	fd = open("/dev/net/tun", O_RDWR);
	if (fd < 0)
		return "/dev/net/tun cannot be opened";
	close(fd);
	return NULL;
}

static void add_packet_tests(TCase *tcase)
{
	int modes = access("/dev/vhost-net", R_OK | W_OK) == 0 ? 2 : 1;

	if (modes == 1)
		printf("test_net_tap: not tested with vhost: this host has no /dev/vhost-net\n");
	tcase_add_loop_test(tcase, packets_pass_both_ways, 0, modes);
	tcase_add_loop_test(
		tcase, what_comes_and_goes_is_marked_as_written_while_somebody_follows, 0, modes);
	tcase_add_loop_test(tcase, the_host_is_told_what_the_driver_can_take, 0, modes);
	tcase_add_loop_test(tcase, flows_go_to_the_active_pairs_only, 0, modes);
	tcase_add_loop_test(tcase, a_reset_gives_back_a_working_device, 0, modes);
	tcase_add_loop_test(tcase, a_broken_ring_stops_the_device_until_it_is_reset, 0, modes);
	tcase_add_loop_test(tcase, an_interface_that_goes_away_hurts_nobody_else, 0, modes);
}

static void fresh_namespace(void)
{
	int fd;

	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	/* IPv6 announces itself on a new interface, which would take buffers from what is tested. */
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);
	if (fd >= 0) {
		ck_assert_int_eq(write(fd, "1", 1), 1);
		close(fd);
	}
}

int main(void)
{
	const char *reason = why_not();
	TCase *tcase = tcase_create("tap");

	if (reason) {
		printf("test_net_tap: skipped: %s\n", reason);
		return 77;
	}
	tcase_set_timeout(tcase, 50);
	tcase_add_checked_fixture(tcase, fresh_namespace, NULL);
	tcase_add_test(tcase, a_tap_that_does_not_exist_is_created_up);
	tcase_add_test(tcase, a_tap_that_exists_is_left_down_if_it_is);
	tcase_add_test(tcase, a_tap_in_use_is_refused);
	tcase_add_test(tcase, what_is_no_tap_or_has_too_few_queues_is_told_apart);
	tcase_add_test(tcase, a_descriptor_must_be_a_tap_with_headers);
	tcase_add_test(tcase, the_taps_mtu_is_the_guests_where_it_is_not_the_usual_one);
	add_packet_tests(tcase);
	return run_tests("net_tap", tcase, NULL);
}
