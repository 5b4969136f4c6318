/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest and clumsy host programs against virtio-vsock. The input is a program: send packets
 * (well-formed ones on known streams, so that it gets deep, and anything else), post receive buffers
 * of every shape, answer what was received, connect, greet, write, read and leave as a host program,
 * let time run out, scribble over the rings. Both sides run on this thread's one loop, so that an
 * input always does the same. After each step the streams' books must balance, and at the end nothing
 * may be left.
 */
#include "tests/fuzz/input.h"
#include "virtio/vsock_private.h"
#include "vmm/base/log.h"

#include <linux/virtio_config.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define RAM	   KIB(512)
#define RING	   32u
#define RING_SPACE KIB(8) /* rings lie below, buffers behind */
#define CID	   5u
#define HOSTS	   12u	 /* sockets of host programs */
#define KNOWN	   8u	 /* port pairs that the guest remembers */
#define PORT	   7000u /* a host program listens there */

static struct guest_memory memory;
static struct loop *loop;
static struct virtio_device *device;
static struct vsock *vsock;
static char directory[] = "/tmp/fuzz_vsock.XXXXXX";
static char path[64], port_path[80];
static int hosts[HOSTS], listener;
static struct {
	uint32_t host_port, guest_port;
} known[KNOWN];
static unsigned known_count;
static uint16_t seen_used;
static uint64_t next_buffer;

/* ---- life: what device.c does with threads, without them ---- */

static void end_turn(struct loop_job *job)
{
	(void)job;
	loop_stop(loop);
}

static void turn(void)
{
	struct loop_job job = {.run = end_turn};
	struct error err;

	loop_post(loop, &job);
	BUG_ON(loop_run(loop, &err) < 0);
}

static void remove_files(void)
{
	unlink(path);
	unlink(port_path);
	rmdir(directory);
}

