/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vsock_guest.h"

#include "virtio/vsock_private.h"
#include "vmm/base/log.h"
#include "vmm/machine/sandbox.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define HEADER ((uint32_t)sizeof(struct virtio_vsock_hdr))

/* ---- the device ---- */

/* The filter of a real VM's I/O threads: a call that it forbids ends the test. Sanitizers make calls
 * of their own, so there is none with them. */
static void enter_thread(void *arg)
{
	struct error err;

	(void)arg;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	BUG_ON(sandbox_enter(SANDBOX_IO, SECCOMP_ON, &err) < 0);
#else
	(void)err;
#endif
}

void guest_create(struct guest *g)
{
	struct vsock_config config = {.cid = GUEST_CID};
	struct error err = {0};

	memset(g, 0, sizeof(*g));
	g->rx_payload = GUEST_RX_LEN;
	strcpy(g->directory, "/tmp/test_vsock.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(g->directory));
	snprintf(g->path, sizeof(g->path), "%s/v", g->directory);
	driver_create(&g->driver, MIB(8));
	config.socket = g->path;
	ck_assert_msg(vsock_create(&config, &g->driver.memory, g->driver.main_loop,
			      &g->driver.device, &err) == 0,
		"%s", err.text);
	g->driver.device->thread_enter = enter_thread;
	for (unsigned i = 0; i < GUEST_RX; i++)
		g->rx_gpa[i] = driver_alloc(&g->driver, HEADER + GUEST_RX_LEN, 8);
	for (unsigned i = 0; i < GUEST_TX; i++)
		g->tx_gpa[i] = driver_alloc(&g->driver, HEADER + GUEST_TX_LEN, 8);
}

static void post(struct guest *g, unsigned i)
{
	/* In two descriptors, as Linux 6.1 does, or in one, as its successors. */
	const struct driver_segment two[] = {
		{g->rx_gpa[i], HEADER, true}, {g->rx_gpa[i] + HEADER, g->rx_payload, true}};
	const struct driver_segment one = {g->rx_gpa[i], HEADER + g->rx_payload, true};
	struct driver_queue *rx = driver_queue(&g->driver, 0);

	g->rx_of_head[i % 2 ? driver_add(rx, two, 2) : driver_add(rx, &one, 1)] = i;
}

void guest_post_rx(struct guest *g)
{
	for (unsigned i = 0; i < GUEST_RX; i++)
		post(g, i);
	driver_kick(driver_queue(&g->driver, 0));
}

void guest_start_deaf(struct guest *g, uint64_t features)
{
	memset(g->tx_busy, 0, sizeof(g->tx_busy));
	ck_assert(driver_start(&g->driver, features, 256));
}

void guest_start(struct guest *g, uint64_t features)
{
	guest_start_deaf(g, features);
	guest_post_rx(g);
}

void guest_open(struct guest *g)
{
	guest_create(g);
	guest_start(g, DRIVER_ALL_FEATURES);
}

void guest_close(struct guest *g)
{
	char command[128];

	driver_destroy(&g->driver);
	ck_assert_msg(access(g->path, F_OK) < 0 && errno == ENOENT, "%s is still there", g->path);
	snprintf(command, sizeof(command), "rm -r %s", g->directory);
	ck_assert_int_eq(system(command), 0);
}

/* ---- guest to device ---- */

static bool take_sent(struct guest *g)
{
	uint16_t head;

	if (!driver_poll_used(driver_queue(&g->driver, 1), &head, NULL))
		return false;
	g->tx_busy[g->tx_of_head[head]] = false;
	return true;
}

static bool all_sent(const struct guest *g)
{
	for (unsigned i = 0; i < GUEST_TX; i++)
		if (g->tx_busy[i])
			return false;
	return true;
}

bool guest_sent(struct guest *g, unsigned ms)
{
	uint64_t limit = now_ns() + ms * 1000000ull;

	while (!all_sent(g)) {
		if (take_sent(g))
			continue;
		if (now_ns() > limit)
			return false;
		usleep(50);
	}
	return true;
}

static unsigned free_slot(struct guest *g)
{
	uint64_t limit = now_ns() + WAIT_MS * 1000000ull;

	for (;;) {
		for (unsigned i = 0; i < GUEST_TX; i++)
			if (!g->tx_busy[i])
				return i;
		if (!take_sent(g))
			usleep(20);
		ck_assert_msg(now_ns() < limit, "the device takes no packets");
	}
}

void guest_send_raw(
	struct guest *g, const struct virtio_vsock_hdr *hdr, const void *data, uint32_t payload)
{
	unsigned i = free_slot(g);
	uint8_t *buffer = driver_host(&g->driver, g->tx_gpa[i], HEADER + GUEST_TX_LEN);
	const struct driver_segment segments[] = {
		{g->tx_gpa[i], HEADER, false}, {g->tx_gpa[i] + HEADER, payload, false}};

	memcpy(buffer, hdr, HEADER);
	if (payload)
		memcpy(buffer + HEADER, data, payload);
	g->tx_busy[i] = true;
	g->tx_of_head[driver_add(driver_queue(&g->driver, 1), segments, payload ? 2 : 1)] = i;
	driver_kick(driver_queue(&g->driver, 1));
}

void guest_send(struct guest *g, const struct connection *c, uint16_t op, uint32_t flags,
	const void *data, uint32_t len)
{
	const struct virtio_vsock_hdr hdr = {
		.src_cid = GUEST_CID,
		.dst_cid = 2,
		.src_port = c->guest_port,
		.dst_port = c->host_port,
		.len = len,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.flags = flags,
		.buf_alloc = c->buf_alloc,
		.fwd_cnt = c->forwarded,
	};

	guest_send_raw(g, &hdr, data, len);
}

static void take_credit(struct connection *c, const struct virtio_vsock_hdr *hdr)
{
	c->peer_buf_alloc = hdr->buf_alloc;
	c->peer_forwarded = hdr->fwd_cnt;
}

void guest_send_data(struct guest *g, struct connection *c, const uint8_t *data, size_t len)
{
	struct packet p;

	while (len) {
		uint32_t credit = c->peer_buf_alloc - (c->sent - c->peer_forwarded);
		uint32_t n = (uint32_t)min_u64(min_u64(credit, len), GUEST_TX_LEN);

		if (!n) {
			ck_assert(guest_receive(g, &p, WAIT_MS));
			ck_assert_int_eq(p.hdr.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			take_credit(c, &p.hdr);
			continue;
		}
		guest_send(g, c, VIRTIO_VSOCK_OP_RW, 0, data, n);
		c->sent += n;
		data += n;
		len -= n;
	}
}

/* ---- device to guest ---- */

bool guest_receive(struct guest *g, struct packet *p, unsigned ms)
{
	struct driver_queue *rx = driver_queue(&g->driver, 0);
	uint16_t head;
	uint32_t len;

	if (!driver_wait_used(rx, &head, &len, ms))
		return false;
	ck_assert_uint_ge(len, HEADER);
	ck_assert_uint_le(len, HEADER + g->rx_payload);
	memcpy(p, driver_host(&g->driver, g->rx_gpa[g->rx_of_head[head]], len), len);
	ck_assert_uint_eq(p->hdr.len, len - HEADER);
	ck_assert_uint_eq(p->hdr.dst_cid, GUEST_CID);
	post(g, g->rx_of_head[head]);
	driver_kick(rx);
	return true;
}

static bool is_credit(const struct packet *p)
{
	return p->hdr.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE ||
	       p->hdr.op == VIRTIO_VSOCK_OP_CREDIT_REQUEST;
}

void guest_expect(struct guest *g, struct connection *c, uint16_t op, struct packet *p)
{
	struct packet own;

	if (!p)
		p = &own;
	do
		ck_assert_msg(guest_receive(g, p, WAIT_MS), "no packet, op %u expected", op);
	while (is_credit(p) && p->hdr.op != op);
	ck_assert_uint_eq(p->hdr.op, op);
	ck_assert_uint_eq(p->hdr.src_cid, 2);
	ck_assert_uint_eq(p->hdr.type, VIRTIO_VSOCK_TYPE_STREAM);
	ck_assert_uint_eq(p->hdr.dst_port, c->guest_port);
	if (op == VIRTIO_VSOCK_OP_REQUEST)
		c->host_port = p->hdr.src_port;
	ck_assert_uint_eq(p->hdr.src_port, c->host_port);
	take_credit(c, &p->hdr);
}

void guest_expect_shutdown(struct guest *g, struct connection *c)
{
	struct packet p;

	do
		guest_expect(g, c, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	while (p.hdr.flags != VSOCK_SHUT_BOTH);
}

struct stream_count {
	struct vsock *vsock;
	unsigned streams;
};

static void count_streams(void *arg)
{
	struct stream_count *count = arg;

	count->streams = count->vsock->stream_count;
}

void guest_expect_no_stream(struct guest *g)
{
	struct stream_count count = {container_of(g->driver.device, struct vsock, device), 1};

	for (unsigned ms = 0; ms < WAIT_MS && count.streams; ms++) {
		loop_call(vsock_queue(count.vsock, VSOCK_RX)->loop, count_streams, &count);
		usleep(1000);
	}
	ck_assert_uint_eq(count.streams, 0);
}

void guest_expect_data(struct guest *g, struct connection *c, const uint8_t *data, size_t len)
{
	struct packet p;

	while (len) {
		guest_expect(g, c, VIRTIO_VSOCK_OP_RW, &p);
		ck_assert_uint_le(p.hdr.len, len);
		ck_assert_int_eq(memcmp(p.data, data, p.hdr.len), 0);
		data += p.hdr.len;
		len -= p.hdr.len;
		c->forwarded += p.hdr.len;
		if (len)
			guest_send(g, c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	}
}

void guest_expect_silence(struct guest *g)
{
	struct packet p;

	while (guest_receive(g, &p, 100))
		ck_assert_msg(is_credit(&p), "a packet with op %u", p.hdr.op);
}

/* ---- host programs ---- */

static void address_of(const char *path, struct sockaddr_un *address)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	ck_assert_uint_lt(strlen(path), sizeof(address->sun_path));
	strcpy(address->sun_path, path);
}

int host_connect(struct guest *g)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un address;

	address_of(g->path, &address);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

int host_begin(struct guest *g, struct connection *c, uint32_t guest_port)
{
	char line[64];
	int fd = host_connect(g);

	*c = (struct connection){.guest_port = guest_port, .buf_alloc = GUEST_BUF_ALLOC};
	host_write(fd, line, (size_t)snprintf(line, sizeof(line), "CONNECT %u\n", guest_port));
	guest_expect(g, c, VIRTIO_VSOCK_OP_REQUEST, NULL);
	guest_send(g, c, VIRTIO_VSOCK_OP_RESPONSE, 0, NULL, 0);
	snprintf(line, sizeof(line), "OK %u\n", c->host_port);
	host_expect_data(fd, (const uint8_t *)line, strlen(line));
	return fd;
}

int host_listen(struct guest *g, uint32_t port, int backlog)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un address;
	char path[160];

	snprintf(path, sizeof(path), "%s_%u", g->path, port);
	address_of(path, &address);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, backlog), 0);
	return fd;
}

