/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's and the host's ends of a vsock, for its unit tests: a driver that sends and receives
 * packets one by one (no streams of its own: a test says what the guest does), and host programs'
 * sockets. A failure of the helpers fails the test that runs.
 */
#pragma once

#include "tests/unit/driver.h"
#include "virtio/vsock.h"
#include "vmm/base/util.h"

#include <linux/virtio_vsock.h>

#define GUEST_CID	42u
#define GUEST_RX	64u	/* buffers */
#define GUEST_RX_LEN	4096u	/* payload of one, unless said otherwise */
#define GUEST_TX	32u	/* packets on the way at once */
#define GUEST_TX_LEN	65536u	/* payload of one */
#define GUEST_BUF_ALLOC 262144u /* credit that the guest grants, unless said otherwise */
#define WAIT_MS		40000u

struct guest {
	struct driver driver;
	char directory[64], path[128];
	uint32_t rx_payload;	   /* of each buffer, 1 to GUEST_RX_LEN */
	uint64_t rx_gpa[GUEST_RX]; /* each with GUEST_RX_LEN behind a header */
	unsigned rx_of_head[256], tx_of_head[256];
	uint64_t tx_gpa[GUEST_TX];
	bool tx_busy[GUEST_TX];
};

/* What the guest keeps of one connection. */
struct connection {
	uint32_t host_port, guest_port;
	uint32_t buf_alloc, forwarded; /* told to the device with each packet */
	uint32_t peer_buf_alloc, peer_forwarded, sent;
};

struct packet {
	struct virtio_vsock_hdr hdr;
	uint8_t data[GUEST_RX_LEN];
};

/* A device on a fresh directory, not driven yet / driven, with or without RX buffers. */
void guest_create(struct guest *g);
void guest_start(struct guest *g, uint64_t features);
void guest_start_deaf(struct guest *g, uint64_t features);
void guest_post_rx(struct guest *g);
/* Both of the first. */
void guest_open(struct guest *g);
void guest_close(struct guest *g);

/* Send a packet / any packet; `payload` bytes behind the header whatever hdr->len says. */
void guest_send(struct guest *g, const struct connection *c, uint16_t op, uint32_t flags,
	const void *data, uint32_t len);
void guest_send_raw(
	struct guest *g, const struct virtio_vsock_hdr *hdr, const void *data, uint32_t payload);
/* RW of all of it, as the credit allows; packets that come meanwhile must be credit updates. */
void guest_send_data(struct guest *g, struct connection *c, const uint8_t *data, size_t len);
/* Wait until the device has taken all packets; false when it does not, in `ms`. */
bool guest_sent(struct guest *g, unsigned ms);

/* The next packet, within `ms`: false when none. */
bool guest_receive(struct guest *g, struct packet *p, unsigned ms);
/* The next packet that is no credit update or request, which must be `op` on connection c. */
void guest_expect(struct guest *g, struct connection *c, uint16_t op, struct packet *p);
/* The host program's end, both ways; in one packet or in two. */
void guest_expect_shutdown(struct guest *g, struct connection *c);
/* RW packets of exactly these bytes. */
void guest_expect_data(struct guest *g, struct connection *c, const uint8_t *data, size_t len);
/* Wait until the device has no stream left. */
void guest_expect_no_stream(struct guest *g);
/* No packet but credit updates for a while. */
void guest_expect_silence(struct guest *g);

/* A host program's sockets. */
int host_connect(struct guest *g);
/* host_connect(), and the greeting; the guest accepts; the answer is checked. */
int host_begin(struct guest *g, struct connection *c, uint32_t guest_port);
int host_listen(struct guest *g, uint32_t port, int backlog);
/* The guest connects to a host program that listens on `port`. */
int guest_begin(struct guest *g, struct connection *c, uint32_t port, uint32_t guest_port);
void host_write(int fd, const void *data, size_t len);
void host_expect_data(int fd, const uint8_t *data, size_t len);
/* Nothing but the end of the stream / the end in either form: EOF or a reset. */
void host_expect_end(int fd);
void host_expect_gone(int fd);

void fill_random(uint8_t *data, size_t len, uint32_t seed);