static int unix_socket(const char *at, bool listening)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, at);
	BUG_ON(fd < 0);
	if (listening) {
		BUG_ON(bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
			listen(fd, 2) < 0);
	} else if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void set_up(void)
{
	const struct guest_memory_config config = {
		.region_count = 1, .regions[0] = {.size = RAM}, .pages = MEMORY_PAGES_OFF};
	struct error err;

	BUG_ON(log_open("fuzz", LOG_ERROR, NULL, &err) < 0);
	BUG_ON(guest_memory_create(&config, &memory, &err) < 0 || loop_create(&loop, 64, &err) < 0);
	BUG_ON(!mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/v", directory);
	snprintf(port_path, sizeof(port_path), "%s_%u", path, PORT);
	listener = unix_socket(port_path, true);
	memset(hosts, 0xff, sizeof(hosts));
	atexit(remove_files);
}

static void create(struct input *in)
{
	const struct vsock_config config = {.cid = CID, .socket = path};
	uint64_t features;
	struct error err;

	BUG_ON(vsock_create(&config, &memory, loop, &device, &err) < 0);
	vsock = container_of(device, struct vsock, device);
	features = device->features & (take(in, 8) | 1ull << VIRTIO_F_VERSION_1);
	virtio_device_set_driver_features(device, 0, (uint32_t)features);
	virtio_device_set_driver_features(device, 1, (uint32_t)(features >> 32));
	virtio_device_set_status(device, VIRTIO_CONFIG_S_FEATURES_OK);
	known_count = 0;
	seen_used = 0;
	next_buffer = RING_SPACE;
}

static void start_queues(unsigned which)
{
	for (unsigned i = 0; i < VSOCK_QUEUES; i++) {
		struct device_queue *dq = &device->queues[i];
		uint64_t base = KIB(2) * i;

		dq->registers = (struct virtqueue_registers){
			.size = RING, .desc = base, .driver = base + 0x400, .device = base + 0x600};
		BUG_ON(virtqueue_start(
			       &dq->ring, &memory, &dq->registers, device->driver_features) < 0);
		if (!(which >> i & 1))
			continue;
		dq->enabled = dq->running = true;
		dq->loop = loop;
		device->queues_running++;
		device->ops->queue_start(dq);
	}
}

static void stop_queues(void)
{
	for (unsigned i = 0; i < VSOCK_QUEUES; i++) {
		struct device_queue *dq = &device->queues[i];

		if (!dq->running)
			continue;
		dq->stopping = true;
		device->ops->queue_stop(dq);
	}
	for (unsigned rounds = 0; device->queues_running; rounds++) {
		BUG_ON(rounds == 1000);
		turn();
	}
	BUG_ON(vsock->stream_count || vsock->greeting_count || vsock->large_count ||
		vsock->listening);
	BUG_ON(!TAILQ_EMPTY(&vsock->owing) || !TAILQ_EMPTY(&vsock->ready));
	for (unsigned i = 0; i < VSOCK_BUCKETS; i++)
		BUG_ON(vsock->buckets[i]);
}

/* ---- the guest ---- */

static void kick(unsigned queue)
{
	struct device_queue *dq = &device->queues[queue];

	if (device_queue_usable(dq))
		device->ops->queue_kicked(dq);
}

/* `len` bytes of RAM, which may be in use already. */
static uint64_t buffer(uint32_t len)
{
	uint64_t at = next_buffer + len <= RAM ? next_buffer : RING_SPACE;

	next_buffer = at + len;
	return at;
}

/* One chain of up to three descriptors, `len` bytes in all, cut where the input says. */
static void add(struct input *in, unsigned queue, uint64_t gpa, uint32_t len, bool writable)
{
	struct virtqueue_registers *r = &device->queues[queue].registers;
	unsigned pieces = 1 + take(in, 1) % 3;
	uint16_t idx = 0, head;

	guest_memory_read(&memory, r->driver + 2, &idx, 2);
	head = (uint16_t)(idx * 3 % RING);
	for (unsigned i = 0; i < pieces; i++) {
		uint32_t part = i + 1 == pieces ? len : (uint32_t)min_u64(len, take(in, 1));
		const struct vring_desc desc = {
			.addr = gpa,
			.len = part,
			.flags = (uint16_t)((i + 1 < pieces ? VRING_DESC_F_NEXT : 0) |
					    (writable ? VRING_DESC_F_WRITE : 0)),
			.next = (uint16_t)((head + i + 1) % RING),
		};

		guest_memory_write(&memory, r->desc + 16ull * ((head + i) % RING), &desc, 16);
		gpa += part;
		len -= part;
	}
	guest_memory_write(&memory, r->driver + 4 + 2u * (idx % RING), &head, 2);
	idx++;
	guest_memory_write(&memory, r->driver + 2, &idx, 2);
}

static void send_packet(struct input *in, struct virtio_vsock_hdr *hdr, uint32_t payload)
{
	uint64_t gpa = buffer((uint32_t)sizeof(*hdr) + payload);

	guest_memory_write(&memory, gpa, hdr, sizeof(*hdr));
	add(in, VSOCK_TX, gpa, (uint32_t)sizeof(*hdr) + payload, false);
	kick(VSOCK_TX);
}

static struct virtio_vsock_hdr packet_on_known(struct input *in)
{
	unsigned i = (unsigned)take(in, 1) % KNOWN;

	return (struct virtio_vsock_hdr){
		.src_cid = CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = i < known_count ? known[i].guest_port : i,
		.dst_port = i < known_count ? known[i].host_port : PORT,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = (uint16_t)(take(in, 1) % 9),
		.flags = (uint32_t)take(in, 1) % 4,
		.buf_alloc = (uint32_t)take(in, 2) * 8,
		.fwd_cnt = (uint32_t)take(in, 2),
	};
}

static void good_packet(struct input *in)
{
	struct virtio_vsock_hdr hdr = packet_on_known(in);
	uint32_t payload =
		hdr.op == VIRTIO_VSOCK_OP_RW ? (uint32_t)take(in, 2) * (1 + (hdr.flags & 1)) : 0;

	hdr.len = payload;
	send_packet(in, &hdr, payload);
}

static void bad_packet(struct input *in)
{
	struct virtio_vsock_hdr hdr = packet_on_known(in);
	unsigned what = (unsigned)take(in, 1);
	uint32_t payload = (uint32_t)take(in, 2);

	hdr.len = what & 1 ? (uint32_t)take(in, 4) : payload;
	if (what & 2)
		hdr.src_cid = take(in, 8);
	if (what & 4)
		hdr.dst_cid = take(in, 8);
	if (what & 8)
		hdr.type = (uint16_t)take(in, 2);
	if (what & 16)
		hdr.op = (uint16_t)take(in, 2);
	if (what & 32)
		hdr.src_port = (uint32_t)take(in, 4);
	if (what & 64)
		hdr.dst_port = (uint32_t)take(in, 4);
	if (what & 128)
		hdr.fwd_cnt = hdr.buf_alloc = (uint32_t)take(in, 4);
	send_packet(in, &hdr, payload);
}

static void connect_guest(struct input *in)
{
	struct virtio_vsock_hdr hdr = packet_on_known(in);

	hdr.op = VIRTIO_VSOCK_OP_REQUEST;
	hdr.src_port = (uint32_t)take(in, 1);
	hdr.dst_port = PORT;
	known[known_count % KNOWN].guest_port = hdr.src_port;
	known[known_count % KNOWN].host_port = PORT;
	known_count = known_count < KNOWN ? known_count + 1 : KNOWN;
	send_packet(in, &hdr, 0);
}

static void post_buffers(struct input *in)
{
	unsigned count = 1 + take(in, 1) % 8;
	uint32_t len = (uint32_t)take(in, 2) % 8192;

	if (take(in, 1) % 16)
		len += (uint32_t)sizeof(struct virtio_vsock_hdr) + 1;
	while (count--)
		add(in, VSOCK_RX, buffer(len), len, true);
	kick(VSOCK_RX);
}

/* Look at what came in: requests are accepted, and known from then on. */
static void receive(struct input *in)
{
	const struct virtqueue_registers *r = &device->queues[VSOCK_RX].registers;
	struct vring_used_elem elem;
	struct vring_desc desc;
	struct virtio_vsock_hdr hdr;
	uint16_t idx = 0;

	guest_memory_read(&memory, r->device + 2, &idx, 2);
	for (unsigned i = 0; i < RING && seen_used != idx; i++, seen_used++) {
		guest_memory_read(&memory, r->device + 4 + 8u * (seen_used % RING), &elem, 8);
		guest_memory_read(&memory, r->desc + 16ull * (elem.id % RING), &desc, 16);
		if (!guest_memory_read(&memory, desc.addr, &hdr, sizeof(hdr)) ||
			hdr.op != VIRTIO_VSOCK_OP_REQUEST)
			continue;
		known[known_count % KNOWN].guest_port = hdr.dst_port;
		known[known_count % KNOWN].host_port = hdr.src_port;
		known_count = known_count < KNOWN ? known_count + 1 : KNOWN;
		hdr = (struct virtio_vsock_hdr){.src_cid = CID,
			.dst_cid = VSOCK_HOST_CID,
			.src_port = hdr.dst_port,
			.dst_port = hdr.src_port,
			.type = VIRTIO_VSOCK_TYPE_STREAM,
			.op = VIRTIO_VSOCK_OP_RESPONSE,
			.buf_alloc = (uint32_t)take(in, 2) * 8};
		send_packet(in, &hdr, 0);
	}
}

static void scribble(struct input *in)
{
	uint64_t at = take(in, 2) % RING_SPACE, len = 1 + take(in, 1) % 32;
	uint8_t bytes[32];

	for (unsigned i = 0; i < len; i++)
		bytes[i] = (uint8_t)take(in, 1);
	guest_memory_write(&memory, at, bytes, len);
}

/* ---- host programs ---- */

static void host_begin(struct input *in)
{
	unsigned i = (unsigned)take(in, 1) % HOSTS;
	char line[32];
	int len = snprintf(line, sizeof(line), "CONNECT %u\nabc", (unsigned)take(in, 1) % 16);

	if (hosts[i] >= 0)
		close(hosts[i]);
	hosts[i] = unix_socket(path, false);
	if (hosts[i] < 0)
		return;
	if (take(in, 1) % 8 == 0) /* some bytes of it wrong, or missing */
		line[take(in, 1) % (unsigned)len] = (char)take(in, 1);
	(void)!send(hosts[i], line, (size_t)len - take(in, 1) % 8, MSG_NOSIGNAL);
}

static void host_act(struct input *in)
{
	static uint8_t bytes[65536];
	int *fd = &hosts[take(in, 1) % HOSTS];
	unsigned what = (unsigned)take(in, 1) % 8;

	if (*fd < 0)
		*fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (*fd < 0)
		return;
	if (what < 3) {
		(void)!send(*fd, bytes, take(in, 2), MSG_NOSIGNAL);
	} else if (what < 6) {
		(void)!recv(*fd, bytes, take(in, 2), 0);
	} else if (what == 6) {
		shutdown(*fd, (int)take(in, 1) % 3);
	} else {
		close(*fd);
		*fd = -1;
	}
}

static void hosts_leave(void)
{
	int fd;

	for (unsigned i = 0; i < HOSTS; i++) {
		if (hosts[i] >= 0)
			close(hosts[i]);
		hosts[i] = -1;
	}
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
		close(fd);
}

/* ---- time and other events ---- */

static void time_out(struct input *in)
{
	unsigned skip = (unsigned)take(in, 1) % 8;
	struct vsock_stream *s;

	TAILQ_FOREACH(s, &vsock->streams, all)
	{
		if (!s->timer.deadline_ns || skip--)
			continue;
		loop_timer_clear(loop, &s->timer);
		s->dial_deadline = 0;
		s->timer.fire(&s->timer);
		return;
	}
}

static void event(struct input *in)
{
	vsock_transport_reset(device);
	if (take(in, 1) % 2)
		add(in, VSOCK_EVENT, buffer(8), 8, true);
	kick(VSOCK_EVENT);
}

/* Sockets that hold little, so that the guest's data has to wait. */
static void narrow(void)
{
	const int least = 1;
	struct vsock_stream *s;

	TAILQ_FOREACH(s, &vsock->streams, all)
	if (s->fd >= 0)
		setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
}

/* ---- what must hold ---- */

static void check_books(void)
{
	unsigned streams = 0, greetings = 0, large = 0;
	struct vsock_stream *s;

	TAILQ_FOREACH(s, &vsock->streams, all)
	{
		streams++;
		large += s->large;
		greetings += s->state == VSOCK_GREETING;
		BUG_ON(s->waiting > s->buf_alloc);
		BUG_ON(!s->buffer != !s->waiting);
		BUG_ON(s->waiting != s->received - s->forwarded);
		BUG_ON(s->closing && s->waiting);
		BUG_ON(s->is_ready && s->state != VSOCK_OPEN);
		BUG_ON(s->state == VSOCK_RESETTING && s->owes != VSOCK_OWES_RST);
		BUG_ON((s->state == VSOCK_DEAD || s->state == VSOCK_FLUSHING) && s->in_table);
		BUG_ON(s->in_table && vsock_stream_find(vsock, s->host_port, s->guest_port) != s);
	}
	BUG_ON(streams != vsock->stream_count || greetings != vsock->greeting_count);
	BUG_ON(large != vsock->large_count || vsock->refusal_count > VSOCK_REFUSALS);
	TAILQ_FOREACH(s, &vsock->owing, owing)
	BUG_ON(!s->owes);
	TAILQ_FOREACH(s, &vsock->ready, ready)
	BUG_ON(!s->is_ready);
}

static void step(struct input *in)
{
	static void (*const steps[])(struct input *) = {good_packet, good_packet, good_packet,
		good_packet, bad_packet, connect_guest, post_buffers, post_buffers, receive,
		host_begin, host_act, host_act, host_act, time_out, event};
	unsigned which = (unsigned)take(in, 1) % (ARRAY_SIZE(steps) + 4);

	if (which < ARRAY_SIZE(steps))
		steps[which](in);
	else if (which == ARRAY_SIZE(steps) && take(in, 1) % 8 == 0)
		scribble(in);
	else
		turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	unsigned which;

	if (!loop)
		set_up();
	guest_memory_zero(&memory, 0, RAM);
	create(&in);
	which = (unsigned)take(&in, 1);
	start_queues(which % 8 ? 7 : which / 8);
	while (in.left) {
		step(&in);
		if (take(&in, 1) % 2)
			turn();
		narrow();
		check_books();
	}
	stop_queues();
	hosts_leave();
	virtio_device_destroy(device);
	return 0;
}