int guest_begin(struct guest *g, struct connection *c, uint32_t port, uint32_t guest_port)
{
	int listener = host_listen(g, port, 1), fd;

	*c = (struct connection){
		.host_port = port, .guest_port = guest_port, .buf_alloc = GUEST_BUF_ALLOC};
	guest_send(g, c, VIRTIO_VSOCK_OP_REQUEST, 0, NULL, 0);
	guest_expect(g, c, VIRTIO_VSOCK_OP_RESPONSE, NULL);
	fd = accept(listener, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	close(listener);
	return fd;
}

static void wait_for(int fd, short events)
{
	struct pollfd pfd = {.fd = fd, .events = events};

	ck_assert_msg(poll(&pfd, 1, WAIT_MS) == 1, "the host's socket is silent");
}

void host_write(int fd, const void *data, size_t len)
{
	const uint8_t *at = data;

	while (len) {
		ssize_t n;

		wait_for(fd, POLLOUT);
		n = send(fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		ck_assert_msg(n > 0 || errno == EAGAIN, "write: %s", strerror(errno));
		at += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
}

void host_expect_data(int fd, const uint8_t *data, size_t len)
{
	uint8_t buffer[16384];

	while (len) {
		ssize_t n;

		wait_for(fd, POLLIN);
		n = recv(fd, buffer, min_u64(sizeof(buffer), len), MSG_DONTWAIT);
		ck_assert_msg(n > 0, "read: %s", n ? strerror(errno) : "end");
		ck_assert_int_eq(memcmp(buffer, data, (size_t)n), 0);
		data += n;
		len -= (size_t)n;
	}
}

void host_expect_end(int fd)
{
	char byte;

	wait_for(fd, POLLIN);
	ck_assert_int_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
}

void host_expect_gone(int fd)
{
	char byte;
	ssize_t n;

	wait_for(fd, POLLIN);
	n = recv(fd, &byte, 1, MSG_DONTWAIT);
	ck_assert(n == 0 || (n < 0 && errno == ECONNRESET));
}

void fill_random(uint8_t *data, size_t len, uint32_t seed)
{
	uint64_t state = seed * 0x9e3779b97f4a7c15ull + 1;

	for (size_t i = 0; i < len; i++) {
		state = state * 6364136223846793005ull + 1442695040888963407ull;
		data[i] = (uint8_t)(state >> 56);
	}
}
